"""Text that is already rendered, in segments: which ones are trained, and where the end-of-text token is.

{"segments": [{"text": "…"}, {"text": "…", "train": true, "end": true}]}. A pair has its answers in `chosen_segments` and
`rejected_segments`, after the same `segments`. No chat template is used: the model reads the segments as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lastresort.data.chat_template import ChatTokenizer
from lastresort.data.formats.rows import RawRow, kind_of
from lastresort.data.rendering import Rendered, check_doubled_start, check_targets
from lastresort.errors import DataError

SEGMENTS, CHOSEN, REJECTED = "segments", "chosen_segments", "rejected_segments"
LOOKS = '{"text": …, "train": true, "end": true}'
_KEYS = ("text", "train", "end")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text. train: are its tokens targets? end: it ends with the tokenizer's end-of-text token, added unless the
    text has it, and is trained if the segment is.
    """

    text: str
    train: bool = False
    end: bool = False


Segments = tuple[Segment, ...]


def are_segments(row: RawRow) -> bool:
    return SEGMENTS in row.values


def read_segments(row: RawRow) -> Segments:
    """The segments of a row for SFT, or of a labelled row. Raises DataError naming file, row and key."""
    found = _segments(row, SEGMENTS)
    check_targets([segment.train for segment in found], row.at(SEGMENTS))
    return found


def read_segment_pair(row: RawRow) -> tuple[Segments, Segments]:
    """Chosen and rejected, each after the prompt, which is never trained. Raises DataError naming file, row and key."""
    prompt = _segments(row, SEGMENTS)
    if any(segment.train for segment in prompt):
        raise DataError(
            "found train: true in the prompt of a pair, which is never trained",
            where=row.at(SEGMENTS),
            expected="only the prompt, next to chosen_segments and rejected_segments",
            remedy="Remove train, or move the trained text into both answers.",
        )
    chosen, rejected = (
        tuple(replace(segment, train=True) for segment in _segments(row, key)) for key in (CHOSEN, REJECTED)
    )
    return (*prompt, *chosen), (*prompt, *rejected)


def prompt_text(segments: Segments) -> str:
    """The text before the first trained segment. Rows with the same prompt are held out together."""
    first = next((number for number, segment in enumerate(segments) if segment.train), len(segments))
    return "".join(segment.text for segment in segments[:first])


def render_segments(tokenizer: ChatTokenizer, segments: Segments, *, where: str = "") -> Rendered:
    """The tokens of each segment on its own, with special tokens recognised in the text and none added. Where the tokenizer puts a
    begin-of-text token before every text, one comes first and is never a target.

    where: file and row, for errors. Raises DataError where nothing is trained, or a segment ends a text for which the
    model has no token.
    """
    ids: list[int] = []
    targets: list[bool] = []
    for segment in segments:
        own = [int(token) for token in tokenizer(segment.text, add_special_tokens=False)["input_ids"]]
        if segment.end:
            own = _ended(tokenizer, own, where)
        ids += own
        targets += [segment.train] * len(own)
    start = _start_token(tokenizer)
    if start is not None and ids[:1] != [start]:
        ids, targets = [start, *ids], [False, *targets]
    if targets:
        targets[0] = False  # there is nothing before it to predict it from
    check_doubled_start(tokenizer, ids, where)
    check_targets(targets, where)
    return Rendered(tuple(ids), tuple(targets))


def _ended(tokenizer: ChatTokenizer, ids: list[int], where: str) -> list[int]:
    end = tokenizer.eos_token_id
    if end is None:
        raise DataError(
            "a segment ends the text, and the model has no end-of-text token",
            where=where,
            expected="one",
            remedy="Set eos_token in the model's tokenizer_config.json.",
        )
    return ids if ids[-1:] == [end] else [*ids, int(end)]


def _start_token(tokenizer: ChatTokenizer) -> int | None:
    """The begin-of-text token, if the tokenizer puts one before every text."""
    start = getattr(tokenizer, "bos_token_id", None)
    return start if start is not None and list(tokenizer("a")["input_ids"][:1]) == [start] else None


def _segments(row: RawRow, key: str) -> Segments:
    value = row.values.get(key)
    if not isinstance(value, list) or not value:
        raise DataError(
            f"found {kind_of(value) if key in row.values else 'nothing'}",
            where=row.at(key),
            expected=f"a list of segments {LOOKS}",
            remedy="Write the text in segments.",
        )
    return tuple(_segment(row, f"{key}[{number}]", one) for number, one in enumerate(value))


def _segment(row: RawRow, key: str, value: Any) -> Segment:
    if not isinstance(value, Mapping) or not isinstance(value.get("text"), str):
        found = kind_of(value) if not isinstance(value, Mapping) else f"the keys {', '.join(sorted(value)) or 'none'}"
        raise DataError(
            f"found {found}", where=row.at(key), expected=f"a segment {LOOKS}", remedy="Write text, train and end."
        )
    for name, inner in value.items():
        if name not in _KEYS or (name != "text" and not isinstance(inner, bool | None)):
            found = f"found {kind_of(inner)}" if name in _KEYS else f'found the unknown key "{name}"'
            expected = "true or false" if name in _KEYS else "text, train and end"
            raise DataError(found, where=row.at(f"{key}.{name}"), expected=expected, remedy="Correct it.")
    return Segment(value["text"], bool(value.get("train")), bool(value.get("end")))
