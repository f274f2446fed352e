"""A run that does not fit into memory: one sentence that names what to lower, in place of a library's traceback.

What the system kills without a word (Linux does so when it promised more memory than it has) goes on with --resume too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lastresort.errors import InfrastructureError
from lastresort.train.training_file import TrainingFile

# Of torch's allocators on CPU, CUDA and MPS, and of cuBLAS; none has a type of its own on CPU.
_SAYS = re.compile(r"out of memory|can't allocate memory|not enough memory|alloc_failed|bad_alloc", re.IGNORECASE)
_BYTES = re.compile(r"tried to allocate (\d+) bytes", re.IGNORECASE)
_GIB = re.compile(r"tried to allocate ([\d.]+ [KMG]i?B)", re.IGNORECASE)


@contextmanager
def memory_errors(remedy: str) -> Iterator[None]:
    """Whatever inside does not get its memory becomes an InfrastructureError. remedy: what the user can do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _SAYS.search(str(error)):
            raise
        asked = _asked_for(str(error))
        more = f" for {asked} more" if asked else ""
        raise InfrastructureError(
            f"there is not enough memory{more}", where="training", expected="a pass that fits", remedy=remedy
        ) from error


def what_to_lower(file: TrainingFile) -> str:
    """The keys of the file that memory follows: first those that a run may change as it goes on, since they change no more of the
    result than its rounding."""
    knobs, lengths = f"max_pass_tokens ({file.max_pass_tokens})", "max_tokens"
    if file.groups is not None:
        lengths = f"max_new_tokens ({file.groups.max_new_tokens})"
        knobs += f" or rows_at_once ({file.groups.rows_at_once})" if file.groups.server is None else ""
    recompute = "" if file.checkpointing else ", or write checkpointing: true"
    whole = file.adapter.kind == "full" and file.start_from is None
    instead = " or train an adapter in place of all weights" if whole else ""
    return f"Lower {knobs}{recompute}, and go on with --resume from the last checkpoint; a new run may lower {lengths}{instead}."


def _asked_for(said: str) -> str:
    found = _BYTES.search(said)
    if found:
        return f"{int(found[1]) / (1 << 30):,.1f} GiB"
    named = _GIB.search(said)
    return named[1] if named else ""
