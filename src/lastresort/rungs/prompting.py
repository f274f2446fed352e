"""Prompting: every way of asking that needs no training, raced on dev."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace

from lastresort.evals.evidence import choose, selection_bias_corrected
from lastresort.records.record import ItemScore
from lastresort.rungs.forecast import Forecast, Workload, answering
from lastresort.rungs.racing import stretches, survivors
from lastresort.rungs.rung import Candidate, Search, Workbench
from lastresort.spec.task import Task
from lastresort.systems.system import PromptDesign, Shot, System
from lastresort.types import Decoding, Example, Grammar

REASONING_TOKENS = 128
NEAREST_POOL = 2000


class Prompting:
    """Zero-shot, structured, few-shot (3 and 5, fixed and nearest), chain of thought, and constrained decoding."""

    name = "prompting"

    def skip_reason(self, task: Task, train: Sequence[Example]) -> str | None:
        return None

    def forecast(self, task: Task, work: Workload) -> Forecast:
        shot = work.input_tokens + work.output_tokens
        total = None
        variants = (
            ("zero-shot", 0, 0),
            ("few-shot 3", 3, 3),
            ("few-shot 5", 5, 5),
            ("nearest 3", 3, 0),
            ("nearest 5", 5, 0),
        )
        screened = stretches(work.n_dev, len(variants) * 2)[0][1]
        for label, shots, fixed in variants:
            prompt = work.instruction_tokens + work.input_tokens + shots * shot
            shared = work.instruction_tokens + fixed * shot
            part = answering(label, work.machine, 2 * screened, prompt, shared, work.output_tokens)
            total = part if total is None else total + part
        assert total is not None
        prompt = work.instruction_tokens + work.input_tokens + 5 * shot
        return total + answering(
            "test of the chosen", work.machine, work.n_test, prompt, prompt - work.input_tokens, work.output_tokens
        )

    def search(self, bench: Workbench) -> Search:
        systems = {
            system.name: system
            for system in variants(bench.task, bench.train, bench.max_new_tokens, bench.models.base_name)
        }
        cost = {name: _call_cost(bench, system) for name, system in systems.items()}
        order = sorted(systems, key=lambda name: cost[name])
        items: dict[str, list[ItemScore]] = {name: [] for name in systems}
        alive = list(order)
        rounds = stretches(len(bench.dev), len(systems))
        bench.progress.stage("prompting: variants on dev", None)
        for number, (start, stop) in enumerate(rounds):
            for name in alive:
                bench.progress.stage(f"prompting: {name}, dev items {start + 1}-{stop}", stop - start)
                items[name] += bench.dev_scores(self.name, systems[name], start, stop)
            if number + 1 < len(rounds):
                alive = survivors({name: _mean(items[name]) for name in alive}, order)
        scores = {name: [item.score for item in items[name]] for name in alive}
        choice = choose(scores, {name: cost[name] for name in alive})
        for system in systems.values():
            bench.keep(self.name, system)
        candidates = tuple(
            Candidate(systems[name], _mean(items[name]), len(items[name]), _mean_prompt_tokens(items[name]))
            for name in order
        )
        dropped = len(systems) - len(alive)
        note = (
            f"{len(systems)} ways of prompting were tried on dev; {dropped} were dropped early by successive halving."
        )
        corrected = selection_bias_corrected(scores, seed=bench.task.split.seed) if len(scores) > 1 else None
        return Search(candidates, systems[choice.name], choice.reason, note, corrected)


def variants(task: Task, train: Sequence[Example], max_new_tokens: int, model: str) -> list[System]:
    """The systems of this rung, in no particular order. Few-shot ones only where train has examples enough."""
    described = instruction(task)
    decoding = Decoding(max_new_tokens, temperature=task.decode.temperature, seed=task.split.seed)
    grammar = grammar_of(task)
    pool = shots_of(train, task.split.seed)
    plain = PromptDesign(described)
    designs = {"zero-shot": plain, "structured": PromptDesign(_sections(task), layout="sections")}
    for k in (3, 5):
        if len(pool) >= k:
            designs[f"few-shot-{k}"] = replace(plain, shots=pool[:k], k=k)
        if len(pool) > k:
            designs[f"nearest-{k}"] = replace(plain, shots=pool[:NEAREST_POOL], k=k, selection="nearest")
    found = [
        System(name, model, design, decoding, template_kwargs=task.chat_template_kwargs)
        for name, design in designs.items()
    ]
    reasoned = replace(decoding, max_new_tokens=max_new_tokens + REASONING_TOKENS)
    thinking = replace(plain, reasoning=True)
    found.append(System("chain-of-thought", model, thinking, reasoned, template_kwargs=task.chat_template_kwargs))
    if grammar is not None:
        constrained = replace(decoding, grammar=grammar)
        found += [
            replace(system, name=f"{system.name}+constrained", decoding=constrained)
            for system in found
            if system.name in ("zero-shot", "few-shot-5", "nearest-5")
        ]
    return found


def instruction(task: Task) -> str:
    """The zero-shot instruction: what the task is about, and what an answer must look like."""
    parts = [task.about.strip()]
    if task.output.choices is not None:
        parts.append("Answer with exactly one of: " + ", ".join(task.output.choices) + ".")
    elif task.output.json_schema is not None:
        schema = json.dumps(task.output.json_schema, ensure_ascii=False, separators=(",", ":"))
        parts.append(f"Answer only with a JSON object that matches this schema: {schema}")
    return "\n".join(part for part in parts if part)


def grammar_of(task: Task) -> Grammar | None:
    if task.output.choices is not None:
        return Grammar(choices=task.output.choices)
    if task.output.json_schema is not None:
        return Grammar(json_schema=task.output.json_schema)
    return None


def shots_of(train: Sequence[Example], seed: int) -> tuple[Shot, ...]:
    """Train as shots: first one of each different answer where there are few (a label each), shuffled by seed."""
    order = list(train)
    random.Random(f"shots:{seed}").shuffle(order)
    seen: set[str] = set()
    first: list[Example] = []
    rest: list[Example] = []
    for example in order:
        (rest if example.output in seen else first).append(example)
        seen.add(example.output)
    return tuple(Shot(example.input, example.output) for example in first + rest)


def _sections(task: Task) -> str:
    parts = [f"<task>\n{task.about.strip()}\n</task>"]
    rest = instruction(task).removeprefix(task.about.strip()).strip()
    if rest:
        parts.append(f"<format>\n{rest}\n</format>")
    return "\n".join(parts)


def _call_cost(bench: Workbench, system: System) -> float:
    """Relative cost of a call: prompt tokens plus answer tokens at four times their price, or at the task's prices."""
    use = bench.task.use
    prompt_price, output_price = (
        (use.prompt_price, use.output_price) if use.prompt_price or use.output_price else (1.0, 4.0)
    )
    answerer = bench.answerer(system)
    sample = [example.input for example in bench.dev[:8]]
    thinking = REASONING_TOKENS if system.prompt.reasoning else 0
    constrained = 0.001 if system.decoding.grammar is not None else 0.0  # of two equal prompts the plain one is simpler
    return prompt_price * answerer.prompt_tokens(sample) + output_price * thinking + constrained


def _mean(items: Sequence[ItemScore]) -> float:
    return sum(item.score for item in items) / len(items) if items else 0.0


def _mean_prompt_tokens(items: Sequence[ItemScore]) -> float:
    return sum(item.prompt_tokens for item in items) / len(items) if items else 0.0
