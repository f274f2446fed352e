"""The training file of `lastresort train`: parsed, checked, resolved. The same machinery as the task file's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, model_validator

from lastresort.errors import TaskError
from lastresort.objectives import OBJECTIVES
from lastresort.spec.document import FileKind, YamlDocument, read_document, with_overrides
from lastresort.spec.explain import task_error
from lastresort.spec.judge import PRICES
from lastresort.spec.paths import FileOrFolder, ModelName, relative_name
from lastresort.spec.score import Reward
from lastresort.spec.sections import Columns, Count, Rate, Ratio
from lastresort.spec.training_sections import AdapterKeys, DataKeys, LimitKeys, ObjectiveKeys, ServerKeys, StopStrings
from lastresort.spec.values import (
    ELSEWHERE,
    AnyShareOrCount,
    Noted,
    NumberBounds,
    ReadContext,
    Section,
    TemplateArguments,
    Text,
    describe,
    listed,
    refuse,
    unknown_name,
)
from lastresort.train.settings import (
    DataFiles,
    Groups,
    GroupSettings,
    LongerRows,
    OnError,
    Optimizer,
    Schedule,
    TrainedTurns,
    TrainingFile,
    TrainSettings,
    usual_tries,
)
from lastresort.types import JsonObject

S = TypeVar("S", TrainSettings, TrainingFile, DataFiles, GroupSettings)
TRAINING = FileKind("training file", "a training", "Write at least data, such as data: rows.jsonl.", "data: rows.jsonl")
TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")
USUAL, SAMPLING = TrainSettings(learning_rate=0.0), GroupSettings()  # the defaults of the file's keys, and more
GROUP_KEYS = ("reward", "on_error", "limits", *(one.name for one in fields(GroupSettings)), "server")


def _trainable(value: Any) -> Any:
    if isinstance(value, str) and value.strip().startswith(("openai:", "http:", "https:", "scripted:")):
        remedy = "Write embedded, a hub id, a folder or a .gguf file."
        refuse(f"found {describe(value)}", expected="a model that can be trained here", remedy=remedy)
    return value


def _output(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(info.context, ReadContext) or value is None:
        return value
    if not isinstance(value, str) or not value.strip():
        refuse(f"found {describe(value)}", expected="the name of a folder", remedy="Write output: out/.")
    return Path(os.path.abspath(info.context.folder / Path(value.strip()).expanduser()))  # noqa: PTH100 - links stay


def _tracked(value: Any) -> Any:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple):
        refuse(f"found {describe(value)}", expected=f"some of {listed(TRACKERS)}", remedy="Write [tensorboard].")
    for index, name in enumerate(names):
        if not isinstance(name, str):
            remedy = "Write names such as [tensorboard]."
            refuse(f"found {describe(name)}", expected=listed(TRACKERS, "or"), remedy=remedy, key=(index,))
        if name not in TRACKERS:
            refuse(**unknown_name("tracker", name, TRACKERS), key=(index,))
        if name in names[:index]:
            refuse(f"found {name} twice", expected="it once", remedy="Remove one.", key=(index,))
    return tuple(names)


class TrainingKeys(Section):
    """The keys of a training file."""

    model: Annotated[ModelName, BeforeValidator(_trainable)] = Field(
        "embedded", description="embedded, a hub id, a folder or a .gguf file"
    )
    start_from: FileOrFolder | None = Field(None, description="an adapter to go on from, which is also the reference")
    objective: ObjectiveKeys = Field(default_factory=ObjectiveKeys, description="the name of an objective")
    data: DataKeys = Field(description="what to train on", examples=["rows.jsonl"])
    columns: Columns | None = Field(None, description="what the rows call input and output, if not that")
    adapter: AdapterKeys = Field(default_factory=AdapterKeys, description="what is trained on top of the base, or full")
    learning_rate: Rate | None = Field(None, description="the peak")
    epochs: Count = Field(USUAL.epochs, description="passes over the data")
    batch_size: Count = Field(USUAL.batch_size, description="items an optimizer step")
    max_steps: Count | None = Field(None, description="optimizer steps, where fewer than the epochs have")
    schedule: Schedule = Field(USUAL.schedule, description="of the learning rate")
    warmup: AnyShareOrCount = Field(USUAL.warmup, description="a share of all steps, or a count of them")
    weight_decay: Annotated[float, NumberBounds(at_least=0, below=1)] = Field(
        USUAL.weight_decay, description="of AdamW"
    )
    max_grad_norm: Annotated[float, NumberBounds(above=0)] = Field(
        USUAL.max_grad_norm, description="gradients are clipped to this norm"
    )
    loraplus_lr_ratio: Ratio = Field(USUAL.loraplus_lr_ratio, description="how many times the rate B learns at (LoRA+)")
    optimizer: Optimizer = Field(USUAL.optimizer, description="the optimizer")
    max_pass_tokens: Count = Field(USUAL.max_pass_tokens, description="computed tokens in one forward and backward")
    checkpointing: bool = Field(USUAL.checkpointing, description="true or false: recompute activations to save memory")
    checkpoint_every_s: Annotated[float, NumberBounds(at_least=0)] = Field(30.0, description="seconds")
    seed: Annotated[int, NumberBounds(at_least=0, at_most=2**32 - 1, whole=True)] = Field(
        USUAL.seed, description="a whole number"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="of the base's weights")
    max_tokens: Annotated[int, NumberBounds(at_least=2, whole=True)] | None = Field(None, description="the longest row")
    longer_rows: LongerRows = Field("refuse", description="what to do with longer rows")
    trained_turns: TrainedTurns = Field("all", description="which turns of the assistant are trained")
    pairs_as_labels: bool = Field(False, description="true or false: train kto on pairs")
    output: Annotated[Path | None, BeforeValidator(_output)] = Field(None, description="a folder")
    track: Annotated[tuple[Text, ...], BeforeValidator(_tracked)] = Field((), description="trackers by name")
    chat_template_kwargs: TemplateArguments = Field(default_factory=dict, description="given to the chat template")
    reward: tuple[Reward, ...] = Field((), description="terms of the reward, each a scorer with a weight")
    on_error: OnError = Field("stop", description="what a reward function that fails does")
    limits: LimitKeys = Field(default_factory=LimitKeys, description="of reward code: time_s, memory_gib, load_s")
    group_size: Annotated[int, NumberBounds(at_least=2, whole=True)] = Field(
        SAMPLING.group_size, description="answers sampled for a prompt"
    )
    max_new_tokens: Count = Field(SAMPLING.max_new_tokens, description="the longest sampled answer")
    temperature: Annotated[float, NumberBounds(above=0, at_most=2)] = Field(
        SAMPLING.temperature, description="at which answers are sampled"
    )
    top_p: Annotated[float, NumberBounds(above=0, at_most=1)] = Field(
        SAMPLING.top_p, description="share of the likeliest tokens"
    )
    top_k: Annotated[int, NumberBounds(at_least=0, whole=True)] = Field(
        SAMPLING.top_k, description="the likeliest tokens, 0 for all"
    )
    stop: StopStrings = Field((), description="strings that end an answer")
    tries: Count | None = Field(None, description="rounds of drawing in a step, until enough groups differ")
    rows_at_once: Count = Field(SAMPLING.rows_at_once, description="answers that the engine decodes together")
    server: ServerKeys | None = Field(None, description="what samples in place of the engine")
    origin: Noted | None = Field(
        None, description="another framework's file that this one was made of; decides nothing"
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        need, name = OBJECTIVES[self.objective.name].need, self.objective.name
        self._only("trained_turns", need == "completions", "sft")
        self._only("columns", need == "completions", "sft")
        self._only("pairs_as_labels", need == "labels", "kto")
        for key in GROUP_KEYS:
            self._only(key, need == "groups", "grpo, dr_grpo and dapo")
        if need == "groups" and not self.reward:
            remedy = 'Write for instance reward: [{python: "rewards.py:score"}].'
            refuse(
                f"found no reward, which {name} needs",
                expected="what an answer is worth",
                remedy=remedy,
                key=("reward",),
            )
        if self.start_from is not None and "adapter" in self.model_fields_set:
            remedy = "Remove adapter: its kind, rank and layers are those of start_from."
            refuse("found it together with start_from", expected="one of them", remedy=remedy, key=("adapter",))
        if self.adapter.kind == "full" and self.loraplus_lr_ratio != 1:
            refuse(
                "found it together with adapter: full",
                expected="an adapter, whose B it speeds up",
                remedy="Remove it.",
                key=("loraplus_lr_ratio",),
            )
        if self.adapter.kind == "qlora" and self.precision == "float32":
            remedy = "Write precision: bfloat16, or leave it out."
            refuse("found float32 with qlora", expected="bfloat16", remedy=remedy, key=("precision",))
        if need == "groups" and (self.data.eval or self.data.eval_share is not None):
            remedy = "Remove eval; the rewards of each step are shown."
            refuse(
                f"found it together with {name}",
                expected="only prompts to train on",
                remedy=remedy,
                key=("data", "eval"),
            )
        if need != "text":
            self._no_folders(name)
        if self.server is not None:
            self._served(self.server)
        self._no_prices()
        return self

    def _no_prices(self) -> None:
        """A training apart from a climb has no limit of money: it counts none."""
        for number, term in enumerate(self.reward):
            for price in PRICES:
                if price in term.parameters:
                    refuse(
                        f"found {price} of a judge that is a reward",
                        expected="it only in a task, which has limits.usd",
                        remedy="Remove it.",
                        key=("reward", number, "judge", price),
                    )

    def _served(self, server: ServerKeys) -> None:
        """What the server must load, it must be able to load."""
        if server.model.startswith("openai:") and self.top_k:
            refuse(
                "found it together with openai",
                expected="0, since openai has none",
                remedy="Remove it.",
                key=("top_k",),
            )
        if server.sync != "never" and self.start_from is None and self.adapter.kind in ("full", "dora"):
            refuse(
                f"found {self.adapter.kind} together with a server",
                expected="an adapter that a server loads while it runs: lora, rslora or qlora",
                remedy="Change it, or write sync: never below server.",
                key=("adapter",),
            )

    def _only(self, key: str, belongs: bool, owner: str) -> None:
        if not belongs and key in self.model_fields_set:
            found = f"found it together with objective: {self.objective.name}"
            refuse(found, expected=f"it only with {owner}", remedy="Remove it.", key=(key,))

    def _no_folders(self, name: str) -> None:
        for path in (*self.data.train, *self.data.eval):
            if path.is_dir():
                remedy = "Name its files. A folder of documents belongs to objective: text."
                refuse(
                    f'found the folder "{path.name}"',
                    expected=f"files of rows for {name}",
                    remedy=remedy,
                    key=("data",),
                )

    @property
    def rate(self) -> float:
        """Without a rate in the file: 2e-5 for all weights and 1e-6 for preferences, ten times as much for an adapter."""
        if self.learning_rate is not None:
            return self.learning_rate
        whole = 2e-5 if OBJECTIVES[self.objective.name].need in ("completions", "text") else 1e-6
        return whole if self.adapter.kind == "full" else round(10 * whole, 12)

    @property
    def all_tries(self) -> int:
        return usual_tries(self.objective.name) if self.tries is None else self.tries


def load_training(path: Path, overrides: Mapping[str, Any] | None = None) -> TrainingFile:
    """Read a training file. overrides: dotted keys set from outside, such as {"adapter.r": 8}, checked like the file's own.

    Raises TaskError for whatever is wrong with it, and names the other keys that are wrong too.
    """
    document = read_document(Path(path), TRAINING)
    return training_of(with_overrides(document, overrides) if overrides else document, Path(path))


def training_of(document: YamlDocument, path: Path) -> TrainingFile:
    """The training that a document describes. path: of its file, base of its relative paths."""
    _refuse_foreign(document)
    here = Path(path).absolute()
    folder = here.parent.resolve()
    reading = ReadContext(folder, TRAINING.noun)
    # A key with nothing behind it has its default, so that --set can take one back.
    values = {
        name: value
        for name, value in document.values.items()
        if value is not None or name not in TrainingKeys.model_fields
    }
    try:
        keys = TrainingKeys.model_validate(values, context=reading)
    except ValidationError as error:
        raise task_error(error.errors(include_url=False), document, TrainingKeys) from None
    return _training_file(keys, folder / here.name, reading)


def _refuse_foreign(document: YamlDocument) -> None:
    for name in document.values:
        if name in ELSEWHERE and name not in TrainingKeys.model_fields:
            ours = ELSEWHERE[name]
            told = f'Write "{ours}".' if ":" not in ours else f"Write {ours}."
            if name == "gradient_accumulation_steps":
                told = "Write batch_size: the rows of a whole optimizer step, however many passes it takes."
            if name == "micro_batch_size":
                told = "Write batch_size for a whole optimizer step, and max_pass_tokens for the memory of one pass."
            raise TaskError(
                f'found the unknown key "{name}"', where=document.where((name,)), expected=ours, remedy=told
            )


def _training_file(keys: TrainingKeys, path: Path, reading: ReadContext) -> TrainingFile:
    output = keys.output if keys.output is not None else path.with_name(f"{path.stem}-out")
    settings = _of_keys(
        TrainSettings,
        keys,
        objective=keys.objective.settings,
        adapter=keys.adapter.settings,
        learning_rate=keys.rate,
    )
    return _of_keys(
        TrainingFile,
        keys,
        path=path,
        resolved=_resolved(keys, output, reading),
        data=_of_keys(DataFiles, keys.data),
        columns={} if keys.columns is None else keys.columns.names,
        settings=settings,
        output=output,
        groups=_groups(keys) if settings.objective.need == "groups" else None,
    )


def _groups(keys: TrainingKeys) -> Groups:
    return Groups(
        reward=keys.reward,
        sampling=_of_keys(GroupSettings, keys, tries=keys.all_tries),
        on_error=keys.on_error,
        limits=keys.limits.settings,
        server=None if keys.server is None else keys.server.plan,
    )


def _of_keys(kind: type[S], keys: Section, /, **others: Any) -> S:
    """Settings of the keys that have the same names, and `others`, which the file lacks or has otherwise."""
    alike = [one.name for one in fields(kind) if one.name in type(keys).model_fields and one.name not in others]
    return kind(**{name: getattr(keys, name) for name in alike}, **others)


def _resolved(keys: TrainingKeys, output: Path, reading: ReadContext) -> JsonObject:
    """The file as it would say every default, but for keys that its objective does not have."""
    need = OBJECTIVES[keys.objective.name].need
    absent = {"trained_turns"} if need != "completions" else set()
    absent |= {"pairs_as_labels"} if need != "labels" else set()
    absent |= set(GROUP_KEYS) if need != "groups" else set()
    absent |= {"adapter"} if keys.start_from is not None else set()
    absent |= {name for name in ("origin", "columns") if dict(keys)[name] is None}
    # Without a ratio as before there was the key, so that a run begun then goes on.
    absent |= {"loraplus_lr_ratio"} if keys.loraplus_lr_ratio == 1 else set()
    found: JsonObject = {}
    filled = {"learning_rate": keys.rate, "output": output, "tries": keys.all_tries}
    for name, value in {**dict(keys), **filled}.items():
        if name in absent:
            continue
        if isinstance(value, ObjectiveKeys | AdapterKeys | DataKeys | LimitKeys | ServerKeys):
            found[name] = value.written(reading)
        elif isinstance(value, Columns):
            found[name] = value.model_dump(mode="json", exclude_none=True)
        elif name == "reward":
            found[name] = [term.written(reading) for term in keys.reward]
        else:
            plain = list(value) if isinstance(value, tuple) else value
            found[name] = relative_name(plain, reading.folder) if isinstance(plain, Path) else plain
    return found
