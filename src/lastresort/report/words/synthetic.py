"""Synthetic rows in words: what making them would cost, what the filters left out, and how to use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lastresort.errors import LastresortError
from lastresort.report.words.wording import count, counted, duration, listed, money, spaced, yaml_name
from lastresort.spec.values import ReadContext
from lastresort.synthesis.filters import FilterName
from lastresort.synthesis.kinds import KINDS

if TYPE_CHECKING:
    from lastresort.report.synthetic import SyntheticRows, SynthForecast
    from lastresort.synthesis.diversity import Diversity
    from lastresort.synthesis.make import Ending, MakingNote

FILTERS: dict[FilterName, str] = {  # of rows that were left out, in the order of the filters
    "unreadable": "could not be read",
    "length": "much longer or shorter than the train rows",
    "refusal": "a refusal",
    "answer": "not a possible answer of the task",
    "copy": "the same as another row",
    "near": "nearly the same as another row",
    "alike": "too much like a synthetic row or the one it was made from",
    "share": "its label is at its quota",
    "agreement": "the teacher did not give the same answer again",
}
_ENDED: dict[Ending, str] = {
    "rows": "",
    "calls": "--calls does not cover another request. Run it again with a higher --calls to continue.",
    "usd": "--usd does not cover another request. Run it again with a higher --usd to continue.",
    "no_yield": "Stopped, because the last requests gave no usable row. The table says why; read the dropped rows in {journal}. "
    "Run the command again to try more requests.",
}
SHOWN_CHARACTERS = 1500


def forecast_lines(found: SynthForecast) -> list[str]:
    """The cost, then the next request of each kind."""
    if not found.n:
        return ["Forecast: no call, since all rows are made. A higher --n makes more."]
    shown = []
    for kind, turns in found.first.items():
        shown += ["", f"{kind}:"]
        for turn in turns:
            shown.append(f"  [{turn.role}] {_short(turn.content)}")
    return [f"Forecast: {_cost(found)}.", *_sent(found), *_protected(found), *_itself(found), *shown]


def notes(found: SynthForecast, *, agreement_off: str | None) -> list[str]:
    """To say before the first request. agreement_off: what the task has that keeps answers from being compared."""
    off = []
    shows_passages = [KINDS[kind].needs_passages for kind in found.kinds]
    if agreement_off is not None and not all(shows_passages):
        off = [f"Agreement is not checked, since the task has {agreement_off}."]
        if any(shows_passages):
            off = [
                "Agreement is checked only for questions from documents: for other rows the teacher does not see the documents."
            ]
    return [*_sent(found), *_protected(found), *_itself(found), *off]


def question(found: SynthForecast) -> str:
    return " ".join([f"This makes {_cost(found)}.", *_sent(found), "Start it?"])


def making_note(found: MakingNote) -> str:
    """How far the rows are, next to how many there are."""
    from lastresort.synthesis.make import RequestsAnswered

    if isinstance(found, RequestsAnswered):
        return f"{count(found.answered)} of {counted(found.requests, 'request')} answered"
    kept = f"{found.rows / max(1, found.proposed):.0%} of the proposed rows kept"
    return f"{kept}, {money(found.usd)} spent" if found.usd else kept


def no_diversity(error: LastresortError) -> str:
    return f"Diversity was not measured: {error}"


def lines(found: SyntheticRows) -> list[str]:
    """What was made and left out, and how to train on it."""
    width = max(map(len, FILTERS.values()))
    dropped = [f"  {FILTERS[name]:<{width}}  {count(n)}" for name, n in found.dropped.items() if n]
    surplus = [f"  {'more than --n':<{width}}  {count(found.tally.surplus)}"] if found.tally.surplus else []
    ended = _ENDED[found.ended].format(journal=found.journal)
    kept = "" if found.in_file == found.made else f", which has {count(found.in_file)} now"
    of = f" of {count(found.n)}" if found.made <= found.n else ""
    price = "" if found.usd == 0 else f", {money(found.usd)}"
    return [
        f"{counted(found.made, 'synthetic row')}{of} in {found.path}{kept}",
        f"{counted(found.requests, 'request')} and "
        f"{counted(found.tally.checks, 'agreement check')} by {found.teacher}{price}; "
        f"{counted(found.tally.proposed, 'row')} proposed",
        *(["left out:", *dropped, *surplus] if dropped or surplus else []),
        *([f"labels: {_labels(found)}"] if found.labels else []),
        *([] if found.diversity is None else [_diversity(found.diversity)]),
        *([ended] if ended else []),
        *(_use(found) if found.made else []),
    ]


NOT_STUDIED = "Nothing was trained: the study begins once all rows are made."


def _cost(found: SynthForecast) -> str:
    checks = f" and {counted(found.answers, 'agreement check')}" if found.answers else ""
    calls = f"about {counted(found.requests, 'request')}{checks}"
    rows = f"{counted(found.n, 'row')} ({listed(found.kinds)}) with {found.teacher}"
    high = " if each reply is as long as allowed" if found.usd or found.seconds else ""
    high += ", without thoughts" if found.usd else ""
    return f"{rows}: {calls}, {at_price(found.usd)}{in_time(found.seconds)}{high}"


def at_price(usd: float | None) -> str:
    """usd: None where a price is unknown."""
    if usd is None:
        return "at an unknown price"
    return "at no cost" if usd == 0 else "for less than $0.01" if usd < 0.01 else f"for about {money(usd)}"


def in_time(seconds: float | None) -> str:
    """seconds: None where it is not known."""
    return "" if seconds is None else f", in about {spaced(duration(seconds))} on this machine"


def _sent(found: SynthForecast) -> list[str]:
    if not found.sends_passages:
        return []
    return [f"Passages of the documents go to {found.teacher}, and so leave this machine unless it runs here."]


def _first(names: Sequence[str], most: int = 3) -> str:
    more = (f"{count(len(names) - most)} more",) if len(names) > most else ()
    return listed((*names[:most], *more))


def _protected(found: SynthForecast) -> list[str]:
    """How far questions from documents are kept from dev and test."""
    by = found.protection
    if by is None:
        return []
    said = []
    if by.skipped:
        were = "was" if len(by.skipped) == 1 else "were"
        said.append(f"{counted(len(by.skipped), 'file')} of the documents {were} not read: {_first(by.skipped)}.")
    if by.hidden == 1:
        said.append(
            "1 passage is not shown, since dev or test rows name it or another with nearly the same text, or have an input that "
            "appears in it."
        )
    elif by.hidden:
        said.append(
            f"{count(by.hidden)} passages are not shown, since dev or test rows name them or others with nearly the same text, or "
            "have inputs that appear in them."
        )
    if by.unknown:
        names, one = counted(len(by.unknown), "passage name"), len(by.unknown) == 1
        said.append(
            f"{names} in dev and test {'matches' if one else 'match'} nothing in the documents and "
            f"{'hides' if one else 'hide'} no passage: {_first(by.unknown)}."
        )
    if by.unnamed:
        said.append(
            f"{count(by.unnamed)} of {counted(by.rows, 'row')} of dev and test name no passage. Questions may be made from the "
            "passages that these ask about."
        )
    return said


def _itself(found: SynthForecast) -> list[str]:
    if not found.teaches_itself:
        return []
    return [
        f"{found.teacher} is also the model that may be trained. It cannot teach itself anything new; name a stronger one with "
        "--teacher."
    ]


def _labels(found: SyntheticRows) -> str:
    common = list(found.labels.items())[:10]
    more = f" and {len(found.labels) - 10} more" if len(found.labels) > 10 else ""
    return ", ".join(f"{_short(label, 40)} {count(n)}" for label, n in common) + more


def _diversity(found: Diversity) -> str:
    return (
        f"diversity: distance to the nearest other row {found.rows:.2f} among synthetic rows, {found.train:.2f} among train rows, "
        f"{found.apart:.2f} from a synthetic to a train row (mean cosine distance by {found.embedder}, {count(found.n)} of each)"
    )


def _use(found: SyntheticRows) -> list[str]:
    named = found.sources.with_synthetic(found.path).written(ReadContext(found.task_file.parent))
    assert isinstance(named, dict), "a file of synthetic rows is named beside that of train"
    joined = ", ".join(f"{side}: {_yaml(files)}" for side, files in named.items())
    return [
        "",
        f"To train on them as well, add to {found.task_file.name}:",
        f"  examples: {{{joined}}}",
        "They join train alone, after dev and test are drawn, whose items stay the same. Read some first. `lastresort study "
        "synthetic` trains with and without them, and says whether they help.",
    ]


def _yaml(files: str | list[str]) -> str:
    return yaml_name(files) if isinstance(files, str) else f"[{', '.join(map(yaml_name, files))}]"


def _short(text: str, most: int = SHOWN_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
