"""The most memory that a stretch of work had in use."""

from __future__ import annotations

from pathlib import Path

from lastresort.hardware.memory import give_back_freed_memory, has_gpu

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_PEAK_OF_RESIDENT = "5"  # proc(5): resets VmHWM, which otherwise only ever rises


class PeakMemory:
    """Begins when it is made: of the GPU what torch has allocated, else all of this process that is resident, libraries too."""

    def __init__(self) -> None:
        give_back_freed_memory()
        self._on_gpu = has_gpu()
        self._known = self._on_gpu or _reset()
        if self._on_gpu:
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def read_bytes(self) -> int | None:
        """The peak so far; None where the system does not let it be measured anew."""
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
