"""Messages into tokens and back: the only place that renders, for training, measuring and serving alike.

Masks come from rendering ever longer beginnings of a conversation, never from searching the text for markers: what the
template adds between the prompt of a turn and the end of that turn is what the model has to say itself. What must never reach a
training step is refused, in an error about one row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lastresort.data.chat_template import (
    ChatTemplate,
    ChatTokenizer,
    accepted_turns,
    rendered_text,
    template_hash,
    template_of,
    token_ids,
)
from lastresort.errors import DataError
from lastresort.types import Example, Message


def check_targets(targets: Sequence[bool], where: str) -> None:
    """A row on which nothing is trained has loss 0 and looks like success (trl #6668)."""
    if not any(targets):
        raise DataError(
            "every token is masked, so nothing would be trained",
            where=where,
            expected="at least one assistant turn that answers something",
            remedy="Add the answer, or remove the row.",
        )


def check_stop(places: Sequence[int], turn: int, where: str) -> None:
    """A model that is never shown the end token never stops talking (trl #1623)."""
    if not places:
        raise DataError(
            f"the end token of turn {turn + 1} would never be trained",
            where=where,
            expected="a chat template that ends an assistant turn with a special token",
            remedy="Use a chat template that writes eos_token after each answer.",
        )


def check_doubled_start(tokenizer: ChatTokenizer, ids: Sequence[int], where: str) -> None:
    """Two begin-of-text tokens are text the model has never seen (trl #1400)."""
    bos = getattr(tokenizer, "bos_token_id", None)
    if bos is not None and len(ids) > 1 and ids[0] == ids[1] == bos:
        raise DataError(
            f"found the begin-of-text token {tokenizer.decode([bos])!r} twice",
            where=where,
            expected="it once, where the chat template writes it",
            remedy="Remove it from the text of the first turn.",
        )


def check_prefix(
    tokenizer: ChatTokenizer, beginning: Sequence[int], whole: Sequence[int], turn: int, where: str
) -> None:
    """The prompt must equal the start of the training row, token for token (trl #1820)."""
    if list(whole[: len(beginning)]) == list(beginning):
        return
    place = next(i for i, token in enumerate(beginning) if i >= len(whole) or whole[i] != token)
    asked = tokenizer.decode(list(beginning[place : place + 3]))
    trained = tokenizer.decode(list(whole[place : place + 3]))
    raise DataError(
        f"the prompt's tokens change once the answer of turn {turn + 1} follows: token {place + 1} begins {asked!r} in the "
        f"prompt and {trained!r} in the whole",
        where=where,
        expected="a prompt that stays as it is",
        remedy=_remedy(asked, trained),
    )


def _remedy(asked: str, trained: str) -> str:
    if asked.strip() == "" or trained[:1].isspace() or asked[:1].isspace():
        return (
            "Remove the spaces and line breaks at the start of the output; if it has none, the prompt of the chat template "
            "ends in one: write it before the answer in the template instead."
        )
    return "The template writes earlier turns differently: train with trained_turns: last, or another chat template."


__all__ = [
    "ChatTokenizer",
    "Rendered",
    "mask_lines",
    "render_prompt",
    "render_training",
    "stop_token_ids",
    "template_hash",
    "training_messages",
    "turn_end_ids",
    "turns_to_train",
]

_SENTINEL = "xyzzy"
# How other trainers mark an assistant turn that is context only.
_WEIGHT_KEYS = ("weight", "loss_weight", "train")


@dataclass(frozen=True, slots=True)
class Rendered:
    """ids: the whole conversation. targets[i]: is ids[i] predicted and trained? Both of the same length."""

    ids: tuple[int, ...]
    targets: tuple[bool, ...]


def training_messages(example: Example) -> tuple[Message, ...]:
    """The turns of an example with its output as the last."""
    return (*example.input, Message("assistant", example.output))


def render_prompt(
    tokenizer: ChatTokenizer, messages: Sequence[Message], *, template_kwargs: Mapping[str, Any] | None = None
) -> list[int]:
    """The tokens after which the model answers.

    Raises DataError where the template refuses the turns or a begin-of-text token comes twice.
    """
    template = template_of(tokenizer, template_kwargs)
    ids = token_ids(tokenizer, template, accepted_turns(tokenizer, template, messages), prompt=True)
    check_doubled_start(tokenizer, ids, "")
    return ids


def render_training(
    tokenizer: ChatTokenizer,
    messages: Sequence[Message],
    *,
    trained_turns: Literal["all", "last"] | int = "all",
    template_kwargs: Mapping[str, Any] | None = None,
    where: str = "",
) -> Rendered:
    """A conversation with its mask: every assistant turn with its end token; or only the last, or those among so many last turns.

    A turn is trained from the end of its prompt to its end token; what the template writes after that is context. A
    turn that opens the conversation, and one with weight 0 (or `train: false`), is context too. where: file and row,
    for errors.
    Raises DataError where nothing is trained, an end token is not trained, a begin-of-text token comes twice, or the
    tokens of a prompt change once the answer follows.
    """
    template = template_of(tokenizer, template_kwargs)
    turns = accepted_turns(tokenizer, template, messages)
    trained = turns_to_train(turns, trained_turns)
    ends = turn_end_ids(tokenizer, template_kwargs=template_kwargs)
    whole = token_ids(tokenizer, template, turns, prompt=False, where=where)
    check_doubled_start(tokenizer, whole, where)
    targets = [False] * len(whole)
    for index in trained:
        start, stop = _span(tokenizer, template, turns, index, whole, ends, where)
        targets[start:stop] = [True] * (stop - start)
    rendered = Rendered(tuple(whole), tuple(targets))
    check_targets(rendered.targets, where)
    return rendered


def turns_to_train(turns: Sequence[Message], which: Literal["all", "last"] | int) -> list[int]:
    """The numbers of the turns that `render_training` trains."""
    answers = [index for index, turn in enumerate(turns) if turn.role == "assistant" and index > 0]
    if isinstance(which, int):
        asked = [index for index in answers if index >= len(turns) - which]
    else:
        asked = answers if which == "all" else answers[-1:]
    return [index for index in asked if all(turns[index].extra.get(key, 1) for key in _WEIGHT_KEYS)]


def _span(
    tokenizer: ChatTokenizer,
    template: ChatTemplate,
    turns: Sequence[Message],
    index: int,
    whole: list[int],
    ends: tuple[int, ...],
    where: str,
) -> tuple[int, int]:
    """First trained token of a turn, and the one after its last."""
    prompt = token_ids(tokenizer, template, turns[:index], prompt=True, where=where)
    is_last = index == len(turns) - 1
    done = whole if is_last else token_ids(tokenizer, template, turns[: index + 1], prompt=False, where=where)
    check_prefix(tokenizer, prompt, whole, index, where)
    found = [place for place in range(len(prompt), len(done)) if done[place] in ends]
    check_stop(found, index, where)
    stop = found[-1] + 1
    check_prefix(tokenizer, done[:stop], whole, index, where)
    return len(prompt), stop


def turn_end_ids(tokenizer: ChatTokenizer, *, template_kwargs: Mapping[str, Any] | None = None) -> tuple[int, ...]:
    """The token with which the template ends an assistant turn: the first special one after its text; () if none."""
    template = template_of(tokenizer, template_kwargs)
    probe = (Message("user", "a"), Message("assistant", _SENTINEL))
    text = rendered_text(tokenizer, template, probe, prompt=False)
    tail = text.rpartition(_SENTINEL)[2]
    ids = tokenizer(tail, add_special_tokens=False)["input_ids"] if tail else []
    special = _special_ids(tokenizer)
    return tuple(int(token) for token in ids if token in special)[:1]


def stop_token_ids(tokenizer: ChatTokenizer, *, template_kwargs: Mapping[str, Any] | None = None) -> tuple[int, ...]:
    """The tokens at which sampling stops: the end of an assistant turn in the template, then the end of text."""
    end = turn_end_ids(tokenizer, template_kwargs=template_kwargs)
    eos = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
    return tuple(dict.fromkeys((*end, *eos)))


def _special_ids(tokenizer: ChatTokenizer) -> frozenset[int]:
    """Added tokens count as special even where their file forgot to say so; the unknown token ends nothing."""
    found = {*getattr(tokenizer, "all_special_ids", ()), *getattr(tokenizer, "added_tokens_decoder", ())}
    if tokenizer.eos_token_id is not None:
        found.add(tokenizer.eos_token_id)
    return frozenset(found - ({getattr(tokenizer, "unk_token_id", None)} - {tokenizer.eos_token_id}))


def mask_lines(tokenizer: ChatTokenizer, rendered: Rendered) -> list[str]:
    """One line a token in aligned columns: place, id, `#` where it is trained and `.` where not, and its text.

    Raises DataError if ids and targets differ in length.
    """
    if len(rendered.ids) != len(rendered.targets):
        raise DataError(f"found {len(rendered.targets)} targets", expected=f"{len(rendered.ids)}, one a token")
    place_width = len(str(len(rendered.ids)))
    id_width = max((len(str(token)) for token in rendered.ids), default=1)
    return [
        f"{place:>{place_width}}  {token:>{id_width}}  {'#' if target else '.'}  {_shown(tokenizer.decode([token]))}"
        for place, (token, target) in enumerate(zip(rendered.ids, rendered.targets, strict=True))
    ]


def _shown(piece: object) -> str:
    """Quoted, so that a leading space or a line break can be seen."""
    return repr(str(piece))
