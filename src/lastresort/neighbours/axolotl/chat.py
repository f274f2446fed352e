"""`chat_template` and its sisters: conversations that the model's template renders, or ChatML or Llama 3 where these are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lastresort.data.rows import RawRow, kind_of
from lastresort.data.segments import SEGMENTS
from lastresort.errors import DataError
from lastresort.neighbours.axolotl.markup import Markup
from lastresort.neighbours.axolotl.rendered import Row, content_at, list_of, optional_text, pair, text_of
from lastresort.neighbours.axolotl.turns import PAIR_ROLES, SFT_ROLES, Naming, naming
from lastresort.neighbours.given import Given
from lastresort.types import Message

Read = Callable[[RawRow], Row]


def conversation(entry: Given, markup: Markup | None, *, whole: bool) -> Read:
    """`chat_template` of supervised training. markup: None for the model's own template. whole: whether all turns are trained."""
    names = naming(entry, SFT_ROLES, strict=False)
    column = entry.text("field_messages") or "messages"
    flag = entry.text("message_field_training")
    trained_roles = [names.roles.get(role, role) for role in _roles_to_train(entry)]
    without_system = entry.flag("drop_system_message")

    def read(row: RawRow) -> Row:
        turns = names.turns(row, column)
        raw = row.values[column]
        trained = [_flag(one, flag, row) for one in raw] if flag else [None] * len(turns)
        train = [
            (whole or turn.role in trained_roles) if said is None else said
            for turn, said in zip(turns, trained, strict=True)
        ]
        system = optional_text(row, "system")
        if system and turns[0].role != "system":
            turns, train = [Message("system", system), *turns], [False, *train]
        if without_system and turns[0].role == "system":
            turns, train = turns[1:], train[1:]
        return _row(row, turns, train, markup)

    return read


def _row(row: RawRow, turns: list[Message], train: list[bool], markup: Markup | None) -> Row:
    if markup is not None:
        return {SEGMENTS: markup.conversation(turns, train)}
    if any(said and turn.role != "assistant" for turn, said in zip(turns, train, strict=True)):
        raise DataError(
            "found a turn to be trained that is not the assistant's",
            where=row.place,
            expected="the assistant's turns, where the model's own template renders them",
            remedy="Leave roles_to_train and train_on_inputs out, or name chat_template: chatml or llama3.",
        )
    last = max((number for number, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
    if last < 0:
        raise DataError("found no turn of the assistant", where=row.place, expected="an answer", remedy="Add it.")
    # What follows the last answer is never trained and seen by nothing that is.
    return {"messages": [_written(turn, said) for turn, said in zip(turns[: last + 1], train, strict=False)]}


def _written(turn: Message, trained: bool) -> dict[str, Any]:
    return turn.as_dict() | ({"weight": 0} if turn.role == "assistant" and not trained else {})


def _roles_to_train(entry: Given) -> list[str]:
    return entry.names("roles_to_train") if "roles_to_train" in entry else ["assistant"]


def _flag(turn: Any, key: str, row: RawRow) -> bool | None:
    said = turn.get(key) if isinstance(turn, Mapping) else None
    if said is not None and not isinstance(said, bool | int):
        raise DataError(f"found {kind_of(said)}", where=row.at(key), expected="true or false", remedy="Correct it.")
    return None if said is None else bool(said)


def answers(entry: Given, markup: Markup | None) -> Read:
    """`chat_template.default` of pairs: turns before, one answer of each side."""
    names = naming(entry, PAIR_ROLES, strict=True)
    asked = entry.text("field_messages") or "messages"
    sides = [entry.text(f"field_{side}") or side for side in ("chosen", "rejected")]

    def read(row: RawRow) -> Row:
        value = row.values.get(asked)
        before = [Message("user", value)] if isinstance(value, str) else names.turns(row, asked)
        chosen, rejected = (_last(names, row, side) for side in sides)
        return _pair(before, chosen, rejected, markup)

    return read


def whole_conversations(entry: Given, markup: Markup | None) -> Read:
    """`chat_template.argilla_chat` of pairs: both sides are conversations, and what is before chosen's last turn is the prompt."""
    names = naming(entry, PAIR_ROLES, strict=True)
    good, bad = (entry.text(f"field_{side}") or side for side in ("chosen", "rejected"))

    def read(row: RawRow) -> Row:
        return _pair(names.turns(row, good)[:-1], _last(names, row, good), _last(names, row, bad), markup)

    return read


def alternating(entry: Given, markup: Markup | None) -> Read:
    """`chat_template.argilla` of orpo: both sides are conversations of user and assistant in turn, the system's text beside."""

    def read(row: RawRow) -> Row:
        turns = list_of(row, "chosen")
        if len(turns) % 2:
            raise DataError(
                f"found {len(turns)} turns",
                where=row.at("chosen"),
                expected="as many of the user as of the assistant",
                remedy="Remove the row, or add its answer.",
            )
        before = [Message("system", system)] if (system := optional_text(row, "system")) else []
        for number in range(0, len(turns), 2):
            asked = text_of(row, "prompt") if "prompt" in row.values else content_at(row, "chosen", number)
            before.append(Message("user", asked))
            if number + 2 < len(turns):
                before.append(Message("assistant", content_at(row, "chosen", number + 1)))
        chosen, rejected = content_at(row, "chosen", -1), content_at(row, "rejected", -1)
        return _pair(before, Message("assistant", chosen), Message("assistant", rejected), markup)

    return read


def _last(names: Naming, row: RawRow, key: str) -> Message:
    value = row.values.get(key)
    if isinstance(value, str):
        return Message("assistant", value)
    if isinstance(value, list) and value:
        value = value[-1]
    return names.turn(value, row, key)


def _pair(before: Sequence[Message], chosen: Message, rejected: Message, markup: Markup | None) -> Row:
    if markup is None:
        sides = {"chosen": [chosen.as_dict()], "rejected": [rejected.as_dict()]}
        return {"prompt": [turn.as_dict() for turn in before], **sides}
    text = "".join(str(one["text"]) for one in markup.conversation(before, [False] * len(before)))
    first, second = (turn.content.strip() if markup.strips else turn.content for turn in (chosen, rejected))
    return pair(text + markup.opening(), markup.answer(first), markup.answer(second))
