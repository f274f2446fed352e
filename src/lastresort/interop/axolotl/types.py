"""The types of datasets: from the name in an entry of `datasets` to what makes our row of one of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, NoReturn

from lastresort.data.formats.rows import RawRow
from lastresort.interop.axolotl import chat, instructions, passed
from lastresort.interop.axolotl import instructions as user_types
from lastresort.interop.axolotl import markup as nectar
from lastresort.interop.axolotl.markup import LABELS, MARKUPS, PAIRS, FromMarkup, Markup, Row
from lastresort.interop.given import ForeignKeys
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
    """What an entry's type depends on besides. chat: the markup that `chat_template` names, None for the model's own. whole:
    whether prompts are trained too."""

    family: Family
    chat: Markup | None
    whole: bool


_CHATS: Mapping[str, Mapping[str, Callable[[ForeignKeys, Markup | None], Read]]] = {
    "pairs": {
        "chat_template": chat.answers,
        "chat_template.default": chat.answers,
        "chat_template.argilla_chat": chat.whole_conversations,
    },
    "orpo": {"chat_template.argilla": chat.alternating},
}
_PLAIN: Mapping[str, Mapping[str, Read]] = {
    "pairs": {"zephyr.nectar": nectar.two_of, "passthrough": passed.pair, "passthrough.default": passed.pair},
    "orpo": {},
    "labels": {},
}
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
    if family == "sft":
        styled = [f"{name}:{style}" for name in instructions.STYLED for style in instructions.STYLES]
        return (*_sft_plain(whole=False, field="text"), "chat_template", *styled)
    marked: Mapping[str, FromMarkup] = {"pairs": PAIRS, "labels": LABELS}.get(family, {})
    bare = [markup for markup in MARKUPS if "default" in marked]
    return (
        *(f"{markup}.{name}" for markup in MARKUPS for name in marked),
        *bare,
        *_CHATS.get(family, {}),
        *_PLAIN[family],
    )


def reader(entry: ForeignKeys, wanted: TypeContext) -> Reader:
    """How an entry's rows are read. Raises TaskError for a type that is not, with what to do."""
    given = entry.any("type")
    if isinstance(given, Mapping):
        return _by_user(ForeignKeys(given, entry.where("type")), wanted)
    if given is None:
        return _without_type(entry, wanted)
    name = entry.text("type") or ""
    found = _named(name.removesuffix(".load"), entry, wanted)
    return found if found is not None else _refuse(entry, name, wanted.family)


def _named(name: str, entry: ForeignKeys, wanted: TypeContext) -> Reader | None:
    if wanted.family == "sft":
        if name == "chat_template":
            read = chat.conversation(entry, wanted.chat, whole=wanted.whole)
            return Reader(read, wanted.chat)
        if name == "alpaca_chat" and "conversation" in entry:
            name = f"alpaca:{entry.choice('conversation', tuple(instructions.STYLES), 'chat')}"
        if name in names("sft"):
            return Reader(_sft(name, whole=wanted.whole, field=entry.text("field") or "text"))
        return None
    markup, _, kind = name.partition(".")
    marked = {"pairs": PAIRS, "labels": LABELS}.get(wanted.family, {}).get(kind or "default")
    if markup in MARKUPS and marked is not None:
        return Reader(partial(marked, MARKUPS[markup]), MARKUPS[markup])
    if (rendered := _CHATS.get(wanted.family, {}).get(name)) is not None:
        return Reader(rendered(entry, wanted.chat), wanted.chat)
    plain = _PLAIN[wanted.family].get(name)
    return None if plain is None else Reader(plain)


def _sft(name: str, *, whole: bool, field: str) -> Read:
    base, colon, style = name.partition(":")
    if not colon:
        return _sft_plain(whole=whole, field=field)[name]
    kept = instructions.STYLED[base]
    return partial(instructions.Instruction(instructions.STYLES[style], kept.system, kept.fields).row, whole=whole)


def _sft_plain(*, whole: bool, field: str) -> dict[str, Read]:
    return {
        **{name: partial(kind.row, whole=whole) for name, kind in instructions.TYPES.items()},
        "orcamini": partial(instructions.orca_mini, whole=whole),
        "input_output": partial(instructions.segments, whole=whole),
        "completion": partial(instructions.completion, field=field),
    }


def _by_user(words: ForeignKeys, wanted: TypeContext) -> Reader:
    if wanted.family == "sft":
        read = user_types.instructions(words, whole=wanted.whole)
    elif wanted.family == "pairs":
        read = user_types.pairs(words)
    elif wanted.family == "labels":
        read = user_types.labels(words)
    else:
        words.refuse("type", "a mapping beside rl: orpo", expected="chat_template.argilla", remedy="Correct it.")
    if unknown := next(iter(words.unread()), None):
        known = {"sft": user_types.SFT_KEYS, "pairs": user_types.PAIR_KEYS, "labels": user_types.LABEL_KEYS}
        expected = listed(known[wanted.family], "or")
        words.refuse(unknown, f'the unknown key "{unknown}"', expected=expected, remedy="Correct it.")
    return Reader(read)


def _without_type(entry: ForeignKeys, wanted: TypeContext) -> Reader:
    if wanted.family == "sft":
        entry.refuse(
            "type", "nothing", expected=listed(names("sft"), "or", most=8), remedy="Write type: chat_template."
        )
    return Reader(passed.labelled if wanted.family == "labels" else passed.pair)


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
    entry.refuse("type", f'the unknown type "{name}"', expected=expected, remedy="Correct it.")
