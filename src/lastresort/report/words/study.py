"""What a study will take and what it found, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lastresort.evals.evidence.crossing import CurveCrossing
from lastresort.evals.evidence.learning_curve import GainAt, LearningCurve, NoForecast, WhyNoForecast
from lastresort.report.words.wording import capital, count, counted, forecast_figures, listed, percent, points_of
from lastresort.rungs.forecast import Forecast
from lastresort.types import Unit

if TYPE_CHECKING:
    from lastresort.report.study import ArmPoint, ArmSeed, ArmWork, BetterArm, MeanDifference

DEV_ONLY = "All scores are on dev. This study chose nothing on it. The test set was not measured."

NAMES = {"sft": "SFT", "lora": "LoRA", "qlora": "QLoRA", "dpo": "SFT and DPO", "orpo": "ORPO"}
BASE_PROMPT = "base prompt"


def name_of(way: str) -> str:
    """A way, or a method of training, in a sentence."""
    return NAMES.get(way, way)


def of_cells(cells: int, missing: int, expected: Forecast | None) -> str:
    """Before anything is done. expected: of the missing ones."""
    if not missing:
        return f"All {counted(cells, 'cell')} of the study are done."
    done, rest = (f", {count(cells - missing)} of them done", " for the rest") if missing < cells else ("", "")
    figures = "" if expected is None else forecast_figures(expected.seconds, expected.usd, ())
    return f"The study has {counted(cells, 'cell')}{done}. Forecast{rest}: {figures or 'not known here'}."


def of_cell(number: int, cells: int, label: str) -> str:
    return f"{number} of {cells}: {label}"


def examples(number: float) -> str:
    """A place between two sizes, in two digits."""
    digits = 10 ** max(0, math.floor(math.log10(number)) - 1) if number >= 1 else 1
    return count(digits * round(number / digits))


BETTER = {"score": "better", "format": "more often well-formed", "cost": "cheaper per call"}
WORSE = {"score": "worse", "format": "less often well-formed", "cost": "more expensive per call"}
EACH_ALONE = "Each comparison holds at every size it covers; taken alone, one is wrong in at most 5% of studies."

NamedCrossing = tuple[str, str, CurveCrossing]  # way, what is compared, and where SFT passes it


def of_crossings(crossings: Sequence[NamedCrossing], sizes: Sequence[int]) -> list[str]:
    """One sentence for all ways with the same result, and what they promise."""
    sentences = []
    for what in dict.fromkeys(what for _, what, _ in crossings):
        own = [(way, one) for way, of, one in crossings if of == what]
        for one in dict.fromkeys(one for _, one in own):
            sentences.append(of_crossing([way for way, other in own if other == one], what, one, sizes))
    return [*sentences, *([EACH_ALONE] if any(one.kind != "CANNOT_TELL" for _, _, one in crossings) else [])]


def of_crossing(ways: Sequence[str], what: str, crossing: CurveCrossing, sizes: Sequence[int]) -> str:
    """Where SFT is better than other ways, and where it is worse."""
    better, worse = BETTER[what], WORSE[what]
    everywhere = f"at every size, {count(sizes[0])} to {count(sizes[-1])} examples"
    match crossing.kind:
        case "BEFORE":
            return f"SFT is {better} than {listed(ways)} {everywhere}."
        case "BEYOND":
            return f"SFT is {worse} than {listed(ways)} {everywhere}."
        case "CANNOT_TELL":
            return f"It cannot be told where SFT is {better} than {listed(ways, 'or')}, if anywhere."
        case "FALLS":
            first, last = up_to(crossing.low, sizes), on_from(crossing.high, sizes)
            return f"SFT is {better} than {listed(ways)} {first} and {worse} {last}: its lead falls."
    first, last = up_to(crossing.low, sizes), on_from(crossing.high, sizes)
    if not first:
        return f"SFT is {better} than {listed(ways)} {last}; with fewer, it cannot be told."
    if not last:
        return f"SFT is {worse} than {listed(ways)} {first}; with more, it cannot be told."
    about = "" if crossing.at is None else f" (estimate: {examples(crossing.at)})"
    return f"SFT is {worse} than {listed(ways)} {first} and {better} {last}{about}."


def up_to(size: float | None, sizes: Sequence[int]) -> str:
    """ "" for None."""
    if size is None:
        return ""
    return f"with {'up to ' if size > sizes[0] else ''}{counted(size, 'example')}"


def on_from(size: float | None, sizes: Sequence[int]) -> str:
    """ "" for None."""
    if size is None:
        return ""
    if size == sizes[-1]:
        return f"with {counted(size, 'example')}, the most that were tried"
    return f"from {counted(size, 'example')} on"


def answer_of_crossover(crossings: Sequence[NamedCrossing], sizes: Sequence[int]) -> str:
    """Of the scores. That SFT beats all other ways needs no correction for their number, since each of them must show it."""
    scores = [(way, one) for way, what, one in crossings if what == "score"]
    first_better = [one.high for _, one in scores if one.high is not None and one.kind in ("BEFORE", "WITHIN")]
    if len(first_better) == len(scores):
        return f"SFT beats every other way {on_from(max(first_better), sizes)}."
    unbeaten = [way for way, one in scores if one.high is None or one.kind == "FALLS"]
    worse = [way for way, one in scores if one.kind in ("BEYOND", "FALLS")]
    them = "any other way" if 1 < len(unbeaten) == len(scores) else listed(unbeaten, "or")
    start = f"With {count(sizes[-1])} examples SFT is not shown to beat {them}"
    return f"{start}. Taken alone, it is worse than {listed(worse)}." if worse else f"{start}."


def answer_of_min_data(
    method: str, sizes: Sequence[int], signs: Sequence[tuple[int, Sequence[str]]], alone: Sequence[int]
) -> str:
    """signs: of overfitting or forgetting, for every size that is shown. alone: sizes that pass the test, taken alone."""
    name, shown = name_of(method), [size for size, _ in signs]
    also = f"with {listed(map(count, sorted({*alone} - {*shown})))}" if {*alone} - {*shown} else ""
    if not shown and not also:
        least, most = count(sizes[0]), count(sizes[-1])
        return f"{name} is not shown to beat the base prompt at any size, {least} to {most} examples."
    if not shown:
        start = f"{name} is not shown to beat the base prompt {on_from(sizes[-1], sizes)}"
        return f"{start}. Taken alone, all trainings {also} beat it."
    start = f"{name} measurably beats the base prompt {on_from(shown[0], sizes)}"
    start += f" (taken alone, also {also})" if also else ""
    flagged = [size for size, own in signs if own]
    if not flagged:
        return f"{start}, without a sign of overfitting."
    why = "; ".join(
        f"{sign} with {listed(count(size) for size, own in signs if sign in own)}"
        for sign in dict.fromkeys(sign for _, own in signs for sign in own)
    )
    clean = [size for size in shown if size > flagged[-1]]
    below = f" below {count(clean[0])}" if clean else ""
    return f"{start}, but there are signs{below} that it overfits or forgets ({why})."


NO_FORECAST: dict[WhyNoForecast, str] = {
    "FEW_SIZES": "a learning curve needs at least six sizes",
    "FEW_SEEDS": "a learning curve needs at least two seeds",
    "NOT_FALLING": "the score does not rise with the number of examples beyond its noise",
    "OTHER_FORM": "the scores do not lie on a learning curve of the usual form",
    "TOO_WIDE": "the scores are too noisy for a forecast that would be of use",
}


def of_curve(curve: LearningCurve | NoForecast, most: int) -> str:
    """most: the largest size."""
    if isinstance(curve, NoForecast):
        return f"What more examples would gain cannot be told: {NO_FORECAST[curve.reason]}."
    gains = capital("; ".join(_gain(one, most) for one in curve.after))
    times = curve.after[-1].times
    if times < 4:
        return f"{gains}. Beyond {count(times * most)} examples it cannot be told."
    return f"{gains}. Beyond {count(times * most)} examples this study says nothing."


def _gain(one: GainAt, most: int) -> str:
    low, high = one.interval
    more = count((one.times - 1) * most)
    return f"another {more} examples are worth about {points_of(one.gain)} ({100 * low:.1f} to {points_of(high)})"


def of_trained(method: str, rate: float) -> str:
    return f"{name_of(method)} trains with the task's settings, at one learning rate, {rate:g}: the middle of those it names."


def of_units(n: int, unit: Unit, seeds: int) -> str:
    return f"Intervals at 95% are over {counted(n, f'dev {unit}')} and {counted(seeds, 'seed')}, each by itself."


LEGEND_OF_MIN_DATA = (
    "beats base: every seed's training beats the base prompt here and at each larger size. loss: train and dev, nats per token. "
    "kept: unrelated requests answered correctly. KL: from the base on general requests, nats per token."
)


def of_subsets(sizes: Sequence[int], rows: Sequence[int]) -> str:
    """rows: the most that a seed's draw took, by size: more where rows of a group stay together. "" where they are as many."""
    other = [f"{count(taken)} for {count(size)}" for size, taken in zip(sizes, rows, strict=True) if taken != size]
    why = "Rows of a group, and rows with equal inputs, stay together, so some draws have more rows than their size"
    return f"{why}: up to {listed(other)}." if other else ""


def title_of_scores(task: str, of: str = "examples") -> str:
    return f"{task}: score on dev by number of {of}"


def title_of_format(task: str) -> str:
    return f"{task}: well-formed answers on dev by number of examples"


def point_title(way: str, n: int, score: float, low: float, high: float) -> str:
    return f"{name_of(way)}, {counted(n, 'example')}: {percent(score)} ({100 * low:.1f} to {percent(high)})"


def of_pairs(learned: int, held: int, left_out: str) -> str:
    """left_out: what follows about those that cannot be trained on."""
    return f"{counted(learned, 'pair')} to learn from, {count(held)} held out{left_out}."


def arm_title(way: str, score: float, low: float, high: float) -> str:
    return f"{name_of(way)}: {percent(score)} ({100 * low:.1f} to {percent(high)})"


NOT_THE_GATE = (
    "Format leak and the distance from the base are the cheap part of the gate. The whole gate was not run: it asks each model "
    "hundreds of questions, too many for every seed. Run `lastresort gate` on an adapter before it ships."
)
LEGEND_OF_ARMS = (
    "pairs: held-out pairs whose chosen answer is the likelier one, by the log odds of a token; margin: by how much, in nats. "
    "tokens out: of an answer on dev. kept: unrelated requests answered correctly. KL: from the base on general requests, nats per "
    "token. steps: of SFT + DPO, or of ORPO. tokens: computed in training, those of the reference as halves."
)


def answer_of_arms(better: BetterArm, difference: MeanDifference) -> str:
    """difference: of the score on dev."""
    mean, (low, high) = difference.mean, difference.interval
    if better == "ORPO":
        return f"At equal compute ORPO is better than SFT and DPO, by {_by(mean, low, high)}."
    if better == "DPO":
        return f"At equal compute SFT and DPO are better than ORPO, by {_by(-mean, -high, -low)}."
    start = "At equal compute it cannot be told whether ORPO or SFT and DPO score higher"
    return f"{start}: ORPO less SFT and DPO is {_signed(mean)} points (95%: {_signed(low)} to {_signed(high)})."


def reasons_of_arms(
    points: Sequence[ArmPoint], by_seed: Sequence[ArmSeed], preferred: MeanDifference | None, chosen_tokens: float
) -> list[str]:
    """points: the base, SFT and DPO, ORPO. preferred: of pairs held out, None where none was measured."""
    base, dpo, orpo = points
    seeds = ", ".join(f"{_signed(one.difference)} with seed {one.seed}" for one in by_seed)
    lengths = f"{dpo.answer_tokens:.1f} tokens after SFT and DPO, {orpo.answer_tokens:.1f} after ORPO"
    said = [
        f"ORPO less SFT and DPO, in points: {seeds}.",
        _of_preferred(base, dpo, orpo, preferred),
        f"Answers on dev have {lengths} and {base.answer_tokens:.1f} from the base; the chosen answers have {chosen_tokens:.1f}.",
    ]
    if dpo.kept is not None and orpo.kept is not None and base.kept is not None:
        kept = (
            f"{percent(dpo.kept)} after SFT and DPO, {percent(orpo.kept)} after ORPO, {percent(base.kept)} by the base"
        )
        said.append(f"Unrelated requests answered correctly: {kept}.")
    return said


def _of_preferred(base: ArmPoint, dpo: ArmPoint, orpo: ArmPoint, found: MeanDifference | None) -> str:
    if found is None or base.preferred is None or dpo.preferred is None or orpo.preferred is None:
        return (
            "No pairs are held out, since their prompts are too few, so how well either model prefers was not measured."
        )
    low, high = found.interval
    tuned = f"{percent(dpo.preferred)} after SFT and DPO and {percent(orpo.preferred)} after ORPO"
    difference = f"{_signed(found.mean)} points, {_signed(low)} to {_signed(high)}"
    shares = f"{tuned} ({difference}), {percent(base.preferred)} by the base"
    return f"Of the pairs held out, the chosen answer is the likelier one in {shares}."


def of_rates(sft: float, dpo: float, orpo: float) -> str:
    rates = f"SFT {sft:g}, DPO {dpo:g}, ORPO {orpo:g}"
    return f"Each trains at one learning rate: {rates}. The answer is about these rates; others were not tried."


def of_compute(dpo: ArmWork, orpo: ArmWork) -> str:
    """Means over the seeds."""
    reference = f"and {count(dpo.reference_tokens)} forward through the reference, which count half"
    first = f"SFT and DPO compute {count(dpo.trained_tokens)} tokens forward and backward {reference}"
    share = f"{100 * orpo.tokens / dpo.tokens:.1f}%"
    return (
        f"Equal compute: {first}; ORPO computes {share} of that, {count(orpo.tokens)}, in as many whole steps as fit."
    )


def _by(mean: float, low: float, high: float) -> str:
    return f"{points_of(mean)} (95%: {100 * low:.1f} to {100 * high:.1f})"


def _signed(difference: float) -> str:
    """In points."""
    return f"{100 * difference:+.1f}".replace("-", "−")
