"""What a run does, one frozen type a kind. The record keeps these in order; everything else about a run is a view of them.

A new kind of event is a class in the file of its subject, and its line in the union at the end of that file. What is measured item
by item, and curves step by step, has tables of its own.
"""

from __future__ import annotations

from typing import get_args

from lastresort.records.events.after_test import AfterTestEvent
from lastresort.records.events.run import RunEvent
from lastresort.records.events.search import RungEvent
from lastresort.records.events.training import TrainingEvent

Event = RunEvent | RungEvent | TrainingEvent | AfterTestEvent
KINDS: dict[str, type[Event]] = {kind.model_fields["kind"].default: kind for kind in get_args(Event)}
