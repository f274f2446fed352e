"""Asking the models of a recheck: with the response cache of the workspace in front, scored as the climb scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lastresort.errors import TaskError
from lastresort.evals.measure import measured
from lastresort.evals.scorers import Scorer
from lastresort.evals.scorers.judge import Judge
from lastresort.ladder.prepare import Prepared
from lastresort.ladder.recheck.designs import New
from lastresort.models.open import settled_name
from lastresort.models.protocol import Model
from lastresort.records.measurement import ItemScore
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache
from lastresort.rungs.open_models import OpenModels
from lastresort.rungs.sft_training import tuned_model
from lastresort.spec.model_name import is_paid
from lastresort.systems.system import System
from lastresort.types import Example, Progress


class Asking:
    """Whatever was answered once is found again, so that a recheck that was stopped goes on where it was."""

    def __init__(self, prepared: Prepared, record: Record, cache: Path, progress: Progress) -> None:
        self._prepared, self._record, self._progress = prepared, record, progress
        self._cache = ResponseCache(cache)

    def models_of_run(self) -> OpenModels:
        """Opens the run's own systems, at its own prices."""
        use = self._prepared.task.use
        return self._models(self._prepared.task.model, use.prompt_price, use.output_price)

    def models_of_new(self, new: New) -> OpenModels:
        """Opens systems on the new model, at the prices told of it."""
        assert new.settled is not None, "a new model has a name"
        return self._models(new.settled, new.prompt_price, new.output_price)

    def scorer(self, models: OpenModels) -> Scorer:
        """The task's scorer; a judge asks beside these models, and must be the one that judged the run."""
        scorer = self._prepared.scorer
        if not isinstance(scorer, Judge):
            return scorer
        keys = self._prepared.task.score.parameters

        def opened() -> Model:
            prices = {name: float(keys.get(name) or 0.0) for name in ("prompt_price", "output_price")}
            return self._recognised(models.judge(keys["model"], **prices))

        return scorer.asked_of(opened)

    def answered(
        self, models: OpenModels, system: System, examples: Sequence[Example], scorer: Scorer
    ) -> Iterator[list[ItemScore]]:
        """Scores batch by batch, in order, as in the test of a climb: an item that the model refuses is wrong."""
        answerer = models.answerer(system)
        size = answerer.model.batch_size
        for batch in measured(
            answerer, examples, scorer, self._prepared.task.output, batch_size=size, refused_is_wrong=True
        ):
            self._progress.advance(len(batch), note=f"{sum(item.score for item in batch) / len(batch):.2f}")
            yield batch

    def price_known(self, new: New) -> bool:
        """Whether what is new has a price: its model runs here, or both prices are told."""
        if new.settled is None:
            return self._prepared.task.price_known
        return not is_paid(new.settled) or None not in (new.prompt_price, new.output_price)

    def close(self) -> None:
        self._cache.close()

    def _models(self, name: str, prompt_price: float | None, output_price: float | None) -> OpenModels:
        task = self._prepared.task
        return OpenModels(
            self._cache,
            base_folder=task.folder,
            base_name=settled_name(name, task.folder),
            tuned_name=settled_name(tuned_model(task), task.folder),
            prompt_price=prompt_price or 0.0,
            output_price=output_price or 0.0,
        )

    def _recognised(self, model: Model) -> Model:
        known = self._record.last("judge")
        if known is not None and known["fingerprint"] != model.fingerprint:
            raise TaskError(
                f"the judge {model.name} is not the one that judged the run (its weights, template or precision differ)",
                where=str(self._record.folder),
                expected="the same judge",
                remedy="Put it back, or climb again.",
            )
        return model


def cost_of(items: Sequence[ItemScore], price_known: bool) -> dict[str, Any]:
    """Tokens, seconds and money of these answers, also of those that were kept from before. usd is None without a price."""
    return {
        "tokens_in": sum(item.prompt_tokens for item in items),
        "tokens_out": sum(item.completion_tokens for item in items),
        "seconds": round(sum(item.seconds for item in items), 3),
        "usd": sum(item.usd for item in items) if price_known else None,
    }


def prompt_tokens(items: Sequence[ItemScore]) -> float:
    """Mean of a prompt."""
    return round(sum(item.prompt_tokens for item in items) / len(items), 1) if items else 0.0
