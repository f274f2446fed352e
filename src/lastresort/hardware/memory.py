"""How much memory there is, the peak that some work takes, and giving freed memory back to the system."""

from __future__ import annotations

import ctypes
import gc
import os
import re
from pathlib import Path

_CONTAINER, _CONTAINER_USES = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
_CONTAINER_SAYS = Path("/sys/fs/cgroup/memory.stat")
_SYSTEM = Path("/proc/meminfo")
# Of torch's allocators on CPU, CUDA and MPS, and of cuBLAS; none has a type of its own on CPU.
_TOO_LITTLE = re.compile(r"out of memory|can't allocate memory|not enough memory|alloc_failed|bad_alloc", re.IGNORECASE)
_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))


def is_lack_of_memory(error: Exception) -> bool:
    """Whether Python or a library ran out of memory."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_TOO_LITTLE.search(str(error))))


def machine_memory_bytes() -> int | None:
    """Of the first GPU, else of this machine or its container; None where that is not known."""
    if has_gpu():
        import torch

        return int(torch.cuda.get_device_properties(0).total_memory)
    return processor_memory_bytes()


def processor_memory_bytes() -> int | None:
    """Of this machine or its container; None where that is not known."""
    whole = physical_memory_bytes()
    try:
        limit = _CONTAINER.read_text(encoding="ascii").strip() if _CONTAINER.is_file() else "max"
    except (OSError, ValueError):
        return None
    return min(whole, int(limit)) if whole is not None and limit.isdecimal() else whole


def physical_memory_bytes() -> int | None:
    """Of this machine, whatever a container allows; None where that is not known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):  # Windows has no sysconf
        return None


def free_memory_bytes() -> int | None:
    """What a program could still get: of the first GPU, else of this machine or its container; None where that is not known."""
    if has_gpu():
        import torch

        # The driver counts as used what torch keeps of freed tensors, to give it out again.
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0]) + kept
    free = _system_bytes().get("MemAvailable")
    try:
        limit, used = (file.read_text(encoding="ascii").strip() for file in (_CONTAINER, _CONTAINER_USES))
    except OSError:
        return free
    left = int(limit) - int(used) + _cached_bytes() if limit.isdecimal() and used.isdecimal() else None
    return free if left is None else left if free is None else min(free, left)


def _cached_bytes() -> int:
    """Cached files, such as a model's weights, count as used in a container, but are freed as soon as a program needs memory."""
    try:
        lines = _CONTAINER_SAYS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    statistics = dict(line.split() for line in lines if len(line.split()) == 2)
    return sum(int(statistics.get(key, 0)) for key in ("inactive_file", "active_file"))


def swap_bytes() -> int:
    """What the system may swap out; 0 where that is not known."""
    return _system_bytes().get("SwapTotal", 0)


def _system_bytes() -> dict[str, int]:
    """Of /proc/meminfo, which is in KiB."""
    try:
        lines = _SYSTEM.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines)
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in fields if len(words) > 1 and words[1].isdecimal()}


def may_have_gpu() -> bool:
    """Whether torch has to be asked for a GPU: a driver has made a device."""
    return any(path.exists() for path in _GPU_DEVICES)


def has_gpu() -> bool:
    """Whether torch can compute on a GPU here."""
    if not may_have_gpu():  # without one torch need not be loaded to find none
        return False
    import torch

    return bool(torch.cuda.is_available())


def give_back_freed_memory(*, gpu: bool = False) -> None:
    """Drop garbage and let glibc return freed pages; elsewhere only the first. gpu: also what torch keeps of a GPU, which other
    processes may need; it takes time to get it again.

    Models and activations of other sizes leave gaps that glibc keeps: without this the embedded model's climb peaked at
    4.3 GB, of which more than a gigabyte was unused (docs/log.md).
    """
    gc.collect()
    if gpu and has_gpu():
        import torch

        torch.cuda.empty_cache()
    try:
        library = ctypes.CDLL(None)
    except TypeError:  # Windows wants a name
        return
    trim = getattr(library, "malloc_trim", None)
    if trim is not None:
        trim(0)


_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_PEAK_OF_RESIDENT = "5"  # proc(5): resets VmHWM, which otherwise only ever rises


class PeakMemory:
    """The peak since it was created: on a GPU what torch allocated, else this process's resident memory, libraries included."""

    def __init__(self) -> None:
        give_back_freed_memory(gpu=True)
        self._on_gpu = has_gpu()
        self._known = self._on_gpu or _reset()
        if self._on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats()

    def read_bytes(self) -> int | None:
        """The peak so far; None where the system cannot reset its counter."""
        if self._on_gpu:
            import torch

            return int(torch.cuda.max_memory_allocated())
        return _resident_peak() if self._known else None


def _reset() -> bool:
    try:
        _RESET.write_text(_PEAK_OF_RESIDENT, encoding="ascii")
    except OSError:
        return False
    return True


def _resident_peak() -> int | None:
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return None
