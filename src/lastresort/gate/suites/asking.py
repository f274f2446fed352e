"""A model, a suite and items -> the transcripts, in rounds.

Items are asked in batches that are cut from their order before the first call and never regrouped: in reduced precision an
answer can depend on its batch. Those that begin alike go together, since a few answers in words among many likelihoods would be
computed nearly one by one. A batch is kept as soon as all its rounds are done, and is the unit of resuming.

All projects of a user share the answers of a base to the suites that hold nothing of a task. The key covers the model, what
computes it, and everything that decides the questions. Machines may share a user's folder, and the kept seconds of a pilot set the
size of a quick gate, so the processor and the card are part of it. It leaves out what changes an answer by rounding alone: the
batch in reduced precision, and the threads. Rounding decides only between answers that are almost equally likely, and does so
whatever the tuned model says. It adds a little noise to a pair of scores and favours neither side.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from lastresort.embedded import cache_folder
from lastresort.errors import ContractError
from lastresort.gate.suites.suite import (
    ChoiceRequest,
    Question,
    SideName,
    Suite,
    SuiteItem,
    SuiteReply,
    TextRequest,
    Transcript,
)
from lastresort.hardware.environment import answered_with
from lastresort.models.protocol import Model
from lastresort.records.responses import SUITE_MIGRATIONS, Asking, KeptAnswer, SuiteAnswers
from lastresort.spec.sections import SUITES
from lastresort.stop import NEVER, Stop, check
from lastresort.types import SILENT, Message, Progress

_Round = list[tuple[SuiteItem, Question]]
_Counted = tuple[SuiteReply, int, int]  # a reply, its prompt tokens and its answer tokens


@dataclass(frozen=True, slots=True)
class SuiteReplies:
    """The replies of one model to the items of a suite.

    transcripts: by item id, of those that could be asked. left_out: ids of items that do not fit the model's context. new: how many
    were asked now; the others were kept. seconds_by_item, tokens_in, tokens_out: of all of them, whenever they were asked.
    """

    transcripts: dict[str, Transcript]
    left_out: tuple[str, ...]
    new: int
    seconds_by_item: dict[str, float]
    tokens_in: int
    tokens_out: int

    @property
    def seconds(self) -> float:
        """Of all of them."""
        return sum(self.seconds_by_item.values())

    def with_transcripts(self, items: Sequence[SuiteItem]) -> list[tuple[SuiteItem, Transcript]]:
        """The items that could be asked, each with its transcript, in the order given."""
        return [(item, self.transcripts[item.id]) for item in items if item.id in self.transcripts]


def joined(parts: Sequence[SuiteReplies]) -> SuiteReplies:
    """The replies to items that were asked part after part."""
    return SuiteReplies(
        transcripts={name: said for part in parts for name, said in part.transcripts.items()},
        left_out=tuple(name for part in parts for name in part.left_out),
        new=sum(part.new for part in parts),
        seconds_by_item={name: seconds for part in parts for name, seconds in part.seconds_by_item.items()},
        tokens_in=sum(part.tokens_in for part in parts),
        tokens_out=sum(part.tokens_out for part in parts),
    )


@dataclass(frozen=True, slots=True)
class SuitePart:
    """Items of a suite to ask. kept: of their answers. stage: for the progress, None where its caller says it."""

    suite: Suite
    items: Sequence[SuiteItem]
    kept: SuiteAnswers | None = None
    stage: str | None = None


@dataclass(slots=True)
class SuiteBatch:
    """A batch of a suite on its way.

    todo: the items that a model has to answer; none if all are known, and the whole batch if an answer can depend on it. openings:
    see `SuiteAnswers`. answers: that are known so far, by item id. new: how many of them a model gave now. kept: where they are,
    under `key`.
    """

    suite: Suite
    items: Sequence[SuiteItem]
    todo: Sequence[SuiteItem]
    openings: Mapping[str, str]
    answers: dict[str, KeptAnswer]
    kept: SuiteAnswers | None
    key: Asking
    new: int = 0

    def take(self, answers: Mapping[str, KeptAnswer]) -> None:
        """Keep what a model answered to all of `todo`."""
        fresh = {name: answer for name, answer in answers.items() if name not in self.answers}
        self.new = len(fresh)
        self.answers |= fresh
        if self.kept is not None:
            self.kept.put(self.key, self.openings, fresh)
            self.answers |= self.kept.known(self.key, self.openings)  # of two gates at once, what the first one kept


B = TypeVar("B")
Answered = Generator[B, None, None]
# Yields the batches of one suite or several, each in its order once it is answered. The model is the one that is open here.
AnswerBatches = Callable[[Model, Iterator[B], Stop], Answered[B]]


def answered_here(clock: Callable[[], float] = time.perf_counter) -> AnswerBatches[SuiteBatch]:
    """One batch after the other, by the model itself."""

    def answer(model: Model, batches: Iterator[SuiteBatch], stop: Stop) -> Answered[SuiteBatch]:
        for batch in batches:
            if batch.todo:
                batch.take(answer_batch(model, batch.suite, batch.todo, clock))
            yield batch

    return answer


def ask(
    model: Model,
    suite: Suite,
    items: Sequence[SuiteItem],
    kept: SuiteAnswers | None = None,
    *,
    progress: Progress = SILENT,
    stop: Stop = NEVER,
    answered: AnswerBatches[SuiteBatch] | None = None,
) -> SuiteReplies:
    """`ask_each` of one suite."""
    [replies] = ask_each(model, [SuitePart(suite, items, kept)], progress=progress, stop=stop, answered=answered)
    return replies


def ask_each(
    model: Model,
    parts: Sequence[SuitePart],
    *,
    progress: Progress = SILENT,
    stop: Stop = NEVER,
    answered: AnswerBatches[SuiteBatch] | None = None,
) -> list[SuiteReplies]:
    """Ask the model every item of each part to its end. Replies come part after part, while workers may be ahead at later ones.

    An infrastructure failure is raised, never scored; finished batches are kept. stop: checked before the first batch and after
    each; a request raises its StoppedError. answered: who answers, None for the model itself. If an answer can depend on its batch,
    a batch with any new item is asked as a whole, and the kept answers stay. Raises ContractError for a suite that uses a key
    twice, or asks for likelihoods of a model without them.
    """
    batched = [(part, list(_batches(part.suite, part.items, model.batch_size))) for part in parts]
    pending = (batch for part, part_batches in batched for batch in _pending(model, part, part_batches))
    with closing((answered or answered_here())(model, pending, stop)) as batches:
        return [
            _part_replies(part, islice(batches, len(part_batches)), progress, stop) for part, part_batches in batched
        ]


def _part_replies(part: SuitePart, batches: Iterator[SuiteBatch], progress: Progress, stop: Stop) -> SuiteReplies:
    """batches: of this part, in order."""
    items = part.items
    if part.stage is not None:
        progress.stage(part.stage, len(items))
    check(stop)
    answers: dict[str, KeptAnswer] = {}
    n_new = 0
    for batch in batches:
        answers |= batch.answers
        n_new += batch.new
        progress.advance(len(batch.items))
        check(stop)
    return SuiteReplies(
        transcripts={item.id: transcript_of(body) for item in items if (body := answers[item.id].said) is not None},
        left_out=tuple(item.id for item in items if answers[item.id].said is None),
        new=n_new,
        seconds_by_item={item.id: answers[item.id].seconds for item in items},
        tokens_in=sum(answers[item.id].tokens_in for item in items),
        tokens_out=sum(answers[item.id].tokens_out for item in items),
    )


def _pending(model: Model, part: SuitePart, batches: Sequence[Sequence[SuiteItem]]) -> Iterator[SuiteBatch]:
    suite, answers, key = part.suite, part.kept, answers_key(model, part.suite)
    for batch in batches:
        openings = {item.id: _opening(suite, item) for item in batch}
        known = answers.known(key, openings) if answers is not None else {}
        unknown = [item for item in batch if item.id not in known]
        todo = batch if unknown and model.batch_matters else unknown
        yield SuiteBatch(suite, batch, todo, openings, known, answers, key)


def answers_key(model: Model, suite: Suite) -> Asking:
    """The key under which the answers of this model to this suite are kept."""
    return Asking(who_answers(model), suite.name, suite.version, str(getattr(suite, "mode", "")))


def who_answers(model: Model) -> str:
    """Hash of the model and of what computes it here: answers by other versions of libraries can differ by more than rounding."""
    computer = ", ".join(f"{name} {version}" for name, version in answered_with().items())
    computed_by = f"{model.computed_by} of {computer}" if model.computed_by else ""
    return hashlib.sha256(f"{model.fingerprint}\n{computed_by}".encode()).hexdigest()


ANSWERS = "suite_answers.sqlite"  # in the folder that the runs of a workspace share
# In the user's cache. A newer schema gets its own file, since an older program would take it for damaged.
BASE_ANSWERS = f"base_answers-v{len(SUITE_MIGRATIONS)}.sqlite"


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """What both models said in this gate or an earlier one, by where it is kept."""

    user: SuiteAnswers
    workspace: SuiteAnswers

    def of(self, side: SideName, suite: str) -> SuiteAnswers:
        """suite: one of `spec.sections.SUITES`."""
        return self.user if side == "base" and not SUITES[suite].of_task else self.workspace


@contextmanager
def kept_answers(shared: Path, *, scores: bool) -> Iterator[KeptAnswers]:
    """The base's answers are kept in the user's cache, shared by all projects, or in the workspace if the cache cannot be written.
    Answers of the tuned model, of endpoints, and to questions that can hold something of the task stay in the workspace: an
    endpoint is known only by its address, and its weights may change.

    shared: the folder that the runs of the workspace share. scores: whether the base has local weights.
    """
    with SuiteAnswers(shared / ANSWERS) as workspace:
        if not scores:
            yield KeptAnswers(workspace, workspace)
            return
        path = cache_folder() / BASE_ANSWERS
        with SuiteAnswers(path, journal="DELETE", private=True, instead=workspace) as user:
            yield KeptAnswers(user, workspace)


def transcript_of(body: dict[str, Any]) -> Transcript:
    """From what `SuiteAnswers` keeps."""
    return {key: SuiteReply(reply["text"], tuple(reply["logps"]), reply["finish"]) for key, reply in body.items()}


def _batches(suite: Suite, items: Sequence[SuiteItem], size: int) -> Iterator[list[SuiteItem]]:
    """Items whose first questions are of the same kinds, in their order."""
    kinds: dict[tuple[Any, ...], list[SuiteItem]] = {}
    for item in items:
        kinds.setdefault(tuple(_kind(question) for question in suite.ask(item, {})), []).append(item)
    for alike in kinds.values():
        for start in range(0, len(alike), size):
            yield alike[start : start + size]


def _kind(question: Question) -> str:
    return repr(question.decoding) if isinstance(question, TextRequest) else "chosen"


def answer_batch(
    model: Model, suite: Suite, batch: Sequence[SuiteItem], clock: Callable[[], float] = time.perf_counter
) -> dict[str, KeptAnswer]:
    """The answers of a model to a batch, by item id. Each has its share of the seconds."""
    start_s = clock()
    answers = _batch(model, suite, batch)
    share = (clock() - start_s) / len(batch)
    return {name: replace(answer, seconds=share) for name, answer in answers.items()}


def _batch(model: Model, suite: Suite, batch: Sequence[SuiteItem]) -> dict[str, KeptAnswer]:
    """Round after round until no item has a question left. An item that does not fit the context in some round has no answer."""
    transcripts: dict[str, Transcript] = {item.id: {} for item in batch}
    too_long: set[str] = set()
    tokens_in, tokens_out = Counter[str](), Counter[str]()
    while True:
        open_questions = [
            (item, question)
            for item in batch
            if item.id not in too_long
            for question in suite.ask(item, transcripts[item.id])
        ]
        too_long |= {item.id for item, question in open_questions if not _has_room(model, question)}
        open_questions = [(item, question) for item, question in open_questions if item.id not in too_long]
        if not open_questions:
            bodies = {
                name: None if name in too_long else {key: asdict(reply) for key, reply in replies.items()}
                for name, replies in transcripts.items()
            }
            return {name: KeptAnswer(body, 0.0, tokens_in[name], tokens_out[name]) for name, body in bodies.items()}
        for (item, question), (reply, prompt_tokens, answer_tokens) in zip(
            open_questions, _replies(model, open_questions), strict=True
        ):
            if question.key in transcripts[item.id]:
                raise ContractError(f'asks "{question.key}" of {item.id} twice', where=suite.name)
            transcripts[item.id][question.key] = reply
            tokens_in[item.id] += prompt_tokens
            tokens_out[item.id] += answer_tokens


def _replies(model: Model, open_questions: _Round) -> list[_Counted]:
    """In the order asked. Those of one kind go together: the likelihoods, and answers by how they are decoded."""
    replies: dict[int, _Counted] = {}
    for places in _by_kind(open_questions):
        questions = [open_questions[place][1] for place in places]
        replies |= zip(places, _of_a_kind(model, questions), strict=True)
    return [replies[place] for place in range(len(open_questions))]


def _by_kind(open_questions: _Round) -> Iterator[list[int]]:
    kinds: dict[str, list[int]] = {}
    for place, (_, question) in enumerate(open_questions):
        kinds.setdefault(_kind(question), []).append(place)
    yield from kinds.values()


def _of_a_kind(model: Model, questions: Sequence[Question]) -> list[_Counted]:
    choices = [question for question in questions if isinstance(question, ChoiceRequest)]
    if choices:
        return _likeliest(model, choices)
    first = questions[0]
    assert isinstance(first, TextRequest)
    answers = model.generate([question.prompt for question in questions], first.decoding)
    return [
        (SuiteReply(answer.text, (), answer.finish), answer.prompt_tokens, answer.completion_tokens)
        for answer in answers
    ]


def _likeliest(model: Model, questions: Sequence[ChoiceRequest]) -> list[_Counted]:
    if model.score is None:
        raise ContractError("gives no likelihoods of answers", where=model.name, expected="a local model")
    logps_by_question = model.score(
        [question.prompt for question in questions], [question.options for question in questions]
    )
    turn = model.count_tokens((Message("user", ""),))
    return [
        (SuiteReply(question.options[max(range(len(logps)), key=logps.__getitem__)], tuple(logps)), read, 0)
        for question, logps in zip(questions, logps_by_question, strict=True)
        for read in (_read(model, question, turn),)
    ]


def _read(model: Model, question: ChoiceRequest, turn: int) -> int:
    """Tokens of the prompt and of its options. turn: those of the turn around an option, which is not read."""
    options = sum(model.count_tokens((Message("user", option),)) - turn for option in question.options)
    return model.count_tokens(question.prompt) + options


def _has_room(model: Model, question: Question) -> bool:
    if model.context_tokens is None:
        return True
    if isinstance(question, TextRequest):
        answer = question.decoding.max_new_tokens
    else:  # with the turn around it, a little more than the option alone takes
        answer = max(model.count_tokens((Message("user", option),)) for option in question.options)
    return model.count_tokens(question.prompt) + answer <= model.context_tokens


def _opening(suite: Suite, item: SuiteItem) -> str:
    """Hash of the item's first questions and of its facts, which decide the later ones. Answers are kept under it."""
    questions = [
        ["Written" if isinstance(question, TextRequest) else "Chosen", _body(question)]
        for question in suite.ask(item, {})
    ]
    body = [item.facts, *questions]
    return hashlib.sha256(json.dumps(body, ensure_ascii=True).encode()).hexdigest()


def _body(question: Question) -> dict[str, Any]:
    body = asdict(question)
    return {**body, "decoding": question.decoding.as_dict()} if isinstance(question, TextRequest) else body
