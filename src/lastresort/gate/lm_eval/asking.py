"""A loaded model answers documents of lm-eval through lm-eval itself, in chunks whose answers are kept.

Kept scores belong to one definition of a task, so all that decides how it scores is hashed.
"""

from __future__ import annotations

import copy
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from lastresort.errors import DataError
from lastresort.evals.measure import JobFailure
from lastresort.gate.lm_eval.tasks import SEED, MeasuredTasks, definition_of, faults_of, quiet
from lastresort.gate.logs.lm_eval import Results, log_of, pooled
from lastresort.gate.logs.logged import LoggedItem, LoggedMeasure, fingerprint
from lastresort.gate.suites.asking import AnswerBatches, Answered, who_answers
from lastresort.gate.suites.suite import SuiteItem
from lastresort.hardware.environment import version_of
from lastresort.records.responses import Asking, KeptAnswer, SuiteAnswers
from lastresort.stop import NEVER, Stop, check
from lastresort.types import JsonObject, Progress

if TYPE_CHECKING:
    from lastresort.models.local import LocalModel


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


@dataclass(frozen=True, slots=True)
class DocumentsToAsk:
    """Documents of a part. stage: for the progress."""

    part: MeasuredTasks
    items: Sequence[SuiteItem]
    stage: str


@dataclass(frozen=True, slots=True)
class HarnessRequest:
    """What lm-eval asks a model. method: of its `LM`. task: its name. arguments: of the method."""

    method: str
    task: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class HarnessReplies:
    """What a model replied. replies: one for each request, as the methods of an `LM` return them. failure: in their place, what is
    wrong with the task, wherever it is asked.
    """

    replies: tuple[Any, ...]
    seconds: float
    failure: JobFailure | None = None


@dataclass(slots=True)
class DocumentChunk:
    """A chunk of documents on its way.

    todo: the requests that a model has to answer; none where the answer was kept or there is a fault. fault: why there is no
    answer. score: makes the answer of the replies, and keeps it.
    """

    suite: str
    documents: int
    score: Callable[[HarnessReplies], KeptAnswer]
    todo: tuple[HarnessRequest, ...] = ()
    answer: KeptAnswer | None = None
    fault: DataError | None = None

    def take(self, replies_by_id: Mapping[str, HarnessReplies]) -> None:
        """Score what a model replied to all of `todo`."""
        [replies] = replies_by_id.values()
        try:
            self.answer = self.score(replies)
        except DataError as fault:
            self.fault = fault


def answered_here(model: LocalModel, chunks: Iterator[DocumentChunk], stop: Stop) -> Answered[DocumentChunk]:
    """One chunk after the other, by the model itself."""
    for chunk in chunks:
        if chunk.todo:
            chunk.take({"": reply(model, chunk.suite, chunk.todo)})
        yield chunk


def ask_each(
    model: LocalModel,
    suite: str,
    parts: Sequence[DocumentsToAsk],
    kept: SuiteAnswers,
    progress: Progress,
    stop: Stop = NEVER,
    answered: AnswerBatches[DocumentChunk] | None = None,
) -> list[HarnessAnswers | DataError]:
    """Ask every document of each part; a DataError for a part whose scores cannot be used. Chunks are the same for every model,
    because few-shot examples are drawn chunk by chunk. They come part after part, while workers may be ahead at later ones.
    answered: who replies, None for the model itself.
    """
    check(stop)
    if not parts:
        return []
    harness, key = _harness(model), Asking(who_answers(model), suite, VERSION, f"lm-eval {harness_version()}")
    pending = (chunk for part in parts for chunk in _pending(harness, key, part, kept))
    with closing((answered or answered_here)(model, pending, stop)) as chunks:
        return [_part_answers(suite, part, chunks, progress, stop) for part in parts]


def _part_answers(
    suite: str, documents: DocumentsToAsk, chunks: Iterator[DocumentChunk], progress: Progress, stop: Stop
) -> HarnessAnswers | DataError:
    progress.stage(documents.stage, len(documents.items))
    part_chunks: list[DocumentChunk] = []
    for chunk in islice(chunks, math.ceil(len(documents.items) / CHUNK)):
        part_chunks.append(chunk)
        progress.advance(chunk.documents)
        check(stop)
    if fault := _fault(part_chunks):
        return fault
    answers = [chunk.answer for chunk in part_chunks if chunk.answer is not None]
    by_task: dict[str, list[LoggedMeasure]] = defaultdict(list)
    for log in (log for answer in answers for log in (answer.said or {}).get("logs", ())):
        by_task[log["name"]].append(_measure_of(log))
    joined_logs = [
        replace(logs[0], items=tuple(item for log in logs for item in log.items)) for logs in by_task.values()
    ]
    part = documents.part
    groups = {part.name: frozenset(part.tasks)} if len(part.tasks) > 1 else {}
    try:
        logs = pooled(joined_logs, Results(groups=groups), suite)
    except DataError as fault:
        return fault
    return HarnessAnswers(
        tuple(logs),
        sum(answer.seconds for answer in answers),
        sum(chunk.documents for chunk in part_chunks if chunk.todo),
        sum(answer.tokens_in for answer in answers),
        sum(answer.tokens_out for answer in answers),
    )


def _fault(chunks: Sequence[DocumentChunk]) -> DataError | None:
    return next((chunk.fault for chunk in chunks if chunk.fault is not None), None)


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
    with quiet(SEED):
        from lm_eval.models.huggingface import HFLM

        tokenizer = model.spare_tokenizer  # lm-eval changes its padding
        lm = HFLM(
            pretrained=model.loaded.model,
            tokenizer=tokenizer,
            batch_size=model.batch_size,
            max_length=model.context_tokens,
            chat_template_args=model.template_kwargs,
        )
    return _Harness(lm, bool(tokenizer.chat_template))


def harness_version() -> str:
    """Empty where lm-eval is not installed."""
    return version_of("lm-eval") or ""


def _pending(harness: _Harness, key: Asking, documents: DocumentsToAsk, kept: SuiteAnswers) -> Iterator[DocumentChunk]:
    """Once one of them has a fault, the others are not asked."""
    chunks: list[DocumentChunk] = []
    for start in range(0, len(documents.items), CHUNK):
        items = documents.items[start : start + CHUNK]
        chunks.append(_chunk(harness, key, documents.part, items, kept, _fault(chunks)))
        yield chunks[-1]


def _chunk(
    harness: _Harness,
    key: Asking,
    part: MeasuredTasks,
    items: Sequence[SuiteItem],
    kept: SuiteAnswers,
    fault: DataError | None,
) -> DocumentChunk:
    """With the answer to these requests if it was kept."""
    samples: dict[str, list[int]] = defaultdict(list)
    for item in items:
        samples[item.family].append(item.number)
    # lm-eval numbers the documents in this order.
    numbers_by_task = {task: sorted(numbers) for task, numbers in sorted(samples.items())}
    name = fingerprint(numbers_by_task)
    openings: dict[str, str] = {}

    def score(harness_replies: HarnessReplies) -> KeptAnswer:
        if harness_replies.failure is not None:
            raise harness_replies.failure.error()
        start_s = time.perf_counter()
        with faults_of(key.suite):
            logs, *tokens = _evaluate(harness, part, numbers_by_task, chunk.todo, harness_replies.replies)
        seconds = harness_replies.seconds + time.perf_counter() - start_s
        answer = KeptAnswer({"logs": [asdict(log) for log in logs]}, seconds, *tokens)
        kept.put(key, openings, {name: answer})
        return answer

    chunk = DocumentChunk(key.suite, len(items), score, fault=fault)
    if fault is None:
        try:
            with faults_of(key.suite):
                requests, openings[name] = _requests(harness, part, numbers_by_task)
            chunk.answer = kept.known(key, openings).get(name)
            chunk.todo = () if chunk.answer is not None else requests
        except DataError as found:
            chunk.fault = found
    return chunk


def _requests(
    harness: _Harness, part: MeasuredTasks, samples: Mapping[str, list[int]]
) -> tuple[tuple[HarnessRequest, ...], str]:
    """The requests in the order in which lm-eval makes them, and a hash of them and of how they are scored."""
    definitions, by_method = [], defaultdict[str, list[HarnessRequest]](list)
    with quiet(SEED):
        for name, numbers in samples.items():
            task = _fresh(part.tasks[name])
            task.build_all_requests(
                samples=numbers,
                chat_template=harness.lm.apply_chat_template if harness.chat else None,
                **harness.rendering,
            )
            definitions.append([name, definition_of(task), [list(instance.args) for instance in task.instances]])
            for instance in task.instances:
                request = HarnessRequest(instance.request_type, str(instance.task_name), tuple(instance.args))
                by_method[instance.request_type] += [request] * instance.repeats
    return tuple(request for requests in by_method.values() for request in requests), fingerprint(definitions)


def reply(model: LocalModel, suite: str, requests: Sequence[HarnessRequest]) -> HarnessReplies:
    """What lm-eval's own wrapper of the model replies to the requests of a chunk: it cuts them into batches by itself. Here and at
    a worker these are the same. Raises InfrastructureError for what says nothing about the task.
    """
    start_s = time.perf_counter()
    harness = _harness(model)
    replies: list[Any] = []
    failure = None
    try:
        with faults_of(suite), quiet(SEED), _decoding_of_the_task(harness.lm.model):
            for method, alike in groupby(requests, key=lambda one: one.method):
                instances = [_instance(request) for request in alike]
                replies += getattr(harness.lm, method)(instances)
    except DataError as fault:
        failure = JobFailure.of(fault)
    return HarnessReplies(tuple(replies), time.perf_counter() - start_s, failure)


def _instance(request: HarnessRequest) -> Any:
    """As lm-eval has it, without the document."""
    from lm_eval.api.instance import Instance

    method: Any = request.method
    return Instance(method, {}, copy.deepcopy(request.arguments), 0, (request.task, None, 1))


class _Replied:
    """The model in lm-eval's loop, with the replies that it gave before. No subclass of lm-eval's `LM`, which is imported only
    where it is used.
    """

    rank, world_size = 0, 1

    def __init__(self, lm: Any, requests: Sequence[HarnessRequest], replies: Sequence[Any]) -> None:
        self._lm, self._left = lm, list(zip(requests, replies, strict=True))[::-1]

    @property
    def tokenizer_name(self) -> str:
        return str(self._lm.tokenizer_name)

    def apply_chat_template(self, *arguments: Any, **keys: Any) -> Any:
        return self._lm.apply_chat_template(*arguments, **keys)

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        return self._replies("loglikelihood", requests)

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[Any]:
        return self._replies("loglikelihood_rolling", requests)

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        return self._replies("generate_until", requests)

    def _replies(self, method: str, requests: Sequence[Any]) -> list[Any]:
        return [
            self._reply(HarnessRequest(method, str(request.task_name), tuple(request.args))) for request in requests
        ]

    def _reply(self, request: HarnessRequest) -> Any:
        expected_request, answer = self._left.pop()
        if expected_request != request:
            raise ValueError("it asks otherwise each time it is asked")
        return answer


def _evaluate(
    harness: _Harness,
    part: MeasuredTasks,
    samples: Mapping[str, list[int]],
    requests: Sequence[HarnessRequest],
    replies: Sequence[Any],
) -> tuple[list[LoggedMeasure], int, int]:
    """The logs, with the number of prompt and answer tokens."""
    with quiet(SEED):
        from lm_eval.evaluator import evaluate

        results = evaluate(
            lm=_Replied(harness.lm, requests, replies),
            task_dict={"tasks": {name: _fresh(part.tasks[name]) for name in samples}},
            samples=dict(samples),
            bootstrap_iters=0,
            log_samples=True,
            **harness.rendering,
        )
    logs = [
        log_of(name, results["samples"][name], results["higher_is_better"].get(name) or {}, f"lm_eval:{name}")
        for name in samples
    ]
    token_counts = [_tokens(harness.lm, row) for name in samples for row in results["samples"][name]]
    return logs, sum(read for read, _ in token_counts), sum(written for _, written in token_counts)


def _tokens(lm: Any, row: Mapping[str, Any]) -> tuple[int, int]:
    """Prompt tokens of a document, with its options, and answer tokens. A prefix that its requests share counts once."""

    def count(text: str) -> int:
        return len(lm.tok_encode(text))

    prompt_tokens = sum(map(count, {arguments[0] for arguments in row["arguments"]}))
    prompt_tokens += sum(
        count(text) for arguments in row["arguments"] for text in arguments[1:2] if isinstance(text, str)
    )
    answer_tokens = sum(count(text) for answers in row["resps"] for text in answers if isinstance(text, str))
    return prompt_tokens, answer_tokens


@contextmanager
def _decoding_of_the_task(model: Any) -> Iterator[None]:
    """Decode as the task says, with the model's own end tokens. `generate` takes what a task leaves open from generation_config, so
    a repetition penalty in only one of the two folders would count as a loss.
    """
    from transformers import GenerationConfig

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    own_config = causal.generation_config
    causal.generation_config = GenerationConfig(
        eos_token_id=own_config.eos_token_id, pad_token_id=own_config.pad_token_id
    )
    try:
        yield
    finally:
        causal.generation_config = own_config


def _fresh(task: Any) -> Any:
    """The task with its few-shot examples drawn from the start."""
    task.set_fewshot_seed(seed=SEED)
    return task


def _measure_of(body: Mapping[str, Any]) -> LoggedMeasure:
    items = tuple(LoggedItem(**item) for item in body["items"])
    notes, others = tuple(body["notes"]), tuple(body.get("others", ()))  # not kept at first
    return LoggedMeasure(body["name"], body["metric"], items, body["source"], notes, others=others)
