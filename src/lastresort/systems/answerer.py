"""Answer inputs with a system: its model and store are open, and its shots are indexed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any, Self, TypeAlias

from lastresort.data.formats.rows import RawRow, kind_of
from lastresort.data.formats.shape import message_of
from lastresort.errors import ContractError, DataError, InputError
from lastresort.knowledge.chunks import Chunk
from lastresort.models.protocol import Model, OnAnswer, Prompt
from lastresort.stop import Stop, check
from lastresort.systems.compose import AnswerText, Lookup, Lookups, compose, extract
from lastresort.systems.system import PromptDesign, Shot, System
from lastresort.types import Answer, Decoding, Message

Input: TypeAlias = "str | Sequence[Message | Mapping[str, object]]"
"""A user's text, or a conversation: its messages as they are written for endpoints will do."""
AT_ONCE = 32  # inputs whose similarity to every example is held in memory


def text_of(turns: Sequence[Message]) -> str:
    return "\n".join(turn.content for turn in turns if turn.role != "system")


def _as_turns(given: Input, where: str) -> Sequence[Message]:
    """Raises InputError for what is neither text nor a list of messages, DataError for a message that cannot be read."""
    if isinstance(given, str):
        return (Message("user", given),)
    if isinstance(given, Mapping | Message) or not isinstance(given, Sequence) or not given:
        raise InputError(
            f"found {'one message' if isinstance(given, Mapping | Message) else kind_of(given)}",
            where=where,
            expected="text, or a conversation as a list of messages",
            remedy='Write [{"role": "user", "content": "…"}] for a conversation.',
        )
    row = RawRow({}, 1, where)
    return [
        turn if isinstance(turn, Message) else message_of(turn, row, f"[{index}]") for index, turn in enumerate(given)
    ]


class NearestShots:
    """Finds the solved examples most similar to an input, by cosine similarity of TF-IDF over words and word pairs.

    It needs no model and no download, and exact words matter in narrow tasks.
    """

    def __init__(self, pool: Sequence[Shot]) -> None:
        self._pool = tuple(pool)
        self._vectorizer, self._rows = _index_of(tuple(text_of(shot.input) for shot in pool))

    def choose(self, inputs: Sequence[Sequence[Message]], k: int) -> list[tuple[Shot, ...]]:
        """The k nearest to each input, the nearest last: next to the input it has the most influence. Ties keep the
        pool's order.
        """
        import numpy

        chosen = list[tuple[Shot, ...]]()
        for start in range(0, len(inputs), AT_ONCE):
            queries = self._vectorizer.transform([text_of(turns) for turns in inputs[start : start + AT_ONCE]])
            for similarity in (self._rows @ queries.T).toarray().T:
                order = numpy.argsort(-similarity, kind="stable")[:k]
                chosen.append(tuple(self._pool[i] for i in reversed(order)))
        return chosen


@lru_cache(maxsize=2)
def _index_of(pool: tuple[str, ...]) -> tuple[Any, Any]:
    """The vectorizer and a row for each text. The systems of a climb differ in how many they show, not in the pool, so that the
    index is kept for the next one. What is looked up is not kept: a server looks up the texts of its users.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer: Any = TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), strip_accents="unicode", token_pattern=r"(?u)\S+"
    )
    return vectorizer, vectorizer.fit_transform(pool)


class Answerer:
    """Answers inputs with a system. The caller opens the model and may share it among systems.

    lookup: finds the passages. By default the system's own retriever, if it has one.
    Raises DataError if the model is not the one that the system was measured with, or renders conversations differently.
    """

    def __init__(self, system: System, model: Model, lookup: Lookup | None = None) -> None:
        _refuse_other_rendering(system, model)
        rendering = model.rendering
        if system.rendering and rendering and rendering != system.rendering:
            raise DataError(
                f"the chat template of {model.name} differs from the one that system {system.name} was measured with",
                where="system.yaml",
                expected=f"rendering {system.rendering}, not {rendering}",
                remedy="Load the model and chat_template_kwargs it was measured with, or climb again.",
            )
        if system.fingerprint and model.fingerprint and model.fingerprint != system.fingerprint:
            raise DataError(
                f"the weights, precision or template of {model.name} differ from what system {system.name} was measured with",
                where="system.yaml",
                expected=f"fingerprint {system.fingerprint[:16]}, not {model.fingerprint[:16]}",
                remedy="Put back the model, adapter and precision it was measured with, or climb again.",
            )
        self.system, self.model = system, model
        if lookup is None and system.retriever is not None:
            lookup = Lookups().of(system.retriever)
        self._lookup = lookup
        self._is_closed = False

    def through(self, model: Model) -> Answerer:
        """The same system, answered by this model."""
        return Answerer(self.system, model, self._lookup)

    def with_decoding(self, decoding: Decoding) -> Answerer:
        """The same system and model, with this decoding."""
        return Answerer(replace(self.system, decoding=decoding), self.model, self._lookup)

    def prompt(self, turns: Sequence[Message]) -> Prompt:
        """The conversation for the model, with this input."""
        return self.prompts([turns])[0]

    def prompts(self, inputs: Sequence[Sequence[Message]]) -> list[Prompt]:
        """As `prompt`, for each input; their examples are looked up together, which takes a fraction of the time."""
        design = self.system.prompt
        request = self.system.retriever.request if self.system.retriever is not None else ""
        shots = shots_for(design, inputs, lambda: self._nearest)
        return [compose(design, turns, own, self._lookup, request) for turns, own in zip(inputs, shots, strict=True)]

    def passages(self, turns: Sequence[Message]) -> tuple[Chunk, ...]:
        """The passages in the prompt for this input, in their order."""
        return self._lookup(turns) if self._lookup is not None else ()

    def answer(
        self, inputs: Sequence[Input], *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> list[Answer]:
        """One answer per input, in order. Its text is what counts as the answer: after reasoning, if there is any.

        on_answer: called with every answer as it arrives, with the model's full text. stop: checked before the first answer and
        after each. A request to stop raises its StoppedError. Raises InputError for what is no list of inputs, and once closed.
        """
        if isinstance(inputs, str):
            raise InputError(
                "found one text", where="answer", expected="a list of inputs", remedy="Write answer([text])[0].text."
            )
        if isinstance(inputs, Mapping) or not isinstance(inputs, Iterable):
            raise InputError(
                f"found {kind_of(inputs)}", where="answer", expected="a list of inputs", remedy="Write answer([…])."
            )
        self._refuse_closed()
        conversations = [_as_turns(one, f"answer, input {number}") for number, one in enumerate(inputs, 1)]
        if stop is not None:
            check(stop)
            on_answer = _checking_stop(on_answer, stop)
        prompts = self.prompts(conversations)
        answers = self.model.generate(prompts, self.system.decoding, on_answer)
        if len(answers) != len(prompts):
            raise ContractError(f"{len(answers)} answers to {len(prompts)} prompts", where=self.model.name)
        return [self._extracted(answer, turns) for answer, turns in zip(answers, conversations, strict=True)]

    def stream(self, turns: Input, *, on_answer: OnAnswer | None = None, stop: Stop | None = None) -> Iterator[str]:
        """The text that `answer` returns, as it grows. After reasoning it comes in one piece, once its start is known.

        on_answer: called with the whole answer at the end, as from `answer`. stop: a request to stop ends the answer there.
        """
        self._refuse_closed()
        conversation = _as_turns(turns, "stream")
        whole: list[Answer] = []
        pieces = self.model.stream(
            self.prompt(conversation), self.system.decoding, on_answer=lambda _, answer: whole.append(answer), stop=stop
        )
        shown = AnswerText(self.system.prompt)
        for piece in pieces:
            if more := shown.grow(piece):
                yield more
        if more := shown.finish(whole[0].text):
            yield more
        if on_answer is not None:
            on_answer(0, self._extracted(whole[0], conversation))

    def close(self) -> None:
        """Close the model. The store is released with this object."""
        self._is_closed = True
        self.model.close()

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise InputError(
                "the system was closed", where=self.system.name, expected="an open one", remedy="Open it again."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{'closed' if self._is_closed else 'open'} system {self.system.name} on {self.model.name}>"

    def _extracted(self, answer: Answer, turns: Sequence[Message]) -> Answer:
        text, passages = extract(self.system.prompt, answer.text), self.passages(turns)
        return replace(answer, text=text, passages=tuple(chunk.id for chunk in passages))

    def prompt_tokens(self, inputs: Sequence[Sequence[Message]]) -> float:
        """Mean number of prompt tokens over the inputs."""
        counts = list(map(self.model.count_tokens, self.prompts(inputs)))
        return sum(counts) / len(counts) if counts else 0.0

    @cached_property
    def _nearest(self) -> NearestShots:
        return NearestShots(self.system.prompt.shots)


def shots_for(
    design: PromptDesign, inputs: Sequence[Sequence[Message]], nearest: Callable[[], NearestShots]
) -> list[tuple[Shot, ...]]:
    """For each input the solved examples in its prompt, in their order. nearest: the index over all of them, where it is needed."""
    if design.k and design.shots and design.selection == "nearest":
        return nearest().choose(inputs, design.k)
    return [design.shots[: design.k]] * len(inputs)


def _checking_stop(on_answer: OnAnswer | None, stop: Stop) -> OnAnswer:
    """Passes every answer on, then checks for a request to stop."""

    def arrived(index: int, answer: Answer) -> None:
        if on_answer is not None:
            on_answer(index, answer)
        check(stop)

    return arrived


def _refuse_other_rendering(system: System, model: Model) -> None:
    """Raises DataError if the model renders conversations differently from the rows that it was trained on."""
    trained, now = system.trained_rendering, model.rendering_fingerprint
    if trained and now and trained != now:
        raise DataError(
            f"the chat template or the special tokens of {model.name} differ from those of the rows that system {system.name} was "
            "trained on",
            where="system.yaml",
            expected=f"the rendering {trained[:16]} of its training, not {now[:16]}",
            remedy="Put back the template and chat_template_kwargs that it was trained with, or train it again.",
        )
