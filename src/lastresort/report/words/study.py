"""What a study will take and what it found, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lastresort.evals.evidence.crossing import CurveCrossing
from lastresort.evals.evidence.learning_curve import GainAt, LearningCurve, NoForecast, WhyNoForecast
from lastresort.report.words.wording import capital, count, counted, forecast_figures, listed, percent, points_of
from lastresort.rungs.forecast import Forecast
from lastresort.types import Unit

DEV_ONLY = "All scores are on dev, on which nothing was chosen. The test set was not measured."


NAMES = {"sft": "SFT", "lora": "LoRA", "qlora": "QLoRA"}


def name_of(way: str) -> str:
    """A way, or a method of training, in a sentence."""
    return NAMES.get(way, way)


def of_cells(cells: int, missing: int, expected: Forecast | None) -> str:
    """Before anything is done. expected: of the missing ones."""
    if not missing:
        return f"All {counted(cells, 'cell')} of the study are done."
    done = f", {count(cells - missing)} of them done" if missing < cells else ""
    found = "" if expected is None else forecast_figures(expected.seconds, expected.usd, ())
    return f"The study has {counted(cells, 'cell')}{done}. Forecast for the rest: {found or 'not known here'}."


def of_cell(number: int, cells: int, label: str) -> str:
    return f"{number} of {cells}: {label}"


def examples(number: float) -> str:
    """A place between two sizes, in two digits."""
    digits = 10 ** max(0, math.floor(math.log10(number)) - 1) if number >= 1 else 1
    return count(digits * round(number / digits))


AHEAD = {"score": "better", "format": "more often well-formed", "cost": "cheaper per call"}


def of_crossings(found: Sequence[tuple[str, str, CurveCrossing]], sizes: Sequence[int]) -> list[str]:
    """Way, what is compared, and where SFT is ahead in it. Ways of which the same is said share a sentence."""
    said = []
    for what in dict.fromkeys(what for _, what, _ in found):
        own = [(way, one) for way, of, one in found if of == what]
        said += [of_crossing(way, what, one) for way, one in own if one.kind == "WITHIN"]
        for kind in ("BEFORE", "BEYOND", "CANNOT_TELL"):
            if ways := [way for way, one in own if one.kind == kind]:
                said.append(_nowhere_within(ways, what, kind, sizes))
    return said


def _nowhere_within(ways: Sequence[str], what: str, kind: str, sizes: Sequence[int]) -> str:
    ahead, least, most = AHEAD[what], count(sizes[0]), count(sizes[-1])
    if kind == "BEFORE":
        return f"SFT is {ahead} than {listed(ways)} from {least} examples on, the fewest that were tried."
    if kind == "BEYOND":
        return f"SFT is not {ahead} than {listed(ways, 'or')} with up to {most} examples."
    return f"Whether SFT becomes {ahead} than {listed(ways, 'or')} with up to {most} examples cannot be told."


def of_crossing(way: str, what: str, found: CurveCrossing) -> str:
    """From how many examples on SFT is ahead of another way, where that is within the sizes as far as is known."""
    passes = f"SFT becomes {AHEAD[what]} than {way}"
    about = "" if found.at is None else f" (estimate: {examples(found.at)})"
    if found.low is None and found.high is not None:
        return f"{passes} by {examples(found.high)} examples at the latest{about}."
    if found.high is None and found.low is not None:
        return f"{passes} with {examples(found.low)} examples at the earliest{about}, if at all."
    assert found.low is not None, "else CANNOT_TELL"
    assert found.high is not None, "else CANNOT_TELL"
    return f"{passes} between {examples(found.low)} and {examples(found.high)} examples{about}."


def answer_of_crossover(crossings: Sequence[tuple[str, str, CurveCrossing]], sizes: Sequence[int]) -> str:
    """crossings: way, what and where. Of those in score the one that SFT passes last is named."""
    scores = [(way, found) for way, what, found in crossings if what == "score"]
    open_ways = [way for way, found in scores if found.kind == "CANNOT_TELL"]
    never = [way for way, found in scores if found.kind == "BEYOND"]
    if never:
        return f"With up to {count(sizes[-1])} examples SFT does not beat {listed(never, 'or')}."
    if open_ways:
        return f"Whether SFT beats {listed(open_ways, 'or')} with up to {count(sizes[-1])} examples cannot be told."
    if all(found.kind == "BEFORE" for _, found in scores):
        return f"SFT beats every prompt from {count(sizes[0])} examples on, the fewest that were tried."
    way, found = max(scores, key=lambda one: (one[1].high is None, one[1].high or 0.0, one[1].at or 0.0))
    return of_crossing(way, "score", found)


def answer_of_min_data(
    method: str, shifted: int | None, clean: int | None, most: int, *, why_not: Sequence[str] = ()
) -> str:
    """why_not: signs at `shifted`, where that is not clean."""
    name = name_of(method)
    if shifted is None:
        return f"{name} does not measurably beat the base prompt with up to {count(most)} examples."
    found = f"{name} measurably beats the base prompt from {count(shifted)} examples on"
    if clean == shifted:
        return f"{found}, without a sign of overfitting."
    signs = f" ({listed(why_not)})" if why_not else ""
    if clean is None:
        return f"{found}, but at each of these sizes there is a sign that it overfits or forgets{signs}."
    return f"{found}; without a sign that it overfits or forgets{signs}, from {count(clean)}."


NO_FORECAST: dict[WhyNoForecast, str] = {
    "FEW_SIZES": "a learning curve needs at least six sizes",
    "FEW_SEEDS": "a learning curve needs at least two seeds",
    "NOT_FALLING": "the score does not rise with the number of examples beyond its noise",
    "OTHER_FORM": "the scores do not lie on a learning curve of the usual form",
    "TOO_WIDE": "the scores are too noisy for a forecast that would be of use",
}


def of_curve(found: LearningCurve | NoForecast, most: int) -> str:
    """most: the largest size."""
    if isinstance(found, NoForecast):
        return f"What more examples would do cannot be told: {NO_FORECAST[found.reason]}."
    told = "; ".join(_gain(one, most) for one in found.after)
    beyond = (
        "" if found.after[-1].times == 4 else f" Cannot tell beyond {count(found.after[-1].times * most)} examples."
    )
    return f"{capital(told)}.{beyond or f' Beyond {count(4 * most)} examples this study says nothing.'}"


def _gain(one: GainAt, most: int) -> str:
    low, high = one.interval
    more = count((one.times - 1) * most)
    return f"another {more} examples are worth about {points_of(one.gain)} ({100 * low:.1f} to {points_of(high)})"


def of_trained(method: str, rate: float) -> str:
    return f"{name_of(method)} trains with the task's settings, at one learning rate, {rate:g}: the middle of those it names."


def of_units(n: int, unit: Unit, seeds: int) -> str:
    return f"Intervals at 95% are over {counted(n, f'dev {unit}')} and {counted(seeds, 'seed')}."


LEGEND_OF_MIN_DATA = (
    "shown: every seed's training beats the base prompt here and at each larger size. loss: train and dev, nats per token. kept: "
    "requests of no task that are answered as they should be. KL: from the base on general requests, nats per token."
)


def of_subsets(sizes: Sequence[int], rows: Sequence[int]) -> str:
    """rows: that were taken, by size: more where rows of a group stay together, fewer where long rows are left out. "" where they
    are as many.
    """
    other = [f"{count(taken)} for {count(size)}" for size, taken in zip(sizes, rows, strict=True) if taken != size]
    why = "Rows of a group stay together, and rows too long for the model are left out"
    return f"{why}: there are {listed(other)}." if other else ""


def title_of_scores(task: str) -> str:
    return f"{task}: score on dev by number of examples"


def title_of_format(task: str) -> str:
    return f"{task}: well-formed answers on dev by number of examples"


def point_title(way: str, n: int, score: float, low: float, high: float) -> str:
    return f"{name_of(way)}, {counted(n, 'example')}: {percent(score)} ({100 * low:.1f} to {percent(high)})"
