"""Asking the models of a recheck: with the response cache of the workspace in front, scored as the climb scored.

How often the frozen test set of a run has been looked at since the climb, and what error each look may make.

A test set that is asked again and again will some day say yes by chance. All rechecks of a run share one error, apart from
the climb's own: look k has 1/(k (k+1)) of it, which over all k, however many there will be, adds up to the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lastresort.after.recheck.designs import Replacement
from lastresort.climb.prepare import BETA, PreparedTask
from lastresort.errors import DataError, TaskError
from lastresort.evals.evidence import smallest_deciding_test
from lastresort.evals.measure import measured
from lastresort.evals.scorers import Scorer
from lastresort.evals.scorers.judge import Judge
from lastresort.models.open import absolute_name
from lastresort.models.protocol import Model
from lastresort.records.events import JudgeOpened, RecheckCounted
from lastresort.records.measurement import Cost, ItemScore
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache
from lastresort.report.recheck import TestLook
from lastresort.report.words.wording import round_percent as percent
from lastresort.rungs.open_models import OpenModels
from lastresort.spec.paths import is_paid
from lastresort.systems.system import System
from lastresort.types import Example, Progress, Unit


@dataclass(frozen=True, slots=True)
class RecheckNumber:
    """number: of the recheck among all of its run. look: of those among them that test systems against the bar, else None."""

    number: int
    look: int | None


def look_of(number: int, systems: int, confidence: float) -> TestLook:
    """The error of this look and of each of its systems."""
    budget = round(1 - confidence, 12)
    alpha = budget / (number * (number + 1))
    return TestLook(number=number, systems=systems, alpha=alpha, each=alpha / systems, budget=budget)


def check_size(look: TestLook, n: int, *, bar: float, binary: bool, unit: Unit) -> None:
    """Raises DataError if even a perfect score on n items (or groups) could not show at this error that the bar is met."""
    smallest = smallest_deciding_test(bar, look.each, BETA, binary=binary)
    if n < smallest:
        raise DataError(
            f"a test set of {n} {unit}s, on which look {look.number} since the climb could not show even with a perfect score "
            f"that the bar of {bar:g} is met, at the {look.each:.2g} that its error has come down to",
            expected=f"at least {smallest} {unit}s, or fewer looks",
            remedy="The test set is worn out: climb again with fresh items.",
        )


def told(look: TestLook) -> str:
    """What a look at a frozen test set is worth, in words."""
    systems = "" if look.systems == 1 else f", {_share(look.each)} for each of its {look.systems} systems"
    return (
        f"This is look {look.number} at the frozen test set since the climb. All looks of a run together say MET wrongly with a "
        f"chance of at most {percent(look.budget)}, apart from the climb's own; this one has {_share(look.alpha)} of it{systems}. "
        "That holds for models and prompts chosen without these items: what was mended after seeing them is fitted to them."
    )


def numbered(record: Record, key: str) -> RecheckNumber | None:
    """The recheck that asked the same before, None where none did."""
    counted = record.last(RecheckCounted, key)
    return None if counted is None else RecheckNumber(counted.number, counted.look)


def next_number(record: Record, *, looks: bool) -> RecheckNumber:
    """What the next recheck is. looks: whether it tests systems against the bar."""
    before = record.all(RecheckCounted)
    seen = sum(counted.look is not None for counted in before)
    return RecheckNumber(len(before) + 1, seen + 1 if looks else None)


def note(record: Record, key: str, found: RecheckNumber, what: str) -> None:
    """Count a recheck, before it has seen an answer: one that is broken off has looked, too. The same again counts once."""
    if record.last(RecheckCounted, key) is None:
        record.append(RecheckCounted(question=key, number=found.number, look=found.look, what=what))


def _share(alpha: float) -> str:
    return f"{100 * alpha:.2g}%"


class RecheckModels:
    """Whatever was answered once is found again, so that a recheck that was stopped goes on where it was."""

    def __init__(self, prepared: PreparedTask, record: Record, cache: Path, progress: Progress) -> None:
        self._prepared, self._record, self._progress = prepared, record, progress
        self._cache = ResponseCache(cache)

    def models_of_run(self) -> OpenModels:
        """Opens the run's own systems, at its own prices."""
        use = self._prepared.task.use
        return self._models(self._prepared.task.model, use.prompt_price, use.output_price)

    def models_of_new(self, new: Replacement) -> OpenModels:
        """Opens systems on the new model, at the prices told of it."""
        assert new.settled is not None, "a new model has a name"
        return self._models(new.settled, new.prompt_price, new.output_price)

    def scorer(self, models: OpenModels) -> Scorer:
        """The task's scorer; a judge asks beside these models, and must be the one that judged the run."""
        scorer, keys = self._prepared.scorer, self._prepared.task.score.judge
        if not isinstance(scorer, Judge) or keys is None:
            return scorer

        def opened() -> Model:
            prices = {"prompt_price": keys.prompt_price or 0.0, "output_price": keys.output_price or 0.0}
            return self._recognised(models.judge(keys.model, **prices))

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

    def price_known(self, new: Replacement) -> bool:
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
    """Tokens, seconds and money of these answers, also of those that were kept from before."""
    return Cost(
        tokens_in=sum(item.prompt_tokens for item in items),
        tokens_out=sum(item.completion_tokens for item in items),
        seconds=round(sum(item.seconds for item in items), 3),
        usd=sum(item.usd for item in items) if price_known else None,
    )


def prompt_tokens(items: Sequence[ItemScore]) -> float:
    """Mean of a prompt."""
    return round(sum(item.prompt_tokens for item in items) / len(items), 1) if items else 0.0
