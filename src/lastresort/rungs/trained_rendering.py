"""How a rung's training rows are rendered: noted once, so that whatever is measured, gated or served is compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lastresort.errors import DataError
from lastresort.records.record import Record

if TYPE_CHECKING:
    from lastresort.models.loading import Loaded

KIND = "trained_rendering"  # of events


def note_rendering(
    record: Record, rung: str, loaded: Loaded, template_kwargs: Mapping[str, Any], *, before: str = ""
) -> None:
    """Note it before anything is trained. before: that of the system which training starts from, "" where it was not trained.

    Raises DataError where an earlier session, or the start, rendered otherwise: the rows would teach two languages at once.
    """
    from lastresort.models.renderings import rendering_fingerprint

    now = rendering_fingerprint(loaded.tokenizer, template_kwargs)
    known = noted_rendering(record, rung)
    for told, what in (
        (known, "of the rows that this run began to train on"),
        (before, "that its start was trained on"),
    ):
        if told and told != now:
            raise DataError(
                f"the chat template or the special tokens of {loaded.folder} differ from those {what}",
                where=f"rung {rung}",
                expected=f"the rendering {told[:16]}, not {now[:16]}",
                remedy="Put back the template and chat_template_kwargs that the run began with, or start a new run.",
            )
    if not known:
        record.note(KIND, {"rung": rung, "rendering": now}, key=rung)


def noted_rendering(record: Record, rung: str) -> str:
    """As `note_rendering` found it; "" where this rung trained nothing, or under a version that did not note it."""
    return str((record.last(KIND, rung) or {"rendering": ""})["rendering"])
