"""How often test items were used before: a test set that is looked at again and again wears out."""

from __future__ import annotations

from dataclasses import asdict

from lastresort.records.document import ReuseView
from lastresort.records.ledger import ItemReuse


def of_reuse(reuse: ItemReuse) -> ReuseView:
    return ReuseView(**asdict(reuse), text=_sentence(reuse))


def _sentence(reuse: ItemReuse) -> str:
    if not reuse.n:
        return "There is no test set."
    if not reuse.used:
        return f"None of the {reuse.n:,} test items was used by an earlier run in this workspace."
    items = f"All {reuse.used:,}" if reuse.used == reuse.n else f"{reuse.used:,} of {reuse.n:,}"
    times = "once" if reuse.most == 1 else f"up to {reuse.most} times"
    return (
        f"{items} test items were used by earlier runs, {times}. Whatever was changed after seeing those results is "
        "fitted to these items, so the stated confidence is too high: hold out fresh items before the next decision."
    )
