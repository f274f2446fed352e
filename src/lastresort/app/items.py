"""One answer of a run, looked at: the prompt that it answered, made again from the run's folder without opening a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lastresort.errors import LastresortError
from lastresort.types import Message

if TYPE_CHECKING:
    from lastresort.knowledge.chunks import Chunk
    from lastresort.records.items import RecordedItem
    from lastresort.records.record import Record
    from lastresort.systems.system import System
    from lastresort.types import Example

MOST_RUNS = 2  # whose examples are kept in memory
MOST_TOKENS = 6_000  # that are shown one by one
_UNREAD = ("path", "preferences", "reward", "knowledge")  # of the task, which may be gone


@dataclass(frozen=True, slots=True)
class RemadePrompt:
    """turns: of the conversation that the model was to answer. passages: of those in it that the store still holds, in their order.

    as_read: whether its input is the example's own, and not its recorded text as one turn. lost: passages that the store does not
    hold any more. shots_lack_passages: whether solved examples had passages, which are not recorded. folder: of the system.
    row: of the file of examples, from 1, 0 where it was not read.
    """

    system: System
    folder: Path
    turns: tuple[Message, ...]
    passages: tuple[Chunk, ...]
    as_read: bool
    lost: tuple[str, ...]
    shots_lack_passages: bool
    row: int = 0

    @property
    def exact(self) -> bool:
        return self.as_read and not self.lost and not self.shots_lack_passages

    @property
    def tuned(self) -> bool:
        return self.system.adapter is not None or bool(self.system.tuned_from)


@dataclass(frozen=True, slots=True)
class ScoreReason:
    """What a score comes from. scorer: its name, "" where the task does not say. judge: its model, None without one.

    verdicts: of the judge on this answer, None where it was not asked. Of a comparison with the expected answer the first has the
    answer as A and the second as B; none at all where both are the same text.
    """

    scorer: str
    judge: str | None = None
    compares: bool = False
    verdicts: tuple[str, ...] | None = None


def scorer_of(record: Record) -> str:
    """The name of the run's scorer, "" where its task does not say."""
    from lastresort.records.events.run import TaskRead

    task_read = record.last(TaskRead)
    score = None if task_read is None else task_read.task.get("score")
    return score if isinstance(score, str) else str(next(iter(score), "")) if isinstance(score, dict) else ""


def score_reason(record: Record, recorded_item: RecordedItem) -> ScoreReason:
    from lastresort.climb.llm_judge import answer_hash
    from lastresort.records.events.run import JudgeOpened

    scorer, judge = scorer_of(record), record.last(JudgeOpened)
    if judge is None:
        return ScoreReason(scorer)
    verdicts = record.verdicts_on(recorded_item.item.id, answer_hash(recorded_item.item.answer))
    return ScoreReason(scorer, judge.model, judge.asks == "comparison", verdicts)


@dataclass(frozen=True, slots=True)
class ShownToken:
    """text: of this token alone. trained: whether a training on such a row teaches it."""

    id: int
    text: str
    trained: bool


@dataclass(frozen=True, slots=True)
class RenderedTokens:
    """prompt: how many the model read before it answered. tokens: the first of prompt and answer. left: how many more."""

    prompt: int
    tokens: tuple[ShownToken, ...]
    left: int


def remade_prompt(
    record: Record, recorded_item: RecordedItem, within: Path, examples: HeldOutExamples | None = None
) -> RemadePrompt | None:
    """None where the run does not hold the system any more.

    within: examples are read again only where the task file lies in this folder: a run may be somebody else's. examples: that were
    read for other items.
    Raises DataError where system or store are damaged.
    """
    from lastresort.knowledge.store import chunks_on_disk
    from lastresort.systems.answerer import NearestShots, shots_for
    from lastresort.systems.compose import KnownPassages, compose, conversation
    from lastresort.systems.files import FILE, candidate_folder, load_system

    folder = candidate_folder(record.folder, recorded_item.system.rung, recorded_item.system.candidate)
    if not (folder / FILE).is_file():
        return None
    system = load_system(folder)
    example = _example(record, recorded_item, within, examples or HeldOutExamples())
    turns = (Message("user", recorded_item.item.input),) if example is None else example.input
    [shots] = shots_for(system.prompt, [turns], lambda: NearestShots(system.prompt.shots))
    chunk_ids, retriever = recorded_item.item.passages, system.retriever
    chunks = {} if retriever is None else {chunk.id: chunk for chunk in chunks_on_disk(retriever.store, chunk_ids)}
    passages = tuple(chunks[name] for name in chunk_ids if name in chunks)
    known_passages = KnownPassages({conversation(turns): passages}, lambda turns: ())
    return RemadePrompt(
        system=system,
        folder=folder,
        turns=compose(
            system.prompt,
            turns,
            shots,
            None if retriever is None else known_passages,
            "" if retriever is None else retriever.request,
        ),
        passages=passages,
        as_read=example is not None,
        row=0 if example is None else example.row,
        lost=tuple(name for name in chunk_ids if name not in chunks),
        shots_lack_passages=retriever is not None and bool(shots),
    )


def rendered_tokens(prompt: RemadePrompt, answer: str) -> RenderedTokens | None:
    """Prompt and answer as tokens; None where the model's tokenizer is not on this machine.

    Raises DataError where the chat template refuses the turns.
    """
    from lastresort.data.rendering import render_prompt, render_training
    from lastresort.models.tokenizer import tokenizer_on_disk

    system = prompt.system
    on_disk = tokenizer_on_disk(system.model, prompt.folder)
    if on_disk is None:
        return None
    tokenizer, arguments = on_disk.tokenizer, system.template_kwargs
    prompt_ids = render_prompt(tokenizer, prompt.turns, template_kwargs=arguments)
    ids, targets = tuple(prompt_ids), (False,) * len(prompt_ids)
    if answer.strip():
        row: Sequence[Message] = (*prompt.turns, Message("assistant", answer))
        rendered = render_training(tokenizer, row, trained_turns="last", template_kwargs=arguments)
        ids, targets = rendered.ids, rendered.targets
    shown_tokens = [
        ShownToken(token, str(tokenizer.decode([token])), target and prompt.tuned)
        for token, target in zip(ids[:MOST_TOKENS], targets, strict=False)
    ]
    return RenderedTokens(len(prompt_ids), tuple(shown_tokens), max(0, len(ids) - MOST_TOKENS))


def _example(record: Record, recorded_item: RecordedItem, within: Path, examples: HeldOutExamples) -> Example | None:
    """The example as its file holds it, None where that is not there any more or not as the run read it."""
    from lastresort.records.view import task_file_of

    try:
        if not task_file_of(record, record.folder).resolve().is_relative_to(within.resolve()):
            return None
        examples_of_id = examples.of(record).get(recorded_item.item.id, ())
    except LastresortError:
        return None
    return next((one for one in examples_of_id if one.input_text == recorded_item.item.input), None)


@dataclass(slots=True)
class HeldOutExamples:
    """Dev and test of the last runs that were asked for, by the id of an item: read again only once a file has changed."""

    _known: dict[Path, tuple[object, tuple[Path, ...], dict[str, list[Example]]]] = field(default_factory=dict)

    def of(self, record: Record) -> dict[str, list[Example]]:
        """Raises LastresortError where the files are not as the run read them."""
        from lastresort.after.recheck.finished import read_again

        known_run = self._known.get(record.folder)
        if known_run is not None and known_run[0] == _state(record, known_run[1]):
            return known_run[2]
        path, _, prepared = read_again(record.folder, record, without=_UNREAD)
        example_files = prepared.task.examples
        paths = (
            path,
            *(
                one
                for one in (example_files.all, example_files.train, example_files.dev, example_files.test)
                if one is not None
            ),
        )
        by_id: dict[str, list[Example]] = {}
        for one in (*prepared.split.dev, *prepared.split.test):
            by_id.setdefault(one.id, []).append(one)
        self._known.pop(record.folder, None)
        self._known[record.folder] = _state(record, paths), paths, by_id
        for oldest in list(self._known)[:-MOST_RUNS]:
            self._known.pop(oldest, None)
        return by_id


def _state(record: Record, paths: Sequence[Path]) -> object:
    """Changes with the files, and with what the run says that it read."""
    from lastresort.records.events.run import FilesRead

    files = record.last(FilesRead)
    stats = [path.stat() if path.is_file() else None for path in paths]
    return files, [stat and (stat.st_mtime_ns, stat.st_size) for stat in stats]
