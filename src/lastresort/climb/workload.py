"""How much work a task is for a rung, in tokens, and what would do it: no model is loaded.

Tokens are counted by the model's tokenizer where that is here, else by the text's bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lastresort.climb.prepare import PreparedTask
from lastresort.climb.rates import measured_rates
from lastresort.data.rendering import render_prompt
from lastresort.embedded import converted_already, embedded_gguf
from lastresort.errors import DataError, InputError
from lastresort.hardware.environment import card_here, matrix_flops_per_s
from lastresort.hardware.find import computed_parameters_of, config_of_gguf, parameters_of_gguf
from lastresort.hardware.plan.fit import PlannedTraining
from lastresort.hardware.plan.setup import Cards
from lastresort.ladder import trains
from lastresort.libraries import loading, without_length_warning
from lastresort.model_heads import model_config
from lastresort.models.api.requests import room_to_think
from lastresort.models.open import EMBEDDED, local_weights
from lastresort.models.protocol import estimated_tokens, is_endpoint
from lastresort.rungs.divided import card_count, divide
from lastresort.rungs.forecast import Machine, Workload
from lastresort.rungs.prompting.prompts import instruction
from lastresort.rungs.rung import PlansMemory, RungSetup, find_rung
from lastresort.rungs.supervised.methods import PASS_TOKENS, known_shape
from lastresort.spec.task import Task
from lastresort.types import SILENT, Example, Message, Progress, ReasoningEffort

LEAST_NEW_TOKENS = 16
ALMOST_ALL, MOST = 99, 95  # percent of the training answers
# Examples whose tokens each tokenizer counts, in about 3 s where they have 2,000 each. Of more, an even choice represents all.
COUNTED = 1000


def counted_answers(train: Sequence[Example]) -> list[str]:
    """The training answers that represent the lengths of all, shortest first; the same in every process."""
    answers = sorted((example.output for example in train), key=lambda text: (len(text), text))
    step = -(-len(answers) // COUNTED) or 1
    return answers[::-1][::step][::-1]


def answer_limit(tokens: Sequence[int]) -> int:
    """How long an answer may be, from the lengths of the training answers: twice what 99% of them need.

    What 99% need counts for at most three times what 95% need, which the longest of several never is: in a small set one outlier
    is more than 5%, and every answer that does not end by itself costs the whole limit.
    """
    ordered = sorted(tokens)
    if not ordered:
        return LEAST_NEW_TOKENS
    n = len(ordered)
    almost_all, most = ordered[-(-n * ALMOST_ALL // 100) - 1], ordered[max(1, min(-(-n * MOST // 100), n - 1)) - 1]
    return max(LEAST_NEW_TOKENS, 2 * min(almost_all, 3 * most))


def workload(prepared: PreparedTask, rung: str, progress: Progress = SILENT) -> Workload:
    """The task's size, and the machine or endpoint that would do the rung. progress: shows what is timed."""
    task, split = prepared.task, prepared.split
    model = model_of(task, rung)
    counts, train = counts_of(task, model), some_of(split.train)
    sample = some_of((*split.train, *split.dev, *split.test))
    auto_limit = answer_limit([counts.count(text) for text in counted_answers(split.train)])
    about_tokens = counts.count(task.about.strip()) + counts.template
    effort = None if trains(rung) else task.decode.reasoning_effort
    rows = [counts.count(example.input_text) + counts.count(example.output) for example in _longest(split.train)]
    work = Workload(
        machine=machine_of(task, model, (task.use.prompt_price, task.use.output_price), progress, effort=effort),
        n_train=len(split.train),
        n_dev=len(split.dev),
        n_test=len(split.test),
        instruction_tokens=counts.count(instruction(task)) + counts.template,
        about_tokens=about_tokens,
        input_tokens=_mean(counts.count(example.input_text) for example in sample),
        output_tokens=_mean(counts.count(example.output) for example in train),
        max_new_tokens=auto_limit if task.decode.max_new_tokens == "auto" else int(task.decode.max_new_tokens),
        per_estimate=_per_estimate(counts, [example.input_text + example.output for example in sample]),
        longest_tokens=about_tokens + max(rows) if rows else None,
        reflecting=_reflecting(task) if rung == "prompting" else None,
    )
    if (cards := _training_cards(task, rung, work)) == 1:
        return work
    lengths = tuple(counts.count(example.input_text) + counts.count(example.output) for example in train)
    return replace(work, machine=replace(work.machine, training_cards=cards), lengths=lengths)


def planned_rung(task: Task, rung: str, work: Workload) -> PlannedTraining | None:
    """The training that a rung makes on one card, in the passes that it makes; rows as long as the longest."""
    rung_setup, card, shape = (
        _setup(task, rung, work),
        card_here(processor=True),
        known_shape(task.tuned_model, task.folder),
    )
    if rung_setup is None or card is None or shape is None:
        return None
    longest = rung_setup.longest_tokens
    return PlannedTraining(shape, rung_setup.setup, Cards(card), longest, rung_setup.items * longest, PASS_TOKENS)


def _setup(task: Task, rung: str, work: Workload) -> RungSetup | None:
    training = find_rung(rung)
    if not isinstance(training, PlansMemory) or work.longest_tokens is None:
        return None
    return training.planned_setup(task, work, work.longest_tokens)


def _training_cards(task: Task, rung: str, work: Workload) -> int:
    """Over how many its trainings are divided. Processes on a processor share the cores that one alone uses."""
    cards = card_count() if trains(rung) and task.tune.processes != 1 else 0
    if not cards:
        return 1
    rung_setup = _setup(task, rung, work)
    # In one process, also with a shape that no plan knows.
    samples = rung_setup is not None and rung_setup.setup.learning == "grpo"
    return 1 if samples else divide(task.tune.processes, planned_rung(task, rung, work), cards).count


def _reflecting(task: Task) -> Machine | None:
    """What would optimise a prompt, where that is another model than the task's."""
    keys = task.prompting
    if keys.optimise == "off" or task.reflect_model == task.model:
        return None
    return machine_of(task, task.reflect_model, (keys.prompt_price, keys.output_price))


def model_of(task: Task, rung: str) -> str:
    return task.tuned_model if trains(rung) else task.model


def machine_of(
    task: Task,
    model: str,
    prices: tuple[float | None, float | None],
    progress: Progress = SILENT,
    *,
    effort: ReasoningEffort | None = None,
) -> Machine:
    """The model that would work, and this machine's rates. prices: of its prompts and outputs, USD per million tokens. effort: of
    an endpoint's model, as the task names it.

    Some layers of the model's shape are timed, once a process; where they are too large for that, the rates are shares of a matrix
    product's.
    """
    if is_endpoint(model):
        return Machine(None, 1.0, *prices, thinking_tokens=room_to_think(effort))
    if model.startswith("scripted:"):
        return Machine(None, 1.0)
    from lastresort.models.loading import chosen_device, chosen_dtype, is_reduced

    path = _weights(task, model)
    config = _config(path)
    parameters = _computed_parameters(config, path)
    if config is None or parameters is None:
        return Machine(None, 1.0)
    reduced = is_reduced(chosen_dtype("auto", chosen_device()))
    measured = measured_rates(config, reduced=reduced, progress=progress)
    return Machine(parameters, _product_rate(reduced), measured=measured)


@cache
def _product_rate(reduced: bool) -> float:
    """Once a process, as all rungs work on the same machine."""
    return matrix_flops_per_s(reduced)


def _weights(task: Task, model: str) -> Path:
    """Where they are, or would be: nothing is converted."""
    if model == EMBEDDED:
        return converted_already(embedded_gguf()) or embedded_gguf()
    path = Path(local_weights(model, task.folder))
    return (converted_already(path) or path) if path.suffix == ".gguf" and path.is_file() else path


def _config(weights: Path) -> Mapping[str, Any] | None:
    """The configuration of a local model; None for a hub id that is not here, and a GGUF that cannot be read."""
    if weights.suffix == ".gguf" and weights.is_file():
        return _of_gguf(weights)
    if not (weights / "config.json").is_file():
        return None
    return model_config(weights / "config.json")


@cache
def _of_gguf(path: Path) -> Mapping[str, Any] | None:
    try:
        return config_of_gguf(path)
    except DataError:
        return None


def _computed_parameters(config: Mapping[str, Any] | None, weights: Path) -> int | None:
    """What a token is multiplied with."""
    if config is None:
        return None
    parameters = computed_parameters_of(config)
    return parameters_of_gguf(weights) if parameters is None and weights.suffix == ".gguf" else parameters


def some_of(examples: Sequence[Example]) -> Sequence[Example]:
    """At most COUNTED of them, evenly spread."""
    step = -(-len(examples) // COUNTED) or 1
    return examples[::step]


def _longest(examples: Sequence[Example]) -> Sequence[Example]:
    """By their letters, among which the longest in tokens is."""
    return sorted(examples, key=lambda example: len(example.input_text) + len(example.output), reverse=True)[:20]


def _mean(counts: Iterable[int]) -> float:
    values = list(counts)
    return sum(values) / len(values) if values else 0.0


def _per_estimate(counts: TokenCounts, texts: Sequence[str]) -> float:
    estimated = sum(map(estimated_tokens, texts))
    return sum(map(counts.count, texts)) / estimated if estimated else 1.0


BYTES_PER_TOKEN = (
    3  # of short texts, labels and JSON: 2.4 to 4.1 on the examples of this project, with the embedded model
)
_SCRIPTED = 16  # so that turns of examples, which a script counts without markers, are on the high side too
TEMPLATE_TOKENS = 32  # turn markers, and the system prompt that some templates add


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """count: tokens of a text alone. template: what a chat template puts around a prompt of one turn. summary: how it is counted,
    as "tokens counted …" ends.
    """

    count: Callable[[str], int]
    template: int
    summary: str


def counts_of(task: Task, model: str) -> TokenCounts:
    """Of the model by this name. What a script answers is counted as the script itself counts, four bytes a token."""
    if model.startswith("scripted:"):
        return TokenCounts(estimated_tokens, _SCRIPTED, "as four bytes a token, as the scripted model counts")
    folder = None if is_endpoint(model) else _folder(model, task.folder)
    if folder is None or not (folder / "tokenizer_config.json").is_file():
        return TokenCounts(
            _tokens_by_bytes, TEMPLATE_TOKENS, f"as {BYTES_PER_TOKEN} bytes a token, as no tokenizer is here"
        )
    tokenizer = _tokenizer(folder)
    if tokenizer is None:
        return TokenCounts(
            _tokens_by_bytes, TEMPLATE_TOKENS, f"as {BYTES_PER_TOKEN} bytes a token: the tokenizer cannot be read"
        )
    return TokenCounts(_lengths(folder), _template(tokenizer, task), f"by the tokenizer of {model}")


def _folder(model: str, base_folder: Path) -> Path | None:
    """Of a model on disk; nothing is converted or downloaded."""
    if model == EMBEDDED:
        return converted_already(embedded_gguf())
    path = base_folder / Path(model).expanduser()
    if path.suffix == ".gguf":
        return converted_already(path) if path.is_file() else None
    return path if path.is_dir() else None


@cache
def _tokenizer(folder: Path) -> Any:
    """None where it cannot be read; the climb says why."""
    from transformers import AutoTokenizer

    try:
        with loading(folder, "a tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except InputError:
        return None
    return without_length_warning(tokenizer)


class TextLengths:
    """Tokens of texts, each counted once for all rungs.

    They are kept by the hash of the text, since texts may be long; once there are MOST_KEPT it starts again.
    """

    MOST_KEPT = 20_000  # about 3 MB

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[bytes, int] = {}

    def __call__(self, text: str) -> int:
        key = blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
        if key not in self._known:
            if len(self._known) >= self.MOST_KEPT:
                self._known.clear()
            self._known[key] = len(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        return self._known[key]


@cache
def _lengths(folder: Path) -> TextLengths:
    return TextLengths(_tokenizer(folder))


def _template(tokenizer: Any, task: Task) -> int:
    word = "x"
    try:
        prompt = render_prompt(tokenizer, [Message("user", word)], template_kwargs=task.chat_template_kwargs)
    except DataError:  # the climb says so
        return TEMPLATE_TOKENS
    return max(0, len(prompt) - len(tokenizer(word, add_special_tokens=False)["input_ids"]))


def _tokens_by_bytes(text: str) -> int:
    return -(-len(text.encode(errors="surrogatepass")) // BYTES_PER_TOKEN)
