"""Why a server answers otherwise than measured: each cause with the experiment that tests it, the likeliest to be told first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from lastresort.errors import BudgetError, LastresortError, StopRequestedError
from lastresort.report.verify import CauseTested
from lastresort.report.words.verify import TITLES, TRIED_COUNTS, CauseName, experiment_failed, longer, samples_note
from lastresort.stop import check
from lastresort.types import Progress
from lastresort.verify.causes import prompts, settings, weights
from lastresort.verify.causes.case import FEWEST, TRIED, Case, cause_tested, open_measured, untested


@dataclass(frozen=True, slots=True)
class CauseTest:
    """test: None where the cause cannot be there at all. compares_texts: it needs a winner that answers the same twice. is_prompt:
    the model gets another prompt, so not where the server counts the tokens of each as they were measured.
    """

    test: Callable[[Case], CauseTested | None]
    compares_texts: bool = True
    is_prompt: bool = False


CAUSES: dict[CauseName, CauseTest] = {
    "SETTINGS": CauseTest(settings.settings, compares_texts=False),
    "ENDED_EARLY": CauseTest(settings.ended_early),
    "FORM": CauseTest(settings.form),
    "SYSTEM_PROMPT": CauseTest(prompts.system_prompt, is_prompt=True),
    "DOUBLED_START": CauseTest(prompts.doubled_start, is_prompt=True),
    "ADAPTER": CauseTest(weights.adapter),
    "TEMPLATE": CauseTest(prompts.template, is_prompt=True),
    "PRECISION": CauseTest(weights.precision),
}


def tested(case: Case, progress: Progress) -> Iterator[CauseTested]:
    """Every cause that can be there, in the order of the table. One whose experiment fails is not tested, and says why.

    Raises StoppedError if a stop was requested.
    """
    for done, (name, cause) in enumerate(CAUSES.items()):
        label = f"looking for the cause, {done + 1} of {len(CAUSES)}: {TITLES[name]}"
        progress.stage(label, len(CAUSES), done)
        check(case.stop)
        case.api.begin(name)
        if cause.compares_texts and case.decoding.temperature > 0:
            result: CauseTested | None = untested(name, samples_note(case.decoding.temperature))
        elif cause.is_prompt and case.same_counts:
            result = cause_tested(name, False, TRIED_COUNTS, longer(case.offsets))
        else:
            try:
                result = _kept(case)
                if result is None and (result := cause.test(case)) is not None and result.tried:
                    case.api.keep(case.about, result.as_json())
            except (StopRequestedError, BudgetError):
                raise
            except LastresortError as error:
                result = untested(name, experiment_failed(error))
        if result is not None:
            case.earlier.append(result)
            yield result


def _kept(case: Case) -> CauseTested | None:
    found = case.api.outcome(case.about)
    try:
        return None if found is None else CauseTested.model_validate(found)
    except ValidationError:
        return None


__all__ = ["CAUSES", "FEWEST", "TRIED", "Case", "open_measured", "tested"]
