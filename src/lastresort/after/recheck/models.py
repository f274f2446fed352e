"""The prompts that a run chose, with a new model or instruction, and the models that answer them in a recheck.

The models stand behind the response cache of the workspace, and are scored as the climb scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lastresort.after.recheck.finished import FinishedRun
from lastresort.climb.prepare import PreparedTask
from lastresort.errors import CandidateError, InputError, TaskError
from lastresort.evals.measure import CountedAnswers, mean_so_far, measured
from lastresort.evals.scorers import Scorer
from lastresort.evals.scorers.judge import Judge
from lastresort.ladder import untrained_rungs
from lastresort.models.endpoint import Approve
from lastresort.models.open import absolute_name
from lastresort.models.protocol import Model, is_endpoint
from lastresort.records.events.run import JudgeOpened, ModelOpened, Subject
from lastresort.records.measurement import Cost, ItemScore
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache
from lastresort.report.recheck import DroppedPrompt
from lastresort.rungs.open_models import OpenModels
from lastresort.rungs.prompting.prompts import instruction, prompting_decoding
from lastresort.spec.paths import is_paid
from lastresort.stop import Stop, check
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Answer, Example, HearsReading, Progress


@dataclass(frozen=True, slots=True)
class Replacement:
    """model: as its user named it, None for the run's own; settled: the same from any folder. prompt: an instruction in place
    of the run's, None to keep that. Prices: USD per million tokens, None where they are not known.
    """

    model: str | None = None
    settled: str | None = None
    prompt: str | None = None
    prompt_price: float | None = None
    output_price: float | None = None

    @property
    def changes(self) -> tuple[Subject, ...]:
        replaced: dict[Subject, object] = {"model": self.model, "prompt": self.prompt}
        return tuple(name for name, given in replaced.items() if given is not None)

    @property
    def subject(self) -> str:
        """What is new, as the subject of a sentence."""
        if self.model is None:
            return "the new prompt"
        return self.model if self.prompt is None else f"{self.model} with the new prompt"


@dataclass(frozen=True, slots=True)
class Design:
    """A prompt of the run with what is new. rung: the one that chose it."""

    rung: str
    system: System


def designs(finished: FinishedRun, new: Replacement) -> list[Design]:
    """The untrained systems that the run tested, the cheaper rung first; without any, the plain prompt.

    Raises InputError where nothing is new.
    """
    task = finished.task
    old = absolute_name(task.model, task.folder)
    if new.settled in (None, old) and new.prompt is None:
        raise InputError(
            f"{new.model or task.model} is the model of the run, so its cached answers would only be read again",
            where="--model",
            expected="another model, or --prompt FILE with a new instruction",
            remedy="Name one.",
        )
    rungs = [rung for rung in untrained_rungs() if rung in finished.frozen]
    tried = [Design(rung, finished.candidate(rung)) for rung in rungs] or [Design("prompting", _plain(finished, old))]
    return [replace(design, system=_with_new(design.system, old, new)) for design in tried]


def fitting(models: OpenModels, wanted: Sequence[Design]) -> tuple[list[Design], list[DroppedPrompt]]:
    """Those that the model can decode, and those that it cannot. Where it cannot enforce the output form, it is tried without."""
    fits: list[Design] = []
    dropped: list[DroppedPrompt] = []
    for design in wanted:
        system = design.system
        attempts = [system]
        if system.decoding.grammar is not None:
            free = replace(system.decoding, grammar=None)
            attempts.append(replace(system, name=f"{system.name}, form not enforced", decoding=free))
        for attempt in attempts:
            try:
                models.check(attempt)
            except CandidateError as error:
                dropped.append(DroppedPrompt(rung=design.rung, name=attempt.name, because=str(error)))
                continue
            fits.append(Design(design.rung, attempt))
            break
    return fits, dropped


def _plain(finished: FinishedRun, model: str) -> System:
    task, opened = finished.task, finished.record.last(ModelOpened)
    assert opened is not None, "a finished run has opened its model"
    design, decoding = PromptDesign(instruction(task)), prompting_decoding(task, opened.max_new_tokens)
    return System("zero-shot", model, design, decoding, template_kwargs=task.chat_template_kwargs)


def _with_new(system: System, own: str, new: Replacement) -> System:
    """Decoding, shots, passages and layout stay those of the run."""
    if new.settled not in (None, own):
        assert new.settled is not None
        system = replace(system, model=new.settled, precision="auto", rendering="", fingerprint="")
        if new.settled.startswith("openai:"):  # which takes no such arguments, and the run's task cannot leave them out
            system = replace(system, template_kwargs={})
        if not is_endpoint(new.settled):  # which takes no effort
            system = replace(system, decoding=replace(system.decoding, reasoning_effort=None))
    if new.prompt is None:
        return system
    return replace(system, name=f"{system.name}, new prompt", prompt=replace(system.prompt, instruction=new.prompt))


class RecheckModels:
    """What was answered once is read from the cache, so that a stopped recheck resumes where it was.

    approve: asks about an endpoint that only the run names.
    """

    def __init__(
        self, prepared: PreparedTask, record: Record, cache: Path, progress: Progress, stop: Stop, approve: Approve
    ) -> None:
        self._prepared, self._record, self._progress, self._stop = prepared, record, progress, stop
        self._approve = approve
        self._cache = ResponseCache(cache)

    def of_run(self) -> OpenModels:
        """Opens the run's own systems, at its own prices."""
        use = self._prepared.task.use
        return self._models(self._prepared.task.model, use.prompt_price, use.output_price, ())

    def of_new(self, new: Replacement) -> OpenModels:
        """Opens systems on the new model, at its prices."""
        assert new.settled is not None, "a new model has a name"
        return self._models(new.settled, new.prompt_price, new.output_price, (new.settled,))

    def scorer(self, models: OpenModels) -> Scorer:
        """The task's scorer. A judge must be the one that judged the run."""
        scorer, keys = self._prepared.scorer, self._prepared.task.score.judge
        if not isinstance(scorer, Judge) or keys is None:
            return scorer

        def opened() -> Model:
            return self._recognised(
                models.judge(keys.model, prompt_price=keys.prompt_price, output_price=keys.output_price)
            )

        return scorer.with_model(opened)

    def measured(
        self, models: OpenModels, system: System, examples: Sequence[Example], scorer: Scorer
    ) -> Iterator[list[ItemScore]]:
        """Scores batch by batch, in order, as in the test of a climb: an item that the model refuses is wrong.

        Raises StoppedError if a stop was requested.
        """
        answerer = models.answerer(system)
        size = answerer.model.batch_size
        so_far: list[float] = []
        counted = CountedAnswers(self._progress)
        check(self._stop)
        for batch in measured(
            answerer, examples, scorer, self._prepared.task.output, batch_size=size, refused_is_wrong=True,
            on_answer=counted.arrived,
        ):  # fmt: skip
            so_far += [item.score for item in batch]
            counted.rest(len(batch), mean_so_far(so_far))
            yield batch
            check(self._stop)

    def price_known(self, new: Replacement) -> bool:
        """Whether the price of what is new is known: its model is local, or both prices are given."""
        if new.settled is None:
            return self._prepared.task.price_known
        return not is_paid(new.settled) or None not in (new.prompt_price, new.output_price)

    def close(self) -> None:
        self._cache.close()

    def _models(
        self, name: str, prompt_price: float | None, output_price: float | None, named: Sequence[str]
    ) -> OpenModels:
        task = self._prepared.task
        return OpenModels(
            self._cache,
            base_folder=task.folder,
            base_name=absolute_name(name, task.folder),
            tuned_name=absolute_name(task.tuned_model, task.folder),
            prompt_price=prompt_price or 0.0,
            output_price=output_price or 0.0,
            on_read=self._progress.read if isinstance(self._progress, HearsReading) else None,
            named=named,
            approve=self._approve,
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


def cost_of(items: Sequence[ItemScore] | Sequence[Answer], price_known: bool) -> Cost:
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
