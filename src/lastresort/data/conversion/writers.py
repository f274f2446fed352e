"""The shapes in which rows can be written, in one table, and what each of them can hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lastresort.data.conversion.content import RowContent, RowKind
from lastresort.types import JsonObject, Message, Role

Part = Literal["system", "turns", "keys", "tools", "rejected"]
RowTrait = Literal["system", "turns", "order", "blank", "keys", "answer keys", "tools", "answers"]


@dataclass(frozen=True, slots=True)
class TraitFacts:
    """words: in a sentence. part: what `--drop` calls it, None where a row without it would say something else."""

    words: str
    part: Part | None


TRAITS: dict[RowTrait, TraitFacts] = {
    "system": TraitFacts("a system prompt", "system"),
    "turns": TraitFacts("several turns before the answer", "turns"),
    "order": TraitFacts("turns before the answer that do not alternate between question and answer", "turns"),
    "blank": TraitFacts("an empty turn", None),
    "keys": TraitFacts("a turn with keys besides role and content", "keys"),
    "answer keys": TraitFacts("an answer with keys besides role and content", "keys"),
    "tools": TraitFacts("a list of tools", "tools"),
    "answers": TraitFacts("an answer of several turns", None),
}
# A further column of this name would change what a row means.
_RESERVED = frozenset(
    {"messages", "conversations", "system", "instruction", "history", "prompt", "completion", "response", "label"}
    | {"chosen", "chosen_messages", "rejected", "rejected_messages"}
)


@dataclass(frozen=True, slots=True)
class RowWriter:
    """One way to write rows. kind: of the rows. looks: an example. holds: what a row may have besides a question and an answer.

    columns: further names that the reader of such a row would take for a part of it. peers: what reads it.
    """

    kind: RowKind
    looks: str
    holds: frozenset[RowTrait]
    write: Callable[[RowContent], JsonObject]
    peers: str
    columns: frozenset[str] = frozenset()

    def can_hold_column(self, name: str) -> bool:
        known = name.strip().lower()  # as a table's header is read
        return known not in _RESERVED and known not in self.columns


def _dicts(turns: Sequence[Message]) -> list[JsonObject]:
    return [turn.as_dict() for turn in turns]


_SPEAKERS: Mapping[Role, str] = {"user": "human", "assistant": "gpt", "system": "system"}


def _spoken(turns: Sequence[Message]) -> list[JsonObject]:
    return [{"from": _SPEAKERS[turn.role], "value": turn.content} for turn in turns]


def _messages(content: RowContent) -> JsonObject:
    return {"messages": _dicts(content.turns)}


def _sharegpt(content: RowContent) -> JsonObject:
    return {"conversations": _spoken(content.turns)}


def _alpaca(content: RowContent) -> JsonObject:
    system = [turn.content for turn in content.prompt if turn.role == "system"]
    *earlier, question = [turn for turn in content.prompt if turn.role != "system"]
    history = [[asked.content, reply.content] for asked, reply in zip(earlier[::2], earlier[1::2], strict=True)]
    return {
        "instruction": question.content,
        "input": "",
        "output": content.answers[0][0].content,
        **({"system": system[0]} if system else {}),
        **({"history": history} if history else {}),
    }


def _input_output(content: RowContent) -> JsonObject:
    (*others, question) = content.prompt
    alone = not others and question.role == "user" and not question.extra
    return {"input": question.content if alone else _dicts(content.prompt), "output": content.answers[0][0].content}


def _texts(content: RowContent, *names: str) -> JsonObject:
    answers = {name: answer[0].content for name, answer in zip(names, content.answers, strict=True)}
    return {"prompt": content.prompt[-1].content, **answers}


def _lists(content: RowContent, *names: str) -> JsonObject:
    answers = {name: _dicts(answer) for name, answer in zip(names, content.answers, strict=True)}
    return {"prompt": _dicts(content.prompt), **answers}


def _ranking(content: RowContent) -> JsonObject:
    chosen, rejected = (_spoken(answer)[0] for answer in content.answers)
    return {"conversations": _spoken(content.prompt), "chosen": chosen, "rejected": rejected}


def _with_label(write: Callable[..., JsonObject]) -> Callable[[RowContent], JsonObject]:
    return lambda content: {**write(content, "completion"), "label": content.label}


_NOTHING: frozenset[RowTrait] = frozenset()
_TURNS: frozenset[RowTrait] = frozenset({"system", "turns", "order", "blank"})
# LLaMA-Factory leaves out rows whose turns do not alternate.
_SPOKEN: frozenset[RowTrait] = _TURNS - {"order"} | {"tools"}
_ALL: frozenset[RowTrait] = _TURNS | {"keys", "answer keys", "tools"}
WRITERS: dict[str, RowWriter] = {
    "messages": RowWriter("examples", '{"messages": […]}', _ALL, _messages, "OpenAI, TRL, Axolotl, LLaMA-Factory"),
    "sharegpt": RowWriter("examples", '{"conversations": [{"from": …}]}', _SPOKEN, _sharegpt, "Axolotl, LLaMA-Factory"),
    "alpaca": RowWriter(
        "examples",
        '{"instruction", "input", "output"}',
        frozenset({"system", "turns"}),
        _alpaca,
        "LLaMA-Factory; Axolotl without `system` and `history`",
        frozenset({"input", "context", "output"}),
    ),
    "prompt-completion": RowWriter(
        "examples", '{"prompt", "completion"}', _NOTHING, lambda c: _texts(c, "completion"), "TRL"
    ),
    "prompt-completion-chat": RowWriter(
        "examples", '{"prompt": […], "completion": […]}', _ALL | {"answers"}, lambda c: _lists(c, "completion"), "TRL"
    ),
    "input-output": RowWriter(
        "examples",
        '{"input", "output"}',
        _TURNS - {"blank"} | {"keys"},
        _input_output,
        "lastresort",
        frozenset({"input", "output"}),
    ),
    "preference": RowWriter(
        "pairs", '{"prompt", "chosen", "rejected"}', _NOTHING, lambda c: _texts(c, "chosen", "rejected"), "TRL, Axolotl"
    ),
    "preference-chat": RowWriter(
        "pairs",
        '{"prompt": […], "chosen": […], "rejected": […]}',
        _ALL | {"answers"},
        lambda c: _lists(c, "chosen", "rejected"),
        "TRL",
    ),
    "ranking": RowWriter(
        "pairs",
        '{"conversations": […], "chosen": {…}, "rejected": {…}}',
        _SPOKEN,
        _ranking,
        "LLaMA-Factory (`ranking: true`)",
        frozenset({"question"}),
    ),
    "kto": RowWriter("labels", '{"prompt", "completion", "label"}', _NOTHING, _with_label(_texts), "TRL"),
    "kto-chat": RowWriter(
        "labels", '{"prompt": […], "completion": […], "label"}', _ALL | {"answers"}, _with_label(_lists), "TRL"
    ),
}


def traits_of(content: RowContent) -> Iterator[RowTrait]:
    """What the row has besides one question and one answer."""
    system = [place for place, turn in enumerate(content.prompt) if turn.role == "system"]
    others = [turn.role for turn in content.prompt if turn.role != "system"]
    if system:
        yield "system"
    if len(others) > 1:
        yield "turns"
    if (
        system not in ([], [0])
        or others != [("user", "assistant")[n % 2] for n in range(len(others))]
        or len(others) % 2 == 0
    ):
        yield "order"
    if not all(turn.content.strip() for turn in content.turns):
        yield "blank"
    if any(turn.extra for turn in content.prompt):
        yield "keys"
    if any(turn.extra for answer in content.answers for turn in answer):
        yield "answer keys"
    if content.further.get("tools") not in (None, "", [], "[]"):
        yield "tools"
    if any(len(answer) > 1 for answer in content.answers):
        yield "answers"


def own_writer(content: RowContent) -> str:
    """The name of the writer that comes nearest to how a row was written: with lists of turns, where it has these."""
    values = content.row.values
    kind = content.kind
    if kind == "pairs" and "conversations" in values:
        return "ranking"
    if kind == "examples" and "messages" in values:
        return "messages"
    if kind == "examples" and "conversations" in values:
        return "sharegpt"
    if kind == "examples" and "instruction" in values:
        return "alpaca"
    name = {"pairs": "preference", "labels": "kto"}.get(
        kind, "prompt-completion" if "prompt" in values else "input-output"
    )
    in_turns = any(
        isinstance(values.get(key), list) for key in ("prompt", "chosen", "completion", "response", "messages")
    )
    return f"{name}-chat" if in_turns and name != "input-output" else name
