"""What candidates are, a line each, from what the record says of them. Nothing is decided by these words."""

from __future__ import annotations

from lastresort.objectives import OBJECTIVES, Need
from lastresort.records.decision_parts import (
    CandidateFacts,
    GivenPassages,
    PromptFacts,
    TrainedFacts,
)
from lastresort.report.words.wording import capital
from lastresort.types import AdapterChoice

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
