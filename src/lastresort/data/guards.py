"""What must never reach a training step: each guard is a clear error about one row."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.data.chat_template import ChatTokenizer
from lastresort.errors import DataError


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
    """What the model is asked must be, token for token, how the training row begins (trl #1820)."""
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
