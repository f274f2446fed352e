"""Near duplicates: what differs decides. These pairs are those on which the thresholds were set."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from lastresort.data import duplicates
from lastresort.data.duplicates import BANDS, PROPOSE_JACCARD, SKETCH, exact_groups, misspelt, near_pairs, normalised

LONG = (
    "my order arrived on tuesday but the box was open and the blue lamp inside had a long crack down one side so i "
    "took two pictures and kept the packaging because the driver said somebody would collect it within the week"
)
NEAR = [
    ("Could you cancel my subscription", "could you cancel my subscripton"),
    ("cancel the order", "Please cancel order!"),
    ("show me the movie schedules", "show me movie schedule"),
    ("where, exactly, is the parcel office", "where exactly is the parcel office?"),
    ("reschedule the appointment with cardiology", "reschedule the appiontment with cardiology"),
    (LONG, LONG + " thanks"),
    (LONG, LONG.replace("long crack", "crack")),
    (LONG, LONG.replace("pictures", "photographs")),
    (
        "我想取消昨天的订单因为包裹还没有寄出而且我已经在别的店里买到了",
        "我想取消昨天的订单因为包裹还没有寄出而且我已在别的店里买到了",
    ),
]
DIFFERENT = [
    ("what is the weather in boston", "what is the weather in austin"),
    ("play some jazz", "play some rock"),
    ("give this book 4 stars", "give this book 5 stars"),
    ("3 - 2", "3 + 2"),
    ("book a table for two", "book a table for ten"),
    ("flights from boston to denver", "flights from denver to boston"),
    ("I can log in", "I cannot log in"),
    ("this is good", "this is not good"),
    ("buy milk", "guy milk"),
    ("My name is Anna Weber and the lamp is broken", "My name is Olga Petrov and the lamp is broken"),
    (f"{LONG} order 81733", f"{LONG} order 81734"),
    (f"{LONG} ask for Maria", f"{LONG} ask for Jonas"),
    (LONG, LONG.replace("would collect", "would not collect")),
    (LONG, LONG.replace("blue lamp", "red chair").replace("open", "wet")),
    ("退订邮件", "订阅邮件"),
    ("我要去北京", "我不要去北京"),
]


@pytest.mark.parametrize(("a", "b"), NEAR)
def test_slips_and_empty_words_make_near_duplicates(a: str, b: str) -> None:
    assert near_pairs([a, b]) == near_pairs([b, a]) == [(0, 1)]


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_the_word_that_matters_does_not(a: str, b: str) -> None:
    assert near_pairs([a, b]) == near_pairs([b, a]) == []


def test_normalising_keeps_marks_that_mean_something() -> None:
    assert normalised("  Where\n is IT?! ") == "where is it"
    assert normalised("Cafe\u0301") == normalised("CAFÉ")
    assert len({normalised(text) for text in ("3-2", "3+2", "3 2", "$3", "x²", "x2")}) == 6


def test_exact_groups_hold_every_position() -> None:
    assert exact_groups(["a", "b", "A.", "c", "a ", "b"]) == [(0, 2, 4), (1, 5)]


def test_equal_texts_are_compared_once_in_the_name_of_the_first() -> None:
    texts = ["cancel the order", "Cancel the order.", "please cancel the order", "other"]
    assert near_pairs(texts) == [(0, 2)]


def test_only_pairs_across_the_border_are_sought() -> None:
    texts = [
        "cancel the order",
        "close the account",
        "please cancel the order",
        "please close the account",
        "CLOSE the account",
    ]
    every = [(0, 2), (1, 3)]
    assert near_pairs(texts) == every
    for border in range(len(texts) + 1):
        assert near_pairs(texts, border=border) == [pair for pair in every if pair[0] < border <= pair[1]]


def test_a_template_of_thousands_with_a_long_shared_prompt_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two slots of 150 values each under the same instruction: no pair may be flagged, and none may take quadratic time."""
    draw = random.Random(0)
    names = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=8)) for _ in range(150)]
    instruction = "you are a helpful clerk who answers every question about trains in one short line " * 5
    texts = [
        f"{instruction} when does the train from {draw.choice(names)} to {draw.choice(names)} leave"
        for _ in range(3000)
    ]
    proposed: list[bool] = []
    is_near = duplicates._is_near
    monkeypatch.setattr(duplicates, "_is_near", lambda *pair: proposed.append(True) or is_near(*pair))
    assert near_pairs(texts) == []
    assert len(proposed) < 50 * len(texts)


def test_a_slip_is_found_among_thousands_of_others() -> None:
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(2000)]
    texts = [" ".join(draw.choices(words, k=30)) for _ in range(1000)]
    planted = draw.sample(range(1000), 50)
    slips = [texts[i][:-3] + texts[i][-2] + texts[i][-3] + texts[i][-1] for i in planted]
    found = near_pairs(texts + slips)
    wanted = {(i, 1000 + k) for k, i in enumerate(planted) if texts[i] != slips[k]}
    assert set(found) == wanted


@pytest.mark.parametrize(
    ("label", "usual", "is_slip"),
    [
        ("müllabfur", "Müllabfuhr", True),
        ("отмена заказа", "отмена заказов", False),
        ("отмнеа заказа", "отмена заказа", True),
        ("国内航班", "国际航班", False),  # domestic flights, international flights
        ("注文の変更", "注文の変史", False),
        ("ยกเลิกคำสั่ง", "ยกเลิกคำสัง", False),
    ],
)
def test_a_character_of_a_script_without_spaces_is_no_slip_of_another(label: str, usual: str, is_slip: bool) -> None:
    assert misspelt(Counter({usual: 50, label: 1}), 4) == ({label: usual} if is_slip else {})


def test_the_bands_are_those_that_datasketch_finds_best() -> None:
    from datasketch import MinHashLSH

    best = MinHashLSH(threshold=PROPOSE_JACCARD, num_perm=SKETCH)
    assert (best.b, best.r) == BANDS


def test_what_was_searched_is_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["Where is the parcel from Bremen?", "where is the parcle from Bremen", "Send it to Hamburg."]
    before, searches, search = near_pairs(texts), [], duplicates._near_pairs
    monkeypatch.setattr(duplicates, "_near_pairs", lambda *given: searches.append(given) or search(*given))
    assert before == near_pairs(texts) == [(0, 1)]
    before.clear()
    assert near_pairs(texts) == [(0, 1)], "what a caller does with the pairs is its own affair"
    assert searches == []
    assert near_pairs(texts, border=2) == []
    assert near_pairs([texts[0] + texts[1], *texts[2:]]) == []
    assert len(searches) == 2
    for number in range(duplicates.KEPT_SEARCHES):
        near_pairs([f"text {number}"])
    near_pairs(texts)
    assert len(searches) == 2 + duplicates.KEPT_SEARCHES + 1
    assert len(duplicates._KEPT) == duplicates.KEPT_SEARCHES
