"""The prompts that a run chose, with a new model or instruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lastresort.after.recheck.finished import FinishedRun
from lastresort.errors import CandidateError, InputError
from lastresort.ladder import untrained_rungs
from lastresort.models.open import absolute_name
from lastresort.models.protocol import is_endpoint
from lastresort.records.events import ModelOpened
from lastresort.report.recheck import DroppedPrompt
from lastresort.rungs.open_models import OpenModels
from lastresort.rungs.prompting import instruction, prompting_decoding
from lastresort.systems.system import PromptDesign, System


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
    own = absolute_name(task.model, task.folder)
    if new.settled in (None, own) and new.prompt is None:
        raise InputError(
            f"{new.model or task.model} is the model of the run, so its cached answers would only be read again",
            where="--model",
            expected="another model, or --prompt FILE with a new instruction",
            remedy="Name one.",
        )
    rungs = [rung for rung in untrained_rungs() if rung in finished.frozen]
    found = [Design(rung, finished.candidate(rung)) for rung in rungs] or [Design("prompting", _plain(finished, own))]
    return [replace(design, system=_with_new(design.system, own, new)) for design in found]


def fitting(models: OpenModels, wanted: Sequence[Design]) -> tuple[list[Design], list[DroppedPrompt]]:
    """Those that the model can decode, and those that it cannot. Where it cannot enforce the output form, it is tried without."""
    found: list[Design] = []
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
            found.append(Design(design.rung, attempt))
            break
    return found, dropped


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
