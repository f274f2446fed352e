"""Exact and near duplicates among inputs.

Exact: equal after normalisation (case, spaces, a closing mark). Near: the same text with slips of the pen. What counts
is not how much of two texts is equal, because templated inputs ("weather in Boston", "weather in Austin") are equal but
for the one word that matters; it is what *differs*. Two texts are near duplicates if they differ only in

- spelling: a word of 5 letters or more off by one letter, of 9 or more by two;
- words that carry nothing (a, the, please …) and commas, full stops and quotes;
- and, in longer texts, few other words: at most 5% of the distinctive ones (0 below 20), where a replaced word counts
  once. A number, a negation or a capitalised word that differs is never forgiven: it is the slot of a template.

Words that stand in more than 2% of the inputs (and in more than 10) are not distinctive: they are the template, the
system prompt, the instruction. They neither propose a pair nor raise what may differ. A text copied more than that often
with differing slips is missed; that is the price for not deleting a templated training set.
The thresholds were set by hand on the pairs of tests/unit/test_data_duplicates.py. On SNIPS, short templated utterances,
5 of 3,000 training rows are flagged against 700 test rows, all of them exact copies (tests/real/test_data_shared.py);
of typing errors put into its training rows three in four are found, of those in longer texts (GSM8K) 99%.
MinHash over the distinctive words proposes pairs, RapidFuzz aligns the words.
"""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from lastresort.types import Example

if TYPE_CHECKING:
    from datasketch import MinHash

FREE_SHARE = 0.05
COMMON_SHARE = 0.02
COMMON_AT_LEAST = 10
MUCH_MORE = 10  # times the rows of a label that is perhaps a slip
MOST_LABEL_WORDS = 50
PROPOSE_JACCARD = 0.5
SKETCH, BANDS = 64, (14, 4)  # hashes of a text; bands and rows that datasketch finds best for them, at 8 ms a time

_EMPTY_WORDS = frozenset({"a", "an", "the", "please", "kindly", "just", "hi", "hello", "hey", "thanks"})
_EMPTY_MARKS = frozenset(".,;:!?'\"…’‘“”")
_NEGATIONS = frozenset(
    {"not", "no", "never", "none", "nor", "without", "cannot", "cant", "dont", "doesnt", "didnt", "isnt", "arent"}
    | {"couldnt", "hasnt", "havent", "mustnt", "shouldnt", "wouldnt", "nobody", "nothing", "neither"}
    | {"wasnt", "wont", "nicht", "kein", "keine", "keinen", "nie", "ohne", "ne", "pas", "jamais", "sin", "nunca"}
    | {"não", "不", "没", "無", "无", "未", "非"}
)
# Scripts written without spaces are compared by character: each may be a word.
_SPACELESS = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_NUMBER = re.compile(r"(?:(?<![^\W_])[-−])?\d+(?:[.,]\d+)*")
_LABEL_WORD = re.compile(rf"[{_SPACELESS}]|(?:(?![{_SPACELESS}])[^\W_])+")
_TOKEN = re.compile(rf"[{_SPACELESS}]|(?:(?![\u0e00-\u0e7f\u3040-\u9fff])\w)+|[^\w\s]")


def normalised(text: str) -> str:
    """Composed letters, no case, single spaces, no closing . ! or ?; other marks stay, since 3 - 2 is not 3 + 2."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split()).rstrip(".!? ")


def input_hash(example: Example) -> str:
    """Sixteen hex digits of an input, whatever its id and answer: the same for inputs that are equal when normalised."""
    return hashlib.sha256(normalised(example.input_text).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def spelling(label: str) -> str:
    """Equal for labels that differ only by case or spaces."""
    return "".join(unicodedata.normalize("NFC", label).casefold().split())


def usual_spellings(counts: Counter[str]) -> dict[str, str]:
    """Of each label, the most frequent that differs from it only by case or spaces, often itself; the most frequent first."""
    usual: dict[str, str] = {}
    return {label: usual.setdefault(spelling(label), label) for label, _ in counts.most_common()}


class Slips:
    """Of some labels those that another one is perhaps meant for, since the two differ by one slip of the pen: one edit of one
    word, in any case. Numbers, negations and words below 3 letters, such as the A of "plan A", are no slips.

    Kept by what is left of each without one of its words, as there may be thousands.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self._labels = tuple(labels)
        self._by_rest = defaultdict[tuple[str, ...], list[tuple[str, int]]](list)
        for place, label in enumerate(self._labels):
            for rest, word in _without_one(label):
                self._by_rest[rest].append((word, place))

    def of(self, label: str) -> list[str]:
        """Those that the label is perhaps meant for, in their order."""
        from rapidfuzz.distance import OSA
        from rapidfuzz.process import extract_iter

        places = list[int]()
        for rest, word in _without_one(label):
            near = self._by_rest.get(rest, ())
            for other, edits, n in extract_iter(word, [one for one, _ in near], scorer=OSA.distance, score_cutoff=1):
                letters = sum(map(len, rest)) + min(len(word), len(other))
                if edits == 1 and letters >= 4:
                    places.append(near[n][1])
        return [self._labels[place] for place in sorted(places)]


def _without_one(label: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each word of a label that may hold a slip, after the label's words with an empty one in its place."""
    words = _LABEL_WORD.findall(unicodedata.normalize("NFC", label).casefold())
    if len(words) > MOST_LABEL_WORDS:  # no label, but a text, which would take the square of its length
        return
    for n, word in enumerate(words):
        if len(word) >= 3 and word.isalpha() and word not in _NEGATIONS:
            yield (*words[:n], "", *words[n + 1 :]), word


def misspelt(counts: Counter[str], few: int) -> dict[str, str]:
    """Of labels with fewer than `few` rows, the much more frequent one that each is perhaps a slip for."""
    slips = Slips(label for label, n in counts.most_common() if n >= MUCH_MORE)
    meant = {label: slips.of(label) for label, n in counts.items() if n < few}
    found = {
        label: next((other for other in others if counts[other] >= MUCH_MORE * counts[label]), None)
        for label, others in meant.items()
    }
    return {label: usual for label, usual in found.items() if usual is not None}


def exact_groups(texts: Sequence[str]) -> list[tuple[int, ...]]:
    """Positions of texts that are equal when normalised, for each text that occurs more than once."""
    found: dict[str, list[int]] = {}
    for position, text in enumerate(texts):
        found.setdefault(normalised(text), []).append(position)
    return [tuple(positions) for positions in found.values() if len(positions) > 1]


def near_pairs(texts: Sequence[str], *, border: int | None = None) -> list[tuple[int, int]]:
    """Pairs (first < second) of near duplicates that are not exact ones, sorted.

    border: only pairs of a text before this position with one at or after it; None for all. Of texts that are equal when
    normalised only the first is compared, and represents all of them. The pairs of the last `KEPT_SEARCHES` are kept without
    the texts, since the split and the check of the data ask for the same.
    """
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    key = digest.digest(), border
    with _KEPT_LOCK:
        known = _KEPT.pop(key, None)
    found = _near_pairs(texts, border) if known is None else known
    with _KEPT_LOCK:
        _KEPT[key] = found
        while len(_KEPT) > KEPT_SEARCHES:
            del _KEPT[next(iter(_KEPT))]
    return list(found)


KEPT_SEARCHES = 16
_KEPT: dict[tuple[bytes, int | None], list[tuple[int, int]]] = {}  # not an lru_cache, whose keys would be the texts
_KEPT_LOCK = threading.Lock()


def _near_pairs(texts: Sequence[str], border: int | None) -> list[tuple[int, int]]:
    first_of: dict[str, int] = {}
    for position, text in enumerate(texts):
        first_of.setdefault(normalised(text), position)
    positions = list(first_of.values())
    words = [_words(texts[position]) for position in positions]
    common = _common_words(words)
    before = None if border is None else sum(position < border for position in positions)
    proposed = _proposed([frozenset(w.plain) - common for w in words], before)
    return sorted((positions[a], positions[b]) for a, b in proposed if _is_near(words[a], words[b], common))


class NearIndex:
    """Texts that new ones are compared with, one at a time.

    Which words are common is decided by the first texts, as the later ones come to be written from them.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        from datasketch import MinHashLSH

        self._known = [_words(text) for text in texts]
        self._common = _common_words(self._known)
        self._index = MinHashLSH(num_perm=SKETCH, params=BANDS)
        features = [self._features(words) for words in self._known]
        places = [place for place, own in enumerate(features) if own]
        for place, sketch in zip(places, _sketches(features[place] for place in places), strict=True):
            self._index.insert(place, sketch, check_duplication=False)

    def add(self, text: str) -> None:
        """As the next position."""
        words = _words(text)
        self._known.append(words)
        for sketch in _sketches(filter(None, [self._features(words)])):
            self._index.insert(len(self._known) - 1, sketch, check_duplication=False)

    def near(self, text: str) -> int | None:
        """The first position of a near duplicate, None where there is none. Exact ones may be found too."""
        words = _words(text)
        features = self._features(words)
        if not features:
            return None
        (sketch,) = _sketches([features])
        found = sorted(self._index.query(sketch))
        return next((position for position in found if self._is_near(words, features, position)), None)

    def _is_near(self, words: _Words, features: frozenset[str], position: int) -> bool:
        other = self._known[position]
        return _overlap(features, self._features(other)) and _is_near(words, other, self._common)

    def _features(self, words: _Words) -> frozenset[str]:
        return frozenset(words.plain) - self._common


def numbers_and_negations(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What two texts that say the same have in common: numbers with sign and decimals, in their order, and sorted negations."""
    negations = sorted(word for word in _words(text).plain if word in _NEGATIONS)
    return tuple(_NUMBER.findall(text)), tuple(negations)


def words_of(text: str) -> tuple[str, ...]:
    """What two texts are compared by, in its order: no case, no words or marks that carry nothing."""
    return _words(text).plain


@dataclass(frozen=True, slots=True)
class _Words:
    """plain: compared. written: the same words with their case."""

    plain: tuple[str, ...]
    written: tuple[str, ...]


def _words(text: str) -> _Words:
    composed = unicodedata.normalize("NFC", text)
    for apostrophe in ("'", "’"):
        composed = composed.replace(apostrophe, "")
    kept = [token for token in _TOKEN.findall(composed) if token not in _EMPTY_MARKS]
    kept = [token for token in kept if token.casefold() not in _EMPTY_WORDS]
    return _Words(tuple(token.casefold() for token in kept), tuple(kept))


def _common_words(texts: Sequence[_Words]) -> frozenset[str]:
    limit = max(COMMON_AT_LEAST, COMMON_SHARE * len(texts))
    counts = Counter(word for text in texts for word in set(text.plain))
    return frozenset(word for word, count in counts.items() if count > limit)


def _proposed(features: Sequence[frozenset[str]], before: int | None) -> Iterator[tuple[int, int]]:
    """Pairs (first < second) whose distinctive words overlap; texts without any are left to the exact comparison. before: only
    pairs of one of the first so many with one of the others.
    """
    from datasketch import MinHashLSH

    index = MinHashLSH(num_perm=SKETCH, params=BANDS)
    used = [position for position, words in enumerate(features) if words]
    for position, sketch in zip(used, _sketches(features[position] for position in used), strict=True):
        for other in index.query(sketch) if before is None or position >= before else ():
            if _overlap(features[position], features[other]):
                yield other, position
        if before is None or position < before:
            index.insert(position, sketch, check_duplication=False)


def _sketches(features: Iterable[frozenset[str]]) -> Iterator[MinHash]:
    """One for each, none of which may be empty."""
    for one in features:
        sketch = _empty_sketch().copy()
        sketch.update_batch([word.encode("utf-8", "surrogatepass") for word in sorted(one)])
        yield sketch


@cache
def _empty_sketch() -> MinHash:
    """Made once: drawing the hash functions takes longer than a sketch of a sentence."""
    from datasketch import MinHash

    return MinHash(num_perm=SKETCH)


def _overlap(a: frozenset[str], b: frozenset[str]) -> bool:
    """Enough distinctive words in common to be worth aligning."""
    return len(a & b) >= PROPOSE_JACCARD * 0.8 * len(a | b)


def _is_near(a: _Words, b: _Words, common: frozenset[str]) -> bool:
    from rapidfuzz.distance import Levenshtein

    distinctive = max(sum(word not in common for word in text.plain) for text in (a, b))
    budget = int(FREE_SHARE * distinctive)
    # Each slip of the pen is one edit of the alignment too, so far more edits than that cannot end well.
    limit = budget + max(1, distinctive // 4)
    if Levenshtein.distance(a.plain, b.plain, score_cutoff=limit) > limit:
        return False
    spent = slips = 0
    for step in Levenshtein.editops(a.plain, b.plain):
        left = a.written[step.src_pos] if step.tag != "insert" else ""
        right = b.written[step.dest_pos] if step.tag != "delete" else ""
        if left and right and _is_slip(left.casefold(), right.casefold()):
            slips += 1
        elif _is_telling(left) or _is_telling(right):
            return False
        else:
            spent += 1
    return spent <= budget and slips <= max(1, distinctive // 8)


def _is_telling(word: str) -> bool:
    """A word that changes the meaning if it differs: a number, a negation, a name."""
    return any(letter.isdigit() for letter in word) or word.casefold() in _NEGATIONS or word[:1].isupper()


def _is_slip(a: str, b: str) -> bool:
    from rapidfuzz.distance import OSA

    if not (a.isalpha() and b.isalpha()) or {a, b} & _NEGATIONS:
        return False
    allowed = 2 if min(len(a), len(b)) >= 9 else 1 if min(len(a), len(b)) >= 5 else 0
    return OSA.distance(a, b) <= allowed
