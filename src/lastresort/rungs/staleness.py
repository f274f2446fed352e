"""Whether weights would be out of date: knowledge that changes more often than a model is trained again stays outside of them."""

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
    if task.knowledge is None or not outdates_weights(task.knowledge_changes, task.retrain_every):
        return None
    again = "never" if task.retrain_every == "never" else f"only {task.retrain_every}"
    told = f"the knowledge changes {task.knowledge_changes} and the model would be trained again {again}"
    if task.use.context == "forbidden":
        return f"{told}, so that weights would be out of date: train as often as it changes, or allow it in the prompt"
    return f"{told}, so that weights would be out of date: keep retrieval"
