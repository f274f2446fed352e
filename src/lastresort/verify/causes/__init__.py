"""Why a server answers otherwise than measured: each cause with the experiment that tests it, the likeliest to be told first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lastresort.errors import BudgetError, LastresortError, StopRequestedError
from lastresort.report.verify import CauseTested
from lastresort.report.words.verify import TITLES, CauseName, experiment_failed, samples_note
from lastresort.stop import check
from lastresort.types import Progress
from lastresort.verify.causes import prompts, settings, weights
from lastresort.verify.causes.case import FEWEST, TRIED, Case, open_measured, untested


@dataclass(frozen=True, slots=True)
class CauseTest:
    """test: None where the cause cannot be there at all. compares_texts: it needs a winner that answers the same twice."""

    test: Callable[[Case], CauseTested | None]
    compares_texts: bool = True


CAUSES: dict[CauseName, CauseTest] = {
    "SETTINGS": CauseTest(settings.settings, compares_texts=False),
    "ENDED_EARLY": CauseTest(settings.ended_early),
    "FORM": CauseTest(settings.form),
    "SYSTEM_PROMPT": CauseTest(prompts.system_prompt),
    "DOUBLED_START": CauseTest(prompts.doubled_start),
    "ADAPTER": CauseTest(weights.adapter),
    "TEMPLATE": CauseTest(prompts.template),
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
        if cause.compares_texts and case.decoding.temperature > 0:
            result: CauseTested | None = untested(name, samples_note(case.decoding.temperature))
        else:
            try:
                result = cause.test(case)
            except (StopRequestedError, BudgetError):
                raise
            except LastresortError as error:
                result = untested(name, experiment_failed(error))
        if result is not None:
            case.earlier.append(result)
            yield result


__all__ = ["CAUSES", "FEWEST", "TRIED", "Case", "open_measured", "tested"]
