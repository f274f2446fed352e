"""From an input and a prompt design to the conversation for the model, and from the model's text to the answer.

The passages for an input are found in a store, or among passages that are known to be right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from lastresort.errors import DataError
from lastresort.knowledge.chunks import Chunk
from lastresort.knowledge.search import search
from lastresort.knowledge.sentence_models import Reranker
from lastresort.knowledge.store import Store
from lastresort.systems.system import PromptDesign, Retriever, Shot
from lastresort.types import Message

Conversation = tuple[tuple[str, str], ...]  # role and content of each turn
Passages = Mapping[Conversation, tuple[Chunk, ...]]


class Lookup(Protocol):
    """Finds the passages for an input, the best last: next to the question it has the most influence."""

    def __call__(self, turns: Sequence[Message]) -> tuple[Chunk, ...]: ...


SEARCHED_FOR = 5  # passages at least, as many as a climb tries unless its task says otherwise
MOST_KEPT = 4096  # results of a store: more questions than a task has, and no more memory however long it is served


def question_of(turns: Sequence[Message]) -> str:
    """The text to search for: the last user turn."""
    return next((turn.content for turn in reversed(turns) if turn.role == "user"), "")


def conversation(turns: Sequence[Message]) -> Conversation:
    """The conversation as a key. The last question alone is not enough, as its answer depends on the turns before."""
    return tuple((turn.role, turn.content) for turn in turns)


Rankings = dict[str, tuple[int, tuple[Chunk, ...]]]
"""By question how many passages were searched for, and those that were found, the best first."""


class StoreLookup:
    """Searches an open store, one question at a time as in serving, so the result never depends on other questions.

    The newest results are kept, because a climb repeats the same questions. kept: shared by lookups that differ in k alone, whose
    results begin alike.
    """

    def __init__(
        self, retriever: Retriever, store: Store, reranker: Reranker | None = None, kept: Rankings | None = None
    ) -> None:
        self._retriever, self._store, self._reranker = retriever, store, reranker
        self._kept: Rankings = {} if kept is None else kept

    def __call__(self, turns: Sequence[Message]) -> tuple[Chunk, ...]:
        question, k = question_of(turns), self._retriever.k
        searched, found = self._kept.get(question, (0, ()))
        if searched < k:
            searched = max(k, SEARCHED_FOR)
            hits = search(self._store, question, k=searched, mode=self._retriever.mode, reranker=self._reranker)
            found = tuple(hit.chunk for hit in hits)
            self._kept.pop(question, None)
            while len(self._kept) >= MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[question] = searched, found
        return found[:k][::-1]


class KnownPassages:
    """The passages that are known to be right, by conversation. They show the ceiling of any retriever."""

    def __init__(self, passages: Passages, otherwise: Lookup) -> None:
        self._passages, self._otherwise = passages, otherwise

    def __call__(self, turns: Sequence[Message]) -> tuple[Chunk, ...]:
        key = conversation(turns)
        return self._passages[key] if key in self._passages else self._otherwise(turns)


class Lookups:
    """Opens each store and reranker once. Loading an embedder takes a second, and all candidates share it."""

    def __init__(self) -> None:
        self._stores: dict[tuple[Path, str], Store] = {}
        self._rerankers: dict[str, Reranker] = {}
        self._lookups: dict[Retriever, StoreLookup] = {}
        self._kept: dict[Retriever, Rankings] = {}

    def of(self, retriever: Retriever) -> Lookup:
        """Raises DataError if there is no store, it is damaged, or the store or the reranker is not the measured one."""
        if retriever not in self._lookups:
            kept = self._kept.setdefault(replace(retriever, k=1, request=""), {})
            self._lookups[retriever] = StoreLookup(retriever, self._store(retriever), self._reranker(retriever), kept)
        return self._lookups[retriever]

    def _store(self, retriever: Retriever) -> Store:
        from lastresort.knowledge.store import content_hash, open_store

        key = (retriever.store, retriever.contents)
        if key not in self._stores:
            store = open_store(retriever.store)
            found = content_hash(store) if retriever.contents else ""
            if found != retriever.contents:
                raise DataError(
                    "the store holds other passages than the system was measured with",
                    where=str(retriever.store),
                    expected=f"contents {retriever.contents[:16]}, not {found[:16]}",
                    remedy="Put back the store it was measured with, or climb again.",
                )
            self._stores[key] = store
        return self._stores[key]

    def _reranker(self, retriever: Retriever) -> Reranker | None:
        from lastresort.knowledge.sentence_models import open_reranker

        name, measured = retriever.reranker, retriever.reranker_fingerprint
        if name is None:
            return None
        if name not in self._rerankers:
            self._rerankers[name] = open_reranker(name)
        found = self._rerankers[name].fingerprint
        if measured and found != measured:
            raise DataError(
                "the reranker is not the one that the system was measured with",
                where=name,
                expected=f"fingerprint {measured[:16]}, not {found[:16]}",
                remedy="Put back the one it was measured with, or climb again.",
            )
        return self._rerankers[name]


def render_passages(passages: Sequence[Chunk]) -> str:
    """Passages numbered from 1, each below its source and headings, separated by blank lines."""
    return "\n\n".join(f"[{number}] {_title(chunk)}\n{chunk.text.strip()}" for number, chunk in enumerate(passages, 1))


def _title(chunk: Chunk) -> str:
    return ": ".join(part for part in (chunk.document, " > ".join(chunk.headings)) if part)


REASONING_REQUEST = 'Think step by step first. Then give the final answer on a new line that starts with "Answer:".'
ANSWER_MARK = re.compile(r"(?:^|\n)[ \t>*#]*(?:final )?answer[*]*[ \t]*:[*]*[ \t]*", re.IGNORECASE)


def compose(
    design: PromptDesign,
    turns: Sequence[Message],
    shots: Sequence[Shot],
    lookup: Lookup | None = None,
    request: str = "",
) -> tuple[Message, ...]:
    """The whole conversation: one system turn, the shots as solved turns, then the input.

    turns: the input. Its own system turns are appended to the instruction. shots: those for this input, in order. lookup: finds
    the passages that go before the input. The input of each shot gets its passages, too, so a shot shows how to use them.
    request: the instruction about passages. It and the shots come first and are shared by all prompts.
    """
    own = [turn.content for turn in turns if turn.role == "system"]
    instruction = "\n\n".join(part for part in (_instruction(design), request if lookup else "", *own) if part).strip()
    conversation = [Message("system", instruction)] if instruction else []
    for shot in shots:
        conversation += _input_turns(design, shot.input, lookup)
        conversation.append(Message("assistant", shot.output))
    conversation += _input_turns(design, turns, lookup)
    return tuple(conversation)


def extract(design: PromptDesign, text: str) -> str:
    """The answer in the model's text: all of it, or with reasoning what follows the last "Answer:"."""
    if not design.reasoning:
        return text.strip()
    marks = list(ANSWER_MARK.finditer(text))
    return text[marks[-1].end() :].strip() if marks else text.strip()


class AnswerText:
    """What is shown of an answer while the model's text grows: no white space around it, and none of the reasoning."""

    def __init__(self, design: PromptDesign) -> None:
        self._design, self._received, self._shown = design, "", ""

    def grow(self, more: str) -> str:
        """What can be shown next, if the model's text goes on with `more`."""
        self._received += more
        return "" if self._design.reasoning else self._next(self._received.strip())

    def finish(self, text: str) -> str:
        """What is left to show, if `text` is the model's whole text."""
        return self._next(extract(self._design, text))

    def _next(self, text: str) -> str:
        more, self._shown = text[len(self._shown) :], text
        return more


def _instruction(design: PromptDesign) -> str:
    parts = [design.instruction] if design.instruction else []
    if design.reasoning:
        parts.append(REASONING_REQUEST)
    return "\n\n".join(parts)


def _input_turns(design: PromptDesign, turns: Sequence[Message], lookup: Lookup | None) -> list[Message]:
    """The turns except system turns, with the passages before the last user turn."""
    conversation = [turn for turn in turns if turn.role != "system"]
    passages = lookup(turns) if lookup is not None else ()
    last = max((place for place, turn in enumerate(conversation) if turn.role == "user"), default=-1)
    return [_wrap(design, turn, passages if place == last else ()) for place, turn in enumerate(conversation)]


def _wrap(design: PromptDesign, turn: Message, passages: Sequence[Chunk]) -> Message:
    if turn.role != "user":
        return turn
    shown = render_passages(passages)
    if design.layout == "plain":
        content = f"{shown}\n\nQuestion: {turn.content}" if shown else turn.content
    else:
        content = f"<input>\n{turn.content}\n</input>"
        content = f"<passages>\n{shown}\n</passages>\n{content}" if shown else content
    return Message(turn.role, content, turn.extra)
