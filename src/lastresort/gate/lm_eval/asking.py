"""A loaded model answers documents of lm-eval through lm-eval itself, a chunk at a time; what was answered is kept.

What decides how a task of lm-eval scores an answer, as something that can be hashed: kept scores are of one definition.
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
    """Hash of its configuration and class, and of the documents that its requests are made of, whole: their right answers are not
    in what is asked."""
    documents = {one.doc_id: one.doc for one in task.instances}
    return fingerprint([_told(task.config), _told(type(task)), documents])


def _told(value: Any) -> Any:
    """The same in every process. A function is the file that it stands in, since it may call others there; in a folder of tasks,
    all of the folder's."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _told(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _told(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_told(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, partial):
        return [_told(value.func), _told(value.args), _told(value.keywords)]
    if callable(value):
        return [getattr(value, "__qualname__", type(value).__qualname__), _sources(value)]
    return value


def _sources(function: Any) -> list[str]:
    if isinstance(function, type):  # whose module is not known where it was loaded by its path; that of its methods is
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


CHUNK = 64  # documents at a time, after which limits are looked at and answers are kept
VERSION = 3  # raised whenever the same documents would be asked otherwise


@dataclass(frozen=True, slots=True)
class HarnessAnswers:
    """logs: one, or one a task where their metrics differ. seconds, tokens_in, tokens_out: whenever that was. new: documents
    that were asked just now.
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
    """Every item of the part, in chunks that are the same for every model, since examples in a prompt are drawn chunk by chunk.

    Raises DataError where the scores of a task cannot be weighed.
    """
    check(stop)
    harness, asking = _harness(model), _asking(model, suite)
    by_task: dict[str, list[LoggedMeasure]] = defaultdict(list)
    answers: list[KeptAnswer] = []
    new = 0
    for start in range(0, len(items), CHUNK):
        chunk = items[start : start + CHUNK]
        answer, fresh = _chunk(harness, asking, part, chunk, kept)
        answers.append(answer)
        new += len(chunk) if fresh else 0
        for told in (answer.said or {}).get("logs", ()):
            by_task[told["name"]].append(_logged(told))
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
    """The tokenizer is a copy, since lm-eval changes its padding."""
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


def _asking(model: LocalModel, suite: str) -> Asking:
    from importlib.metadata import version

    return Asking(
        f"{model.fingerprint} on {model.loaded.model.device.type}", suite, VERSION, f"lm-eval {version('lm-eval')}"
    )


def _chunk(
    harness: _Harness, asking: Asking, part: MeasuredTasks, items: Sequence[SuiteItem], kept: SuiteAnswers
) -> tuple[KeptAnswer, bool]:
    """What was said to the same requests before, else now."""
    samples: dict[str, list[int]] = defaultdict(list)
    for item in items:
        samples[item.family].append(int(item.id.rpartition("/")[2]))
    wanted = {task: sorted(numbers) for task, numbers in sorted(samples.items())}  # lm-eval numbers them in this order
    name = fingerprint(wanted)
    with faults_of(asking.suite):
        openings = {name: _requests(harness, part, wanted)}
    known = kept.known(asking, openings).get(name)
    if known is not None:
        return known, False
    began = time.perf_counter()
    with faults_of(asking.suite):
        logs, *tokens = _evaluated(harness, part, wanted)
    answer = KeptAnswer({"logs": [asdict(one) for one in logs]}, time.perf_counter() - began, *tokens)
    kept.put(asking, openings, {name: answer})
    return answer, True


def _requests(harness: _Harness, part: MeasuredTasks, samples: Mapping[str, list[int]]) -> str:
    """Hash of what is asked, as it is asked, and of how it is scored."""
    told = []
    with quiet(SEED):
        for name, numbers in samples.items():
            task = _fresh(part.tasks[name])
            task.build_all_requests(
                samples=numbers,
                chat_template=harness.lm.apply_chat_template if harness.chat else None,
                **harness.rendering,
            )
            told.append([name, definition_of(task), [list(one.args) for one in task.instances]])
    return fingerprint(told)


def _evaluated(
    harness: _Harness, part: MeasuredTasks, samples: Mapping[str, list[int]]
) -> tuple[list[LoggedMeasure], int, int]:
    """The logs, and the tokens that were read and said."""
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
    return logs, sum(read for read, _ in counted), sum(said for _, said in counted)


def _tokens(lm: Any, row: Mapping[str, Any]) -> tuple[int, int]:
    """Read for a document, its options among them, and said. A beginning that its requests share is read once."""

    def count(text: str) -> int:
        return len(lm.tok_encode(text))

    read = sum(map(count, {arguments[0] for arguments in row["arguments"]}))
    read += sum(count(text) for arguments in row["arguments"] for text in arguments[1:2] if isinstance(text, str))
    said = sum(count(text) for answers in row["resps"] for text in answers if isinstance(text, str))
    return read, said


@contextmanager
def _decoding_of_the_task(model: Any) -> Iterator[None]:
    """`generate` fills what a task leaves open from the model's generation_config: a repetition penalty that only one of the two
    folders has would count as a loss. End tokens stay the model's own.
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
    """Its examples are drawn from the beginning."""
    task.set_fewshot_seed(seed=SEED)
    return task


def _logged(told: Mapping[str, Any]) -> LoggedMeasure:
    items = tuple(LoggedItem(**one) for one in told["items"])
    return LoggedMeasure(told["name"], told["metric"], items, told["source"], tuple(told["notes"]))


def _joined(logs: Sequence[LoggedMeasure]) -> LoggedMeasure:
    return replace(logs[0], items=tuple(item for one in logs for item in one.items))
