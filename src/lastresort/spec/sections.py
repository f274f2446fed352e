"""The sections of a task file with their keys and defaults, and the suites and margins of the gate (`general`, `keep`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic.json_schema import JsonSchemaValue

from lastresort.knowledge.chunks import LANGUAGES, SMALLEST_TOKENS
from lastresort.spec.paths import FilePath, ModelName, existing_path, relative_name
from lastresort.spec.values import (
    NumberBounds,
    ReadContext,
    Section,
    ShareOrCount,
    Text,
    WordOrNumber,
    below,
    describe,
    refuse,
    refuse_unknown_keys,
    unknown_name,
)
from lastresort.types import ReasoningEffort, ReplayLoss, ReplayPrompts

PREFIX = "lm_eval:"  # of a task of lm-eval
Margins = dict[str, float | Literal["skip"]]


Money = Annotated[float, NumberBounds(at_least=0)]
Limit = Annotated[float, NumberBounds(above=0)]
Rate = Annotated[float, NumberBounds(above=0, at_most=1, such_as="1e-4")]
Ratio = Annotated[float, NumberBounds(at_least=1)]
Count = Annotated[int, NumberBounds(at_least=1, whole=True)]


def not_empty(value: tuple[float, ...]) -> tuple[float, ...]:
    if not value:
        refuse("found an empty list", expected="at least one value", remedy="Leave it out for the default.")
    return value


Rates = Annotated[tuple[Rate, ...], AfterValidator(not_empty), Field(json_schema_extra={"minItems": 1})]
Counts = Annotated[tuple[Count, ...], AfterValidator(not_empty), Field(json_schema_extra={"minItems": 1})]
Replay = Annotated[float, NumberBounds(at_least=0, at_most=0.5)]
AutoOrCount = Annotated[int | Literal["auto"], WordOrNumber("auto", NumberBounds(at_least=1, whole=True))]


@dataclass(frozen=True, slots=True)
class SuiteFacts:
    """A suite that always runs. path: `module:function`, which plans it from what the gate knows (`gate.plans.SuiteInputs`).
    margin: the loss that the gate accepts unless `keep` says otherwise. of_task: whether its questions can hold something of the
    task, so that answers to them stay in the workspace; a base's answers to other questions are kept for all projects.

    A new one is a builder, as those of `gate.built_in`, and a row here. Where it shows a failure mode: `records.gate.MODES` names
    that, `report.failure_modes` holds its texts. Where it holds inputs of the task: `gate.workers` sends it without them.
    """

    path: str
    margin: float
    of_task: bool = True


SUITES: dict[str, SuiteFacts] = {
    "general": SuiteFacts("lastresort.gate.built_in:general", 0.03, of_task=False),
    "sycophancy": SuiteFacts("lastresort.gate.built_in:sycophancy", 0.05, of_task=False),
    "format_leak": SuiteFacts("lastresort.gate.built_in:format_leak", 0.02),
}


def usual_margins() -> Margins:
    return {name: suite.margin for name, suite in SUITES.items()}


def read_suites(value: tuple[str, ...]) -> tuple[str, ...]:
    """Further suites by name, which lm-eval runs; a built-in or repeated one is refused."""
    for index, name in enumerate(value):
        if name in SUITES:
            remedy = f"Remove it; its margin is set by keep.{name}."
            refuse(f'found "{name}", which always runs', expected="a further suite", remedy=remedy, key=(index,))
        if not name.removeprefix(PREFIX) or not name.startswith(PREFIX):
            expected = f'"{PREFIX}" and the name or path of a task of lm-eval'
            meant = name.rpartition(":")[2].strip() or "mmlu"  # of who wrote "mmlu", "lm-eval:mmlu" or nothing
            refuse(f'found "{name}"', expected=expected, remedy=f"Write {PREFIX}{meant}.", key=(index,))
        if name in value[:index]:
            refuse(f'found "{name}" twice', expected="each suite once", remedy="Remove one.", key=(index,))
    return value


def read_margins(value: Any) -> Margins:
    """The margins given, over the defaults."""
    if not isinstance(value, dict):
        remedy = "Write for instance keep: {general: 0.03}."
        refuse(f"found {describe(value)}", expected="a mapping from suites to margins", remedy=remedy)
    given: Margins = {}
    for name, margin in value.items():
        with below(name):
            given[name] = "skip" if margin == "skip" else NumberBounds(above=0, below=1).check(margin)
    return {**usual_margins(), **given}


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
            rates.append(NumberBounds(above=0, at_most=1).check(rate))
    return not_empty(tuple(rates))


def _switch(value: Any) -> Any:
    """YAML reads `on` and `off` as truth values."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class PromptingSettings(Section):
    """optimise: whether GEPA writes one more prompt; auto does so only where the hand-made ones suggest that it can help. reflect:
    the model that writes it, None for the task's own. calls: of both models, at most. usd: for these calls, None is no limit.
    Prices of `reflect` in USD per million tokens. reasoning_effort: how long a reflecting endpoint's model thinks, None leaves that
    to the model.
    """

    optimise: Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)] = "auto"
    reflect: ModelName | None = None
    calls: Annotated[int, NumberBounds(at_least=50, whole=True)] = 300
    usd: Limit | None = None
    prompt_price: Money | None = None
    output_price: Money | None = None
    reasoning_effort: ReasoningEffort | None = None


class PreferenceSettings(Section):
    """Preference training. The objective follows from the data: pairs, labelled answers, a reward, or the model's own samples.

    learning_rates: raced by their dev score after the first epoch. beta: the penalty for leaving the reference, beta of dpo
    and kto, the weight of orpo, the KL weight of grpo. batch_size: pairs, answers or prompts an optimizer step. auto: what is
    usual for the objective. samples: answers to a prompt, where pairs are made of the model's own, and of a group of grpo. An
    adapter that starts from the base has the shape that `sft` says.

    replay, replay_loss, replay_prompts: as in `sft`. replay_weight: how many times the mean over a row of replay counts, next to a
    pair or a labelled answer.
    """

    learning_rates: Annotated[
        tuple[float, ...] | Literal["auto"],
        BeforeValidator(_auto_or_rates),
        WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "number"}, "minItems": 1}, {"const": "auto"}]}),
    ] = "auto"
    epochs: AutoOrCount = "auto"
    beta: Annotated[float | Literal["auto"], WordOrNumber("auto", NumberBounds(at_least=0))] = "auto"
    batch_size: AutoOrCount = "auto"
    samples: Annotated[int, NumberBounds(at_least=2, whole=True)] = 8
    replay: Replay = 0.0
    replay_loss: ReplayLoss = "likelihood"
    replay_weight: Limit = 1.0
    replay_prompts: ReplayPrompts = "everyday"

    @classmethod
    def fields_of(cls, value: Any, reading: ReadContext) -> Any:
        if isinstance(value, str):
            remedy = "Write preferences: FILE to name a file of pairs or labelled answers."
            refuse(f"found {describe(value)}", expected="settings of the rung preference", remedy=remedy)
        return value


class FullSettings(Section):
    """Training of all weights. learning_rates: raced on dev. replay, replay_loss, replay_weight, replay_prompts: as in `sft`.

    batch_size: rows an optimizer step. text_learning_rate, text_epochs: of the pretraining on the task's knowledge that may come
    before.
    """

    learning_rates: Rates = (2e-5, 1e-4)
    epochs: Count = 3
    replay: Replay = 0.1
    replay_loss: ReplayLoss = "likelihood"
    replay_weight: Limit = 1.0
    replay_prompts: ReplayPrompts = "everyday"
    batch_size: Count = 16
    text_learning_rate: Rate = 5e-5
    text_epochs: Count = 3


def _language(value: str) -> str:
    if value not in LANGUAGES:
        refuse(**unknown_name("language", value, tuple(LANGUAGES)), key=())
    return value


def _trainable(value: Any) -> Any:
    if isinstance(value, str) and value.strip().startswith(("openai:", "http:", "https:")):
        remedy = 'Write "same", embedded, a hub id or a folder.'
        refuse(f"found {describe(value)}", expected="a model that can be trained here", remedy=remedy)
    return value


class TuneSettings(Section):
    """model: which model may be trained, `same` as the task's by default. method: auto takes what fits the card. processes: that
    train together; auto takes all CUDA cards where one is not enough.
    """

    model: Annotated[ModelName, BeforeValidator(_trainable)] = "same"
    method: Literal["auto", "lora", "qlora", "full"] = "auto"
    processes: AutoOrCount = 1


_FILES = ("train", "dev", "test", "synthetic")


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [] if value is None else [value]


class Sources(Section):
    """Where the labelled examples are, absolute: `all` in one file that is split, or train with or without dev and test.

    In the file: one path, or {train: …, dev: …, test: …, synthetic: …}. synthetic: one file or several of rows that join train once
    the others are divided, so that none of them reaches dev or test.
    """

    all: FilePath | None = None
    train: FilePath | None = None
    dev: FilePath | None = None
    test: FilePath | None = None
    synthetic: Annotated[tuple[FilePath, ...], BeforeValidator(_as_list)] = ()

    @classmethod
    def fields_of(cls, value: Any, reading: ReadContext) -> Any:
        if isinstance(value, str):
            return {"all": existing_path(value, reading)}
        if not isinstance(value, dict):
            remedy = "Write examples: FILE, or examples: {train: FILE, test: FILE}."
            refuse(f"found {describe(value)}", expected="a file, or a mapping with train", remedy=remedy)
        refuse_unknown_keys(value, _FILES)
        if value.get("train") is None:
            remedy = "Add train: FILE, or name one file to be split."
            refuse("found nothing", expected="the file of training examples", remedy=remedy, key=("train",))
        return value

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if (self.all is None) == (self.train is None):
            refuse("found neither or both of all and train", expected="one of them", remedy="Give one of them.")
        seen: dict[Path, str] = {}
        for name, path in self._named():
            if path in seen:
                found = f'found the file of {seen[path]} again ("{path.name}")'
                refuse(found, expected="a file of its own", remedy="Name another, or leave it out.", key=(name,))
            seen[path] = name
        return self

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for _, path in self._named())

    def with_synthetic(self, path: Path) -> Sources:
        """With this file of synthetic rows as well, once: a file that is named already may be named here by another path."""
        known = any(one.resolve() == path.resolve() for one in self.synthetic)
        synthetic = self.synthetic if known else (*self.synthetic, path.parent.resolve() / path.name)
        return self.model_copy(update={"all": None, "train": self.all or self.train, "synthetic": synthetic})

    def written(self, reading: ReadContext) -> str | dict[str, str | list[str]]:
        """As the task file writes it."""
        if self.all is not None:
            return relative_name(self.all, reading.folder)
        named: dict[str, list[str]] = {}
        for name, path in self._named():
            named.setdefault(name, []).append(relative_name(path, reading.folder))
        return {name: files if len(files) > 1 else files[0] for name, files in named.items()}

    def _named(self) -> list[tuple[str, Path]]:
        parts = (("all", self.all), ("train", self.train), ("dev", self.dev), ("test", self.test))
        return [(name, path) for name, path in parts if path is not None] + [
            ("synthetic", path) for path in self.synthetic
        ]

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> JsonSchemaValue:
        mapping = {
            "type": "object",
            "properties": {name: _ONE_OR_MORE if name == "synthetic" else {"type": "string"} for name in _FILES},
            "required": ["train"],
            "additionalProperties": False,
        }
        return {"anyOf": [{"type": "string"}, mapping]}


_ONE_OR_MORE = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}


def _one_or_more(value: Any) -> Any:
    """A column, or a list of columns, as a tuple."""
    columns = [value] if isinstance(value, str) else value
    if not isinstance(columns, list | tuple) or not columns or not all(isinstance(one, str) for one in columns):
        refuse(f"found {describe(value)}", expected="a column, or a list of columns", remedy="Write [column, column].")
    return tuple(columns)


ColumnNames = Annotated[
    tuple[Text, ...],
    BeforeValidator(_one_or_more),
    WithJsonSchema(_ONE_OR_MORE),
]


class Columns(Section):
    """What the columns of the examples are called, where it is not input and output. input: one column, or several, which are
    then shown as one JSON object.
    """

    input: ColumnNames
    output: Text
    id: Text | None = None
    passages: Text | None = None

    @model_validator(mode="after")
    def _answer_hidden(self) -> Self:
        if self.output in self.input:
            refuse(
                f'found "{self.output}" for both',
                expected="a column for the answer that the input does not show",
                remedy="Name another column.",
                key=("output",),
            )
        return self

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """Our key -> the file's columns."""
        others = {"output": self.output, "id": self.id, "passages": self.passages}
        return {"input": self.input, **{key: (name,) for key, name in others.items() if name is not None}}


class SplitSettings(Section):
    """How examples are divided. dev, test: a share (below 1) or a count (from 1). group_by: a key of the rows; rows that
    share its value stay together.
    """

    dev: ShareOrCount = 0.2
    test: ShareOrCount = 0.3
    group_by: Text | None = None
    seed: Annotated[int, NumberBounds(at_least=0, at_most=2**32 - 1, whole=True)] = 0


class ExpectedUse(Section):
    """What production looks like. Prices in USD per million tokens of `model`, None where they are not given. hourly_price: USD
    for an hour of the machine that trains and answers local models.

    context: forbidden means that the knowledge may not go into the prompt.
    """

    calls_per_month: Annotated[int, NumberBounds(at_least=0, whole=True)] | None = None
    prompt_price: Money | None = None
    output_price: Money | None = None
    hourly_price: Money | None = None
    context: Literal["allowed", "forbidden"] = "allowed"


Wrong = Literal["format", "style", "preferences", "knowledge", "capability", "cost", "latency", "nothing"]


class KnownFacts(Section):
    """What a person knows of the task and no other key states, for `lastresort advise` alone: nothing of a climb depends on it.

    Each is the answer to its question of this name. What another key states counts in its place. wrong: [nothing] where nothing is.
    """

    wrong: tuple[Wrong, ...] | None = None
    best_prompt_score: Annotated[float, NumberBounds(at_least=0, at_most=1)] | None = None
    knowledge: bool | None = None
    verbatim: bool | None = None
    restricted: bool | None = None
    preferences: Literal["pairs", "labels", "none"] | None = None
    reward: bool | None = None
    breadth: Literal["narrow", "broad"] | None = None
    general_use: bool | None = None
    can_label: bool | None = None
    teacher: bool | None = None
    private: bool | None = None
    parameters: Count | None = None
    cards: Annotated[int, NumberBounds(at_least=0, whole=True)] | None = None
    card_gb: Limit | None = None
    web_ui: bool | None = None


class Limits(Section):
    """What may be spent: None is no limit. gpu: a card of the catalogue, or auto for the cheapest that fits."""

    usd: Limit | None = None
    hours: Limit | None = None
    gpu: Text = "auto"


class RetrievalSettings(Section):
    """Looking things up. k: how many passages are shown, each tried. embedder, reranker: `embedded` or `hashing` (an embedder
    without a model), a folder or a hub id. chunk_tokens, overlap_tokens: of the chunks, in the embedder's tokens. language: of
    the documents, for the stems of the full-text index.
    """

    k: Counts = (1, 3, 5)
    embedder: Text = "embedded"
    reranker: Text | None = None
    chunk_tokens: Annotated[int, NumberBounds(at_least=SMALLEST_TOKENS, whole=True)] = 250
    overlap_tokens: Annotated[int, NumberBounds(at_least=0, whole=True)] = 30
    language: Annotated[Text, AfterValidator(_language)] = "English"

    @model_validator(mode="after")
    def _overlap_within(self) -> Self:
        if self.overlap_tokens > self.chunk_tokens // 2:
            refuse(
                f"found an overlap of {self.overlap_tokens} tokens in chunks of {self.chunk_tokens}",
                expected=f"at most {self.chunk_tokens // 2}",
                remedy="Lower it, or choose larger chunks.",
                key=("overlap_tokens",),
            )
        return self


class SftSettings(Section):
    """Supervised fine-tuning. learning_rates: raced on dev, without unit. replay: share of general rows among all rows.
    replay_loss: likelihood trains them on the base's own answers, kl holds them to the base's own distribution at each token of
    these. replay_weight: how many times a token of theirs counts. replay_prompts: what the base answers, everyday requests or a
    wider mix. r: LoRA rank. alpha: LoRA scale, None is 2r. batch_size: rows an
    optimizer step. loraplus_lr_ratio: how many times the learning rate the B of an adapter learns at (LoRA+).

    select: best takes the checkpoint with the highest dev score; mildest keeps more of them, and takes the one that moved least
    from the base among those whose dev score predicts that the bar is met.
    """

    learning_rates: Rates = (1e-4, 3e-4, 1e-3)
    epochs: Count = 3
    r: Count = 16
    alpha: Count | None = None
    target: Literal["attention", "all-linear"] = "attention"
    loraplus_lr_ratio: Ratio = 1.0
    replay: Replay = 0.1
    replay_loss: ReplayLoss = "likelihood"
    replay_weight: Limit = 1.0
    replay_prompts: ReplayPrompts = "everyday"
    batch_size: Count = 16
    select: Literal["best", "mildest"] = "best"


class Decode(Section):
    """max_new_tokens: auto is twice what 99% of the training answers need. temperature 0 is greedy. reasoning_effort: how long an
    endpoint's model thinks before it answers, beyond max_new_tokens; None leaves that to the model.
    """

    max_new_tokens: AutoOrCount = "auto"
    temperature: Annotated[float, NumberBounds(at_least=0, at_most=2)] = 0.0
    reasoning_effort: ReasoningEffort | None = None
