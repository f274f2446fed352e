"""The models of a recheck: behind the response cache of the workspace, scored as the climb scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lastresort.after.recheck.designs import Replacement
from lastresort.climb.prepare import PreparedTask
from lastresort.errors import TaskError
from lastresort.evals.measure import measured
from lastresort.evals.scorers import Scorer
from lastresort.evals.scorers.judge import Judge
from lastresort.models.open import absolute_name
from lastresort.models.protocol import Model
from lastresort.records.events import JudgeOpened
from lastresort.records.measurement import Cost, ItemScore
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache
from lastresort.rungs.open_models import OpenModels
from lastresort.spec.paths import is_paid
from lastresort.stop import Stop, check
from lastresort.systems.system import System
from lastresort.types import Example, Progress


class RecheckModels:
    """What was answered once is read from the cache, so that a stopped recheck resumes where it was."""

    def __init__(self, prepared: PreparedTask, record: Record, cache: Path, progress: Progress, stop: Stop) -> None:
        self._prepared, self._record, self._progress, self._stop = prepared, record, progress, stop
        self._cache = ResponseCache(cache)

    def of_run(self) -> OpenModels:
        """Opens the run's own systems, at its own prices."""
        use = self._prepared.task.use
        return self._models(self._prepared.task.model, use.prompt_price, use.output_price)

    def of_new(self, new: Replacement) -> OpenModels:
        """Opens systems on the new model, at its prices."""
        assert new.settled is not None, "a new model has a name"
        return self._models(new.settled, new.prompt_price, new.output_price)

    def scorer(self, models: OpenModels) -> Scorer:
        """The task's scorer. A judge must be the one that judged the run."""
        scorer, keys = self._prepared.scorer, self._prepared.task.score.judge
        if not isinstance(scorer, Judge) or keys is None:
            return scorer

        def opened() -> Model:
            prices = {"prompt_price": keys.prompt_price or 0.0, "output_price": keys.output_price or 0.0}
            return self._recognised(models.judge(keys.model, **prices))

        return scorer.with_model(opened)

    def measured(
        self, models: OpenModels, system: System, examples: Sequence[Example], scorer: Scorer
    ) -> Iterator[list[ItemScore]]:
        """Scores batch by batch, in order, as in the test of a climb: an item that the model refuses is wrong.

        Raises StoppedError where it was asked to stop.
        """
        answerer = models.answerer(system)
        size = answerer.model.batch_size
        check(self._stop)
        for batch in measured(
            answerer, examples, scorer, self._prepared.task.output, batch_size=size, refused_is_wrong=True
        ):
            self._progress.advance(len(batch), note=f"{sum(item.score for item in batch) / len(batch):.2f}")
            yield batch
            check(self._stop)

    def price_known(self, new: Replacement) -> bool:
        """Whether the price of what is new is known: its model is local, or both prices are given."""
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
            base_name=absolute_name(name, task.folder),
            tuned_name=absolute_name(task.tuned_model, task.folder),
            prompt_price=prompt_price or 0.0,
            output_price=output_price or 0.0,
        )

    def _recognised(self, model: Model) -> Model:
        known = self._record.last(JudgeOpened)
        if known is not None and known.fingerprint != model.fingerprint:
            raise TaskError(
                f"the judge {model.name} is not the one that judged the run (its weights, template or precision differ)",
                where=str(self._record.folder),
                expected="the same judge",
                remedy="Put it back, or climb again.",
            )
        return model


def cost_of(items: Sequence[ItemScore], price_known: bool) -> Cost:
    """Tokens, seconds and money of these answers, cached ones included."""
    return Cost(
        tokens_in=sum(item.prompt_tokens for item in items),
        tokens_out=sum(item.completion_tokens for item in items),
        seconds=round(sum(item.seconds for item in items), 3),
        usd=sum(item.usd for item in items) if price_known else None,
    )


def prompt_tokens(items: Sequence[ItemScore]) -> float:
    """Mean per prompt."""
    return round(sum(item.prompt_tokens for item in items) / len(items), 1) if items else 0.0
