"""What candidates are, a line each, from what the record says of them; what a comparison of training methods does and finds, one
sentence per method. Nothing is decided by these words.
"""

from __future__ import annotations

from lastresort.objectives import OBJECTIVES, Need
from lastresort.records.decision_parts import (
    CandidateFacts,
    ComparisonRefusal,
    GivenPassages,
    PromptFacts,
    TrainedFacts,
    WayFigures,
)
from lastresort.report.words.answer import not_compared
from lastresort.report.words.wording import capital
from lastresort.report.words.wording import round_percent as percent
from lastresort.types import AdapterChoice, WayName

GIVEN: dict[GivenPassages, str] = {
    "none": "no passages",
    "right": "the right passages in the prompt, as dev names them",
    "likeliest": "the likeliest passages in the prompt",
    "likeliest_one": "the likeliest passage in the prompt",
}
METHODS: dict[AdapterChoice, str] = {
    "lora": "LoRA adapter",
    "rslora": "rank-stabilised LoRA adapter",
    "dora": "DoRA adapter",
    "qlora": "QLoRA adapter",
    "full": "all weights trained",
}
TRAINED_ON: dict[Need, str] = {
    "completions": "",
    "text": "plain text",
    "pairs": "preferences",
    "labels": "labelled answers",
    "groups": "rewards",
}


def about_candidate(facts: CandidateFacts | None) -> str:
    """ "The instruction with 5 solved examples, …; decoding is limited to …". "" where nothing is known, and of weights whose
    training goes on.
    """
    if facts is None or (facts.weights == "trained" and facts.trained is None):
        return ""
    prompt = facts.prompt
    if facts.trained is not None:
        parts = [_training(facts.trained)]
    else:
        parts = ["the model before training"] if facts.weights == "base" else []
        parts += [_prompt(prompt), *_passages(prompt)]
    if prompt.constrained:
        parts.append("decoding is limited to what the output's format allows")
    return capital("; ".join(parts))


def _prompt(prompt: PromptFacts) -> str:
    instruction = "a model-written instruction" if prompt.rewritten else "the instruction"
    if prompt.sections:
        instruction += " in marked sections"
    added = ["a request to reason before the answer"] if prompt.reasoning else []
    if prompt.shots and prompt.nearest:
        added.append(f"the {prompt.shots} solved examples that are most similar to the input")
    elif prompt.shots:
        added.append(f"{prompt.shots} solved examples, the same for every input")
    if added:
        instruction += f" with {' and '.join(added)}"
    elif not prompt.sections:
        instruction += " alone"
    return instruction if prompt.shots else f"{instruction}, without examples"


def _passages(prompt: PromptFacts) -> list[str]:
    if prompt.given is not None:
        return [GIVEN[prompt.given]]
    if prompt.passages is None:
        return []
    best = "the best passage" if prompt.passages == 1 else f"the {prompt.passages} best passages"
    return [f"{best} of the search in the prompt"]


def _objective(name: str) -> str:
    """ "trained on preferences (DPO)". "" for SFT."""
    facts = OBJECTIVES.get(name)
    if facts is None:  # of a document that another version wrote
        return f"trained by {name}"
    rows = TRAINED_ON[facts.need]
    return f"trained on {rows} ({facts.in_prose or name.upper()})" if rows else ""


def _training(made: TrainedFacts) -> str:
    parts = [METHODS[made.method] + ("" if made.rank is None else f" of rank {made.rank}")]
    if objective := _objective(made.objective):
        parts.append(objective)
    if made.replay:
        parts.append(f"{100 * made.replay:g}% replay rows among the training rows")
    parts += [f"learning rate {made.learning_rate:g}", f"stopped after {made.unit} {made.stop}"]
    if made.scale != 1:
        parts.append(f"the {'adapter' if made.rank is not None else 'change'} at {made.scale:g} of its strength")
    return ", ".join(parts)


# Ways of training, compared.

WAYS: dict[WayName, str] = {
    "lora": "LoRA",
    "qlora": "QLoRA",
    "full": "training of all weights",
    "merged": "the merged adapter",
    "nf4": "the adapter on a 4-bit base",
}


def refused_line(why: ComparisonRefusal) -> str:
    return f"compare: nothing is compared: {not_compared(why)}"


def training_line(trial: str) -> str:
    """trial: a way and a seed."""
    return f"compare: training {trial}"


def dropped_line(trial: str, because: str) -> str:
    return f"compare: {trial} drops out: {because}"


def found_line(said: str) -> str:
    """said: by `of_way`."""
    return f"compare: {said}"


def of_way(way: WayFigures, reference: WayFigures) -> str:
    """reference: the first way, which may be this one."""
    name = capital(WAYS[way.way])
    failed = [seed.failed for seed in way.seeds if seed.failed]
    if way.score is None:
        return f"{name} could not be made: {failed[0].rstrip('.')}."
    dropped = f" {len(failed)} of {len(way.seeds)} seeds failed." if failed else ""
    if way is reference:
        kept = len(way.seeds) - len(failed)
        return f"{name} scores {percent(way.score)} on the test set, the mean of {kept} seeds.{dropped}"
    first = WAYS[reference.way]
    if way.difference is None or way.interval is None or way.verdict is None:
        return f"{name} cannot be compared with {first}: fewer than two seeds were trained with both.{dropped}"
    low, high = way.interval
    if way.difference > 0:
        words = f"{name} gains {_limits(way.difference, low, high)} over {first} on this task"
    else:
        words = f"{name} costs {_limits(-way.difference, -high, -low)} against {first} on this task"
    chance = "" if low > 0 or high < 0 else ", which may be chance"
    most = f"{100 * way.margin:g} points"
    margin = {
        "NON_INFERIOR": f"a cost of {most} is ruled out",
        "REGRESSED": f"it is more than {most}",
        "UNDERPOWERED": f"a cost of {most} is not ruled out",
    }[way.verdict]
    return f"{words}{chance}; {margin}.{dropped}"


def _limits(mean: float, low: float, high: float) -> str:
    return f"{_points(mean)} points ({_points(low)} to {_points(high)})"


def _points(share: float) -> str:
    text = f"{100 * share:.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")
