"""`chatml.*` and `llama3.*`: columns -> text in one markup, for pairs (dpo, ipo, simpo) and for labels (kto)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lastresort.data.rows import RawRow
from lastresort.neighbours.axolotl.markup import Markup
from lastresort.neighbours.axolotl.rendered import (
    Row,
    content_at,
    first_of,
    labelled,
    list_of,
    optional_text,
    pair,
    text_of,
)

FromMarkup = Callable[[Markup, RawRow], Row]


def _pair(markup: Markup, row: RawRow, asked: str, chosen: str, rejected: str, system: str) -> Row:
    return pair(markup.prompt(asked, system), markup.answer(chosen), markup.answer(rejected))


def _by_any_name(markup: Markup, row: RawRow) -> Row:
    asked = first_of(row, "prompt", "input", "question", "instruction")
    chosen = first_of(row, "chosen", "chosen_response")
    rejected = first_of(row, "rejected", "rejected_response")
    return _pair(markup, row, asked, chosen, rejected, optional_text(row, "system"))


def _asked_in(column: str) -> FromMarkup:
    def read(markup: Markup, row: RawRow) -> Row:
        chosen, rejected = text_of(row, "chosen"), text_of(row, "rejected")
        return _pair(markup, row, text_of(row, column), chosen, rejected, optional_text(row, "system"))

    return read


def _second_turns(markup: Markup, row: RawRow) -> Row:
    chosen, rejected = content_at(row, "chosen", 1), content_at(row, "rejected", 1)
    return _pair(markup, row, text_of(row, "prompt"), chosen, rejected, optional_text(row, "system"))


def _first_two_turns(markup: Markup, row: RawRow) -> Row:
    chosen, rejected = content_at(row, "chosen", 1), content_at(row, "rejected", 1)
    return _pair(markup, row, content_at(row, "chosen", 0), chosen, rejected, "")


PAIRS: Mapping[str, FromMarkup] = {
    "default": _by_any_name,
    "intel": _asked_in("question"),
    "icr": _asked_in("input"),
    "prompt_pairs": _asked_in("prompt"),
    "ultra": _second_turns,
    "argilla_chat": _first_two_turns,
}


def _label_in(column: str) -> FromMarkup:
    def read(markup: Markup, row: RawRow) -> Row:
        prompt = markup.prompt(text_of(row, column), optional_text(row, "system"))
        return labelled(prompt, markup.answer(text_of(row, "completion")), row.values.get("label"))

    return read


def _labelled_conversation(markup: Markup, row: RawRow) -> Row:
    turns = list_of(row, "completion")
    before = "".join(markup.turn(str(turn.get("role")), str(turn.get("content"))) for turn in turns[:-1])
    answer = markup.answer(content_at(row, "completion", len(turns) - 1))
    return labelled(before + markup.opening(), answer, row.values.get("label"))


LABELS: Mapping[str, FromMarkup] = {
    "argilla": _label_in("instruction"),
    "argilla_chat": _labelled_conversation,
    "intel": _label_in("question"),
    "prompt_pairs": _label_in("prompt"),
    "ultra": _label_in("prompt"),
}
