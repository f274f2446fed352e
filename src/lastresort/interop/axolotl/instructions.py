"""Supervised types of one instruction and one answer: which columns, in which words.

Each has a style (how a system's text and a turn are written), the system's text, and the columns of instruction, input and
answer. The words are those that the format has, so that a model sees here what it sees there.

Also types that a file defines itself: a mapping of columns and Python format strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from string import Formatter

from lastresort.data.formats.rows import RawRow
from lastresort.interop.axolotl.markup import Row, answered, labelled, list_of, optional_text, pair, text_of
from lastresort.interop.foreign_keys import ForeignKeys


@dataclass(frozen=True, slots=True)
class InstructionStyle:
    """Format strings: of the system's text, of a turn with input, of one without."""

    system: str
    turn: str
    bare: str

    def written(self, system: str, instruction: str, given: str) -> str:
        before = self.system.format(system=system) if system and self.system else ""
        turn = self.turn if given else self.bare
        return before + turn.format(instruction=instruction, input=given)


_CHAT = ("USER: {instruction}\n{input}\nASSISTANT:", "USER: {instruction}\nASSISTANT:")
_CHATML = (
    "<|im_start|>user\n{instruction}\n{input}<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\n{instruction}<|im_end|>\n<|im_start|>assistant\n",
)
STYLES: Mapping[str, InstructionStyle] = {
    "instruct": InstructionStyle(
        "{system}\n\n",
        "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n",
        "### Instruction:\n{instruction}\n\n### Response:\n",
    ),
    "chat": InstructionStyle("SYSTEM: {system}\n", *_CHAT),
    "chatml": InstructionStyle("<|im_start|>system\n{system}<|im_end|>\n", *_CHATML),
    "phi": InstructionStyle(
        "<|system|>\n{system}<|end|>\n",
        "<|user|>\n{instruction}<|end|>{input}<|assistant|>",
        "<|user|>\n{instruction}<|end|>\n<|assistant|>\n",
    ),
}
ALPACA = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that "
    "appropriately completes the request.",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
)
_CONCISE = (
    "Below is an instruction from a USER that describes a task, paired with an input that provides further context. The ASSISTANT "
    "writes a response that concisely and appropriately completes the request.\n\n",
    "Below is an instruction from a USER that describes a task. The ASSISTANT writes a response that appropriately and concisely "
    "completes the request.\n\n",
)
_CONTEXT = "Use the following contextual information to concisely answer the question.\n"
_EXPLAIN = "Choose the answer that best answers the question. Explain your reasoning.\n"
_CHOOSE = "Choose the answer that best answers the question. Be concise in your response.\n\n"
_TLDR = "USER: Summarize the following article as a TL;DR.\n{instruction}\n"
_NO_ANSWER = (
    "The context provided does not contain any information about your inquiry. Therefore, I'm unable to answer your question "
    "based on the given context."
)

Fields = Callable[[RawRow], tuple[str, str, str, str]]
"""A row's instruction, input, answer and, where the data have one, the system's text."""


def _columns(instruction: str, given: str, answer: str, system: str = "") -> Fields:
    def read(row: RawRow) -> tuple[str, str, str, str]:
        before = text_of(row, system) if system else ""
        more = optional_text(row, given) if given else ""
        return text_of(row, instruction), more, text_of(row, answer), before

    return read


_PLAIN = _columns("instruction", "input", "output")
_WITH_SYSTEM = _columns("instruction", "input", "output", "system")
_ORCA = _columns("question", "", "response", "system_prompt")


def _choices(row: RawRow) -> tuple[str, str, str, str]:
    choices = row.values.get("choices")
    listed = "\n".join(f'- "{choice}"' for choice in choices) if isinstance(choices, list) else text_of(row, "choices")
    return text_of(row, "question"), listed, text_of(row, "solution" if "solution" in row.values else "explanation"), ""


def _clue(row: RawRow) -> tuple[str, str, str, str]:
    return text_of(row, "question"), text_of(row, "category"), f"what is {text_of(row, 'answer')}", ""


def _article(question: str) -> Callable[[RawRow], str]:
    return lambda row: f"{text_of(row, 'article')}\n===\n{text_of(row, question)}"


def _about_article(row: RawRow) -> tuple[str, str, str, str]:
    return _article("question")(row), "", text_of(row, "answer"), ""


def _unanswerable(row: RawRow) -> tuple[str, str, str, str]:
    return _article("unanswerable_question")(row), "", _NO_ANSWER, ""


def _in_context(row: RawRow) -> tuple[str, str, str, str]:
    question = f"Context: {text_of(row, 'context')}\nQuestion: {text_of(row, 'question')}\n"
    return question, "", f"Answer: {text_of(row, 'answer')}", ""


@dataclass(frozen=True, slots=True)
class Instruction:
    """system: the words before a turn with input, and before one without; the row's own where that has some."""

    style: InstructionStyle
    system: tuple[str, str]
    fields: Fields

    def row(self, row: RawRow, *, whole: bool) -> Row:
        instruction, given, answer, system = self.fields(row)
        words = system or self.system[0 if given else 1]
        return answered(self.style.written(words, instruction, given), answer, whole=whole)


_NONE = ("", "")
_INSTRUCT, _IN_CHAT = STYLES["instruct"], STYLES["chat"]
_ORCA_STYLE = InstructionStyle(
    "### System:\n{system}\n",
    "### Human:\n{instruction}\n### Additional Context:\n{input}\n### Assistant:\n",
    "### Human:\n{instruction}\n### Assistant:\n",
)
_TLDR_STYLE = InstructionStyle("", _TLDR + "{input}\nASSISTANT:", _TLDR + "ASSISTANT:")
STYLED: Mapping[str, Instruction] = {
    "alpaca": Instruction(_INSTRUCT, ALPACA, _PLAIN),
    "gpteacher": Instruction(_INSTRUCT, ALPACA, _columns("instruction", "input", "response")),
    "jeopardy": Instruction(_INSTRUCT, ALPACA, _clue),
    "oasst": Instruction(_INSTRUCT, ALPACA, _columns("INSTRUCTION", "", "RESPONSE")),
    "explainchoice": Instruction(_INSTRUCT, (_EXPLAIN, _EXPLAIN), _choices),
}
"""These take a style behind a colon (`alpaca:chat`)."""
TYPES: Mapping[str, Instruction] = {
    **STYLED,
    "concisechoice": Instruction(replace(_IN_CHAT, system="{system}"), (_CHOOSE, _CHOOSE), _choices),
    "summarizetldr": Instruction(_TLDR_STYLE, _NONE, _columns("article", "", "summary")),
    "alpaca_instruct": Instruction(_INSTRUCT, ALPACA, _PLAIN),
    "alpaca_instruct.load_no_prompt": Instruction(_INSTRUCT, _NONE, _PLAIN),
    "alpaca_chat": Instruction(_IN_CHAT, ALPACA, _PLAIN),
    "alpaca_chat.load_concise": Instruction(_IN_CHAT, _CONCISE, _PLAIN),
    "alpaca_chat.load_qa": Instruction(_IN_CHAT, _CONCISE, _columns("question", "", "answer")),
    "alpaca_chat.load_camel_ai": Instruction(_IN_CHAT, _CONCISE, _columns("message_1", "", "message_2")),
    "alpaca_chat.load_no_prompt": Instruction(_IN_CHAT, _NONE, _PLAIN),
    "alpaca_w_system": Instruction(_IN_CHAT, _NONE, _WITH_SYSTEM),
    "alpaca_w_system.load_chat": Instruction(_IN_CHAT, _NONE, _WITH_SYSTEM),
    "alpaca_w_system.load_instruct": Instruction(_INSTRUCT, _NONE, _WITH_SYSTEM),
    "alpaca_w_system.load_open_orca": Instruction(_ORCA_STYLE, _NONE, _ORCA),
    "alpaca_w_system.load_open_orca_chatml": Instruction(STYLES["chatml"], _NONE, _ORCA),
    "context_qa": Instruction(_IN_CHAT, (_CONTEXT, _CONTEXT), _about_article),
    "context_qa.load_404": Instruction(_IN_CHAT, (_CONTEXT, _CONTEXT), _unanswerable),
    "context_qa.load_v2": Instruction(
        InstructionStyle("{system}", "{instruction}\n{input}", "{instruction}"), _NONE, _in_context
    ),
}


def orca_mini(row: RawRow, *, whole: bool) -> Row:
    """`orcamini`, whose heading of the system stands there without a text below it too."""
    instruction, _, answer, system = _ORCA(row)
    prompt = f"### System:\n{system}\n\n### User:\n{instruction}\n\n### Response:\n"
    return answered(prompt, answer, whole=whole)


def segments(row: RawRow, *, whole: bool) -> Row:
    """`input_output`: segments as they are."""
    pieces = list_of(row, "segments")
    return {"segments": [{"text": str(one.get("text")), "train": whole or bool(one.get("label"))} for one in pieces]}


def completion(row: RawRow, field: str) -> Row:
    """`completion`: a text that is trained whole."""
    return {"segments": [{"text": text_of(row, field), "train": True, "end": True}]}


Read = Callable[[RawRow], Row]
Texts = Mapping[str, str]


def instructions(words: ForeignKeys, *, whole: bool) -> Read:
    """For sft: format with {instruction} and {input}, system_format with {system}."""
    columns = _columns_of(words, "system", "instruction", "input", "output")
    turn = _format(words, "format", "{instruction} {input} ", "instruction", "input")
    bare = _format(words, "no_input_format", "{instruction} ", "instruction")
    system_format = _format(words, "system_format", "{system}", "system")
    default = str(words.any("system_prompt", ""))

    def read(row: RawRow) -> Row:
        system = optional_text(row, columns["system"]) if columns["system"] in row.values else default
        cells = {"instruction": text_of(row, columns["instruction"]), "input": optional_text(row, columns["input"])}
        prompt = turn(cells) if cells["input"] else bare(cells)
        before = system_format({"system": system}) if system else ""
        return answered(before + prompt, optional_text(row, columns["output"]), whole=whole)

    return read


def pairs(words: ForeignKeys, *, whole: bool) -> Read:
    prompt, chosen, rejected = _prompt(words), _answer(words, "chosen"), _answer(words, "rejected")
    return lambda row: pair(prompt(row), chosen(row), rejected(row))


def labels(words: ForeignKeys, *, whole: bool) -> Read:
    prompt, answer, label = _prompt(words), _answer(words, "completion"), words.text("field_label") or "label"
    return lambda row: labelled(prompt(row), answer(row), row.values.get(label))


BY_USER: Mapping[str, Callable[..., Read]] = {"sft": instructions, "pairs": pairs, "labels": labels}
"""What reads the rows of a type that is a mapping, by the rows that the objective needs."""


def _columns_of(words: ForeignKeys, *names: str) -> dict[str, str]:
    return {name: words.text(f"field_{name}") or name for name in names}


def _prompt(words: ForeignKeys) -> Callable[[RawRow], str]:
    columns = _columns_of(words, "prompt", "system")
    written = _format(words, "prompt_format", "{prompt}", "prompt", "system")
    return lambda row: written(
        {"prompt": text_of(row, columns["prompt"]), "system": optional_text(row, columns["system"])}
    )


def _answer(words: ForeignKeys, name: str) -> Callable[[RawRow], str]:
    column = words.text(f"field_{name}") or name
    written = _format(words, f"{name}_format", f"{{{name}}}", name)
    return lambda row: written({name: text_of(row, column)})


_WIDEST = 1_000


def _refuse_wide(text: str) -> None:
    """Raise ValueError for a format that asks for more than _WIDEST characters or digits, takes the width from a row, or looks
    into a text."""
    for _, name, width, _ in Formatter().parse(text):
        if re.search(r"[.\[]", name or ""):
            raise ValueError(f"the name {str(name)[:40]}")
        asked = width or ""
        if "{" in asked or any(len(digits) > 4 or int(digits) > _WIDEST for digits in re.findall(r"[0-9]+", asked)):
            raise ValueError(f"the width {asked[:40]}")


def _format(words: ForeignKeys, key: str, default: str, *names: str) -> Callable[[Texts], str]:
    """A format string, tried on empty texts. Raises TaskError for one that names something else."""
    value = str(words.any(key) or default)
    try:
        _refuse_wide(value)
        value.format(**dict.fromkeys(names, ""))
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        known = " and ".join(f"{{{name}}}" for name in names)
        words.refuse(key, f"a format that cannot be filled ({error})", expected=f"text with {known}")
    return lambda cells: value.format(**{name: cells.get(name, "") for name in names})
