"""Giving freed memory back to the system."""

from __future__ import annotations

import ctypes
import gc


def give_back_freed_memory() -> None:
    """Drop garbage and let glibc return freed pages; elsewhere only the first.

    Models and activations of another size leave holes that glibc keeps: without this the embedded model's climb peaked at
    4.3 GB, of which more than a gigabyte was held by nobody (docs/log.md).
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
