"""The task: its inputs and outputs, how an answer is judged, what may be spent. One `task.yaml`, parsed, checked, resolved.

Keys are checked one by one, then together. Editors get the file's JSON schema.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import ErrorDetails

from lastresort.errors import TaskError
from lastresort.foreign import is_json
from lastresort.knowledge.reading import is_document
from lastresort.ladder import RUNGS
from lastresort.models.protocol import is_endpoint
from lastresort.spec.document import YamlDocument, read_document, with_overrides
from lastresort.spec.explain import INTERNAL, task_error
from lastresort.spec.judge import PRICES
from lastresort.spec.output import Output
from lastresort.spec.paths import FileOrFolder, FilePath, ModelName, is_paid, relative_name
from lastresort.spec.score import Reward, Score
from lastresort.spec.sections import (
    SUITES,
    Columns,
    Decode,
    ExpectedUse,
    FullSettings,
    KnownFacts,
    Limits,
    Margins,
    PreferenceSettings,
    PromptingSettings,
    RetrievalSettings,
    SftSettings,
    Sources,
    SplitSettings,
    TuneSettings,
    read_margins,
    read_suites,
    usual_margins,
)
from lastresort.spec.values import (
    Key,
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
from lastresort.types import JsonObject, ReasoningEffort


def check_together(task: Task) -> None:
    """Refuse a task that contradicts itself."""
    _score_and_output(task)
    _tuning_and_ladder(task)
    _split_and_sources(task)
    _examples_and_knowledge(task)
    _cost_and_volume(task)
    _money_and_prices(task)
    _margins_and_suites(task)
    _effort_and_model(task)


def _score_and_output(task: Task) -> None:
    name, choices = task.score.name, task.output.choices
    if name == "choice" and choices is None:
        remedy = "Add output: {choices: […]}, or take another scorer."
        refuse('found "choice" without output.choices', expected="the labels", remedy=remedy, key=("score",))
    if name.startswith("json_") and choices is not None and not all(map(is_json, choices)):
        found = f'found "{name}" with labels that are not JSON'
        refuse(found, expected="a scorer of labels", remedy="Write score: choice.", key=("score",))


def _tuning_and_ladder(task: Task) -> None:
    if task.tune.method == "full" and "full" not in task.ladder:
        refuse(
            'found "full" with a ladder that leaves out the rung full',
            expected="auto, lora or qlora",
            remedy="Add full to ladder, or change the method.",
            key=("tune", "method"),
        )


def _split_and_sources(task: Task) -> None:
    parts = {"dev": task.examples.dev, "test": task.examples.test}
    for name, path in parts.items():
        if path is not None and name in task.split.model_fields_set:
            found = f"found a share although examples.{name} is a file"
            refuse(found, expected="one of them", remedy="Remove one.", key=("split", name))
    dev, test = (0 if parts[name] is not None else getattr(task.split, name) for name in ("dev", "test"))
    if isinstance(dev, float) and isinstance(test, float) and dev + test >= 1:
        found = f"found shares of {dev:g} for dev and {test:g} for test"
        refuse(found, expected="a sum below 1, so that some are left to train", remedy="Lower one.", key=("split",))


def _examples_and_knowledge(task: Task) -> None:
    """Dev and test among the documents would be looked up together with their answers."""
    if task.knowledge is None:
        return
    sources = task.examples
    for path in filter(None, (sources.all, sources.dev, sources.test)):
        if is_document(task.knowledge, path):
            refuse(
                f'found the examples ("{relative_name(path, task.folder)}") among the documents',
                expected="documents without the questions of dev and test and their answers",
                remedy="Move the examples out of that folder, or name one that holds the documents alone.",
                key=("knowledge",),
            )


def _cost_and_volume(task: Task) -> None:
    if task.goal == "cost" and not task.use.calls_per_month:
        found = 'found "cost" without use.calls_per_month'
        remedy = "Add use: {calls_per_month: N}, or write goal: quality."
        refuse(found, expected="the volume that decides what is cheapest", remedy=remedy, key=("goal",))


def _money_and_prices(task: Task) -> None:
    _prices_of_nothing(task)
    if task.limits.usd is not None:
        _price_of_judges(task)
        _price_of_answers(task, task.limits.usd, ("limits", "usd"))
        _price_of_reflecting(task, task.limits.usd, ("limits", "usd"))
    if task.prompting.usd is not None:
        if task.prompting.optimise != "off":
            _price_of_judge("score", task.score, task.prompting.usd, ("prompting", "usd"))
        _price_of_answers(task, task.prompting.usd, ("prompting", "usd"))
        _price_of_reflecting(task, task.prompting.usd, ("prompting", "usd"))


def _price_of_answers(task: Task, usd: float, limit: Key) -> None:
    if task.price_known:
        return
    given = {"use.prompt_price": task.use.prompt_price, "use.output_price": task.use.output_price}
    refuse(
        f"found a limit of {usd:g} USD on {task.model}, whose calls have no known price",
        expected=" and ".join(name for name, price in given.items() if price is None),
        remedy="Add use: {prompt_price: …, output_price: …} in USD per million tokens, 0 where its calls cost nothing.",
        key=limit,
    )


def _price_of_reflecting(task: Task, usd: float, limit: Key) -> None:
    if task.prompting.optimise == "off" or task.reflect_price_known:
        return
    given = {name: getattr(task.prompting, name) for name in PRICES}
    refuse(
        f"found a limit of {usd:g} USD with prompting.reflect {task.prompting.reflect}, whose calls have no known price",
        expected=" and ".join(f"prompting.{name}" for name, price in given.items() if price is None),
        remedy="Add them, in USD per million tokens, 0 where its calls cost nothing.",
        key=limit,
    )


def _price_of_judges(task: Task) -> None:
    """Money that a judge spends, also as a reward, must be countable too."""
    assert task.limits.usd is not None
    places: dict[str, Score | Reward] = {"score": task.score}
    places |= {f"reward[{number}]": term for number, term in enumerate(task.reward)}
    for place, term in places.items():
        _price_of_judge(place, term, task.limits.usd, ("limits", "usd"))


def _price_of_judge(place: str, term: Score | Reward, usd: float, limit: Key) -> None:
    if term.judge is None or term.judge.price_known:
        return
    refuse(
        f"found a limit of {usd:g} USD with the judge {term.judge.model}, whose calls have no known price",
        expected=" and ".join(f"{place}.judge.{price}" for price in PRICES),
        remedy="Add them, in USD per million tokens, 0 where its calls cost nothing.",
        key=limit,
    )


def _prices_of_nothing(task: Task) -> None:
    """Prices of a reflecting model that is the task's own would not be read."""
    if task.reflect_model != task.model:
        return
    for name in PRICES:
        if getattr(task.prompting, name) is not None:
            refuse(
                f"found a price of {task.reflect_model}, which is also the task's model",
                expected="the price of another model, named under prompting.reflect",
                remedy=f"Write use: {{{name}: …}} instead, or name the other model.",
                key=("prompting", name),
            )


def _margins_and_suites(task: Task) -> None:
    known = (*SUITES, *task.general)
    for name in task.keep:
        if name == "target":
            remedy = "Remove it; the target has no margin and is always judged."
            refuse('found "target"', expected="a suite that may lose a little", remedy=remedy, key=("keep", name))
        if name not in known:
            detail = unknown_name("suite", name, known)
            refuse(**detail, key=("keep", name))


def _effort_and_model(task: Task) -> None:
    """Only the model behind an endpoint takes an effort."""
    _effort_of("decode", task.decode.reasoning_effort, task.model)
    _effort_of("prompting", task.prompting.reasoning_effort, task.reflect_model)


def _effort_of(section: str, effort: ReasoningEffort | None, model: str) -> None:
    if effort is not None and not is_endpoint(model):
        refuse(
            f"found a reasoning effort of {model}, which runs here",
            expected="an endpoint whose model takes one",
            remedy="Remove it; chat_template_kwargs can switch the thinking of a local model on or off.",
            key=(section, "reasoning_effort"),
        )


_RUNG_LIST = {"type": "array", "items": {"enum": list(RUNGS)}, "minItems": 1, "uniqueItems": True}
Pace = Literal["never", "yearly", "monthly", "weekly", "daily"]


def _named(value: str) -> str:
    allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    if len(value) > 80 or value[0] not in allowed[:62] or not set(value) <= set(allowed):
        better = "".join(letter if letter in allowed else "-" for letter in value).strip("._-")[:80]
        expected = "a name of letters, digits, . _ and -, at most 80, that begins with a letter or digit"
        remedy = f'Write "{better}".' if better else "Write a name such as ticket-routing."
        refuse(f"found {describe(value)}", expected=expected, remedy=remedy)
    return value


def _climbable(value: tuple[str, ...]) -> tuple[str, ...]:
    for index, rung in enumerate(value):
        if rung not in RUNGS:
            refuse(**unknown_name("rung", rung, tuple(RUNGS)), key=(index,))
        if rung in value[:index]:
            refuse(f'found the rung "{rung}" twice', expected="it once", remedy="Remove one.", key=(index,))
    in_order = [rung for rung in RUNGS if rung in value]
    if not value:
        refuse("found an empty list", expected="at least one rung", remedy=f"Write [{', '.join(RUNGS)}].")
    if list(value) != in_order:
        found = f"found the rungs in the order {', '.join(value)}"
        refuse(found, expected="the order of the ladder", remedy=f"Write [{', '.join(in_order)}].")
    return value


class Task(Section):
    """A task with every default filled in.

    path: the task file. folder: base of its relative paths, absolute. All other fields are the keys of the task file; paths are
    absolute.
    """

    path: Path
    folder: Path
    task: Annotated[Text, AfterValidator(_named)] = Field(
        description="the task's name; runs are named after it", examples=["ticket-routing"]
    )
    about: Text = Field(
        description="what is asked, in a sentence: the instruction of the prompt",
        examples=["Route a support ticket to a team."],
    )
    goal: Literal["quality", "cost"] = Field(
        "quality", description="quality: the cheapest rung that meets the bar; cost: the cheapest system that does"
    )
    model: ModelName = Field(
        "embedded", description="embedded, a hub id, a folder, a .gguf file, openai:NAME or http://host/v1#NAME"
    )
    tune: TuneSettings = Field(default_factory=TuneSettings, description="which model may be trained, and how")
    ladder: Annotated[tuple[str, ...], AfterValidator(_climbable), WithJsonSchema(_RUNG_LIST)] = Field(
        tuple(RUNGS), description="the rungs that may be climbed; leave some out to exclude them"
    )
    examples: Sources = Field(description="the labelled examples", examples=["examples.jsonl"])
    columns: Columns | None = Field(
        None, description="the columns of the examples, where they are not called input and output"
    )
    split: SplitSettings = Field(default_factory=SplitSettings, description="how the examples are divided")
    output: Output = Field(default_factory=Output, description="what an answer must look like")
    score: Score = Field(description="how an answer is judged", examples=["exact"])
    bar: Annotated[float, NumberBounds(above=0, below=1)] = Field(
        description="the mean score to reach, strictly between 0 and 1", examples=[0.85]
    )
    confidence: Annotated[float, NumberBounds(above=0.5, at_most=0.9999)] = Field(
        0.95, description="1 - it is shared by the rungs of ladder, and by a repaired system where one of them trains"
    )
    on_undecided: Literal["lead", "collect"] = Field(
        "lead", description="where a verdict is UNDECIDED: the estimate leads, or the climb stops to collect examples"
    )
    knowledge: FileOrFolder | None = Field(None, description="folder or file of documents: makes retrieval applicable")
    knowledge_changes: Pace = Field("never", description="how often the knowledge changes")
    retrain_every: Pace | None = Field(None, description="how often a tuned model would be trained again")
    preferences: FilePath | None = Field(None, description="file of preference pairs or of answers with labels")
    reward: tuple[Reward, ...] = Field((), description="terms of the reward: makes GRPO applicable")
    use: ExpectedUse = Field(default_factory=ExpectedUse, description="volume, prices and rules of production")
    facts: KnownFacts | None = Field(None, description="answers to the questions of `lastresort advise`")
    limits: Limits = Field(default_factory=Limits, description="what may be spent")
    prompting: PromptingSettings = Field(
        default_factory=PromptingSettings, description="whether and how a prompt is optimised"
    )
    retrieval: RetrievalSettings = Field(
        default_factory=RetrievalSettings, description="how knowledge is cut, searched and shown"
    )
    sft: SftSettings = Field(default_factory=SftSettings, description="supervised fine-tuning")
    preference: PreferenceSettings = Field(default_factory=PreferenceSettings, description="preference training")
    full: FullSettings = Field(default_factory=FullSettings, description="training of all weights")
    decode: Decode = Field(default_factory=Decode, description="how answers are sampled")
    chat_template_kwargs: TemplateArguments = Field(
        default_factory=dict, description="given to the chat template in training, measuring and serving alike"
    )
    general: Annotated[tuple[Text, ...], AfterValidator(read_suites)] = Field(
        (), description="further suites of the gate, such as lm_eval:mmlu"
    )
    keep: Annotated[Margins, BeforeValidator(read_margins)] = Field(
        default_factory=usual_margins,
        description="the largest loss that the gate accepts for each suite, or skip",
    )

    @model_validator(mode="after")
    def _together(self) -> Self:
        check_together(self)
        return self

    def __repr__(self) -> str:
        ladder = ", ".join(self.ladder)
        return f"<Task {self.task}: {self.path}, model {self.model}, ladder {ladder}, score {self.score.name}, bar {self.bar:g}>"

    __str__ = __repr__  # pydantic's own lists every key

    @property
    def price_known(self) -> bool:
        """Whether the cost of a call of `model` is known: it runs here and costs nothing, or both prices are given.

        Where it cannot, money is unknown, not 0.
        """
        return not is_paid(self.model) or None not in (self.use.prompt_price, self.use.output_price)

    @property
    def reflect_model(self) -> str:
        """Name of the model that would write an optimised prompt."""
        return self.prompting.reflect or self.model

    @property
    def reflect_price_known(self) -> bool:
        """As `price_known`, of the model that would write an optimised prompt."""
        if self.reflect_model == self.model:
            return self.price_known
        return not is_paid(self.reflect_model) or None not in (
            self.prompting.prompt_price,
            self.prompting.output_price,
        )

    @property
    def tuned_model(self) -> str:
        """Name of the model that may be trained."""
        return self.model if self.tune.model == "same" else self.tune.model

    def resolved(self) -> JsonObject:
        """The task as a file would say it with every default written out; paths relative to the folder where possible.

        Saved as YAML or JSON in the same folder it loads as an equal task.
        """
        reading = ReadContext(self.folder)
        return {name: _written(getattr(self, name), reading) for name in FILE_KEYS} | {"split": self._split()}

    def _split(self) -> JsonObject:
        """The shares that are used: a part with a file of its own has none."""
        files = {"dev": self.examples.dev, "test": self.examples.test}
        return {name: value for name, value in self.split if files.get(name) is None}


FILE_KEYS = tuple(name for name in Task.model_fields if name not in INTERNAL)


def _written(value: Any, reading: ReadContext) -> Any:
    if isinstance(value, Output | Score | Reward | Sources):
        return value.written(reading)
    if isinstance(value, Section):
        return {name: _written(inner, reading) for name, inner in value}
    if isinstance(value, tuple):
        return [_written(inner, reading) for inner in value]
    return relative_name(value, reading.folder) if isinstance(value, Path) else deepcopy(value)


def named_models(task: Task) -> dict[str, str]:
    """By key of the task file, every model that the task may reach. prompting.reflect: only where it is given."""
    reflect = task.prompting.reflect
    terms = {"score": task.score, **{f"reward[{number}]": term for number, term in enumerate(task.reward)}}
    return {
        "model": task.model,
        "tune.model": task.tuned_model,
        **({} if reflect is None else {"prompting.reflect": reflect}),
        **{f"{key}.judge.model": term.judge.model for key, term in terms.items() if term.judge is not None},
    }


def load_task(path: Path, overrides: dict[str, Any] | None = None) -> Task:
    """Read a task file.

    overrides: dotted keys set from outside, such as {"split.seed": 3}, checked like the file's own.
    Raises TaskError for whatever is wrong with the file, and names the other keys that are wrong too.
    """
    document = read_document(Path(path))
    return task_of(with_overrides(document, overrides) if overrides else document, Path(path))


def given_task(task: Task | Path, overrides: dict[str, Any] | None = None) -> Task:
    """A task that is loaded already, or the one in this file. Raises TaskError as `load_task` does."""
    if isinstance(task, Path):
        return load_task(task, overrides)
    if overrides:
        raise TaskError(
            f"found the settings {listed(overrides)} for a task that is already loaded",
            where=str(task.path),
            expected="a task file",
            remedy="Pass them to load_task.",
        )
    return task


def task_of(document: YamlDocument, path: Path) -> Task:
    """The task that a document describes. path: of its file, base of its relative paths."""
    here = Path(path).absolute()
    folder = here.parent.resolve()
    unknown = [name for name in document.values if name not in FILE_KEYS]
    if unknown:
        stray = [ErrorDetails(type="extra_forbidden", loc=(name,), msg="", input=None) for name in unknown]
        raise task_error(stray, document, Task)
    values = {**document.values, "path": folder / here.name, "folder": folder}
    try:
        return Task.model_validate(values, context=ReadContext(folder))
    except ValidationError as error:
        raise task_error(error.errors(include_url=False), document, Task) from None


def json_schema() -> JsonSchemaValue:
    """Draft 2020-12. It knows keys, kinds and ranges; whether files exist and keys agree only `load_task` can tell."""
    schema = Task.model_json_schema()
    properties = {name: inner for name, inner in schema["properties"].items() if name not in INTERNAL}
    required = [name for name in schema["required"] if name not in INTERNAL]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "lastresort task",
        "description": "What is asked, how an answer is judged, what may be spent.",
        "properties": properties,
        "required": required,
    }
