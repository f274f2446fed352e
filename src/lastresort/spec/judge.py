"""`{judge: …}`: the scorer that asks another model, with its keys.

In the file: the model alone, or a mapping. `against: reference` (the default) compares with the right answer, by `criteria`
where these are given; `rubric` grades without one, on `scale`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, ValidationInfo, model_validator

from lastresort.models.open import absolute_name
from lastresort.models.protocol import is_endpoint
from lastresort.spec.paths import FilePath, ModelName, check_model_name, is_paid, relative_name
from lastresort.spec.sections import Count, Money
from lastresort.spec.values import ReadContext, Section, Text, describe, refuse
from lastresort.types import ReasoningEffort

PRICES = ("prompt_price", "output_price")


def _named(value: Any) -> Any:
    if not isinstance(value, str) or not value.strip():
        remedy = "Write {judge: MODEL}, with a model as under `model`."
        refuse(f"found {describe(value)}", expected="the judge's model", remedy=remedy)
    return value


def _settled(name: str, info: ValidationInfo) -> str:
    return absolute_name(name, info.context.folder) if isinstance(info.context, ReadContext) else name


def _instruction(value: Any) -> Any:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        remedy = "Write a sentence that says what makes an answer good."
        refuse(f"found {describe(value)}", expected="text", remedy=remedy)
    return value


Instruction = Annotated[Text, BeforeValidator(_instruction)]


class JudgeKeys(Section):
    """The keys of a judge. The model's path and `labelled` are absolute; what the file leaves out is None."""

    model: Annotated[ModelName, BeforeValidator(_named), AfterValidator(_settled)] = Field(
        description="the judge's model", examples=["embedded"]
    )
    against: Literal["reference"] | None = Field(None, description="what an answer is compared with")
    criteria: Instruction | None = Field(None, description="what makes an answer better than another")
    rubric: Instruction | None = Field(None, description="what makes an answer good, graded without a reference")
    scale: Literal["1-5", "yes-no"] | None = Field(None, description="the grades of rubric, by default 1-5")
    labelled: FilePath | None = Field(None, description="file of cases that people have judged")
    correct: bool | None = Field(None, description="whether labelled corrects the scores, by default true")
    max_new_tokens: Count | None = Field(None, description="tokens of a verdict, by default 32")
    reasoning_effort: ReasoningEffort | None = Field(None, description="how long an endpoint's model thinks")
    prompt_price: Money | None = Field(None, description="USD per million tokens that the judge reads")
    output_price: Money | None = Field(None, description="USD per million tokens that the judge writes")

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        """A judge compares or grades, not both. Only an endpoint takes a reasoning effort."""
        if self.reasoning_effort is not None and not is_endpoint(self.model):
            refuse(
                "found a reasoning effort of a judge that runs here",
                expected="a judge behind an endpoint",
                remedy="Remove it.",
                key=("reasoning_effort",),
            )
        if self.rubric is None and self.scale is not None:
            refuse(
                "found a scale without a rubric",
                expected="what the grades are for",
                remedy="Add rubric: TEXT, or remove the scale.",
                key=("scale",),
            )
        for name, given, remedy in (
            ("against", self.against, "Remove one of them: with a rubric an answer is graded without the reference."),
            (
                "criteria",
                self.criteria,
                "Write all of it under rubric, or all of it under criteria to compare with the reference.",
            ),
        ):
            if self.rubric is not None and given is not None:
                refuse(f"found {name} together with rubric", expected="one of them", remedy=remedy, key=(name,))
        return self

    @property
    def price_known(self) -> bool:
        """Whether its calls are free, or the file says what they cost."""
        return not is_paid(self.model) or None not in (self.prompt_price, self.output_price)

    def parameters(self) -> dict[str, JsonValue]:
        """What the file sets, as the scorer takes it."""
        return self.model_dump(mode="json", exclude_none=True)

    def written(self, folder: Path) -> JsonValue:
        """As a file in `folder` writes it."""
        keys = self.parameters() | {"model": written_model(self.model, folder)}
        if self.labelled is not None:
            keys["labelled"] = relative_name(self.labelled, folder)
        return keys["model"] if len(keys) == 1 else keys


def _mapped(value: Any, info: ValidationInfo) -> Any:
    """A model alone is the judge; what is wrong with its name is then wrong with `judge`."""
    if not isinstance(info.context, ReadContext):
        return value
    if not isinstance(value, dict):
        return {"model": check_model_name(_named(value), info.context)}
    return value if "model" in value else {**value, "model": None}


WrittenJudge = Annotated[JudgeKeys | None, BeforeValidator(_mapped)]


def written_model(name: str, folder: Path) -> str:
    """A judge's model as a file in `folder` names it."""
    kind, path = ("scripted:", name.removeprefix("scripted:")) if name.startswith("scripted:") else ("", name)
    return kind + relative_name(Path(path), folder) if Path(path).is_absolute() else name
