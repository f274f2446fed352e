"""The groups of keys below `preference` and `full`: rungs that train further than `sft`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from lastresort.spec.sections import Count, Rate, auto_or_count, not_empty
from lastresort.spec.values import Number, Reading, Section, below, refuse
from lastresort.spec.wording import describe


def _auto_or_rates(value: Any) -> Any:
    """auto, or numbers as a tuple, each checked like a rate."""
    if value == "auto":
        return value
    if not isinstance(value, list | tuple):
        remedy = "Write auto, or a list such as [1e-5, 5e-5]."
        refuse(f"found {describe(value)}", expected="auto or a list of learning rates", remedy=remedy)
    rates = []
    for index, rate in enumerate(value):
        with below(index):
            rates.append(Number(above=0, at_most=1).check(rate))
    return not_empty(tuple(rates))


def _auto_or_weight(value: Any) -> Any:
    return value if value == "auto" else Number(at_least=0).check(value)


class Preference(Section):
    """Preference training. The objective follows from the data: pairs, labelled answers, a reward, or the model's own samples.

    learning_rates: raced by their dev score after the first epoch. beta: how dear it is to leave the reference, beta of dpo
    and kto, the weight of orpo, the KL weight of grpo. batch_size: pairs, answers or prompts an optimizer step. auto: what is
    usual for the objective. samples: answers to a prompt, where pairs are made of the model's own, and of a group of grpo. An
    adapter that starts from the base has the shape that `sft` says.
    """

    learning_rates: Annotated[
        tuple[float, ...] | Literal["auto"],
        BeforeValidator(_auto_or_rates),
        WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "number"}, "minItems": 1}, {"const": "auto"}]}),
    ] = "auto"
    epochs: Annotated[int | Literal["auto"], BeforeValidator(auto_or_count)] = "auto"
    beta: Annotated[
        float | Literal["auto"],
        BeforeValidator(_auto_or_weight),
        WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"const": "auto"}]}),
    ] = "auto"
    batch_size: Annotated[int | Literal["auto"], BeforeValidator(auto_or_count)] = "auto"
    samples: Annotated[int, Number(at_least=2, whole=True)] = 8

    @model_validator(mode="before")
    @classmethod
    def _no_file(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(info.context, Reading) and isinstance(value, str):
            remedy = "Write preferences: FILE to name a file of pairs or labelled answers."
            refuse(f"found {describe(value)}", expected="settings of the rung preference", remedy=remedy)
        return value


class Full(Section):
    """Training of all weights. learning_rates: raced on dev. replay: share of general rows among all rows. batch_size: rows an
    optimizer step. text_learning_rate, text_epochs: of the pretraining on the task's knowledge that may come before.
    """

    learning_rates: Annotated[tuple[Rate, ...], AfterValidator(not_empty), Field(json_schema_extra={"minItems": 1})] = (
        2e-5,
        1e-4,
    )
    epochs: Count = 3
    replay: Annotated[float, Number(at_least=0, at_most=0.5)] = 0.1
    batch_size: Count = 16
    text_learning_rate: Rate = 5e-5
    text_epochs: Count = 3
