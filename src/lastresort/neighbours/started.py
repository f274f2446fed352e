"""An adapter that is trained further, and the base that it was trained on."""

from __future__ import annotations

from pathlib import Path

NOT_IN_4_BITS = (
    "The base is loaded in 16 bits: an adapter that is trained further is so on the base that it was trained on, and only one "
    "that this program trained says that it was in 4 bits."
)


def says_its_base(adapter: Path) -> bool:
    """Whether it was trained here on a base in 4 bits, which is then loaded so again."""
    from lastresort.models.quantized import trained_on

    return trained_on(adapter) is not None
