"""Each filter drops what it is for, replies of any kind are read or counted, and shares add up."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from lastresort.data.duplicates import NearIndex, near_pairs
from lastresort.synthesis.filters import (
    FILTERS,
    AlikeIndex,
    ProposedRow,
    SeenRows,
    alike_limit,
    dropped_by,
    labels_of,
    most_alike,
    wanted_rows,
)
from lastresort.synthesis.kinds import RowRequest
from lastresort.synthesis.prompts import LONGEST_REPLY, Proposal, read_reply_rows
from lastresort.types import Answer, Example, Message

TEXTS = [
    "the lamp in the hall has been flickering since monday",
    "my parcel to Oslo never arrived and nobody answers the phone",
    "please send the invoice for the toaster again",
    "why was I charged twice for one subscription",
    "the kettle leaks when it is more than half full",
    "can the courier come on saturday before noon",
]


def row(text: str, output: str = "a") -> Example:
    return Example("", (Message("user", text),), output)


def proposed(text: str, output: str = "a", *, answer: str | None = None, agrees: bool | None = None) -> ProposedRow:
    return ProposedRow(row(text, output), RowRequest("expansion", "", (row(TEXTS[0]),), answer), agrees=agrees)


def known(**options: Any) -> SeenRows:
    given = {"answer_fault": lambda one: None if one.output in "ab" else "no label", "wanted": {"a": 2, "b": 2}}
    return SeenRows([row(text) for text in TEXTS[:4]], [row(TEXTS[4])], **{**given, "free_answers": False, **options})


FRESH = "a window of the office on the third floor does not close"


@pytest.mark.parametrize(
    ("one", "by"),
    [
        (proposed(FRESH), None),
        (proposed(FRESH, agrees=True), None),
        (proposed("short"), "length"),
        (proposed(f"{FRESH} {FRESH} {FRESH}"), "length"),
        (proposed("I am unable to log in since monday, and I'm sorry, but"), None),
        (proposed(FRESH, "c"), "answer"),
        (proposed(f"{TEXTS[4].upper()}."), "copy"),
        (proposed(TEXTS[4].replace("kettle", "kettel")), "near"),
        (proposed("the lamp in the hall has been flickering since last tuesday"), "alike"),
        (proposed(FRESH, "b"), "share"),
        (proposed(FRESH, agrees=False), "agreement"),
    ],
)
def test_a_row_is_dropped_by_the_first_filter_that_it_fails(one: ProposedRow, by: str | None) -> None:
    against = known(wanted={"a": 1})
    assert dropped_by(one, against) == by


def test_a_row_counts_from_when_it_is_held() -> None:
    against, one = known(), proposed(FRESH)
    against.hold(one)
    assert dropped_by(proposed(FRESH), against) == "copy"
    assert dropped_by(proposed(FRESH.replace("third", "fourth")), against) == "alike"
    assert against.missing("a") == 1
    against.let_go(one)
    assert (against.missing("a"), dropped_by(one, against)) == (2, "copy")


def test_a_label_has_room_for_its_share() -> None:
    against = known(wanted={"a": 1, "b": 4, "c": 0}, answer_fault=lambda one: None)
    counts = {}
    for label in "abc":
        against.labels.clear()
        while dropped_by(proposed(FRESH, label), against) is None:
            against.labels[label] += 1
        counts[label] = against.labels[label]
    assert counts == {"a": 1, "b": 4, "c": 0}


def test_refusals_and_answers_are_measured_by_the_train_rows() -> None:
    """Where answers of train refuse, a refusal is a row like any other; free answers have lengths, and given ones are right."""
    refusal = "I'm sorry, but I cannot help with this."
    answering = [row(text, "We are sorry and will look into it today.") for text in TEXTS]
    free = SeenRows(answering, [], lambda one: None, {}, free_answers=True)
    assert dropped_by(proposed(FRESH, refusal), free) == "refusal"
    assert dropped_by(proposed(FRESH, refusal, answer=refusal), free) is None
    asking = SeenRows(
        [*answering, row("I cannot create an account", "We will.")], [], lambda one: None, {}, free_answers=True
    )
    assert dropped_by(proposed(FRESH, refusal), asking) == "refusal"
    refusing = [row(text, "I'm sorry, but I cannot help with that.") for text in TEXTS]
    usual = SeenRows(refusing, [], lambda one: None, {}, free_answers=True)
    assert dropped_by(proposed(FRESH, refusal), usual) is None
    assert dropped_by(proposed(FRESH, "No."), usual) == "length"
    assert dropped_by(proposed(FRESH, "No.", answer="No."), usual) is None


@pytest.mark.sampled(3)
@pytest.mark.parametrize("words_before", [0, 60, 700])
def test_rows_of_a_conversation_are_compared_by_their_last_turn(words_before: int) -> None:
    """New last turns are no repetition, however long the turns before them are, and copies with typos are, whatever they follow."""
    drawn = random.Random(1)

    def text(n: int) -> str:
        return " ".join(
            "".join(drawn.choice("bdfgklmnprst") + drawn.choice("aeiou") for _ in range(4)) for _ in range(n)
        )

    def talk(last: str) -> Example:
        before = (Message("user", text(words_before)), Message("assistant", text(words_before))) if words_before else ()
        return Example("", (*before, Message("user", last)), "a")

    train, held = [talk(text(8)) for _ in range(60)], [talk(text(8)) for _ in range(60)]
    against = SeenRows(train, held, lambda one: None, {}, free_answers=False)

    def following(seed: Example, last: str) -> ProposedRow:
        return ProposedRow(
            Example("", (*seed.input[:-1], Message("user", last)), "a"), RowRequest("harder", "", (seed,), None)
        )

    assert {dropped_by(following(seed, text(8)), against) for seed in train} == {None}
    lasts = [one.input[-1].content for one in held]
    assert {dropped_by(following(seed, last), against) for seed, last in zip(train, lasts, strict=True)} == {"copy"}
    typos = [f"{last[1]}{last[0]}{last[2:]}" for last in lasts]
    assert {dropped_by(following(seed, last), against) for seed, last in zip(train, typos, strict=True)} == {"near"}


@pytest.mark.parametrize(("seed", "limit"), [(seed, limit) for seed in range(6) for limit in (0.75, 0.83, 0.95)])
def test_texts_that_are_alike_are_all_found(seed: int, limit: float) -> None:
    """As by a look at each of them, among few words and many, short texts and long ones, and none."""
    drawn = random.Random(seed)
    words = [f"w{n}" for n in range(drawn.choice([4, 12, 200]))]
    texts = [tuple(drawn.choices(words, k=drawn.randint(0, 14))) for _ in range(120)]
    for text in texts[:60]:  # some like another one
        changed = list(text)
        for _ in range(drawn.randint(0, 2)):
            changed.insert(drawn.randint(0, len(changed)), drawn.choice(words))
            changed.pop(drawn.randrange(len(changed)))
        texts.append(tuple(changed))
    index, before, found = AlikeIndex(limit), [], []
    for text in texts:
        alike = index.has(text)
        assert alike == (most_alike(text, before) > limit)
        found.append(alike)
        index.add(text)
        before.append(text)
    assert {True, False} == set(found)
    assert index.has(("new", "words", "alone"), [("new", "words", "alone")])


def test_templated_rows_may_be_as_alike_as_those_of_train() -> None:
    assert alike_limit([tuple(f"word{n}-{i}" for i in range(8)) for n in range(20)]) == 0.75
    templated = [("the", "weather", "in", f"city{n}", "for", "the", "next", "day", "please", "now") for n in range(20)]
    assert alike_limit(templated) == pytest.approx(0.9)
    assert alike_limit([("same",)] * 20) == 0.95


def test_new_texts_are_near_as_pairs_of_a_whole_are() -> None:
    drawn = random.Random(3)
    words = [
        f"{a}{b}{c}"
        for a in "brtmkslpdg"
        for b in ("ando", "eliv", "uzar", "ombri", "ekat", "ilpo")
        for c in ("ton", "ker", "mal")
    ]
    first = [" ".join(drawn.sample(words, 9)) for _ in range(60)]
    second = []
    for number, text in enumerate(first):
        changed = text.split()
        changed[number % 9] = changed[number % 9][::-1] if number % 3 == 0 else changed[number % 9] + "s" * (number % 2)
        second.append(" ".join(changed))
    index = NearIndex(first)
    pairs = near_pairs([*first, *second], border=60)
    expected = {b - 60 for _, b in pairs}
    found = {number for number, text in enumerate(second) if index.near(text) is not None and text != first[number]}
    assert expected
    assert found == expected
    assert index.near("nothing of the kind at all") is None
    index.add("a lonely lighthouse keeper polishes lenses")
    assert index.near("a lonely lighthouse keeper polishes lensse") == 60


def reply(text: str) -> Answer:
    return Answer(text, 1, 1, "stop")


ROW = {"input": " one\r\ntwo ", "output": {"b": [1, 2]}}
INVISIBLE = "\u200b\u200e\u200f\u200d\u2060\U000e0041"
JOINED = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f468\u200d\U0001f469\u200d\U0001f467"  # such joiners are spelling
READ = Proposal("one\ntwo", '{"b":[1,2]}')
CUT = json.dumps({"rows": [ROW, {"input": "three", "output": "c"}, {"input": "four words or more"}]})[:-15]


@pytest.mark.parametrize(
    ("text", "rows", "unreadable"),
    [
        (json.dumps({"rows": [ROW]}), (READ,), 0),
        (f"```json\n{json.dumps({'rows': [ROW]})}\n```", (READ,), 0),
        (f"Here they are: {json.dumps({'rows': [ROW]})} I hope they help.", (READ,), 0),
        (json.dumps({"rows": [ROW, {"input": "x"}, 7, None, {"input": True, "output": "a"}]}), (READ,), 2),
        (json.dumps({"rows": [{"input": "a\x1b[2Jb", "output": "a"}, {"input": "a\u202eb", "output": "a"}, ROW]}), (READ,), 2),
        (json.dumps({"rows": [{"input": f"ket{mark}tle", "output": "a"} for mark in INVISIBLE[:3]]}), (), 3),
        (json.dumps({"rows": [{"input": f"ket{mark}tle", "output": "a"} for mark in INVISIBLE[3:]]}), (), 3),
        (json.dumps({"rows": [{"input": JOINED, "output": "a"}]}), (Proposal(JOINED, "a"),), 0),
        (CUT, (READ, Proposal("three", "c")), 1),
        (CUT.replace("three", "a\u202eb"), (READ,), 2),
        (f"```json\n{CUT[:90]}", (READ,), 1),
        (CUT[: CUT.index(', {"input": "fo')], (READ, Proposal("three", "c")), 0),
        (CUT.replace("three", "\\ud800"), (READ,), 1),
        ('{"rows": [{"input": "one"' + "x" * 1000, (), 1),
        ('{"rows": [{"input": "a\\ud800", "output": "a"}]}', (), 1),
        ('{"rows": [{"input": NaN, "output": "a"}]}', (), 1),
        ('{"rows": {"input": "a"}}', (), 1),
        ('{"rows": []}', (), 1),
        ("[1, 2]", (), 1),
        ("no JSON", (), 1),
        ("", (), 1),
        ("```" + " " * 200_000, (), 1),
        ('{"rows":' + "[" * 100_000, (), 1),
        ('{"rows": [{"input": "' + "x" * LONGEST_REPLY + '", "output": "a"}]}', (), 1),
        ("{" * 10_000_000, (), 1),
    ],
)  # fmt: skip
def test_replies_are_read_or_counted(text: str, rows: tuple[Proposal, ...], unreadable: int) -> None:
    found = read_reply_rows(reply(text), 3, with_output=True)
    assert (found.proposals, found.unreadable) == (rows, unreadable)
    assert len(found.said) <= 200


def test_an_output_is_read_only_where_it_was_asked_for() -> None:
    found = read_reply_rows(reply(json.dumps({"rows": [ROW, {"input": 12}]})), 3, with_output=False)
    assert found.proposals == (Proposal("one\ntwo", None), Proposal("12", None))


@pytest.mark.parametrize("seed", range(30))
def test_shares_add_up(seed: int) -> None:
    drawn = random.Random(seed)
    labels = tuple("abcdef"[: drawn.randint(1, 6)])
    train = [row(str(n), drawn.choice(labels[: drawn.randint(1, len(labels))])) for n in range(drawn.randint(1, 80))]
    n, counts = drawn.randint(1, 100), Counter(one.output for one in train)
    shares = wanted_rows(train, labels, n, "train")
    assert shares.keys() == set(labels)
    assert sum(shares.values()) == n
    assert all(abs(shares[label] - n * counts[label] / len(train)) < 1 for label in labels)
    even = wanted_rows(train, labels, n, "even")
    assert sum(even.values()) == n
    raised = [counts[label] + even[label] for label in labels if even[label]]
    assert max(raised) - min(raised) <= 1
    assert all(counts[label] >= max(raised) - 1 for label in labels if not even[label])
    assert wanted_rows(train, labels, n, "any") == wanted_rows(train, (), n, "train") == {}


def test_few_answers_for_many_rows_are_labels() -> None:
    train = [row(str(n), "yes" if n % 3 else "no") for n in range(30)]
    assert set(labels_of(train, None)) == {"yes", "no"}
    assert labels_of(train, ("yes", "no", "maybe")) == ("yes", "no", "maybe")
    assert labels_of([row(str(n), str(n)) for n in range(30)], None) == ()
    assert labels_of([row(str(n), str(n % 45)) for n in range(100)], None) == ()


def test_every_filter_has_words() -> None:
    from lastresort.report.words.synthetic import FILTERS as WORDS

    assert list(WORDS) == list(FILTERS)
