"""Prompting: every way of asking that needs no training, raced on dev.

Constrained decoding runs in the race with the plain prompt, and is then tried on the winner where its answers failed by form.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace

from lastresort.errors import CandidateError, DataError
from lastresort.evals.evidence import Choice, choose, selection_bias_corrected
from lastresort.evals.measure import failures
from lastresort.records.record import ItemScore
from lastresort.rungs.forecast import Forecast, Workload, answering
from lastresort.rungs.racing import stretches, survivors
from lastresort.rungs.rung import Candidate, Search, Workbench, candidate_of, mean_score
from lastresort.spec.task import Task
from lastresort.systems.system import PromptDesign, Shot, System
from lastresort.types import Decoding, Example, Grammar

REASONING_TOKENS = 128
NEAREST_POOL = 2000
REASONING_REQUEST_TOKENS = 32
_SHOTS = {"few-shot-3": (3, 3), "few-shot-5": (5, 5), "nearest-3": (3, 0), "nearest-5": (5, 0)}  # shown, and shared


class Prompting:
    """Zero-shot, structured, few-shot (3 and 5, fixed and nearest), chain of thought, and constrained decoding."""

    name = "prompting"

    def skip_reason(self, task: Task, train: Sequence[Example]) -> str | None:
        return None

    def forecast(self, task: Task, work: Workload) -> Forecast:
        """Every variant runs the first stretch of dev, the dearer half the next, and so on; every answer is as long as allowed."""

        def asking(name: str, label: str, n: int) -> Forecast:
            shots, shared_shots = _SHOTS.get(name, (0, 0))
            shot = work.input_tokens + work.output_tokens
            shared = work.instruction_tokens + shared_shots * shot
            prompt = work.instruction_tokens + work.input_tokens + shots * shot
            thinking = name == "chain-of-thought"
            shared, prompt = (tokens + thinking * REASONING_REQUEST_TOKENS for tokens in (shared, prompt))
            new = work.max_new_tokens + thinking * REASONING_TOKENS
            return answering(label, work.machine, n, prompt, shared, new)

        def dearness(name: str) -> tuple[float, float, int]:
            found = asking(name, name, work.n_dev)
            return found.seconds or 0.0, found.usd or 0.0, found.tokens_in + 4 * found.tokens_out

        names = [system.name for system in variants(task, (), work.max_new_tokens, task.model)]
        alive = sorted([*names, *_SHOTS], key=dearness, reverse=True)
        dearest, total = alive[0], Forecast(0, 0, 0, 0.0, 0.0)
        for start, stop in stretches(work.n_dev, len(alive)):
            for name in alive:
                total += asking(name, f"{name} on dev items {start + 1}-{stop}", stop - start)
            alive = alive[: max(2, math.ceil(len(alive) / 2))]
        if grammar_of(task) is not None:
            total += asking(dearest, "the best again, held to the form, on dev", work.n_dev)
        return total + asking(dearest, "test of the chosen", work.n_test)

    def search(self, bench: Workbench) -> Search:
        made = variants(bench.task, bench.train, bench.max_new_tokens, bench.models.base_name)
        race = _Race(bench, made)
        race.run()
        choice = race.choose()
        race.constrain(choice.name)
        choice = race.choose()
        corrected = race.bias_corrected()
        return Search(race.candidates(), race.systems[choice.name], choice.reason, race.note(), corrected)


class _Race:
    """Variants on dev by successive halving. One that its model cannot answer is dropped, with the reason."""

    def __init__(self, bench: Workbench, systems: Sequence[System]) -> None:
        self._bench = bench
        self.systems: dict[str, System] = {}
        self._items: dict[str, list[ItemScore]] = {}
        self._cost: dict[str, float] = {}
        self._dropped: dict[str, str] = {}
        self._alive: list[str] = []
        for system in systems:
            self._enter(system)
        self._alive.sort(key=lambda name: self._cost[name])

    def run(self) -> None:
        rounds = stretches(len(self._bench.dev), len(self._alive))
        for number, (start, stop) in enumerate(rounds):
            for name in list(self._alive):
                self._measure(name, start, stop)
            if number + 1 < len(rounds):
                order = sorted(self.systems, key=lambda name: self._cost[name])
                self._alive = survivors({name: _promise(self._items[name]) for name in self._alive}, order)

    def constrain(self, name: str) -> None:
        """Hold the leader to the output's form, where some of its answers failed by form."""
        grammar, system = grammar_of(self._bench.task), self.systems[name]
        if grammar is None or system.decoding.grammar is not None or not failures(self._items[name])["format"]:
            return
        guided = replace(system, name=f"{name}+constrained", decoding=replace(system.decoding, grammar=grammar))
        if guided.name not in self.systems:
            self._enter(guided)
            self._measure(guided.name, 0, len(self._bench.dev))

    def choose(self) -> Choice:
        scores = self._scores()
        if not scores:
            raise DataError(
                f"no way of prompting can be measured: {'; '.join(self._dropped.values())}",
                where=self._bench.task.path.name,
                remedy="Shorten the inputs, or take a model with a longer context.",
            )
        return choose(scores, {name: self._cost[name] for name in scores}, groups=self._bench.dev_groups())

    def bias_corrected(self) -> float | None:
        scores = self._scores()
        if len(scores) < 2:
            return None
        return selection_bias_corrected(scores, self._bench.task.split.seed, groups=self._bench.dev_groups())

    def candidates(self) -> tuple[Candidate, ...]:
        order = sorted(self._items, key=lambda name: self._cost[name])
        return tuple(candidate_of(self.systems[name], self._items[name]) for name in order if self._items[name])

    def note(self) -> str:
        early = sum(len(items) < len(self._bench.dev) for items in self._items.values())
        told = (
            f"{len(self._items)} ways of prompting were tried on dev; {early} were dropped early by successive halving."
        )
        return " ".join([told, *(f"{name} could not be tried: {why}" for name, why in self._dropped.items())])

    def _scores(self) -> dict[str, list[float]]:
        full = len(self._bench.dev)
        return {name: [item.score for item in items] for name, items in self._items.items() if len(items) == full}

    def _enter(self, system: System) -> None:
        try:
            self._bench.models.check(system)
            self._bench.check_room(system)
            self._cost[system.name] = _call_cost(self._bench, system)
        except CandidateError as error:
            self._dropped[system.name] = str(error)
            return
        self.systems[system.name], self._items[system.name] = system, []
        self._alive.append(system.name)
        self._bench.keep(Prompting.name, system)

    def _measure(self, name: str, start: int, stop: int) -> None:
        self._bench.progress.stage(f"prompting: {name}, dev items {start + 1}-{stop}", stop - start)
        try:
            self._items[name] += self._bench.dev_scores(Prompting.name, self.systems[name], start, stop)
        except CandidateError as error:
            self._dropped[name] = str(error)
            self._alive.remove(name)
            del self._items[name]


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
            if system.name == "zero-shot"
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
    prices = (use.prompt_price or 0.0, use.output_price or 0.0)
    prompt_price, output_price = prices if any(prices) else (1.0, 4.0)
    answerer = bench.answerer(system)
    sample = [example.input for example in bench.dev[:8]]
    thinking = REASONING_TOKENS if system.prompt.reasoning else 0
    constrained = 0.001 if system.decoding.grammar is not None else 0.0  # of two equal prompts the plain one is simpler
    return prompt_price * answerer.prompt_tokens(sample) + output_price * thinking + constrained


def _promise(items: Sequence[ItemScore]) -> float:
    """Score for staying in the race. Where scores tie, as they do at zero on a hard task, well-formed answers promise more."""
    formed = [item.format_ok is not False for item in items]
    return mean_score(items) + 1e-6 * sum(formed) / max(1, len(formed))
