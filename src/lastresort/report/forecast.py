"""What a climb would do and cost: the document of a dry run, and the same in the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lastresort.ladder import PROMPT_RUNG
from lastresort.records.data_report import RowsLeftOut
from lastresort.records.document import JsonDocument, Statement
from lastresort.report.words import judge
from lastresort.report.words.answer import LEAVES_OUT_PROMPTING, of_left_out
from lastresort.report.words.progress import limit_line
from lastresort.report.words.verdicts import error_rate, shared_error
from lastresort.report.words.wording import count, counted, duration, forecast_figures, listed, round_percent, spaced
from lastresort.rungs.forecast import Forecast

if TYPE_CHECKING:
    from rich.console import RenderableType


class DryRunExamples(JsonDocument):
    """Rows that the climb would use. leaks_removed: training rows that also stand in dev or test, and would be left out. left_out:
    these and all others.
    """

    train: int
    dev: int
    test: int
    leaks_removed: int
    left_out: tuple[RowsLeftOut, ...] = ()
    test_file: bool = False


class DryRunTest(JsonDocument):
    """What the test set can tell. to_meet: test items by which a true score of `above` is shown to meet the bar, with power 0.8, at
    `first`, the first rung, whose planned share of the error is `first_share`. to_meet_strictest: likewise at `strictest`, whose
    planned share, `strictest_share`, is the smallest. to_miss: by which one of `below` is shown to miss it, at any rung. least: by
    which a perfect score is shown to meet the bar at the first rung. labels: whether people's labels have their part of the errors.
    """

    bar: float
    least: int
    above: float
    first: str
    first_share: float
    to_meet: int
    strictest: str
    strictest_share: float
    to_meet_strictest: int
    below: float
    to_miss: int
    labels: bool

    @property
    def enough(self) -> int:
        """Test items with which every rung tells scores of `above` and of `below` from the bar, with power 0.8."""
        return max(self.to_meet_strictest, self.to_miss)


class RungMemory(JsonDocument):
    """What training would hold here, by the plan. parts: bytes by kind."""

    method: str
    bytes: int
    parts: dict[str, int]
    free_bytes: int
    fits: bool
    sentence: str


class DryRunRung(JsonDocument):
    """forecast: None for a rung that would be skipped. memory: None for one that trains nothing, and where it is not known."""

    name: str
    applies: bool
    skipped_because: Statement | None = None
    forecast: Forecast | None = None
    memory: RungMemory | None = None


@dataclass(frozen=True, slots=True)
class SuiteForecast:
    """pilot_items: asked of the base, at most about so many. items: asked of both models, at most. expected: about
    how many, where nothing is lost and half as many answers differ as the sizes allow for. forecast: of the most.
    """

    name: str
    pilot_items: int
    items: int
    expected: int
    forecast: Forecast


class DryRunGate(JsonDocument):
    """What the first gate would take; what the test sets take is in the rungs."""

    mode: Literal["quick", "full"]
    suites: tuple[SuiteForecast, ...]
    forecast: Forecast


class DryRun(JsonDocument):
    """What `lastresort climb TASK --dry-run --json` prints. compare, gate, judge: None where the climb would do without.

    test: None for graded scores and groups. quick_gate: what `--gate quick` would take in place of a full gate. limit_hours:
    `limits.hours` of the task. assumed: what the figures rest on. ignored: keys of the task that have no effect. missing: what the
    climb would stop for, or download, before anything is spent. All three in sentences.
    """

    task: str
    examples: DryRunExamples
    shares: dict[str, float]
    rungs: tuple[DryRunRung, ...]
    test: DryRunTest | None
    compare: Forecast | None
    gate: DryRunGate | None
    quick_gate: DryRunGate | None
    judge: Forecast | None
    total: Forecast
    limit_hours: float | None
    assumed: tuple[str, ...]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]

    def __repr__(self) -> str:
        about = forecast_figures(self.total.seconds, self.total.usd, ())
        return f"<DryRun {self.task}: {', '.join(rung.name for rung in self.rungs)}{f'; {about}' if about else ''}>"

    def _repr_html_(self) -> str:
        from lastresort.report.notebook import terminal_html

        return terminal_html(f"{self.task}: what a climb would take", forecast_table(self, hint=""))


VERBOSE = "Add --verbose to see how each figure is computed."


def forecast_table(found: DryRun, *, verbose: bool = False, hint: str = VERBOSE) -> RenderableType:
    """What each rung would do and cost, legible at 80 columns and without colour. verbose: also how each figure comes about; hint:
    where to see that otherwise.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("rung", "tokens in", "tokens out", "trained on", "about", "USD"):
        table.add_column(name, justify="left" if name == "rung" else "right")
    for rung in found.rungs:
        table.add_row(rung.name, *(["", "", "", "skipped", ""] if rung.forecast is None else cells(rung.forecast)))
    for name, forecast in others(found):
        table.add_row(name, *cells(forecast))
    table.add_row("total", *cells(found.total))
    high = "A high estimate of what is counted" if found.total.uncounted else "A high estimate"
    foot = (
        f"{high}: it assumes that every rung misses the bar, every answer has the maximum length and every test uses all "
        "items. The climb stops at the first rung that meets the bar."
    )
    more = [*_details(found), ""] if verbose else []
    last = [foot] if verbose else [foot, *filter(None, [hint])]
    notes = [*more, *notes_of(found), *power_of(found), "", *last, *found.missing]
    return Group(Text(head(found)), Text(), table, Text(), *map(Text, notes))


def head(found: DryRun) -> str:
    sizes = found.examples
    leaks = f"; {counted(sizes.leaks_removed, 'leak')} would be removed from train" if sizes.leaks_removed else ""
    split = f"{sizes.train} examples to train on, {sizes.dev} dev, {sizes.test} test{leaks}"
    others = "".join(f" {of_left_out(one)}" for one in sizes.left_out if one.rows in ("dev", "test"))
    return f"{found.task}: {split}.{others} {shared_error(found.shares)}"


def notes_of(found: DryRun, quick: str = "`--gate quick`") -> list[str]:
    """What a reader has to know before starting: rungs that are skipped or do not fit, keys without effect, and the gate's
    alternative. quick: how that is called where somebody reads it.
    """
    notes = [] if any(rung.name == PROMPT_RUNG for rung in found.rungs) else [LEAVES_OUT_PROMPTING]
    for rung in found.rungs:
        if rung.forecast is None:
            why = "it does not apply" if rung.skipped_because is None else rung.skipped_because.text
            notes.append(f"{rung.name}: skipped, {why}.")
        elif rung.memory is not None and not rung.memory.fits:
            notes.append(f"{rung.name}: memory: {rung.memory.sentence}")
    notes += [_of_uncounted(rung) for rung in found.rungs if rung.forecast is not None and rung.forecast.uncounted]
    if found.gate is not None and found.quick_gate is not None:
        takes = [_about(gate.forecast) for gate in (found.gate, found.quick_gate)]
        notes.append(
            f"The gate runs only if a tuned model would win. The full gate takes {takes[0]}; {quick} takes {takes[1]}, on fewer "
            "items, which may be too few to clear the model."
        )
    if found.limit_hours is not None:
        rungs_s = {rung.name: rung.forecast.seconds for rung in found.rungs if rung.forecast is not None}
        others_s = {name if name == judge.NAME else f"the {name}": one.seconds for name, one in others(found)}
        seconds = {name: taken for name, taken in rungs_s.items() if taken is not None}
        besides = {name: taken for name, taken in others_s.items() if taken}
        unknown = [name for name, taken in (rungs_s | others_s).items() if taken is None]
        notes += [spaced(limit_line(seconds, 3600 * found.limit_hours, besides, unknown=unknown))] if seconds else []
    return [*notes, *found.ignored]


def _of_uncounted(rung: DryRunRung) -> str:
    """Which candidates are in no sum, and what all of them would add at most."""
    parts = () if rung.forecast is None else rung.forecast.uncounted
    known_s, known_usd = [one.seconds for one in parts], [one.usd for one in parts]
    seconds = None if None in known_s else sum(filter(None, known_s))
    usd = None if None in known_usd else sum(filter(None, known_usd))
    about = forecast_figures(seconds, usd, ())
    tokens = f"{sum(one.tokens_in for one in parts):,} tokens in"
    return spaced(
        f"{rung.name}: not counted: {listed(one.name for one in parts)}, each tried only if the one before it helps; at most "
        f"{tokens}{f', {about},' if about else ''} more."
    )


def _about(forecast: Forecast) -> str:
    return "a time that is not known" if forecast.seconds is None else f"about {spaced(duration(forecast.seconds))}"


def power_of(found: DryRun) -> list[str]:
    """How many test items a verdict takes, and a warning where there are fewer."""
    test, n = found.test, found.examples.test
    if test is None:
        return []
    most, smallest = test.to_meet_strictest, _rate(found, test.strictest, test.strictest_share)
    late = f", and at {test.strictest}, whose planned error rate of {smallest} is the smallest, about {count(most)}"
    labels = " People's labels of the judge have half of each error rate, which is counted here; how far they move the bar is not."
    sentence = (
        f"At {test.first}, with its planned error rate of {_rate(found, test.first, test.first_share)}, a system that truly scores "
        f"{round_percent(test.above)} needs about {counted(test.to_meet, 'test item')} to be shown to meet the bar of "
        f"{round_percent(test.bar)}{late if most > test.to_meet else ''}. To show that a true score of {round_percent(test.below)} "
        f"misses the bar takes about {count(test.to_miss)}. These sizes give 80% power.{_passed_on(found, test)} At {test.first}, "
        f"even a perfect score needs {counted(test.least, 'test item')}.{labels if test.labels else ''}"
    )
    if n >= test.enough:
        return [f"{sentence} The test set has {count(n)}."]
    more = "for the test file" if found.examples.test_file else "or give the test set a larger share (`split.test`)"
    return [
        f"{sentence} Warning: the test set has only {count(n)}, so a rung this close to the bar may end UNDECIDED. Label more "
        f"examples{' ' if found.examples.test_file else ', '}{more}."
    ]


def _rate(found: DryRun, rung: str, planned: float) -> str:
    """The planned error rate of a rung, and what the split names where that is another."""
    told, used = error_rate(planned), error_rate(found.shares[rung])
    return told if used == told else f"{told} ({used} with this test set)"


def _passed_on(found: DryRun, test: DryRunTest) -> str:
    """Why a rung's planned error rate is not the one that the split names, as a sentence; empty where it is."""
    planned = {test.first: test.first_share, test.strictest: test.strictest_share}
    if all(error_rate(found.shares[rung]) == error_rate(share) for rung, share in planned.items()):
        return ""
    return " What the test items cannot use of a planned rate is passed on to later tests, so the split above differs."


def _details(found: DryRun) -> list[str]:
    """How each figure comes about."""
    lines = []
    for rung in found.rungs:
        lines += [f"{rung.name}: {line}" for line in ([] if rung.forecast is None else rung.forecast.lines)]
        if rung.memory is not None and rung.memory.fits:
            lines.append(f"{rung.name}: memory: {rung.memory.sentence}")
    for name, forecast in others(found):
        if name != "gate":
            lines += [f"{name}: {line}" for line in forecast.lines]
    for gate in (found.gate, found.quick_gate):
        lines += [] if gate is None else [_suite(gate.mode, suite) for suite in gate.suites]
    if any(rung.forecast and rung.forecast.seconds for rung in found.rungs) or any(
        one.seconds for _, one in others(found)
    ):
        lines.append('"about" is based on the rates below; a prefix that all prompts share is computed once.')
    return [*lines, *(f"assumed: {assumption}" for assumption in found.assumed)]


def others(found: DryRun) -> list[tuple[str, Forecast]]:
    """What is forecast besides the rungs."""
    gate = None if found.gate is None else found.gate.forecast
    parts = (("comparison", found.compare), ("gate", gate), (judge.NAME, found.judge))
    return [(name, forecast) for name, forecast in parts if forecast is not None]


def _suite(mode: str, suite: SuiteForecast) -> str:
    """Items, tokens and minutes of a suite of the gate."""
    forecast = suite.forecast
    tokens = f"; {forecast.tokens_in:,} tokens read and {forecast.tokens_out:,} answered"
    takes = "" if forecast.seconds is None else f", about {duration(forecast.seconds)}"
    return (
        f"gate ({mode}): {suite.name}: up to about {count(suite.pilot_items)} items on the base model first, then "
        f"at most {count(suite.items)} on base and tuned{tokens}{takes}; about {count(suite.expected)} if nothing is lost."
    )


def cells(forecast: Forecast) -> list[str]:
    return [
        f"{forecast.tokens_in:,}",
        f"{forecast.tokens_out:,}",
        f"{forecast.training_tokens:,}" if forecast.training_tokens else "",
        "?" if forecast.seconds is None else duration(forecast.seconds),
        "?" if forecast.usd is None else f"{forecast.usd:.2f}",
    ]
