"""What a study will take and what it found, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from lastresort.evals.evidence.crossing import CurveCrossing
from lastresort.evals.evidence.learning_curve import GainAt, LearningCurve, NoForecast, WhyNoForecast
from lastresort.records.events.run import ClimbStopped
from lastresort.report.words.progress import end_line
from lastresort.report.words.wording import (
    capital,
    count,
    counted,
    forecast_figures,
    listed,
    percent,
    points,
    points_of,
    price,
)
from lastresort.rungs.forecast import Forecast
from lastresort.types import GateVerdict, StudyGate, StudyKind, Unit

if TYPE_CHECKING:
    from lastresort.report.study import (
        ArmGate,
        ArmPoint,
        ArmSeed,
        ArmSettings,
        ArmWork,
        BetterArm,
        ComparedInstruction,
        ComputeShare,
        GateSaid,
        MeanDifference,
    )

DEV_ONLY = "All scores are on dev. This study chose nothing on it. The test set was not measured."

NAMES = {
    "sft": "SFT",
    "lora": "LoRA",
    "qlora": "QLoRA",
    "optimised": "optimised prompt",
    "dpo": "SFT then DPO",
    "orpo": "ORPO",
    "real": "real rows alone",
    "synthetic": "synthetic rows alone",
    "both": "real and synthetic rows together",
}
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


def of_grid(bases: Sequence[str], ways: Sequence[str], sizes: Sequence[int], seeds: int) -> str:
    """What the cells are. sizes: of the ways that learn from examples; one alone says nothing."""
    on = f" on {listed(map(count, sizes))} examples" if len(sizes) > 1 else ""
    once = f", and {listed(map(name_of, bases))} once" if bases else ""
    return f"It measures {listed(map(name_of, ways))}{on}, with {counted(seeds, 'seed')} each{once}."


def of_unfinished(kind: StudyKind, cells: tuple[int, int] | None, *, running: bool) -> str:
    """cells: how many are done, of how many; None where that is not known yet."""
    now = "is running" if running else "has not finished"
    figures = "" if cells is None else f": {count(cells[0])} of {counted(cells[1], 'cell')} done"
    return f"The {kind} study {now}{figures}. The result comes with the last cell."


REFUSED_OR_DIED = (
    "It ended before it finished: it was refused, failed, was killed, or did not end soon enough after a signal "
    "(such as Ctrl-C)."
)
MAKES_ROWS = (
    "Its rows are still to be made, or it was refused, failed or was killed. If the command that started it is no longer running, "
    "run it again to resume the study."
)


def how_to_go_on(stopped: ClimbStopped | None, command: str | None, *, makes_rows: bool, workers: bool) -> str:
    """How a study that no process is working on ended, and what resumes it. command: None where it is not known. makes_rows:
    whether the command that began it may still be making the rows that the study compares. workers: whether workers did its cells.
    """
    if stopped is None and makes_rows:
        return MAKES_ROWS
    early = REFUSED_OR_DIED if stopped is None else end_line(stopped)
    first = "raise the limit and " if stopped is not None and stopped.by == "limit" else ""
    again = "run the command that started it again" if command is None else f"run: {command}"
    if workers and command is not None:
        again += " (it runs on this machine alone: add --ray, as before, for workers)"
    return f"{early} No process is running this study. To resume it, {first}{again}"


def of_cell(number: int, cells: int, label: str) -> str:
    return f"{number} of {cells}: {label}"


def examples(number: float) -> str:
    """A place between two sizes, in two digits."""
    digits = 10 ** max(0, math.floor(math.log10(number)) - 1) if number >= 1 else 1
    return count(digits * round(number / digits))


BETTER = {"score": "better", "format": "more often well-formed", "cost": "cheaper per call"}
WORSE = {"score": "worse", "format": "less often well-formed", "cost": "more expensive per call"}
EACH_ALONE = "Each comparison holds at every size it covers; taken alone, one is wrong in at most 5% of studies."
COSTS_SHOWN = (
    "Costs per call are shown, not compared: the time of a token is measured only on a CPU, and not for models that are too large "
    "for that or for a 4-bit base. The times shown are those of one pass over dev, and the same pass can take longer at another "
    "time."
)


def of_call_times(
    model: tuple[float, float],
    base: tuple[float, float] | None,
    hour_usd: float,
    factor: float,
    of_adapter: tuple[tuple[float, float], tuple[float, float]],
    kept_from: int,
) -> str:
    """model, base: seconds to read a token and to write one, of the model that is tuned and of the other one that is prompted; None
    where that is the same, or an endpoint. factor: by which they may be off. of_adapter: how many times as long as its base
    an adapter takes to read and to write, at least and at most. kept_from: the shortest beginning that is kept, in tokens.
    """
    other = "" if base is None else f" ({_milliseconds(base)} of the model that is prompted)"
    (read, write), (most_read, most_write) = of_adapter
    of_base = f"{read:g} to {most_read:g} (reading) and {write:g} to {most_write:g} times (writing) as long as one of its base"
    return (
        f"A call costs what its tokens take at {price(hour_usd)} an hour of a busy machine: {_milliseconds(model)}{other}, timed "
        f"once for all methods. A prefix of {kept_from} tokens or more that all prompts share is read once, as by `lastresort "
        f"serve`. A comparison of costs is stated only if it holds with these times off by a factor of up to {factor:g}, with a "
        f"token of the adapter that takes {of_base}, and with prefixes cached or not, even those that only two calls share. "
        "The costs shown are those of merged weights. Attention to long prompts is not counted."
    )


def _milliseconds(of: tuple[float, float]) -> str:
    read_s, write_s = of
    return f"{1000 * read_s:.2g} ms to read one and {1000 * write_s:.2g} ms to write one"


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
            return f"This study cannot tell where SFT is {better} than {listed(ways, 'or')}, if anywhere."
        case "FALLS":
            first, last = up_to(crossing.low, sizes), on_from(crossing.high, sizes)
            return f"SFT is {better} than {listed(ways)} {first} and {worse} {last}: its lead falls."
    first, last = up_to(crossing.low, sizes), on_from(crossing.high, sizes)
    if not first:
        return f"SFT is {better} than {listed(ways)} {last}; with fewer, this study cannot tell."
    if not last:
        return f"SFT is {worse} than {listed(ways)} {first}; with more, this study cannot tell."
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


def answer_of_crossover(crossings: Sequence[NamedCrossing], sizes: Sequence[int], *, optimised: bool = False) -> str:
    """Of the scores. That SFT beats all other ways needs no correction for their number, since each of them must show it.
    optimised: whether there is an optimised prompt, which is not tested.
    """
    said = _of_tested(crossings, sizes)
    return f"{said} The optimised prompt is not part of this." if optimised else said


def of_optimised(found: ComparedInstruction, most: int) -> str:
    """How SFT on the most examples compares with the optimised prompt, and why that is no verdict."""
    low, high = found.difference.interval
    minus = f"{signed(found.difference.mean)} points (95%: {signed(low)} to {signed(high)})"
    start = (
        f"With {counted(most, 'example')} SFT minus the optimised prompt is {minus}. The instruction was written from"
    )
    if found.rows < most:
        return (
            f"{start} {count(found.rows)} rows of train, SFT learned from {count(most)}, and a climb raced the instruction on dev: "
            "one favours SFT, the other the prompt, so neither lead says which method is better."
        )
    than = "more than" if found.rows > most else "as many as"
    return (
        f"{start} {count(found.rows)} rows of train, {than} SFT learned from. A climb raced it on dev, and its score here is too "
        "high if it was chosen for that, so a lead of the prompt shows nothing."
    )


def _of_tested(crossings: Sequence[NamedCrossing], sizes: Sequence[int]) -> str:
    scores = [(way, one) for way, what, one in crossings if what == "score"]
    first_better = [one.high for _, one in scores if one.high is not None and one.kind in ("BEFORE", "WITHIN")]
    if len(first_better) == len(scores):
        return f"SFT beats every other method {on_from(max(first_better), sizes)}."
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
        return f"{start}. Taken alone, all runs {also} beat it."
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
        return f"This study cannot tell what more examples would gain: {NO_FORECAST[curve.reason]}."
    gains = capital("; ".join(_gain(one, most) for one in curve.after))
    times = curve.after[-1].times
    if times < 4:
        return f"{gains}. Beyond {count(times * most)} examples this study cannot tell."
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


def title_of_scores(task: str) -> str:
    return f"{task}: score on dev by number of examples"


def title_of_format(task: str) -> str:
    return f"{task}: well-formed answers on dev by number of examples"


def point_title(way: str, n: int, score: float, low: float, high: float) -> str:
    return f"{name_of(way)}, {counted(n, 'example')}: {percent(score)} ({100 * low:.1f} to {percent(high)})"


def of_units_of_arms(n: int, unit: Unit, seeds: int, prompts: int) -> str:
    """prompts: that are held out."""
    held = f", those of held-out pairs over {counted(prompts, 'prompt')} and the seeds" if prompts > 1 else ""
    alone = "those of the base and of one seed over its items alone"
    return f"Intervals at 95%: scores over {counted(n, f'dev {unit}')} and {counted(seeds, 'seed')}{held}, {alone}."


def of_pairs(learned: int, held: int, left_out: str) -> str:
    """left_out: what follows about those that cannot be trained on."""
    return f"{counted(learned, 'pair')} to learn from, {count(held)} held out{left_out}."


def title_of_arms(task: str) -> str:
    return f"{task}: score on dev with each seed, and ORPO minus SFT then DPO"


def of_arm_seed(one: ArmSeed) -> str:
    return f"seed {one.seed}: SFT then DPO {percent(one.dpo)}, ORPO {percent(one.orpo)}"


def picture_of_arms(task: str, base: float, by_seed: Sequence[ArmSeed], difference: MeanDifference) -> str:
    """All that the picture shows, for those who do not see it. base: score of the base prompt."""
    low, high = difference.interval
    mean = f"on average {points(difference.mean)} (95%: {signed(low)} to {signed(high)})"
    seeds = "; ".join(map(of_arm_seed, by_seed))
    return f"{title_of_arms(task)}, {mean}. {capital(seeds)}; base prompt {percent(base)}."


def on_the_page(columns: Sequence[str]) -> str:
    return f"On the page alone: {listed(columns)}."


NOT_THE_GATE = (
    "Format leak and the distance from the base are the cheap part of the gate. The whole gate was not run: it asks each model "
    "hundreds of questions (--gate quick or --gate full runs it). A study keeps no adapter. To ship one, run `lastresort climb`, "
    "which gates what it trains: SFT then DPO with sft and preference in the ladder, ORPO without sft."
)
_GATES: dict[StudyGate, str] = {
    "quick": "The gate is quick: bounded in items, with less statistical power.",
    "full": "The gate is full: as many items as a verdict needs.",
}


def of_gate(mode: StudyGate) -> str:
    """What the gate of a study is."""
    return (
        f"{_GATES[mode]} It compares each adapter with the base, on the same items for all, and its target is dev: the bar, and "
        "the base prompt. Each verdict has its own error of 5%, and none says which method is better. A study keeps no adapter. "
        "To ship one, run `lastresort climb`, which tests and gates it: SFT then DPO with sft and preference in the ladder, ORPO "
        "without sft."
    )


def of_verdicts(verdicts: Sequence[GateVerdict]) -> str:
    """ "SHIP 3, HOLD 2"."""
    return ", ".join(f"{one} {verdicts.count(one)}" for one in get_args(GateVerdict) if one in verdicts)


def of_arm_gate(way: str, gate: ArmGate) -> str:
    """What the gate says of a way, over its seeds."""
    said = f"Gate of {name_of(way)}: {of_verdicts(gate.verdicts)} of {counted(len(gate.verdicts), 'seed')}"
    means = ", ".join(
        f"{one.name} {signed(one.difference)} ({signed(one.interval[0])} to {signed(one.interval[1])})"
        for one in gate.measures
    )
    if means:
        said += f"; in points on average (95%): {means}"
    return f"{said}; not tested with every seed: {listed(gate.untested)}." if gate.untested else f"{said}."


def of_gate_reasons(way: str, by_seed: Sequence[tuple[int, GateSaid | None]]) -> list[str]:
    """Why the gate holds or rejects, a sentence for each reason and its seeds."""
    held = [(seed, said.reason) for seed, said in by_seed if said is not None and said.verdict != "SHIP"]
    reasons = dict.fromkeys(reason for _, reason in held)
    of = {reason: [str(seed) for seed, own in held if own == reason] for reason in reasons}
    return [
        f"{reason.removesuffix('.')} ({name_of(way)}, {'seed' if len(seeds) == 1 else 'seeds'} {listed(seeds)})."
        for reason, seeds in of.items()
    ]


def of_no_gate(cells: int) -> str:
    """cells: that have a row without the gate that is wanted."""
    have, they, rows = ("has", "it is", "its row is") if cells == 1 else ("have", "they are", "their rows are")
    why = f"A study keeps no adapter, so {they} trained again to be gated, and {rows} replaced."
    return f"{counted(cells, 'cell')} {have} a row without this gate. {why}"


ONE_LOOK = (
    "The verdict is false in at most 5% of studies if the number of seeds was fixed beforehand and no training is far from the "
    "others. Adding seeds after a look, or a training that collapses now and then, makes false verdicts more frequent."
)
LEGEND_OF_HELD = (
    "prefers chosen: held-out pairs whose chosen answer is the likelier one, by the log odds of a token. margin: by how much, in "
    "nats."
)
LEGEND_OF_ARMS = (
    "tokens out: of an answer on dev. kept: unrelated requests answered correctly. KL: from the base on general requests, nats per "
    "token. steps: of SFT + DPO, or of ORPO. tokens: computed in training, those of the reference as halves."
)


def answer_of_arms(better: BetterArm, difference: MeanDifference, work: ComputeShare) -> str:
    """difference: of the score on dev."""
    mean, (low, high) = difference.mean, difference.interval
    start = "At equal compute" if work.equal else f"With ORPO at {_share(work)} of the compute of SFT then DPO,"
    if better == "ORPO":
        return f"{start} ORPO scores {_by(mean, low, high, 'SFT then DPO')}."
    if better == "DPO":
        return f"{start} SFT then DPO scores {_by(-mean, -high, -low, 'ORPO')}."
    found = f"ORPO minus SFT then DPO is {signed(mean)} points (95%: {signed(low)} to {signed(high)})"
    return f"{start} this study cannot tell whether ORPO or SFT then DPO scores higher: {found}."


def reasons_of_arms(
    points: Sequence[ArmPoint], by_seed: Sequence[ArmSeed], preferred: MeanDifference | None, chosen_tokens: float
) -> list[str]:
    """points: the base, SFT then DPO, ORPO. chosen_tokens: without the token that ends an answer, which answers on dev do not count
    either. preferred: of pairs held out, None where none was measured.
    """
    base, dpo, orpo = points
    seeds = ", ".join(f"{signed(one.difference)} with seed {one.seed}" for one in by_seed)
    lengths = f"{dpo.answer_tokens:.1f} tokens after SFT then DPO, {orpo.answer_tokens:.1f} after ORPO"
    said = [
        f"ORPO minus SFT then DPO, in points: {seeds}.",
        _of_preferred(base, dpo, orpo, preferred),
        f"Answers on dev have {lengths} and {base.answer_tokens:.1f} from the base; the chosen answers have {chosen_tokens:.1f}.",
    ]
    if dpo.kept is not None and orpo.kept is not None and base.kept is not None:
        kept = (
            f"{percent(dpo.kept)} after SFT then DPO, {percent(orpo.kept)} after ORPO, {percent(base.kept)} by the base"
        )
        said.append(f"Unrelated requests answered correctly: {kept}.")
    gates = {
        dpo.way: [(one.seed, one.dpo_gate) for one in by_seed],
        orpo.way: [(one.seed, one.orpo_gate) for one in by_seed],
    }
    for one in (dpo, orpo):
        if one.gate is not None:
            said += [of_arm_gate(one.way, one.gate), *of_gate_reasons(one.way, gates[one.way])]
    return said


def _of_preferred(base: ArmPoint, dpo: ArmPoint, orpo: ArmPoint, found: MeanDifference | None) -> str:
    if found is None or base.preferred is None or dpo.preferred is None or orpo.preferred is None:
        return (
            "No pairs are held out, since their prompts are too few, so how well either model prefers was not measured."
        )
    low, high = found.interval
    tuned = f"{percent(dpo.preferred)} after SFT then DPO and {percent(orpo.preferred)} after ORPO"
    difference = f"{signed(found.mean)} points, {signed(low)} to {signed(high)}"
    shares = f"{tuned} ({difference}), {percent(base.preferred)} by the base"
    return f"Of the pairs held out, the chosen answer is the likelier one in {shares}. The odds of a token are what ORPO trains."


def of_rates(settings: ArmSettings) -> str:
    one = settings
    rates = f"SFT {one.sft_rate:g}, DPO {one.dpo_rate:g}, ORPO {one.orpo_rate:g}"
    plus = (
        ""
        if one.loraplus_lr_ratio == 1
        else f" B learns at {one.loraplus_lr_ratio:g} times these in all three (LoRA+)."
    )
    weights = f"DPO's beta is {one.dpo_beta:g}, the weight of ORPO's odds ratio {one.orpo_weight:g}"
    return f"Each trains at one learning rate: {rates}.{plus} {weights}. The answer is about these settings; others were not tried."


def of_training(method: str, pairs: int, held: int, left_out: int) -> str:
    """left_out: pairs that cannot be trained on."""
    out = f", {count(left_out)} left out (too long, or with equal answers)" if left_out else ""
    return f"{name_of(method)} learns from {counted(pairs, 'pair')}; {count(held)} are held out{out}."


def of_compute(dpo: ArmWork, orpo: ArmWork, work: ComputeShare) -> str:
    """Means over the seeds."""
    reference = f"and {count(dpo.reference_tokens)} forward through the reference, which count half"
    first = f"SFT then DPO computes {count(dpo.trained_tokens)} tokens forward and backward {reference}"
    second = f"ORPO computes {_share(work)} of that, {count(orpo.tokens)}"
    if work.equal:
        return f"Equal compute: {first}; {second}, in as many whole steps as fit."
    return f"Compute is not equal: {first}; {second}. A training took other passes than were planned."


def _share(work: ComputeShare) -> str:
    return f"{100 * work.share:.1f}%"


def _by(mean: float, low: float, high: float, other: str) -> str:
    return f"{points_of(mean)} higher than {other} (95%: {100 * low:.1f} to {100 * high:.1f})"


def signed(difference: float) -> str:
    """In points."""
    return f"{round(100 * difference, 1) + 0.0:+.1f}".replace("-", "−")
