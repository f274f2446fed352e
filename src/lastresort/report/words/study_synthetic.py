"""Whether synthetic rows help, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from lastresort.report.words.study import name_of, signed
from lastresort.report.words.synthetic import at_price
from lastresort.report.words.wording import capital, count, counted, listed, percent, points_of

if TYPE_CHECKING:
    from lastresort.report.study import RowsDifference, RowsPoint, SourceSeed

IN_ORDER = (
    "Two comparisons with real rows alone, in this order: both, and then, only if that shows a difference, synthetic rows alone. "
    "In at most 5% of studies either verdict is false."
)
SHORT = ("real", "synthetic", "both")  # in a list of the three
LEGEND = (
    "minus real: score minus that of real rows alone, in points. loss: train and dev, nats per token. passes: how often a training "
    "sees each row, with all of the replay that is asked for. kept: unrelated requests answered correctly."
)


def answer(both: RowsDifference, *, overfits: bool) -> str:
    """overfits: whether the dev loss of real rows alone rose."""
    mean, (low, high) = both.mean, both.interval
    names = f"{name_of('both')} are"
    if both.effect == "CANNOT_TELL":
        start = "It is not shown that the synthetic rows help or harm"
        return f"{start}: {name_of('both')} minus {name_of('real')} is {_between(both)}."
    if both.effect == "WORSE":
        return f"{capital(names)} worse than {name_of('real')} by {_by(-mean, -high, -low)}."
    said = f"{capital(names)} better than {name_of('real')} by {_by(mean, low, high)}."
    fewer = f" But the model trained on {name_of('real')} overfits (its dev loss rose), so fewer steps on them may do as well."
    return said + (fewer if overfits else "")


def question(answers: int, judge: str, usd: float | None) -> str:
    """Before rows are made that are then studied. answers: to be judged. usd: of the judge, None where a price is unknown."""
    return (
        f"The study has {judge} judge up to {counted(answers, 'answer')}, {at_price(usd)}. Make the rows and start it?"
    )


def reasons(synthetic: RowsDifference, by_seed: Sequence[SourceSeed]) -> Iterator[str]:
    seeds = listed(f"{signed(one.difference)} with seed {one.seed}" for one in by_seed)
    yield f"{capital(name_of('both'))} minus {name_of('real')}, in points: {seeds}."
    mean, (low, high) = synthetic.mean, synthetic.interval
    name, other = capital(name_of("synthetic")), name_of("real")
    if synthetic.effect == "CANNOT_TELL":
        why = "" if synthetic.tested else "; it is not tested, since the first comparison shows no difference"
        yield f"This study cannot tell whether {name_of('synthetic')} are better or worse than {other}: {_between(synthetic)}{why}."
    elif synthetic.effect == "WORSE":
        yield f"{name} are worse than {other} by {_by(-mean, -high, -low)}."
    else:
        yield f"{name} are better than {other} by {_by(mean, low, high)}."


def of_steps(points: Sequence[RowsPoint], epochs: int) -> str:
    """points: of the three trainings."""
    trained = [one.training for one in points if one.training is not None]
    steps, in_epochs = trained[0].steps, counted(epochs, "epoch")
    seen = _of_each(f"{one.passes:.1f}" for one in trained)
    own = _of_each(count(one.steps_in_epochs) for one in trained)
    rows = _of_each(count(round(one.training.passes * one.rows)) for one in points if one.training is not None)
    return (
        f"All three train for {counted(steps, 'step')}, as many as {name_of('both')} take in {in_epochs}, so a gain does not come "
        f"from more steps. A row is seen {seen} times. With {in_epochs} for each, the steps would be {own}. Rows learned from in "
        f"all steps: {rows}. They differ, since the last batch of an epoch is smaller."
    )


def _of_each(figures: Iterable[str]) -> str:
    """Of the three, in their order."""
    return listed(f"{figure} ({short})" for figure, short in zip(figures, SHORT, strict=True))


def title(task: str) -> str:
    return f"{task}: score on dev with each seed, and both minus {name_of('real')}"


def of_seed(one: SourceSeed) -> str:
    return f"seed {one.seed}: synthetic rows {percent(one.synthetic)}, real rows {percent(one.real)}, both {percent(one.both)}"


def picture(task: str, base: float, by_seed: Sequence[SourceSeed], both: RowsDifference) -> str:
    """All that the picture shows, for those who do not see it. base: score of the base prompt."""
    seeds = capital("; ".join(map(of_seed, by_seed)))
    return f"{title(task)}, on average {_between(both)}. {seeds}; base prompt {percent(base)}."


def _by(mean: float, low: float, high: float) -> str:
    return f"{points_of(mean)} (95%: {100 * low:.1f} to {100 * high:.1f})"


def _between(found: RowsDifference) -> str:
    low, high = found.interval
    return f"{signed(found.mean)} points (95%: {signed(low)} to {signed(high)})"
