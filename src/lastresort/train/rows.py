"""Examples -> rows of token ids with their targets, in the rendering that measuring and serving use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lastresort.data.rendering import render_training
from lastresort.engine.forest import Row
from lastresort.errors import DataError
from lastresort.types import Example, Message


def training_rows(
    tokenizer: Any,
    examples: Sequence[Example],
    compose: Callable[[Sequence[Message]], Sequence[Message]],
    *,
    context_tokens: int | None,
    template_kwargs: Mapping[str, Any] | None = None,
    ends: Sequence[bool] | None = None,
) -> list[Row]:
    """Render each example as the composed conversation plus its answer.

    compose: turns of the input -> the conversation the system will show at inference. ends: False for an answer that was
    cut, whose end token must then not be trained. Raises DataError for a row longer than the context.
    """
    rows = []
    for index, example in enumerate(examples):
        where = f"{example.source}, row {example.row}" if example.source else example.id
        conversation = [*compose(example.input), Message("assistant", example.output)]
        rendered = render_training(tokenizer, conversation, template_kwargs=template_kwargs, where=where)
        if context_tokens is not None and len(rendered.ids) > context_tokens:
            raise DataError(
                f"{len(rendered.ids)} tokens",
                where=where,
                expected=f"at most the model's context of {context_tokens}",
                remedy="Shorten or remove the row, or take a model with a longer context.",
            )
        targets = list(rendered.targets)
        if ends is not None and not ends[index]:
            targets[_last(targets)] = False
        rows.append(Row(tuple(rendered.ids), tuple(targets)))
    return rows


def _last(targets: Sequence[bool]) -> int:
    return max(i for i, trained in enumerate(targets) if trained)
