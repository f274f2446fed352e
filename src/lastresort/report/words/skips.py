"""Why a rung is skipped or given up, as a clause: "the task names no knowledge to retrieve from"."""

from __future__ import annotations

from typing import assert_never

from lastresort.records import skips as value
from lastresort.records.document import Statement
from lastresort.report.words.wording import percent

GIB = 1024**3
_FROM = {
    "given": "",
    "given, without those that dev or test hold": " once those are left out that dev or test hold",
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
        case value.NoKnowledge():
            return "the task names no knowledge to retrieve from"
        case value.KnowledgeNotInPrompt():
            return "the knowledge may not travel in the prompt (`use.context: forbidden`), so only weights can hold it"
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
                f"its plan of {planned_s / 3600:.2g} hours exceeds the {hours_left:.2g} hours that are left of `limits.hours`; "
                "raise it and go on with --resume"
            )
        case value.OutOfReach():
            return _out_of_reach(skip)
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
        f"and this machine has {skip.memory_bytes / GIB:,.0f} GiB"
    )


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
    return f"even with the {which} passages in the prompt, the bar of {percent(skip.bar)} is out of reach: {scores}"
