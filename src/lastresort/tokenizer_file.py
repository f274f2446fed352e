"""A tokenizer.json that somebody else made, read with limits before any library reads it.

Each step of it works on every text: it may make a text longer, search it for a pattern, or cut it into words.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lastresort.apart import TooMuch, answer_apart
from lastresort.errors import DataError, InputError
from lastresort.foreign import DOCUMENT, read_json

FILE = "tokenizer.json"
MOST_WORDS = 2_000_000  # of a vocabulary and its merges, which take 7 s and 0.9 GB; the largest have 0.8 million
MOST_ADDED = 100_000  # each takes transformers 20 microseconds; models have some thousands
MOST_STEPS = 1_000
MOST_GROWTH = 1_000  # characters of one, after all steps that write others; common ones make three bytes of a space
LONGEST_WORD = 1_000  # WordPiece takes the cube of a word's length; common ones stop at 100
TRYING_S = 2.0  # of the processor, for a pattern; common ones take 0.05 s
_RUN = 2_000  # characters of each text that the patterns are tried on
_COMMON = "aA0 \n!_'é中"
_TRY = """
from tokenizers import Regex, pre_tokenizers
def answer(question):
    patterns, texts = question
    for pattern in patterns:
        try:
            split = pre_tokenizers.Split(Regex(pattern), "isolated")
            for text in texts: split.pre_tokenize_str(text)
        except BaseException as error:
            if type(error).__name__ == "PanicException": return pattern
"""
_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_Fault = tuple[str, str, str]  # key, found, expected


def check_tokenizer(path: Path, raised: type[InputError]) -> None:
    """Raise `raised` where a tokenizer.json is none, or asks for more time or memory than any tokenizer does."""
    state = path.stat()
    try:
        fault = _fault_of(path.absolute(), state.st_mtime_ns, state.st_size)
    except DataError as error:
        raise raised(error.found, where=error.where, expected=error.expected, remedy=error.remedy) from error
    if fault is not None:
        key, found, expected = fault
        raise raised(
            f"found {found}", where=f'{path}, key "{key}"', expected=expected, remedy="Download the model again."
        )


@cache
def _fault_of(path: Path, changed_ns: int, size: int) -> _Fault | None:
    """Once for each state of a file, since one model is opened several times. Raises DataError where it is no JSON object."""
    found: Any = read_json(path, DOCUMENT, lenient=True, raised=DataError)
    if not isinstance(found, dict):
        raise DataError("found no object", where=str(path), expected="a tokenizer", remedy="Save the model again.")
    return next(_faults(found), None)


def _faults(found: Mapping[str, Any]) -> Iterator[_Fault]:
    model: Any = found.get("model")
    model = model if isinstance(model, dict) else {}
    lists = [model[key] for key in ("vocab", "merges") if isinstance(model.get(key), dict | list)]
    words = sum(map(len, lists))
    if words > MOST_WORDS:
        yield "model", f"{words:,} words and merges", f"at most {MOST_WORDS:,}"
    if isinstance(added := found.get("added_tokens"), list) and len(added) > MOST_ADDED:
        yield "added_tokens", f"{len(added):,} tokens", f"at most {MOST_ADDED:,}"
    longest = model.get("max_input_chars_per_word")
    if isinstance(longest, int | float) and longest > LONGEST_WORD:
        yield "max_input_chars_per_word", f"{longest:,}", f"at most {LONGEST_WORD:,}"
    patterns: list[str] = []
    for key in _PARTS:
        steps = list(_objects(found.get(key)))
        if len(steps) > MOST_STEPS:
            yield key, f"{len(steps):,} steps", f"at most {MOST_STEPS:,}"
        growth = 1.0
        for step in steps:
            growth *= max(1.0, _growth(step))
            patterns += [step["Regex"]] if isinstance(step.get("Regex"), str) else []
        if growth > MOST_GROWTH:
            yield key, f"steps that make {growth:,.0f} characters of one", f"at most {MOST_GROWTH:,}"
    slow = _slow_pattern(tuple(dict.fromkeys(patterns)))
    if slow is not None:
        shown = json.dumps(slow if len(slow) <= 80 else f"{slow[:80]}…", ensure_ascii=False)
        yield "Regex", f"the pattern {shown}, which takes too long", "one without a repeat in a repeat, such as (a+)+"


def _objects(part: Any) -> Iterator[Mapping[str, Any]]:
    """All objects in a part of the file, without recursion."""
    waiting = [part]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _growth(step: Mapping[str, Any]) -> float:
    """How many characters a step makes of one at most, where it writes others at all."""
    texts = [step[key] for key in ("content", "prepend", "replacement") if isinstance(step.get(key), str)]
    pattern = step.get("pattern")
    replaced = pattern.get("String") if isinstance(pattern, dict) else None
    lists = [step[key] for key in ("single", "pair", "ids", "tokens") if isinstance(step.get(key), list)]
    mapped = step.get("precompiled_charsmap")
    return max(
        sum(map(len, texts)) / (len(replaced) if isinstance(replaced, str) and replaced else 1),
        *(float(len(parts)) for parts in lists),
        _longest_mapped(mapped) if isinstance(mapped, str) else 1.0,
        1.0,
    )


def _longest_mapped(charsmap: str) -> float:
    """SentencePiece's map of characters: the length of a trie, the trie, and the texts that it leads to, each ended by a zero."""
    try:
        packed = base64.b64decode(charsmap)
    except (binascii.Error, ValueError):
        return 1.0
    texts = packed[4 + int.from_bytes(packed[:4], "little") :]
    return float(max(map(len, texts.split(b"\0"))))


@cache
def _slow_pattern(patterns: tuple[str, ...]) -> str | None:
    """The first that cannot be searched for in texts that suit it. Which texts take long cannot be said of all patterns: the
    library itself gives up beyond ten million steps at one place of a text.
    """
    if not patterns:
        return None
    letters = dict.fromkeys(_COMMON + "".join(re.findall(r"\w", "".join(patterns))))
    words = dict.fromkeys(re.findall(r"\w{2,}", " ".join(patterns)))
    tail = "\0" + "".join(letters)
    texts = [(run * (_RUN // len(run) + 1))[:_RUN] + tail for run in [*[*letters][:100], *[*words][:100]]]
    for pattern in patterns:
        try:
            found: str | None = answer_apart(_TRY, [[pattern], texts], most_s=TRYING_S, imports=True)
        except TooMuch:
            return pattern
        if found is not None:
            return found
    return None
