"""The task in a record, as far as a view holds it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from lastresort.errors import DataError
from lastresort.records.document import Name, OpenShare
from lastresort.records.record import FILE_NAME


class NotedTask(BaseModel):
    """Of a task in the record, what a view holds."""

    task: Name
    goal: Literal["quality", "cost"]
    model: Name
    bar: OpenShare
    confidence: OpenShare


def noted_task(task: dict[str, Any]) -> NotedTask:
    """Raises DataError where the record does not hold a task."""
    try:
        return NotedTask.model_validate(task)
    except ValidationError as error:
        fault = error.errors()[0]
        raise DataError(
            f"found in the task of the record, key {fault['loc'][0]}: {fault['msg']}",
            where=FILE_NAME,
            expected="a task as lastresort resolves it",
            remedy="Restore the record from a copy, or climb again.",
        ) from error
