"""What candidates are, a line each, from what the record says of them. Nothing is decided by these words."""

from __future__ import annotations

from lastresort.records.decision_parts import CandidateFacts, GivenPassages, PromptFacts, TrainedFacts
from lastresort.report.words.wording import capital

GIVEN: dict[GivenPassages, str] = {
    "none": "no passages",
    "right": "the right passages in the prompt, as dev names them",
    "likeliest": "the likeliest passages in the prompt",
    "likeliest one": "the likeliest passage in the prompt",
}
METHODS = {"lora": "LoRA adapter", "qlora": "QLoRA adapter", "rslora": "rsLoRA adapter", "dora": "DoRA adapter"}


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
    instruction = "the instruction that a model rewrote" if prompt.rewritten else "the instruction"
    if prompt.sections:
        instruction += " in marked sections"
    added = ["a request to reason before the answer"] if prompt.reasoning else []
    if prompt.shots and prompt.nearest:
        added.append(f"the {prompt.shots} solved examples that are most similar to the input")
    elif prompt.shots:
        added.append(f"{prompt.shots} solved examples, the same for every input")
    if added:
        return f"{instruction} with {' and '.join(added)}"
    return (
        f"{instruction}, without examples"
        if instruction != "the instruction"
        else f"{instruction} alone, without examples"
    )


def _passages(prompt: PromptFacts) -> list[str]:
    if prompt.given is not None:
        return [GIVEN[prompt.given]]
    if prompt.passages is None:
        return []
    best = "the best passage" if prompt.passages == 1 else f"the {prompt.passages} best passages"
    return [f"{best} of the search in the prompt"]


def _training(made: TrainedFacts) -> str:
    parts = [METHODS.get(made.method, f"{made.method} adapter") if made.rank is not None else "all weights trained"]
    if made.rank is not None:
        parts[0] += f" of rank {made.rank}"
    if made.objective not in ("sft", "text"):
        parts.append(f"trained on preferences ({made.objective})")
    if made.replay:
        parts.append(f"{100 * made.replay:g}% replay rows among the training rows")
    parts += [f"learning rate {made.learning_rate:g}", f"stopped after {made.unit} {made.stop}"]
    if made.scale != 1:
        parts.append(f"the {'adapter' if made.rank is not None else 'change'} at {made.scale:g} of its strength")
    return ", ".join(parts)
