"""What lm-eval, or the code of a task, raises while it asks and scores: one sentence in place of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lastresort.errors import DataError, InfrastructureError, LastresortError
from lastresort.hardware.memory import is_lack_of_memory

AGAIN = "Then give the same command again."


@contextmanager
def faults_of(task: str) -> Iterator[None]:
    """Raises DataError for what it raised, by which a suite says nothing and ends no climb, but InfrastructureError for a lack of
    memory and for what could not be read: that passes, and is no word on a task. What the system refused stays as it is.
    """
    try:
        yield
    except LastresortError:
        raise
    except Exception as error:  # a task's code is anybody's, and raises what it likes
        if is_lack_of_memory(error):
            raise InfrastructureError(
                "lm-eval did not get the memory that it wants", where=task, remedy=f"Free some. {AGAIN}"
            ) from error
        if isinstance(error, OSError):
            if error.errno is not None:
                raise
            raise InfrastructureError(
                f"lm-eval could not read what it needs ({first_line(error)})",
                where=task,
                remedy=f"Check the network. {AGAIN}",
            ) from error
        raise DataError(
            f"lm-eval could not ask or score it ({type(error).__name__}: {first_line(error)})",
            where=task,
            expected="a task that this model can be asked",
            remedy="Mend the task, or remove it from general.",
        ) from error


def first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:200].rstrip(".")
