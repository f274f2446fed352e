"""The types of datasets: from the name in an entry of `datasets` to what makes our row of one of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NoReturn

from lastresort.data.formats.rows import RawRow
from lastresort.interop.axolotl import chat, instructions
from lastresort.interop.axolotl.markup import (
    LABELS,
    MARKUPS,
    PAIRS,
    FromMarkup,
    Markup,
    Row,
    labelled,
    lowest_ranked_pair,
    pair,
    text_of,
)
from lastresort.interop.foreign_keys import ForeignKeys
from lastresort.spec.values import listed, nearest

Family = Literal["sft", "pairs", "orpo", "labels"]
Read = Callable[[RawRow], Row]


@dataclass(frozen=True, slots=True)
class Reader:
    """row: ours, of one of theirs. markup: what the type writes whatever the model's template is, None for nothing such."""

    row: Read
    markup: Markup | None = None


@dataclass(frozen=True, slots=True)
class TypeContext:
    """What else decides how rows of a type are read. chat: the markup that `chat_template` names, None for the model's own.
    whole: whether prompts are trained too."""

    family: Family
    chat: Markup | None
    whole: bool


Build = Callable[[ForeignKeys, TypeContext], Reader]


def _pair_as_it_is(row: RawRow) -> Row:
    """Turns as they are; texts are what the model reads, with the end token behind each answer."""
    keys = ("prompt", "chosen", "rejected")
    if any(isinstance(row.values.get(key), list) for key in keys):
        return {key: row.values[key] for key in keys if row.values.get(key) is not None}
    return pair(*(text_of(row, key) for key in keys))


def _label_as_it_is(row: RawRow) -> Row:
    prompt, answer, label = row.values.get("prompt"), row.values.get("completion"), row.values.get("label")
    if isinstance(prompt, list) or isinstance(answer, list):
        return {"prompt": prompt, "completion": answer, "label": label}
    return labelled(text_of(row, "prompt"), text_of(row, "completion"), label)


def prompt_as_it_is(row: RawRow) -> Row:
    """For groups: a row that holds a prompt, with all its columns."""
    text_of(row, "prompt")
    return dict(row.values)


def _plain(read: Read) -> Build:
    return lambda entry, context: Reader(read)


def _trained(read: Callable[..., Row]) -> Build:
    return lambda entry, context: Reader(partial(read, whole=context.whole))


def _rendered(read: Callable[[ForeignKeys, Markup | None], Read]) -> Build:
    return lambda entry, context: Reader(read(entry, context.chat), context.chat)


def _marked(read: FromMarkup, markup: Markup) -> Build:
    return lambda entry, context: Reader(partial(read, markup), markup)


def _in_each_markup(kinds: Mapping[str, FromMarkup]) -> dict[str, Build]:
    """chatml.KIND and llama3.KIND, and chatml and llama3 for their default."""
    found = {f"{name}.{kind}": _marked(read, MARKUPS[name]) for name in MARKUPS for kind, read in kinds.items()}
    return found | {name: found[f"{name}.default"] for name in MARKUPS if "default" in kinds}


def _completion(entry: ForeignKeys, context: TypeContext) -> Reader:
    return Reader(partial(instructions.completion, field=entry.text("field") or "text"))


def _conversation(entry: ForeignKeys, context: TypeContext) -> Reader:
    return Reader(chat.conversation(entry, context.chat, whole=context.whole), context.chat)


TYPES: Mapping[Family, Mapping[str, Build]] = {
    "sft": {
        **{name: _trained(kind.row) for name, kind in instructions.TYPES.items()},
        "orcamini": _trained(instructions.orca_mini),
        "input_output": _trained(instructions.segments),
        "completion": _completion,
        "chat_template": _conversation,
        **{
            f"{name}:{style}": _trained(replace(kind, style=instructions.STYLES[style]).row)
            for name, kind in instructions.STYLED.items()
            for style in instructions.STYLES
        },
    },
    "pairs": {
        **_in_each_markup(PAIRS),
        "chat_template": _rendered(chat.answers),
        "chat_template.default": _rendered(chat.answers),
        "chat_template.argilla_chat": _rendered(chat.whole_conversations),
        "zephyr.nectar": _plain(lowest_ranked_pair),
        "passthrough": _plain(_pair_as_it_is),
        "passthrough.default": _plain(_pair_as_it_is),
    },
    "orpo": {"chat_template.argilla": _rendered(chat.alternating)},
    "labels": _in_each_markup(LABELS),
}
"""Every type that is read, by the rows that the objective needs."""
NOT_READ: Mapping[str, str] = {
    "bradley_terry": "it trains a reward model, which this program does not; rl: dpo or kto learn from the same preferences",
    "stepwise_supervised": "it trains a process reward model, which this program does not",
    "reflection": "its long preamble is not kept here; write the prompt as you want it with type: input_output",
    "creative_acr": "its preambles are not kept here; write the prompt as you want it with type: input_output",
    "metharme": "its tokens belong to one family of models; write them in segments with type: input_output",
    "pygmalion": "its prompt belongs to one family of models; write it in segments with type: input_output",
    "llama2_chat": "chat_template renders it with the model's own template",
    "pretrain": "it belongs to pretraining_dataset",
    "messages": "chat_template reads the same turns",
    "ebft": "its objective is not here",
}
"""Types that are refused, and what to do."""
RENAMED = {
    "chatml.argilla": "chatml.argilla_chat, or a mapping of columns; the function is gone there too",
    "llama3.argilla": "llama3.argilla_chat, or a mapping of columns; the function is gone there too",
}


def names(family: Family) -> tuple[str, ...]:
    """Every name that is read, for one family of objectives."""
    return tuple(TYPES[family])


def reader_of(entry: ForeignKeys, context: TypeContext) -> Reader:
    """How an entry's rows are read. Raises TaskError for a type that is not read, with what to do."""
    kind = entry.any("type")
    if isinstance(kind, Mapping):
        return _by_user(ForeignKeys(kind, entry.where("type")), context)
    if kind is None:
        return _without_type(entry, context)
    name = entry.text("type") or ""
    known = name.removesuffix(".load")
    if context.family == "sft" and known == "alpaca_chat" and "conversation" in entry:
        known = f"alpaca:{entry.choice('conversation', tuple(instructions.STYLES), 'chat')}"
    build = TYPES[context.family].get(known)
    return build(entry, context) if build is not None else _refuse(entry, name, context.family)


def _by_user(words: ForeignKeys, context: TypeContext) -> Reader:
    read = instructions.BY_USER.get(context.family)
    if read is None:
        words.refuse("type", "a mapping beside rl: orpo", expected="chat_template.argilla")
    found = Reader(read(words, whole=context.whole))
    if unknown := next(iter(words.unread()), None):
        words.refuse(unknown, f'the unknown key "{unknown}"', expected=listed(sorted(words.read_keys()), "or"))
    return found


def _without_type(entry: ForeignKeys, context: TypeContext) -> Reader:
    if context.family == "sft":
        expected = listed(names("sft"), "or", most=8)
        entry.refuse("type", "nothing", expected=expected, remedy="Write type: chat_template.")
    return Reader(_label_as_it_is if context.family == "labels" else _pair_as_it_is)


def _refuse(entry: ForeignKeys, name: str, family: Family) -> NoReturn:
    if name.startswith("sharegpt"):
        entry.refuse(
            "type",
            f"{name}, which is gone there too",
            expected="chat_template",
            remedy="Write type: chat_template, field_messages: conversations and message_property_mappings: {role: from, "
            "content: value}.",
        )
    reason = RENAMED.get(name) or NOT_READ.get(name.split(".")[0])
    if reason is not None:
        entry.refuse("type", name, expected="a type that is read here", remedy=f"{reason[0].upper()}{reason[1:]}.")
    known = names(family)
    if ":load_" in name and name.replace(":", ".") in known:
        entry.refuse("type", name, expected=name.replace(":", "."), remedy="Write a dot.")
    close = nearest(name, known)
    expected = close or listed(known, "or", most=len(known))
    remedy = f"Write type: {close}." if close else "Write one of them."
    entry.refuse("type", f'the unknown type "{name}"', expected=expected, remedy=remedy)
