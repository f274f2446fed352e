"""Early warnings: the figures from which on they are alarming, in words, and their baselines, made once and kept.

They are never part of a verdict. A rung keeps its baseline in the record of its run, a training file in its output folder.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.errors import DataError, InputError
from lastresort.foreign import DOCUMENT, read_json
from lastresort.records.atomic import write_atomically
from lastresort.records.events.training import BaseAnswered, BaseSummed, DistanceMeasured
from lastresort.records.record import Record
from lastresort.types import Json, Message, Progress

if TYPE_CHECKING:
    from lastresort.models.loading import Loaded
    from lastresort.train.loop.batches import TrainingItem
    from lastresort.train.watch.early_warnings import Baseline, WatchedTexts, WatchSize


# Half the probability of a token of plain prose, and e^-1 = 0.37 of that of a token of the base's own answers, in the mean. An
# ordinary training reaches 1.46 times and 0.40 nats (docs/log.md, 2026-11-25): an alarm that it raised would not be one.
PERPLEXITY_RATIO, KL_GENERAL = 2.0, 1.0
KEYS = ("kl_general", "kl_task", "perplexity")
ANSWER_TOKENS = 32  # of each answer of the base that is kept

Point = Mapping[str, float]


def measured(curve: Sequence[Point]) -> list[Point]:
    """The points that hold such figures."""
    return [point for point in curve if any(key in point for key in KEYS)]


def ratio(point: Point) -> float | None:
    """Of the perplexity to the base's, None where it was not measured."""
    return point["perplexity"] / point["base_perplexity"] if "perplexity" in point else None


def summary(curve: Sequence[Point]) -> str:
    """The newest figures in one clause."""
    point = measured(curve)[-1]
    kl = [f"{_number(point[f'kl_{name}'])} on {what}" for name, what in _KINDS.items() if f"kl_{name}" in point]
    parts = [f"KL from the base {' and '.join(kl)}, nats a token"] if kl else []
    if (times := ratio(point)) is not None:
        parts.append(f"perplexity of plain prose {_number(times)} times the base's")
    return f"how far training moved the model by step {point['step']:.0f}: {'; '.join(parts)}"


def warning(curve: Sequence[Point]) -> str | None:
    """A sentence where a kept checkpoint is alarmingly far from the base, about the newest such; None where none is."""
    for point in reversed(measured(curve)):
        if reasons := _reasons(point):
            reasons_text = f"at step {point['step']:.0f} {' and '.join(reasons)}"
            return f"Early warning, no verdict: {reasons_text}. Look at the gate before this ships."
    return None


def _reasons(point: Point) -> list[str]:
    """Why a point is alarming. What is not a number is: a model that gives none is broken."""
    reasons = []
    times, kl = ratio(point), point.get("kl_general")
    if times is not None and not times <= PERPLEXITY_RATIO:
        reasons.append(
            f"the perplexity of plain prose is {_number(times)} times the base's (alarming from {PERPLEXITY_RATIO:g} on)"
        )
    if kl is not None and not kl <= KL_GENERAL:
        reasons.append(
            f"answers to general requests are {_number(kl)} nats a token from the base's (alarming from {KL_GENERAL:g} on)"
        )
    return reasons


_KINDS = {"general": "general requests", "task": "the task's prompts"}


def _number(value: float) -> str:
    """Of a mean of log ratios: by chance it may lie a little below 0, where no KL can be."""
    return "under 0.01" if value < 0.01 else f"{value:.2f}"


class EarlyWarnings:
    """Of the trainings of one rung. conversations: as the trained model will be asked the inputs of dev. seed: of what the base
    answers. clock: seconds from any origin.

    The base's answers are kept in the record as they were first made, and its log-probabilities for each precision in which it is
    trained. They are shown and decide nothing.
    """

    def __init__(
        self,
        record: Record,
        progress: Progress,
        rung: str,
        conversations: Sequence[Sequence[Message]],
        *,
        seed: int,
        template_kwargs: Mapping[str, Json],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._record, self._progress, self._rung, self._clock = record, progress, rung, clock
        self._conversations, self._seed, self._template_kwargs = conversations, seed, template_kwargs
        self._baseline: Baseline | None = None
        self._runs: list[str] = []

    def open(
        self,
        loaded: Loaded,
        model: Any,
        rows: Sequence[tuple[int, ...]],
        *,
        epochs: int,
        looks: int,
        holds_base: bool = True,
    ) -> None:
        """Get ready, before the first step. rows: what one epoch trains on, as token ids; none where that is not known. looks: how
        many checkpoints are kept. holds_base: whether the model is the base, or an adapter around it; without, nothing is measured
        but by what the record knows of the base.
        """
        if self._baseline is not None:
            return
        from lastresort.train.watch.early_warnings import own_tokens, watch_size

        prompts = self._prompts(loaded)
        key = hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:16]
        if not holds_base:
            self._baseline = self._known(loaded, key)
            return
        size = watch_size(own_tokens(rows) * epochs, looks)
        watched = _recorded(self._record, key) or self._make(loaded, model, prompts, key, size)
        self._baseline = self._measured(loaded, model, watched.limited_to(size), key)

    def start(self, run: str, model: Any, *, is_base: bool = True) -> None:
        """The point of step 0, once a run. is_base: whether the model answers as the base there."""
        if self._baseline is not None and not any(point["step"] == 0 for point in self._record.curve(run)):
            values = self._baseline.at_base() if is_base else self._baseline.figures(model)
            self._record.add_curve_point(run, 0, values)

    def add(self, run: str, step: int, model: Any) -> None:
        """A point of the model as it is now."""
        if self._baseline is not None:
            self._progress.stage(f"{self._rung}: how far step {step} is from the base", None)
            self._record.add_curve_point(run, step, self._baseline.figures(model))
            self._runs = [*(name for name in self._runs if name != run), run]

    def report(self) -> None:
        """A line about the run that was measured last, and a warning where its figures are alarming."""
        for run in self._runs[-1:]:
            curve = self._record.curve(run)
            self._progress.say(f"{self._rung}, {run}: {summary(curve)}")
            if (alarmed := warning(curve)) is not None:
                self._progress.say(f"{self._rung}, {run}: {alarmed}")
        self._runs = []

    def _prompts(self, loaded: Loaded) -> list[list[int]]:
        from lastresort.data.rendering import render_prompt
        from lastresort.train.watch.early_warnings import MOST_PROMPTS

        kwargs, asked = self._template_kwargs, self._conversations[: 2 * MOST_PROMPTS]
        return [render_prompt(loaded.tokenizer, turns, template_kwargs=kwargs) for turns in asked]

    def _make(
        self, loaded: Loaded, model: Any, prompts: Sequence[Sequence[int]], key: str, size: WatchSize
    ) -> WatchedTexts:
        from lastresort.train.watch.early_warnings import watch

        began = self._clock()
        self._progress.stage(f"{self._rung}: answers of the base, from which training will move", None)
        watched = watch(
            model,
            loaded.tokenizer,
            prompts,
            size=size,
            context_tokens=loaded.context_tokens,
            seed=self._seed,
            template_kwargs=self._template_kwargs,
        )
        self._record.append(_answered(self._rung, key, watched, self._clock() - began))
        return watched

    def _known(self, loaded: Loaded, key: str) -> Baseline | None:
        """What the record knows of the base in the precision in which this rung trains."""
        from lastresort.train.watch.early_warnings import Baseline, LogpSums

        watched, sums = _recorded(self._record, key), self._record.last(BaseSummed, f"{key} {_precision(loaded)}")
        if watched is None or sums is None:
            return None
        return Baseline(watched.first(sums.counts), LogpSums(sums.general, sums.task, sums.prose))

    def _measured(self, loaded: Loaded, model: Any, watched: WatchedTexts, key: str) -> Baseline:
        """Of the base itself, once for so much of its answers."""
        from lastresort.train.watch.early_warnings import baseline

        known = self._known(loaded, key)
        if known is not None and known.watched == watched:
            return known
        fresh = baseline(model, watched)
        general, task, prose = watched.counts
        summed = BaseSummed(
            rung=self._rung,
            prompts=key,
            precision=_precision(loaded),
            counts=(general, task, prose),
            **asdict(fresh.base),
        )
        self._record.append(summed)
        return fresh


DISTANCE_TOKENS = 48


class GeneralDistance:
    """How far the checkpoints of a rung's training are from the base, exactly, at each token of the base's answers to requests that
    are asked for nothing else. seed: of the answers, which the record keeps. clock: seconds from any origin.
    """

    def __init__(
        self,
        record: Record,
        progress: Progress,
        rung: str,
        *,
        seed: int,
        template_kwargs: Mapping[str, Json],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._record, self._progress, self._rung, self._clock = record, progress, rung, clock
        self._seed, self._template_kwargs = seed, template_kwargs

    def measure(self, candidate: str, loaded: Loaded, model: Any, *, scale: float = 1.0) -> None:
        """Record the distance of an adapter's model as it is now, with the adapter at this scale, once per candidate."""
        from lastresort.train.adapters.adapters import rescaled
        from lastresort.train.watch.divergence import divergence_from_base

        if self._record.last(DistanceMeasured, candidate) is not None:
            return
        rows = self._answered(loaded, model)
        self._progress.stage(f"{self._rung}: how far {candidate} is from the base", None)
        with rescaled(model, scale):
            distance = divergence_from_base(model, rows)
        error = None if distance.error is None else distance.error * distance.answers / distance.tokens
        self._record.append(
            DistanceMeasured.from_fields_of(distance, rung=self._rung, candidate=candidate, error=error)
        )

    def _answered(self, loaded: Loaded, model: Any) -> Sequence[Any]:
        """The requests that leave room, with what the base said to them; made once a run."""
        from lastresort.train.adapters.adapters import as_base
        from lastresort.train.watch.early_warnings import WatchedTexts, requests, sampled_answers

        kwargs, limit = self._template_kwargs, loaded.context_tokens
        asked = requests("distance", loaded.tokenizer, kwargs)
        asked = [prompt for prompt in asked if limit is None or len(prompt) + DISTANCE_TOKENS <= limit]
        key = f"distance {hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}"
        known = _recorded(self._record, key)
        if known is not None:
            return known.general
        began = self._clock()
        self._progress.stage(f"{self._rung}: answers of the base, to measure the distance from it", None)
        with as_base(model):
            rows = sampled_answers(
                model, loaded.tokenizer, asked, tokens=DISTANCE_TOKENS, seed=self._seed, template_kwargs=kwargs
            )
        self._record.append(_answered(self._rung, key, WatchedTexts(tuple(rows), (), ()), self._clock() - began))
        return rows


def _recorded(record: Record, key: str) -> WatchedTexts | None:
    """What the base answered to these prompts, if the record has it."""
    from lastresort.train.watch.early_warnings import watched_from_json

    known = record.last(BaseAnswered, key)
    return None if known is None else watched_from_json(known.model_dump(include={"general", "task", "prose"}))


def _answered(rung: str, key: str, watched: WatchedTexts, seconds: float) -> BaseAnswered:
    from lastresort.train.watch.early_warnings import watched_to_json

    rows = watched_to_json(watched)
    return BaseAnswered(
        rung=rung,
        prompts=key,
        tokens_in=watched.prompt_tokens,
        tokens_out=watched.answer_tokens,
        seconds=seconds,
        general=rows["general"],
        task=rows["task"],
        prose=rows["prose"],
    )


def _precision(loaded: Loaded) -> str:
    from lastresort.models.quantized import quantized_base_of

    return f"{loaded.dtype}".removeprefix("torch.") + (" nf4" if quantized_base_of(loaded.model) is not None else "")


ANSWERS = "base_answers.json"
MOST_LOOKS = 8


def look_every(epochs: int) -> int:
    """Of how many epochs the last is looked at, so that there are at most MOST_LOOKS looks."""
    return -(-epochs // MOST_LOOKS)


def baseline_in(
    folder: Path,
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    size: WatchSize,
    context_tokens: int | None,
    seed: int,
    template_kwargs: Mapping[str, Json],
    progress: Progress,
) -> Baseline:
    """Of a training that is no rung's: made before the first step, kept in its folder and read back afterwards. model: the base
    itself, or an adapter around it. prompts: as `task_prompts` finds them. Raises DataError where what was kept is damaged.
    """
    from lastresort.train.watch.early_warnings import baseline, watch

    path = folder / ANSWERS
    if path.is_file():
        return _kept_baseline(path)
    progress.stage("answers of the base, from which training will move", None)
    watched = watch(
        model,
        tokenizer,
        prompts,
        size=size,
        context_tokens=context_tokens,
        seed=seed,
        template_kwargs=template_kwargs,
    )
    fresh = baseline(model, watched)
    _write(path, fresh)
    return fresh


def _kept_baseline(path: Path) -> Baseline:
    from lastresort.train.watch.early_warnings import Baseline, LogpSums, watched_from_json

    try:
        document = read_json(path, DOCUMENT, lenient=True)
        return Baseline(watched_from_json(document["watched"]), LogpSums(**document["sums"]))
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            "the base's answers are cut short or damaged",
            where=str(path),
            expected="the file that training wrote",
            remedy="Restore it from a copy, or remove it to have the base answer again.",
        ) from error


def _write(path: Path, found: Baseline) -> None:
    from lastresort.train.watch.early_warnings import watched_to_json

    body = {"watched": watched_to_json(found.watched), "sums": asdict(found.base)}
    write_atomically(path, json.dumps(body) + "\n")


def task_prompts(items: Sequence[TrainingItem]) -> list[tuple[int, ...]]:
    """The prompts of the first items, each once; plain text has none."""
    from lastresort.train.watch.early_warnings import MOST_PROMPTS

    prompts: dict[tuple[int, ...], None] = {}
    for item in items:
        row = item.rows[0]
        if any(row.targets) and len(row.prompt) > 1:  # the first token of plain text is no target either
            prompts[row.prompt] = None
        if len(prompts) == 2 * MOST_PROMPTS:
            break
    return list(prompts)
