"""Why a rung is skipped or given up, as a clause, and how it searched on dev, as a sentence.

A clause: "the task names no knowledge to retrieve from".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from lastresort.hardware.plan.fit import NAMES, LoweredPlan, PlannedTraining, gib, smallest
from lastresort.ladder import trains_all
from lastresort.records import rungs as value
from lastresort.records.decision_parts import RepairFinding, RepairView
from lastresort.records.document import Statement
from lastresort.records.events.after_test import RepairTried
from lastresort.records.events.search import RungSearched
from lastresort.report.words.untuned import of_kept_prompt, of_more_shots, of_rewritten_prompt, of_small_reflector
from lastresort.report.words.wording import (
    capital,
    counted,
    duration,
    listed,
    percent,
    points_of,
    round_percent,
    spaced,
    stopped,
)
from lastresort.rungs.forecast import ALL_WEIGHTS, FROZEN_BASE, Machine
from lastresort.types import Selection

GIB = 1024**3
_FROM = {
    "given": "",
    "given, without those that dev or test hold": " after those in dev or test are left out",
    "sampled": " made of the model's own samples",
}


def of_skip(skip: value.Skip) -> Statement:
    """The clause with its figures, as the record and the decision hold it."""
    return Statement.of(skip, clause(skip))


def clause(skip: value.Skip) -> str:
    match skip:
        case value.WeightsNotLocal(model):
            return f"the weights of {model} are not local; name a model that can be trained under `tune.model`"
        case value.MethodExcluded(trains, method):
            others = "auto, lora or qlora" if trains == "adapters" else "auto or full"
            return f"it trains {trains}, but `tune.method` is {method}; set it to {others}"
        case value.KnowledgeOutpacesTraining():
            return f"{outpaced(skip)}, so its weights would be out of date: use retrieval"
        case value.TooFewRows(n, least, advised):
            return f"{n} training rows are too few (at least {least}, better {advised} to 5,000)"
        case value.TooLarge():
            return _too_large(skip)
        case value.SmallestPassTooLarge(needed, memory, _, on_card, cards):
            there = "one GPU has" if on_card else "this machine has"
            shards = _in_shards(skip)
            if cards > 1:
                return (
                    f"training all weights needs {gib(needed)} on each of {cards} GPUs by the plan, even in shards and with one "
                    f"row in a pass, and a GPU has {gib(memory)}{shards}"
                )
            needs = f"training all weights needs {gib(needed)} by the plan, even with one row in a pass"
            return f"{needs}, and {there} {gib(memory)}{shards}"
        case value.NoKnowledge():
            return "the task names no knowledge to retrieve from"
        case value.KnowledgeNotInPrompt():
            return "the knowledge may not go into the prompt (`use.context: forbidden`), so only weights can hold it"
        case value.TooFewPrompts(n, least, to_pair):
            few = f"{n} training rows are too few prompts"
            if not to_pair:
                return f"{few} (at least {least})"
            neither = "the task names neither preferences nor a reward"
            return f"{neither}, and {few} to make pairs of the model's own samples (at least {least})"
        case value.JudgeAlone():
            return (
                "the task names neither preferences nor a reward, and its scorer is a judge: pairs of its verdicts would teach the "
                "model to please the very judge that examines it"
            )
        case value.TooFewPreferences() | value.OneSidedLabels():
            return _preferences(skip)
        case value.OverTime(planned_s, hours_left):
            return (
                f"its plan of {spaced(duration(planned_s))} exceeds the {spaced(duration(3600 * hours_left))} left of "
                "`limits.hours`; raise it and continue with --resume"
            )
        case value.OutOfReach():
            return _out_of_reach(skip)
        case value.SamplesOutOfReach():
            return _samples_out_of_reach(skip)
        case value.RewardsAlike(groups, prompts, samples, differing):
            return (
                f"GRPO learns from answers to a prompt that are rewarded differently, and in none of {groups} groups of {samples} "
                f"answers, to {counted(prompts, 'different prompt')}, did the reward differ: with 95% confidence it does in fewer "
                f"than {percent(differing)} of groups"
            )
        case value.NothingMeasured(candidates, errors):
            return f"none of the {candidates} can be measured: {'; '.join(errors)}"
        case value.OnlyKnowledgeMissing(n):
            return (
                f"every answer that is wrong on dev ({n}) was right with the right passage in the prompt: what is missing is "
                "knowledge, which preferences do not add"
            )
        case _:
            assert_never(skip)


def outpaced(found: value.KnowledgeOutpacesTraining) -> str:
    again = "never" if found.retrained == "never" else f"only {found.retrained}"
    return f"the knowledge changes {found.changes} and the model would be retrained {again}"


def _too_large(skip: value.TooLarge) -> str:
    billions = skip.parameters / 1e9
    size = f"{billions:,.0f}" if billions >= 100 else f"{billions:.3g}"
    return (
        f"training all {size} billion weights takes {skip.needed_bytes / GIB:,.0f} GiB for weights, gradients and optimizer alone, "
        f"and this machine has {skip.memory_bytes / GIB:,.0f} GiB{_in_shards(skip)}"
    )


def _in_shards(skip: value.LacksMemory) -> str:
    """What would make room, "" where nothing here does."""
    return f"; `tune.processes: auto` trains them in shards on the {skip.enough} GPUs here" if skip.enough else ""


def _preferences(skip: value.TooFewPreferences | value.OneSidedLabels) -> str:
    source = _FROM[skip.source] + (f" ({skip.sampled})" if skip.sampled else "")
    if isinstance(skip, value.OneSidedLabels):
        kinds = f"{skip.good} good and {skip.bad} bad answers{source}"
        return f"{kinds} do not show the difference (at least {skip.least} of each)"
    noun = "labelled answers" if skip.labelled else "preference pairs"
    return (
        f"{skip.n} {noun}{source} are too few: below {skip.least}, a few more or less decide which way the model goes"
    )


def _out_of_reach(skip: value.OutOfReach) -> str:
    scores = "; ".join(
        f"{name} scored {percent(found.score)} on {found.n_used} dev {found.unit}s (interval {percent(found.interval[0])} to "
        f"{percent(found.interval[1])})"
        for name, found in skip.systems.items()
    )
    which = "right" if skip.right_passages else "likeliest"
    return f"even with the {which} passages in the prompt, {_bar_on_dev(skip)} is out of reach: {scores}"


def _bar_on_dev(skip: value.OutOfReach | value.SamplesOutOfReach) -> str:
    """With the judge's score that misses it, where the scores next to it are the judge's."""
    judged = "" if skip.missed_below is None else f" (judged scores below {percent(skip.missed_below)} miss it)"
    return f"the bar of {percent(skip.bar)}{judged}"


def _samples_out_of_reach(skip: value.SamplesOutOfReach) -> str:
    best, low, high = skip.best, *map(percent, skip.best.interval)
    scored = f"{percent(best.score)} on {counted(best.n_used, f'dev {best.unit}')} (interval {low} to {high})"
    return (
        f"preferences would be made of the model's own samples, and not even the best of {skip.samples} samples to each dev item "
        f"reaches {_bar_on_dev(skip)}, which is wrong in at most {percent(skip.error)} of cases: the best scored {scored}, one "
        f"alone {percent(skip.alone)}"
    )


def of_selection(found: Selection) -> str:
    """Why a candidate goes to the test."""
    scored = f"{percent(found.score)} on {counted(found.n, 'dev item')}"
    if found.rule == "ONLY":
        return f"it is the only candidate left, with {scored}."
    if found.rule == "MILDEST":
        return (
            f"it moved least from the base ({found.distance:.3f} nats per token) of the "
            f"{counted(found.likely or 0, 'candidate')} likely to meet the bar; dev score {scored}."
        )
    if found.best is None or found.best_score is None:
        cheaper = "which is not cheaper" if len(found.tied) == 1 else "none of which is cheaper"
        tied = f", tied with {listed(found.tied)}, {cheaper}" if found.tied else ""
        return f"it has the highest dev score, {scored}{tied}."
    against = f"{found.best} ({scored}, against {percent(found.best_score)})"
    if found.margin is None or found.p is None:
        return f"it is cheaper and within one item of {against}."
    return f"it is cheaper and shown to lose less than {points_of(found.margin)} to {against}, p = {found.p:.3f}."


def of_selection_bias(found: RungSearched) -> str:
    """What the best dev score would be without having been chosen; "" where there was no choice, or it is not shown to be lower."""
    most = max((one.dev.n for one in found.candidates), default=0)
    scores = {one.name: one.dev.score for one in found.candidates if one.dev.n == most}
    best = max(scores.values(), default=0.0)
    corrected = found.bias_corrected
    if corrected is None or corrected >= best or percent(corrected) == percent(best):
        return ""
    name = next(name for name in (found.chosen, *scores) if scores.get(name) == best)
    return (
        f"The highest dev score, the {percent(best)} of {name}, is inflated by being the highest of several; corrected for that, "
        f"it is {percent(corrected)}."
    )


def of_repair(repair: RepairView | RepairTried) -> str:
    """Why a repair is good or not, as one sentence after its dev score."""
    found, dev = repair.findings, "" if repair.dev is None else f"Dev score {round_percent(repair.dev.score)}"
    if repair.good:
        lost = [f"{one.measure} {_changed(one.value or 0.0)}" for one in found]
        return f"{dev}; {listed(lost)}; at most half of what is accepted may be lost." if lost else f"{dev}."
    told = "; ".join(map(_against, found))
    return stopped(f"{dev}; {told}" if dev and not any(one.kind == "BELOW_BAR" for one in found) else capital(told))


def _changed(lost: float) -> str:
    """ "lost 1.6 points", "gained 0.5 points", "lost nothing"."""
    if abs(lost) < 5e-4:
        return "lost nothing"
    return f"{'gained' if lost < 0 else 'lost'} {points_of(abs(lost))}"


def _against(found: RepairFinding) -> str:
    seen, limit = found.value or 0.0, found.limit or 0.0
    match found.kind:
        case "BELOW_BAR":
            return f"dev score {round_percent(seen)}, below the bar of {round_percent(limit)}"
        case "LOST_TOO_MUCH":
            return f"{found.measure} lost {points_of(seen)}, more than the limit of {points_of(limit)}"
        case "LOST_LITTLE":
            return f"{found.measure} {_changed(seen)}"
        case "UNSEEN":
            return f"{found.measure} has no informative items outside the gate"
        case "NOT_WORTH":
            return f"general lost {points_of(seen)}, more than half of the {points_of(limit)} gained on dev"
        case "NOT_MADE":
            return f"it could not be made: {found.error}"
        case "DIVERGED":
            return "its training diverged"
        case "OVER_TIME":
            return clause(value.OverTime(seen, limit))
        case _:
            assert_never(found.kind)


def of_search(found: value.SearchFinding) -> Statement:
    return Statement.of(found, search_sentence(found))


def search_sentence(found: value.SearchFinding) -> str:
    """What a search found, as the report says it."""
    if isinstance(found, value.PromptKept):
        return of_kept_prompt(found)
    match found:
        case value.RacedOnDev():
            return _raced(found)
        case value.NotTried(candidate, why):
            return f"{candidate} could not be tried: {why}"
        case value.RefusedLater(candidate, n, why):
            return f"{candidate} was dropped after {counted(n, 'dev item')}, because its model refused others: {why}"
        case value.MoreShotsTried():
            return of_more_shots(found)
        case value.SmallReflector():
            return of_small_reflector(found)
        case value.PromptRewritten():
            return of_rewritten_prompt(found)
        case value.SearchAlone():
            return _search_alone(found)
        case value.WithPassages():
            scores = [f"{name} {percent(one.score)} ({one.outcome})" for name, one in found.systems.items()]
            scores += [f"{name} could not be tried: {why}" for name, why in found.dropped.items()]
            return f"With the {'right' if found.right else 'likeliest'} passages in the prompt: {'; '.join(scores)}."
        case value.TrainedOnRows():
            return _on_rows(found)
        case value.CurveBelowBar():
            return _curve(found)
        case value.TrainedOnPreferences():
            raced = (
                "the only learning rate tried" if len(found.rates) == 1 else f"raced on dev with {_rates(found.rates)}"
            )
            return (
                f"{preference_plan(found.plan)}; {found.learned_from}. Learning rate {found.rate:g}, {raced}; "
                f"{counted(found.epochs, 'epoch')} at most, batch {found.batch_size}."
            )
        case _:
            assert_never(found)


def preference_plan(plan: value.PreferencePlan) -> str:
    """What is trained on what, from where, and why, as a clause."""
    source = {
        "pairs": "the task's pairs",
        "labels": "the task's labelled answers",
        "reward": "the task's reward",
        "samples": f"pairs of the model's own samples, ranked by the scorer {plan.scorer}, since the task names neither "
        "preferences nor a reward",
    }[plan.source]
    start = f"from {'the adapter of sft' if plan.on_sft else 'the base'}, which is the reference too"
    if plan.objective == "orpo":
        start = "from the base and without a reference, since there is no supervised adapter to start from"
    unused = "; the reward is not used" if plan.reward_unused else ""
    return f"{plan.objective.upper()} on {source}{';' if plan.source == 'samples' else ','} {start}{unused}"


def _raced(found: value.RacedOnDev) -> str:
    tried = "One candidate was tried on dev" if found.n == 1 else f"{found.n} {found.candidates} were tried on dev"
    if found.ended is None:
        were = "was" if found.dropped == 1 else "were"
        return f"{tried}; {found.dropped} {were} dropped early{_how(found)}." if found.dropped else f"{tried}."
    ended = f"{tried}; the race ended after {found.until} of {found.n_dev} items"
    if found.ended == "ONE_LEFT":
        return f"{ended}, where {_paired(found)} left one."
    return f"{ended}: all remaining {found.candidates} miss the bar (error rate {found.error:.0%})."


def _how(found: value.RacedOnDev) -> str:
    halved = found.dropped - found.by_test
    if not found.by_test:
        return " by successive halving"
    return f", {found.by_test} by {_paired(found)} and {halved} by halving" if halved else f" by {_paired(found)}"


def _paired(found: value.RacedOnDev) -> str:
    return f"a paired test at an error of {found.not_best:.0%}"


def _search_alone(found: value.SearchAlone) -> str:
    if not found.searches:
        return "No dev example names its passages, so the search was not measured on its own."
    scores = "; ".join(
        f"{search.mode}{' reranked' if search.reranked else ''} "
        + ", ".join(f"recall@{k} {recall:.2f}" for k, recall in sorted(search.recall.items()))
        + f", MRR {search.mrr:.2f}"
        for search in found.searches
    )
    return f"The search by itself, on {found.searches[0].questions} dev questions whose passages are known: {scores}."


def _on_rows(found: value.TrainedOnRows) -> str:
    first = "" if found.pretrained is None else f"{_pretrained(found.pretrained)}; then "
    replay = f"{found.replay} of replay{' held to the base' if found.held else ''}"
    training = f"{first}{found.method}, {found.rows} rows and {replay}, {counted(found.epochs, 'epoch')}, batch {found.batch_size}"
    if len(found.rates) == 1:
        return f"{training}, learning rate {found.rate:g}, the only one tried.{_still_falling(found)}"
    laps = ", ".join(
        f"{lap.rate:g}: {'diverged' if lap.loss is None else f'{lap.loss:.3f}'} at step {lap.step}"
        for lap in found.laps
    )
    rates = _rates(found.rates)
    raced = f"learning rates {rates} raced by loss on dev ({laps}); {found.rate:g} went the whole way."
    return f"{training}; {raced}{_still_falling(found)}"


def _curve(found: value.CurveBelowBar) -> str:
    start = "from 0" if found.before is None else f"from the untrained model's {percent(found.before)}"
    bar = percent(found.bar)
    below = f"{bar}, the judge's score that counts as a miss" if found.judged else f"the bar of {bar}"
    return (
        f"After {found.step} of {found.steps} steps it scored {percent(found.score)} on {counted(found.n, 'dev item')}; drawn "
        f"straight on {start}, that ends at {percent(found.end)}, below {below}. If the line did reach it, a "
        f"score this low would come up in at most {percent(found.error)} of cases. This is a warning, not a verdict."
    )


def _still_falling(found: value.TrainedOnRows) -> str:
    if found.falling is None:
        return ""
    before, last = found.falling
    return (
        f" The loss on dev still fell between the last two checkpoints, from {before:.3f} to {last:.3f}: more epochs "
        "(`sft.epochs`) or a higher rank (`sft.r`) may help."
    )


def _pretrained(found: value.Pretraining) -> str:
    learned = found.learned
    return (
        f"first pretrained on the knowledge as plain text ({counted(learned.documents, 'document')}, "
        f"{counted(learned.tokens, 'token')}, {counted(learned.epochs, 'epoch')} at {learned.learning_rate:g}, with "
        f"{counted(learned.replay_rows, 'row')} of replay), since {found.since}"
    )


def _rates(rates: tuple[float, ...]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)


def of_memory(planned: PlannedTraining, room_bytes: int, instead: LoweredPlan | None, rung: str, *, fits: bool) -> str:
    """What a rung that trains would hold here; where that does not fit, what it does instead or what the task has to say."""
    holds = (
        f"{NAMES[planned.setup.method]} holds {gib(planned.needed_bytes)} by the plan (most of it {planned.largest_part()})"
        f"{_divided(planned)}; {gib(room_bytes)} are free {'here' if planned.cards.count == 1 else 'for each'}"
    )
    if fits:
        return f"{holds}."
    return f"{holds}: it does not fit. {_smaller(planned, instead, rung)}"


def of_base_beyond_a_card(planned: PlannedTraining, loaded_bytes: int) -> str:
    """Of a training that fits in shards, on a base that cannot answer. loaded_bytes: of the whole base."""
    return (
        f"{NAMES[planned.setup.method]} would fit{_divided(planned)}, but a climb also answers with the whole base, which takes "
        f"{gib(loaded_bytes)}, on one GPU of {gib(planned.cards.card.memory_bytes)}: it is refused."
    )


def _divided(planned: PlannedTraining) -> str:
    if planned.cards.count == 1:
        return ""
    shared = "all weights" if planned.setup.trains_all else "the base"
    shards = f", with a share of {shared}" if planned.cards.sharing == "fsdp" else ""
    return f" in each of {planned.cards.count} processes{shards}"


def _smaller(planned: PlannedTraining, instead: LoweredPlan | None, rung: str) -> str:
    if instead is None:
        least = gib(smallest(planned).needed_bytes)
        return f"Nothing makes it fit: at the least it holds {least}. Name a smaller model."
    comes, method = f"which comes to {gib(instead.planned.needed_bytes)}", instead.planned.setup.method
    if instead.same_run:
        return f"It trains with {instead.written()} instead, {comes}."
    if trains_all(rung):
        return f"Leave {rung} out of `ladder`, or name a smaller model: {method} would fit, {comes}."
    return f"Set tune.method: {method}, {comes}, or name a smaller model."


def of_missing_lm_eval(names: Sequence[str]) -> str:
    needed = f"The gate asks {listed(names)}, and lm-eval is not installed"
    return f"{needed}: run pip install 'lastresort[evals]', or the climb stops before it begins."


def of_model_elsewhere(model: str) -> str:
    return f"{model} is not on this machine: the climb downloads it from the hub first. Its speed is not known before that."


def of_training_cards(machine: Machine) -> str:
    """By how much several cards at most shorten the trainings of a forecast; "" where one trains, or none is forecast."""
    if machine.training_cards == 1 or machine.parameters is None:
        return ""
    return (
        f"Training on {machine.training_cards} GPUs is assumed, not measured, to be at most "
        f"{machine.training_speedup:.3g} times as fast as on one."
    )


def of_speed(machine: Machine) -> str:
    """How fast a model is here, and how that is known, as a clause."""
    if machine.parameters is None:
        return "nothing is known of its speed"
    rates = machine.tokens_per_s()
    found = (
        f"{rates.training:,.0f} tokens a second in training ({rates.training * FROZEN_BASE / ALL_WEIGHTS:,.0f} of all weights), "
        f"{rates.reading:,.0f} read, {rates.answering:,.0f} answered"
    )
    how = (
        "by a few layers of its shape timed here just now"
        if machine.measured is not None
        else "assumed from a matrix product here"
    )
    return f"{found}, {how}"


def of_assumption(model: str, counted_how: str, machine: Machine) -> str:
    """What the figures of a forecast rest on. counted_how: how its tokens were counted, as an adverbial."""
    return f"{model}: tokens counted {counted_how}; {of_speed(machine)}."
