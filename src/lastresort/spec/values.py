"""What every key of a task file is made of: sections, text, numbers, and how a value is refused.

A value is refused by a PydanticCustomError that carries found, expected and remedy; `lastresort.spec.explain` makes the
TaskError of it. While a file is read the validation context is a `ReadContext`: then its short forms and its paths are
resolved; without one a section takes its plain fields. Errors name values, keys and near misses alike.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.annotated_handlers import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from lastresort.data.chat_template import RESERVED
from lastresort.errors import InputError
from lastresort.types import JsonObject

Key = tuple[str | int, ...]
Word = TypeVar("Word", bound=str)


def dotted(key: Key) -> str:
    """("sft", "learning_rates", 0) -> `sft.learning_rates[0]`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def describe(value: Any) -> str:
    """A value as an error names it: kind first, then the value, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{str(value).lower()} (a truth value)"
    if isinstance(value, int | float):
        return f"a number ({value!r})"
    if isinstance(value, str):
        return f"text ({shortened(value)})" if value.strip() else "empty text"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return f"a mapping with {listed(value)}" if value else "an empty mapping"
    return f"a value of type {type(value).__name__}"


def shortened(text: str, longest: int = 60) -> str:
    """Text in quotes on one line, cut after `longest` characters."""
    return json.dumps(text if len(text) <= longest else text[: longest - 1] + "…", ensure_ascii=False)


def listed(names: Iterable[object], joint: str = "and", most: int = 12) -> str:
    """`a, b and c`; the rest beyond `most` is left out."""
    words = [str(name) for name in names]
    if len(words) > most:
        words = [*words[: most - 1], "more"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {joint} {words[-1]}" if words else "nothing"


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The known name that `name` was probably meant to be, None where none is as near as `likeness` (0 to 1)."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    begun = [known_name for lower, known_name in by_lower.items() if len(name) > 2 and lower.startswith(name.lower())]
    if len(begun) == 1:
        return begun[0]
    plain = name.lower().replace("-", "_")
    # One or two letters are like too many words.
    close = get_close_matches(plain, [one for one in by_lower if len(one) > 2 or one == plain], n=1, cutoff=likeness)
    return by_lower[close[0]] if close else None


def nearest_column(name: str, columns: Iterable[str]) -> str | None:
    """The column that `name` was probably meant to be. A wrong one would be read as another side of the examples, so it takes more
    likeness than a word of a list. columns: without those that are named as another side.
    """
    return nearest(name, columns, likeness=0.75)


def one_of(option: str, found: str | None, names: tuple[Word, ...], remedies: Mapping[str, str] | None = None) -> Word:
    """The word as one of the names that an option takes. Raises InputError where it is missing, or none of them. remedies: what to
    do, by a word that people try.
    """
    if found is None:
        raise InputError(f"{option} is missing", expected=f"{option} {'|'.join(names)}", remedy="Name one of them.")
    for name in names:
        if found == name:
            return name
    close = nearest(found, names)
    remedy = f'Did you mean "{close}"?' if close else "Name one of them."
    remedy = (remedies or {}).get(found.lower(), remedy)
    raise InputError(f'found "{found}"', where=option, expected=", ".join(names), remedy=remedy)


def nearest_file(name: str, names: Iterable[str]) -> str | None:
    """The file that `name` was probably meant to be: by its stem, so that a common ending does not count."""
    by_stem: dict[str, str] = {}
    for candidate in sorted(names, key=lambda other: PurePath(other).suffix == PurePath(name).suffix):
        by_stem[PurePath(candidate).stem] = candidate
    close = nearest(PurePath(name).stem, by_stem, likeness=0.75)
    return by_stem[close] if close else None


REFUSED = "refused"
# What other trainers call the keys of a training file, and those of a rung that trains.
ELSEWHERE = {
    "base_model": "model",
    "model_name_or_path": "model",
    "model_id": "model",
    "datasets": "data",
    "dataset": "data",
    "train_file": "data",
    "loss_type": "objective",
    "rl": "objective",
    "lr": "learning_rate",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "lr_scheduler": "schedule",
    "lr_scheduler_type": "schedule",
    "warmup_ratio": "warmup",
    "warmup_steps": "warmup",
    "optim": "optimizer",
    "output_dir": "output",
    "report_to": "track",
    "log_with": "track",
    "max_length": "max_tokens",
    "max_seq_length": "max_tokens",
    "sequence_len": "max_tokens",
    "gradient_checkpointing": "checkpointing",
    "peft": "adapter",
    "beta": "objective: {dpo: {beta: …}}",
    "rank": "adapter: {r: …}",
    "lora_r": "adapter: {r: …}",
    "lora_rank": "adapter: {r: …}",
    "lora_alpha": "adapter: {alpha: …}",
    "lora_dropout": "adapter: {dropout: …}",
    "lora_target_modules": "adapter: {target: …}",
    "load_in_4bit": "adapter: qlora",
    "val_set_size": "data: {train: …, eval: …}",
    "micro_batch_size": "max_pass_tokens",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "batch_size",
    "bf16": "precision: bfloat16",
    "reward_funcs": "reward",
    "num_generations": "group_size",
    "max_completion_length": "max_new_tokens",
    "reward_weights": "reward: [{…, weight: …}]",
    "stop_strings": "stop",
    "vllm_server_base_url": "server",
}


@dataclass(frozen=True, slots=True)
class ReadContext:
    """The validation context while a file is read. folder: base of its relative paths, absolute. file: what it is."""

    folder: Path
    file: str = "task file"


class Section(BaseModel):
    """A frozen group of keys; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.fields_of(value, info.context) if isinstance(info.context, ReadContext) else value

    @classmethod
    def fields_of(cls, value: Any, reading: ReadContext) -> Any:
        """The fields of what a file says, which may be a short form."""
        return value


def refuse(found: str, *, expected: str = "", remedy: str = "", key: Key = ()) -> NoReturn:
    """Refuse the value under validation. key: the part of it that is wrong, below the key being validated."""
    detail = {"found": found, "expected": expected, "remedy": remedy, "key": key}
    raise PydanticCustomError(REFUSED, "refused", detail)


@contextmanager
def below(*parts: str | int) -> Iterator[None]:
    """What is refused inside is refused at `parts` below the key being validated."""
    try:
        yield
    except PydanticCustomError as error:
        detail = dict(error.context or {})
        refuse(**{**detail, "key": (*parts, *detail["key"])})


def refuse_unknown_keys(value: Mapping[str, object], known: tuple[str, ...]) -> None:
    """Refuse the first key of `value` that is not known."""
    for name in value:
        if name not in known:
            refuse(**unknown_name("key", name, known), key=(name,))


def unknown_name(kind: str, name: str, known: tuple[str, ...]) -> dict[str, str]:
    """How an unknown name is refused: found, expected, remedy. kind: what it names, such as "key"."""
    meant = re.findall(r"\w+", ELSEWHERE[name])[-1] if name in ELSEWHERE else name
    close = known[0] if len(known) == 1 else nearest(meant, known) or nearest(name, known)
    expected = close if close else listed(known, "or", most=len(known))
    remedy = f'Write "{close}".' if close else "Remove it or correct its name."
    return {"found": f"found the unknown {kind} {shortened(name)}", "expected": expected, "remedy": remedy}


def to_number(value: Any, expected: str = "a number") -> float | int:
    """A finite number, also from text such as "5e-5", which YAML does not read as a number."""
    if isinstance(value, str):
        try:
            value = int(value) if re.fullmatch(r"[-+]?[0-9]{1,18}", value.strip()) else float(value)
        except ValueError:
            refuse(f"found {describe(value)}", expected=expected, remedy=_number_hint(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        refuse(f"found {describe(value)}", expected=expected, remedy=f"Write {expected}.")
    return value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def _number_hint(text: str) -> str:
    percent = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", text)
    if percent:
        return f"Write {float(percent[1]) / 100:g}."
    comma = re.fullmatch(r"\s*([-+]?[0-9]+),([0-9]+)\s*", text)
    if comma:
        return f"Write {comma[1]}.{comma[2]}."
    return "Write a number without a unit."


@dataclass(frozen=True, slots=True)
class NumberBounds:
    """Metadata of a numeric field: its bounds, and whether it is whole. Bounds are excluded unless named `at_`. such_as: a value
    that shows its size, for a number that is no share though its bounds are those of one.
    """

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    whole: bool = False
    such_as: str = ""

    def expected(self) -> str:
        noun = "a whole number" if self.whole else "a number"
        if self.above is not None and self.below is not None:
            return f"{noun} strictly between {self.above:g} and {self.below:g}"
        if self.at_least is not None and self.at_most is not None:
            return f"{noun} from {self.at_least:g} to {self.at_most:g}"
        lower = f"above {self.above:g}" if self.above is not None else ""
        lower = f"of at least {self.at_least:g}" if self.at_least is not None else lower
        upper = f"at most {self.at_most:g}" if self.at_most is not None else ""
        bounds = " and ".join(part for part in (lower, upper) if part)
        return f"{noun} {bounds}".strip()

    def holds(self, value: float) -> bool:
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def check(self, value: Any, word: str = "") -> float | int:
        """The number. word: what else the key takes, for the error."""
        expected = f"{word} or {self.expected()}" if word else self.expected()
        number = to_number(value, expected)
        if self.whole and not float(number).is_integer():
            refuse(f"found {describe(value)}", expected=expected, remedy=f"Write {word or 'a whole number'}.")
        if not self.holds(number):
            refuse(f"found {describe(value)}", expected=expected, remedy=self._remedy(number, word or expected))
        return int(number) if self.whole else float(number)

    def _remedy(self, number: float, usual: str) -> str:
        """Whole per cents are meant from 10 on; 2 is nobody's 0.02."""
        if self.such_as:
            return f"Write {usual}, such as {self.such_as}."
        if (self.above, self.below) != (0, 1) and (not self._is_share() or not 1 < number <= 100):
            return f"Write {usual}."
        if 10 <= number <= 100 and self.holds(number / 100):
            return f"Write {number / 100:g}."
        return "Write a share, such as 0.8 for 80%." if self.holds(0.8) else f"Write {usual}."

    def _is_share(self) -> bool:
        upper = self.below if self.below is not None else self.at_most
        return upper is not None and upper <= 1

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), **self.as_json_schema()}

    def as_json_schema(self) -> JsonSchemaValue:
        bounds = {
            "exclusiveMinimum": self.above,
            "minimum": self.at_least,
            "exclusiveMaximum": self.below,
            "maximum": self.at_most,
        }
        return {name: bound for name, bound in bounds.items() if bound is not None}


@dataclass(frozen=True, slots=True)
class WordOrNumber:
    """Metadata of a field that takes a number within its bounds, or one word, such as auto."""

    word: str
    bounds: NumberBounds

    def check(self, value: Any) -> Any:
        return value if value == self.word else self.bounds.check(value, self.word)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        kind = "integer" if self.bounds.whole else "number"
        return {"anyOf": [{"type": kind, **self.bounds.as_json_schema()}, {"const": self.word}]}


def _share_or_count(
    value: Any, expected: str = "a share strictly between 0 and 1 or a count of at least 1"
) -> float | int:
    number = to_number(value, expected)
    if isinstance(number, int) and number >= 1:
        return number
    if 0 < number < 1:
        return float(number)
    remedy = f"Write {int(number)} for a count." if number > 1 and float(number).is_integer() else f"Write {expected}."
    refuse(f"found {describe(value)}", expected=expected, remedy=remedy)


def _any_share_or_count(value: Any) -> float | int:
    expected = "0, a share below 1 or a count of at least 1"
    return 0.0 if to_number(value, expected) == 0 else _share_or_count(value, expected)


def _json_able(value: Any) -> Any:
    """The value, if JSON can hold it."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        refuse("found a value that JSON cannot hold", expected="text, numbers, lists and mappings", remedy="Change it.")
    return value


def _template_arguments(value: JsonObject) -> JsonObject:
    for name in value:
        if name in RESERVED:
            expected = "variables of the chat template, such as enable_thinking"
            found = f'found "{name}", which rendering itself decides'
            refuse(found, expected=expected, remedy="Leave it out.", key=(name,))
    return value


Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
TemplateArguments = Annotated[dict[str, Any], AfterValidator(_json_able), AfterValidator(_template_arguments)]
Noted = Annotated[dict[str, Any], AfterValidator(_json_able)]
ShareOrCount = Annotated[
    float | int,
    BeforeValidator(_share_or_count),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, {"type": "integer", "minimum": 1}]}
    ),
]
AnyShareOrCount = Annotated[
    float | int,
    BeforeValidator(_any_share_or_count),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0, "exclusiveMaximum": 1}, {"type": "integer", "minimum": 1}]}
    ),
]
