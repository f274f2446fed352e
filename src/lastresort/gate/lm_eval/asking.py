"""A loaded model answers documents of lm-eval through lm-eval itself, in chunks whose answers are kept.

Kept scores belong to one definition of a task, so all that decides how it scores is hashed.
"""

from __future__ import annotations

import copy
import inspect
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.gate.lm_eval.tasks import SEED, MeasuredTasks, faults_of, quiet
from lastresort.gate.logs.lm_eval import Results, log_of, pooled
from lastresort.gate.logs.logged import LoggedItem, LoggedMeasure, fingerprint
from lastresort.gate.suites.suite import SuiteItem
from lastresort.records.responses import Asking, KeptAnswer, SuiteAnswers
from lastresort.stop import NEVER, Stop, check
from lastresort.types import JsonObject, Progress

if TYPE_CHECKING:
    from lastresort.models.local import LocalModel


def definition_of(task: Any) -> str:
    """Hash of the task's configuration and class, and of whole documents, since requests do not hold their right answers."""
    documents = {one.doc_id: one.doc for one in task.instances}
    return fingerprint([_hashable(task.config), _hashable(type(task)), documents])


def _hashable(value: Any) -> Any:
    """The same in every process. A function is represented by its file, since it may call others there; in a folder of tasks by all
    files of the folder."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _hashable(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _hashable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_hashable(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, partial):
        return [_hashable(value.func), _hashable(value.args), _hashable(value.keywords)]
    if callable(value):
        return [getattr(value, "__qualname__", type(value).__qualname__), _sources(value)]
    return value


def _sources(function: Any) -> list[str]:
    if isinstance(function, type):  # one loaded by its path has no known module, its methods have
        function = next(filter(inspect.isfunction, vars(function).values()), function)
    try:
        found = inspect.getsourcefile(function)
    except TypeError:  # built in
        found = None
    if found is None:
        return []
    path = Path(found)
    of_tasks = any(path.parent.glob("*.yaml"))
    return [
        one.read_text(encoding="utf-8", errors="replace")
        for one in sorted(path.parent.glob("*.py"))
        if of_tasks or one == path
    ]


CHUNK = 64  # documents; after each chunk answers are kept and a stop is checked
VERSION = 3  # raised whenever the same documents would be asked differently


@dataclass(frozen=True, slots=True)
class HarnessAnswers:
    """logs: one, or one per task if their metrics differ. seconds, tokens_in, tokens_out: whenever they were asked. new: documents
    asked now.
    """

    logs: tuple[LoggedMeasure, ...]
    seconds: float
    new: int
    tokens_in: int
    tokens_out: int


def ask(
    model: LocalModel,
    suite: str,
    part: MeasuredTasks,
    items: Sequence[SuiteItem],
    kept: SuiteAnswers,
    progress: Progress,
    stop: Stop = NEVER,
) -> HarnessAnswers:
    """Ask every item of the part. Chunks are the same for every model, because few-shot examples are drawn chunk by chunk.

    Raises DataError if the scores of a task cannot be used.
    """
    check(stop)
    harness, key = _harness(model), _answers_key(model, suite)
    by_task: dict[str, list[LoggedMeasure]] = defaultdict(list)
    answers: list[KeptAnswer] = []
    new = 0
    for start in range(0, len(items), CHUNK):
        chunk = items[start : start + CHUNK]
        answer, fresh = _chunk(harness, key, part, chunk, kept)
        answers.append(answer)
        new += len(chunk) if fresh else 0
        for log in (answer.said or {}).get("logs", ()):
            by_task[log["name"]].append(_logged(log))
        progress.advance(len(chunk))
        check(stop)
    together = [_joined(logs) for logs in by_task.values()]
    groups = {part.name: frozenset(part.tasks)} if len(part.tasks) > 1 else {}
    return HarnessAnswers(
        tuple(pooled(together, Results(groups=groups), suite)),
        sum(one.seconds for one in answers),
        new,
        sum(one.tokens_in for one in answers),
        sum(one.tokens_out for one in answers),
    )


@dataclass(frozen=True, slots=True)
class _Harness:
    """lm: lm-eval's own wrapper. chat: whether conversations are rendered by the model's chat template."""

    lm: Any
    chat: bool

    @property
    def rendering(self) -> JsonObject:
        return {
            "apply_chat_template": self.chat,
            "fewshot_as_multiturn": self.chat,
        }


def _harness(model: LocalModel) -> _Harness:
    """With a copy of the tokenizer, since lm-eval changes its padding."""
    with quiet(SEED):
        from lm_eval.models.huggingface import HFLM

        tokenizer = copy.deepcopy(model.loaded.tokenizer)
        lm = HFLM(
            pretrained=model.loaded.model,
            tokenizer=tokenizer,
            batch_size=model.batch_size,
            max_length=model.context_tokens,
            chat_template_args=model.template_kwargs,
        )
    return _Harness(lm, bool(tokenizer.chat_template))


def _answers_key(model: LocalModel, suite: str) -> Asking:
    from importlib.metadata import version

    return Asking(
        f"{model.fingerprint} on {model.loaded.model.device.type}", suite, VERSION, f"lm-eval {version('lm-eval')}"
    )


def _chunk(
    harness: _Harness, key: Asking, part: MeasuredTasks, items: Sequence[SuiteItem], kept: SuiteAnswers
) -> tuple[KeptAnswer, bool]:
    """The answer to these requests that was kept, else a new one; and whether it is new."""
    samples: dict[str, list[int]] = defaultdict(list)
    for item in items:
        samples[item.family].append(item.number)
    wanted = {task: sorted(numbers) for task, numbers in sorted(samples.items())}  # lm-eval numbers them in this order
    name = fingerprint(wanted)
    with faults_of(key.suite):
        openings = {name: _requests(harness, part, wanted)}
    known = kept.known(key, openings).get(name)
    if known is not None:
        return known, False
    began = time.perf_counter()
    with faults_of(key.suite):
        logs, *tokens = _evaluated(harness, part, wanted)
    answer = KeptAnswer({"logs": [asdict(one) for one in logs]}, time.perf_counter() - began, *tokens)
    kept.put(key, openings, {name: answer})
    return answer, True


def _requests(harness: _Harness, part: MeasuredTasks, samples: Mapping[str, list[int]]) -> str:
    """Hash of the requests as they are made, and of how they are scored."""
    requests = []
    with quiet(SEED):
        for name, numbers in samples.items():
            task = _fresh(part.tasks[name])
            task.build_all_requests(
                samples=numbers,
                chat_template=harness.lm.apply_chat_template if harness.chat else None,
                **harness.rendering,
            )
            requests.append([name, definition_of(task), [list(one.args) for one in task.instances]])
    return fingerprint(requests)


def _evaluated(
    harness: _Harness, part: MeasuredTasks, samples: Mapping[str, list[int]]
) -> tuple[list[LoggedMeasure], int, int]:
    """The logs, with the number of prompt and answer tokens."""
    with quiet(SEED), _decoding_of_the_task(harness.lm.model):
        from lm_eval.evaluator import evaluate

        found = evaluate(
            lm=harness.lm,
            task_dict={"tasks": {name: _fresh(part.tasks[name]) for name in samples}},
            samples=dict(samples),
            bootstrap_iters=0,
            log_samples=True,
            **harness.rendering,
        )
    logs = [
        log_of(name, found["samples"][name], found["higher_is_better"].get(name) or {}, f"lm_eval:{name}")
        for name in samples
    ]
    counted = [_tokens(harness.lm, row) for name in samples for row in found["samples"][name]]
    return logs, sum(read for read, _ in counted), sum(written for _, written in counted)


def _tokens(lm: Any, row: Mapping[str, Any]) -> tuple[int, int]:
    """Prompt tokens of a document, with its options, and answer tokens. A prefix that its requests share counts once."""

    def count(text: str) -> int:
        return len(lm.tok_encode(text))

    read = sum(map(count, {arguments[0] for arguments in row["arguments"]}))
    read += sum(count(text) for arguments in row["arguments"] for text in arguments[1:2] if isinstance(text, str))
    written = sum(count(text) for answers in row["resps"] for text in answers if isinstance(text, str))
    return read, written


@contextmanager
def _decoding_of_the_task(model: Any) -> Iterator[None]:
    """Decode as the task says, with the model's own end tokens. `generate` takes what a task leaves open from generation_config, so
    a repetition penalty in only one of the two folders would count as a loss.
    """
    from transformers import GenerationConfig

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = causal.generation_config
    causal.generation_config = GenerationConfig(eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id)
    try:
        yield
    finally:
        causal.generation_config = own


def _fresh(task: Any) -> Any:
    """The task with its few-shot examples drawn from the start."""
    task.set_fewshot_seed(seed=SEED)
    return task


def _logged(body: Mapping[str, Any]) -> LoggedMeasure:
    items = tuple(LoggedItem(**one) for one in body["items"])
    return LoggedMeasure(body["name"], body["metric"], items, body["source"], tuple(body["notes"]))


def _joined(logs: Sequence[LoggedMeasure]) -> LoggedMeasure:
    return replace(logs[0], items=tuple(item for one in logs for item in one.items))
