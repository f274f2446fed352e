"""The hand-made prompts of a task: zero-shot, structured, few-shot (3 and 5, fixed and nearest), chain of thought, and constrained
decoding."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace

from lastresort.spec.task import Task
from lastresort.systems.system import PromptDesign, Shot, System
from lastresort.types import Decoding, Example, Grammar

PLAIN = "zero-shot"
NEAREST_POOL = 2000
REASONING_TOKENS = 128  # for reasoning before the answer


def variants(task: Task, train: Sequence[Example], max_new_tokens: int, model: str) -> list[System]:
    """The systems of this rung, in no particular order. Few-shot ones only if train has enough examples."""
    text = instruction(task)
    decoding = prompting_decoding(task, max_new_tokens)
    grammar = grammar_of(task)
    pool = shots_of(train, task.split.seed)
    plain = PromptDesign(text)
    designs = {PLAIN: plain, "structured": PromptDesign(sections_of(task.about, task), layout="sections")}
    for k in (3, 5):
        if len(pool) >= k:
            designs[f"few-shot-{k}"] = replace(plain, shots=pool[:k], k=k)
        if len(pool) > k:
            designs[f"nearest-{k}"] = replace(plain, shots=pool[:NEAREST_POOL], k=k, selection="nearest")
    systems = [
        System(name, model, design, decoding, template_kwargs=task.chat_template_kwargs)
        for name, design in designs.items()
    ]
    reasoning_decoding = replace(decoding, max_new_tokens=max_new_tokens + REASONING_TOKENS)
    thinking = replace(plain, reasoning=True)
    systems.append(
        System("chain-of-thought", model, thinking, reasoning_decoding, template_kwargs=task.chat_template_kwargs)
    )
    if grammar is not None:
        constrained = replace(decoding, grammar=grammar)
        systems += [
            replace(system, name=f"{system.name}+constrained", decoding=constrained)
            for system in systems
            if system.name == PLAIN
        ]
    return systems


def with_shots(system: System, k: int, pool: Sequence[Shot]) -> System:
    """A few-shot system with k examples instead of its own number. pool: train as `shots_of` orders it."""
    prompt = system.prompt
    kind, shots = ("nearest", pool[:NEAREST_POOL]) if prompt.selection == "nearest" else ("few-shot", pool[:k])
    name = system.name.replace(f"{kind}-{prompt.k}", f"{kind}-{k}", 1)
    return replace(system, name=name, prompt=replace(prompt, shots=tuple(shots), k=k))


def prompting_decoding(task: Task, max_new_tokens: int) -> Decoding:
    """The decoding of the task's own model. Tuned models are local weights, which take no reasoning effort."""
    return Decoding(
        max_new_tokens,
        temperature=task.decode.temperature,
        seed=task.split.seed,
        reasoning_effort=task.decode.reasoning_effort,
    )


def instruction(task: Task) -> str:
    """The zero-shot instruction: what the task is about, and what an answer must look like."""
    return instruction_of(task.about, task)


def instruction_of(about: str, task: Task) -> str:
    """As `instruction`, with other words for what the task is about."""
    return "\n".join(part for part in (about.strip(), form_request(task)) if part)


def form_request(task: Task) -> str:
    """What an answer must look like; "" where the task leaves that open."""
    if task.output.choices is not None:
        return "Answer with exactly one of: " + ", ".join(task.output.choices) + "."
    if task.output.json_schema is not None:
        schema = json.dumps(task.output.json_schema, ensure_ascii=False, separators=(",", ":"))
        return f"Answer only with a JSON object that matches this schema: {schema}"
    return ""


def grammar_of(task: Task) -> Grammar | None:
    if task.output.choices is not None:
        return Grammar(choices=task.output.choices)
    if task.output.json_schema is not None:
        return Grammar(json_schema=task.output.json_schema)
    return None


def shots_of(train: Sequence[Example], seed: int) -> tuple[Shot, ...]:
    """Train as shots, shuffled by seed: first one example of each different answer, then the rest."""
    order = list(train)
    random.Random(f"shots:{seed}").shuffle(order)
    seen_outputs: set[str] = set()
    first_of_output: list[Example] = []
    rest: list[Example] = []
    for example in order:
        (rest if example.output in seen_outputs else first_of_output).append(example)
        seen_outputs.add(example.output)
    return tuple(Shot(example.input, example.output) for example in first_of_output + rest)


def sections_of(about: str, task: Task) -> str:
    """The instruction in XML tags. about: what the task is about."""
    parts = [f"<task>\n{about.strip()}\n</task>"]
    if form := form_request(task):
        parts.append(f"<format>\n{form}\n</format>")
    return "\n".join(parts)
