"""The figures beside the loss of a rung that trains: what the base said, once a run, and points of the curve where it is kept."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lastresort.records.events import BaseAnswered, BaseSummed
from lastresort.rungs.rung import Workbench
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign
from lastresort.train.watch.alarm import told, warning

if TYPE_CHECKING:
    from lastresort.models.loading import Loaded
    from lastresort.train.watch.early_warnings import Baseline, Watched, WatchSize


class EarlyWarnings:
    """design: how the trained model will be asked the inputs of dev. clock: seconds from any origin.

    The base's answers are kept in the record as they were first made, and its log-probabilities for each precision in which it is
    trained. They are shown and decide nothing.
    """

    def __init__(
        self, bench: Workbench, rung: str, design: PromptDesign, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._bench, self._rung, self._design, self._clock = bench, rung, design, clock
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
        watched = self._watched(key) or self._make(loaded, model, prompts, key, size)
        self._baseline = self._measured(loaded, model, watched.within(size), key)

    def start(self, run: str, model: Any, *, is_base: bool = True) -> None:
        """The point of step 0, once a run. is_base: whether the model answers as the base there."""
        if self._baseline is not None and not any(point["step"] == 0 for point in self._bench.record.curve(run)):
            values = self._baseline.at_base() if is_base else self._baseline.figures(model)
            self._bench.record.add_curve_point(run, 0, values)

    def add(self, run: str, step: int, model: Any) -> None:
        """A point of the model as it stands."""
        if self._baseline is not None:
            self._bench.progress.stage(f"{self._rung}: how far step {step} is from the base", None)
            self._bench.record.add_curve_point(run, step, self._baseline.figures(model))
            self._runs = [*(name for name in self._runs if name != run), run]

    def tell(self) -> None:
        """A line about the run that was measured last, and a warning where its figures are alarming."""
        for run in self._runs[-1:]:
            curve = self._bench.record.curve(run)
            self._bench.progress.say(f"{self._rung}, {run}: {told(curve)}")
            if (alarmed := warning(curve)) is not None:
                self._bench.progress.say(f"{self._rung}, {run}: {alarmed}")
        self._runs = []

    def _prompts(self, loaded: Loaded) -> list[list[int]]:
        from lastresort.data.rendering import render_prompt
        from lastresort.train.watch.early_warnings import MOST_PROMPTS

        kwargs = self._bench.task.chat_template_kwargs
        conversations = [compose(self._design, example.input, ()) for example in self._bench.dev[: 2 * MOST_PROMPTS]]
        return [render_prompt(loaded.tokenizer, turns, template_kwargs=kwargs) for turns in conversations]

    def _watched(self, key: str) -> Watched | None:
        from lastresort.train.watch.early_warnings import watched_from_json

        known = self._bench.record.last(BaseAnswered, key)
        return None if known is None else watched_from_json(known.model_dump(include={"general", "task", "prose"}))

    def _make(self, loaded: Loaded, model: Any, prompts: Sequence[Sequence[int]], key: str, size: WatchSize) -> Watched:
        from lastresort.train.watch.early_warnings import watch, watched_to_json

        bench, began = self._bench, self._clock()
        bench.progress.stage(f"{self._rung}: answers of the base, from which training will move", None)
        watched = watch(
            model,
            loaded.tokenizer,
            prompts,
            size=size,
            context_tokens=loaded.context_tokens,
            seed=bench.task.split.seed,
            template_kwargs=bench.task.chat_template_kwargs,
        )
        answered = BaseAnswered(
            rung=self._rung,
            prompts=key,
            tokens_in=watched.prompt_tokens,
            tokens_out=watched.answer_tokens,
            seconds=self._clock() - began,
            **watched_to_json(watched),
        )
        bench.record.append(answered)
        return watched

    def _known(self, loaded: Loaded, key: str) -> Baseline | None:
        """What the record knows of the base in the precision in which this rung trains."""
        from lastresort.train.watch.early_warnings import Baseline, Sums

        watched, sums = self._watched(key), self._bench.record.last(BaseSummed, f"{key} {_precision(loaded)}")
        if watched is None or sums is None:
            return None
        return Baseline(watched.first(sums.counts), Sums(sums.general, sums.task, sums.prose))

    def _measured(self, loaded: Loaded, model: Any, watched: Watched, key: str) -> Baseline:
        """Of the base itself, once for so much of its answers."""
        from lastresort.train.watch.early_warnings import baseline

        known = self._known(loaded, key)
        if known is not None and known.watched == watched:
            return known
        found = baseline(model, watched)
        general, task, prose = watched.counts
        summed = BaseSummed(
            rung=self._rung,
            prompts=key,
            precision=_precision(loaded),
            counts=(general, task, prose),
            **asdict(found.base),
        )
        self._bench.record.append(summed)
        return found


def _precision(loaded: Loaded) -> str:
    from lastresort.models.quantized import note_of

    return f"{loaded.dtype}".removeprefix("torch.") + (" nf4" if note_of(loaded.model) is not None else "")
