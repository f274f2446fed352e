"""The figures beside the loss of a rung that trains: what the base said, once a run, and points of the curve where it is kept."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lastresort.rungs.rung import Workbench
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign
from lastresort.train.alarm import told, warning

if TYPE_CHECKING:
    from lastresort.models.loading import Loaded
    from lastresort.train.early_warnings import Baseline, Watched

ANSWERS, SUMS = "base_answers", "base_sums"


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

    def open(self, loaded: Loaded, model: Any, *, holds_base: bool = True) -> None:
        """Get ready, before the first step. holds_base: whether the model is the base, or an adapter around it; without, nothing
        is measured but by what the record knows of the base.
        """
        if self._baseline is not None:
            return
        prompts = self._prompts(loaded)
        key = hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:16]
        watched = self._watched(key)
        if watched is None and holds_base:
            watched = self._make(loaded, model, prompts, key)
        if watched is not None:
            self._baseline = self._base_of(loaded, model, watched, key, holds_base=holds_base)

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
        from lastresort.train.early_warnings import PROMPTS

        kwargs = self._bench.task.chat_template_kwargs
        conversations = [compose(self._design, example.input, ()) for example in self._bench.dev[: 2 * PROMPTS]]
        return [render_prompt(loaded.tokenizer, turns, template_kwargs=kwargs) for turns in conversations]

    def _watched(self, key: str) -> Watched | None:
        from lastresort.train.early_warnings import watched_from_json

        known = self._bench.record.last(ANSWERS, key)
        return None if known is None else watched_from_json(known)

    def _make(self, loaded: Loaded, model: Any, prompts: Sequence[Sequence[int]], key: str) -> Watched:
        from lastresort.train.early_warnings import watch, watched_to_json

        bench, began = self._bench, self._clock()
        bench.progress.stage(f"{self._rung}: answers of the base, from which training will move", None)
        watched = watch(
            model,
            loaded.tokenizer,
            prompts,
            context_tokens=loaded.context_tokens,
            seed=bench.task.split.seed,
            kwargs=bench.task.chat_template_kwargs,
        )
        rows = (*watched.general, *watched.task)
        said = sum(sum(row.targets) for row in rows)
        asked = sum(len(row.ids) for row in rows) - said
        spent = {"tokens_in": asked, "tokens_out": said, "seconds": self._clock() - began}
        bench.record.note(ANSWERS, {"rung": self._rung, **watched_to_json(watched), **spent}, key)
        return watched

    def _base_of(self, loaded: Loaded, model: Any, watched: Watched, key: str, *, holds_base: bool) -> Baseline | None:
        """How likely it is to the base, in the precision in which this rung trains."""
        from lastresort.train.early_warnings import Baseline, Sums, baseline

        precise = f"{key} {_precision(loaded)}"
        known = self._bench.record.last(SUMS, precise)
        if known is not None:
            return Baseline(watched, Sums(**known["sums"]))
        if not holds_base:
            return None
        found = baseline(model, watched)
        self._bench.record.note(SUMS, {"rung": self._rung, "sums": asdict(found.base)}, precise)
        return found


def _precision(loaded: Loaded) -> str:
    from lastresort.models.quantized import note_of

    return f"{loaded.dtype}".removeprefix("torch.") + (" nf4" if note_of(loaded.model) is not None else "")
