"""ChatML and Llama 3 as text, which some types write whatever the model's own template is, and the rows of these types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastresort.data.formats.rows import RawRow, kind_of, row_json
from lastresort.data.segments import CHOSEN, REJECTED, SEGMENTS
from lastresort.errors import DataError
from lastresort.types import JsonObject, Message

Row = JsonObject


def answered(prompt: str, answer: str, *, whole: bool = False) -> Row:
    """A row of sft. whole: whether the prompt is trained too."""
    return {SEGMENTS: [{"text": prompt, "train": whole}, {"text": answer, "train": True, "end": True}]}


def pair(prompt: str, chosen: str, rejected: str) -> Row:
    return {
        SEGMENTS: [{"text": prompt}],
        CHOSEN: [{"text": chosen, "end": True}],
        REJECTED: [{"text": rejected, "end": True}],
    }


def labelled(prompt: str, answer: str, label: Any) -> Row:
    return {**answered(prompt, answer), "label": label}


def text_of(row: RawRow, key: str) -> str:
    """A cell that must be there, as text. Raises DataError."""
    if row.values.get(key) is None:
        found = ", ".join(sorted(row.values)) or "none"
        raise DataError(
            f"found the keys {found}",
            where=row.at(key),
            expected=f"the column {key}",
            remedy="Name the column so, or take another type.",
        )
    value = row.values[key]
    return value if isinstance(value, str) else str(value)


def optional_text(row: RawRow, key: str) -> str:
    return text_of(row, key) if row.values.get(key) is not None else ""


def first_of(row: RawRow, *keys: str) -> str:
    """The cell of the first of these columns that the row has; the last one is taken where it has none."""
    return text_of(row, next((key for key in keys[:-1] if key in row.values), keys[-1]))


def list_of(row: RawRow, key: str) -> list[Mapping[str, Any]]:
    """A cell that holds a list of objects; in a table as JSON. Raises DataError."""
    value = row.values.get(key)
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = row_json(value, row.at(key))
    if not isinstance(value, list) or not value or not all(isinstance(one, Mapping) for one in value):
        raise DataError(
            f"found {kind_of(value) if key in row.values else 'nothing'}",
            where=row.at(key),
            expected="a list of turns",
            remedy='Write turns such as {"role": "user", "content": "…"}, or take another type.',
        )
    return value


def content_at(row: RawRow, key: str, place: int) -> str:
    """The content of one turn of a list. Raises DataError where there is none."""
    turns = list_of(row, key)
    try:
        content = turns[place]["content"]
    except (IndexError, KeyError):
        content = None
    if not isinstance(content, str):
        at = f"{key}[{place}].content"
        raise DataError("found nothing", where=row.at(at), expected="text", remedy="Add it, or remove the row.")
    return content


Segment = dict[str, str | bool]


@dataclass(frozen=True, slots=True)
class Markup:
    """head, neck: around a turn's role. end: after its content; it ends an answer. between: after that, before the next turn.

    mark: by which a template is known to write it. strips: whether a template of it strips a turn's content.
    """

    name: str
    head: str
    neck: str
    end: str
    between: str
    mark: str
    strips: bool

    def turn(self, role: str, content: str) -> str:
        return f"{self.head}{role}{self.neck}{content}{self.end}{self.between}"

    def opening(self) -> str:
        """Of the assistant's answer."""
        return f"{self.head}assistant{self.neck}"

    def prompt(self, question: str, system: str = "") -> str:
        before = self.turn("system", system) if system else ""
        return f"{before}{self.turn('user', question)}{self.opening()}"

    def answer(self, content: str) -> str:
        return f"{content}{self.end}"

    def conversation(self, turns: Sequence[Message], trained: Sequence[bool]) -> list[Segment]:
        """The turns as its template writes them; of a trained one the content with its end is trained."""
        found: list[Segment] = []
        for turn, train in zip(turns, trained, strict=True):
            content = turn.content.strip() if self.strips else turn.content
            if train:
                found += [{"text": f"{self.head}{turn.role}{self.neck}"}, {"text": self.answer(content), "train": True}]
                found += [{"text": self.between}] if self.between else []
            else:
                found.append({"text": self.turn(turn.role, content)})
        return found


CHATML = Markup("ChatML", "<|im_start|>", "\n", "<|im_end|>", "\n", "<|im_start|>", strips=False)
LLAMA3 = Markup(
    "Llama 3", "<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", "", "<|start_header_id|>", strips=True
)
MARKUPS: Mapping[str, Markup] = {"chatml": CHATML, "llama3": LLAMA3}


FromMarkup = Callable[[Markup, RawRow], Row]


def _pair(markup: Markup, row: RawRow, question: str, chosen: str, rejected: str, system: str) -> Row:
    return pair(markup.prompt(question, system), markup.answer(chosen), markup.answer(rejected))


def _by_any_name(markup: Markup, row: RawRow) -> Row:
    question = first_of(row, "prompt", "input", "question", "instruction")
    chosen = first_of(row, "chosen", "chosen_response")
    rejected = first_of(row, "rejected", "rejected_response")
    return _pair(markup, row, question, chosen, rejected, optional_text(row, "system"))


def _question_in(column: str) -> FromMarkup:
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
    "intel": _question_in("question"),
    "icr": _question_in("input"),
    "prompt_pairs": _question_in("prompt"),
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


def lowest_ranked_pair(row: RawRow) -> Row:
    """`zephyr.nectar`: a prompt with ranked answers, of which the two with the highest rank numbers are taken."""
    answers = sorted(list_of(row, "answers"), key=lambda answer: _rank(answer, row))
    if len(answers) < 2:
        raise DataError("found one answer", where=row.at("answers"), expected="two or more", remedy="Remove the row.")
    chosen, rejected = str(answers[-1].get("answer")), str(answers[-2].get("answer"))
    return pair(f"<|system|>\n</s>\n<|user|>\n{text_of(row, 'prompt')}</s>\n<|assistant|>\n", chosen, rejected)


def _rank(answer: Mapping[str, Any], row: RawRow) -> float:
    rank = answer.get("rank")
    if isinstance(rank, bool) or not isinstance(rank, int | float):
        raise DataError("found no rank", where=row.at("answers.rank"), expected="a number", remedy="Add it.")
    return float(rank)
