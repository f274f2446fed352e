"""Synthetic rows, as values and in words: what making them would cost, what the filters left out, and how to use them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.errors import LastresortError
from lastresort.report.words.wording import count, counted, duration, listed, money, of_one_process, spaced, yaml_name
from lastresort.spec.values import ReadContext
from lastresort.synthesis.filters import FilterName
from lastresort.synthesis.kinds import KINDS

if TYPE_CHECKING:
    from lastresort.spec.sections import Sources
    from lastresort.synthesis.diversity import Diversity
    from lastresort.synthesis.journal import Tally
    from lastresort.synthesis.kinds import PassageProtection
    from lastresort.synthesis.make import Ending, MakingNote
    from lastresort.types import Message

FILTERS: dict[FilterName, str] = {  # of rows that were left out, in the order of the filters
    "unreadable": "could not be read",
    "length": "much longer or shorter than the training rows",
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


@dataclass(frozen=True, slots=True)
class SynthForecast:
    """Before anything more is spent. n: rows still to be made. requests, answers: calls, of which requests for rows and answers to
    them. usd, seconds: with replies that are as long as they may be, without thoughts; None where a price is unknown, and where the
    teacher's speed is. first: the next request of each kind. teaches_itself: whether the teacher is the model that may be trained.
    sends_passages: whether passages of the documents go to an endpoint. protection: what keeps those
    of dev and test from the teacher, None where no documents were read. at_workers: whether several make the calls, while the
    seconds are those of one process.
    """

    teacher: str
    n: int
    kinds: tuple[str, ...]
    requests: int
    answers: int
    usd: float | None
    seconds: float | None
    first: Mapping[str, tuple[Message, ...]]
    teaches_itself: bool = False
    sends_passages: bool = False
    protection: PassageProtection | None = None
    at_workers: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As `lastresort data synth --dry-run --json` prints it."""
        first = {kind: [turn.as_dict() for turn in turns] for kind, turns in self.first.items()}
        return {**asdict(replace(self, first={})), "first": first}

    def lines(self) -> list[str]:
        """The cost, then the next request of each kind."""
        if not self.n:
            return ["Forecast: no call, since all rows are made. A higher --n makes more."]
        shown = []
        for kind, turns in self.first.items():
            shown += ["", f"{kind}:"]
            for turn in turns:
                shown.append(f"  [{turn.role}] {_short(turn.content)}")
        one = [of_one_process("calls")] if self.at_workers else []
        return [f"Forecast: {_cost(self)}.", *one, *_sent(self), *_protected(self), *_itself(self), *shown]


@dataclass(frozen=True, slots=True)
class SyntheticRows:
    """What was made. path: of the rows; journal: of how they were made. sources: of the task's own rows. tally: over all sessions.
    in_file: rows that the user has not removed. labels: rows by answer, empty where answers are no labels. usd: None where a price
    is unknown.
    """

    path: Path
    journal: Path
    task_file: Path
    sources: Sources
    teacher: str
    n: int
    ended: Ending
    tally: Tally
    in_file: int
    labels: Mapping[str, int]
    diversity: Diversity | None
    usd: float | None

    @property
    def made(self) -> int:
        return len(self.tally.rows)

    @property
    def requests(self) -> int:
        """Calls for rows, also those of batches that were interrupted and planned otherwise."""
        return self.tally.calls - self.tally.checks

    @property
    def dropped(self) -> dict[FilterName, int]:
        """Proposed rows that were left out, by the filter that did, in the order of the filters."""
        drops = self.tally.drops
        return {name: drops[name] for name in FILTERS}

    def as_dict(self) -> dict[str, Any]:
        """As `lastresort data synth --json` prints it."""
        kinds = Counter(row.synthetic.kind for row in self.tally.rows)
        return {
            "rows": str(self.path), "journal": str(self.journal), "teacher": self.teacher, "wanted": self.n, "made": self.made,
            "in_file": self.in_file, "ended": self.ended, "proposed": self.tally.proposed, "dropped": self.dropped,
            "surplus": self.tally.surplus,
            "kinds": dict(kinds), "labels": dict(self.labels), "requests": self.requests, "checks": self.tally.checks,
            "calls": self.tally.calls, "tokens_in": self.tally.tokens_in, "tokens_out": self.tally.tokens_out, "usd": self.usd,
            "diversity": None if self.diversity is None else asdict(self.diversity),
        }  # fmt: skip

    def lines(self) -> list[str]:
        """What was made and left out, and how to train on it."""
        width = max(map(len, FILTERS.values()))
        dropped = [f"  {FILTERS[name]:<{width}}  {count(n)}" for name, n in self.dropped.items() if n]
        surplus = [f"  {'more than --n':<{width}}  {count(self.tally.surplus)}"] if self.tally.surplus else []
        ended = _ENDED[self.ended].format(journal=self.journal)
        kept = "" if self.in_file == self.made else f", which has {count(self.in_file)} now"
        of = f" of {count(self.n)}" if self.made <= self.n else ""
        price = "" if self.usd == 0 else f", {money(self.usd)}"
        return [
            f"{counted(self.made, 'synthetic row')}{of} in {self.path}{kept}",
            f"{counted(self.requests, 'request')} and "
            f"{counted(self.tally.checks, 'agreement check')} by {self.teacher}{price}; "
            f"{counted(self.tally.proposed, 'row')} proposed",
            *(["left out:", *dropped, *surplus] if dropped or surplus else []),
            *([f"labels: {_labels(self)}"] if self.labels else []),
            *([] if self.diversity is None else [_diversity(self.diversity)]),
            *([ended] if ended else []),
            *(_use(self) if self.made else []),
        ]


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


NOT_STUDIED = "Nothing was trained: the study begins once all rows are made."


def _cost(found: SynthForecast) -> str:
    checks = f" and {counted(found.answers, 'agreement check')}" if found.answers else ""
    calls = f"about {counted(found.requests, 'request')}{checks}"
    rows = f"{counted(found.n, 'row')} ({listed(found.kinds)}) with {found.teacher}"
    high = " if each reply has the maximum length" if found.usd or found.seconds else ""
    high += ", without thinking" if found.usd else ""
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
    assert isinstance(named, dict), "a file of synthetic rows is named next to that of train"
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
