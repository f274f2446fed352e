"""Whether weights would be out of date: knowledge that changes more often than a model is trained again stays outside of them.

Where it may not travel in the prompt there is no other place for it: then weights are not refused, and the decision warns.
"""

from __future__ import annotations

from typing import get_args

from lastresort.spec.task import Pace, Task

PACES: tuple[Pace, ...] = get_args(Pace)  # from never to daily


def outdates_weights(changes: Pace | None, retrained: Pace | None) -> bool:
    """Whether what changes so often is ahead of a model that is trained so often; False where either is not known."""
    if changes is None or retrained is None:
        return False
    return PACES.index(changes) > PACES.index(retrained)


def stale_reason(task: Task) -> str | None:
    """Why nothing that stands in the task's knowledge should be trained in, None where it may be."""
    if not _outdated(task) or task.use.context == "forbidden":
        return None
    return f"{_told(task)}, so its weights would be out of date: use retrieval"


def stale_warning(task: Task) -> str | None:
    """What to know of weights that were trained although the knowledge changes more often, None where it does not."""
    if not _outdated(task) or task.use.context != "forbidden":
        return None
    told = _told(task)
    return (
        f"{told[0].upper()}{told[1:]}, and it may not travel in the prompt, so only weights can hold it: they will be out "
        "of date until they are retrained. Retrain as often as it changes, or allow it in the prompt (`use.context`)."
    )


def _outdated(task: Task) -> bool:
    return task.knowledge is not None and outdates_weights(task.knowledge_changes, task.retrain_every)


def _told(task: Task) -> str:
    again = "never" if task.retrain_every == "never" else f"only {task.retrain_every}"
    return f"the knowledge changes {task.knowledge_changes} and the model would be retrained {again}"
