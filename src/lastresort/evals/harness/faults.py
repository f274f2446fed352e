"""What lm-eval, or the code of a task, raises while it asks and scores: one sentence in place of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lastresort.errors import DataError, LastresortError


@contextmanager
def faults_of(task: str) -> Iterator[None]:
    """Raises DataError for what it raised, by which a suite says nothing and ends no climb; memory and disk stay what they are."""
    import torch

    try:
        yield
    except (LastresortError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"lm-eval could not ask or score it ({type(error).__name__}: {first_line(error)})",
            where=task,
            expected="a task that this model can be asked",
            remedy="Mend the task, or remove it from general.",
        ) from error


def first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:200].rstrip(".")
