"""Whether weights would be out of date: knowledge that changes more often than a model is trained again stays outside of them.

Where it may not travel in the prompt there is no other place for it: then weights are not refused, and the decision warns.
"""

from __future__ import annotations

from typing import get_args

from lastresort.records.rungs import KnowledgeOutpacesTraining
from lastresort.spec.task import Pace, Task

PACES: tuple[Pace, ...] = get_args(Pace)  # from never to daily


def outdates_weights(changes: Pace | None, retrained: Pace | None) -> bool:
    """Whether what changes so often is ahead of a model that is trained so often; False where either is not known."""
    if changes is None or retrained is None:
        return False
    return PACES.index(changes) > PACES.index(retrained)


def stale_reason(task: Task) -> KnowledgeOutpacesTraining | None:
    """Why nothing that stands in the task's knowledge should be trained in, None where it may be."""
    return None if task.use.context == "forbidden" else _outpaced(task)


def stale_weights(task: Task) -> KnowledgeOutpacesTraining | None:
    """What to know of weights that were trained although the knowledge changes more often, None where it does not."""
    return _outpaced(task) if task.use.context == "forbidden" else None


def _outpaced(task: Task) -> KnowledgeOutpacesTraining | None:
    changes, retrained = task.knowledge_changes, task.retrain_every
    if task.knowledge is None or not outdates_weights(changes, retrained):
        return None
    return KnowledgeOutpacesTraining(str(changes), str(retrained))
