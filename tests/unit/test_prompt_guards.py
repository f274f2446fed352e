"""What an optimised instruction may copy, what a reflection is told of an answer, and when there is no headroom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lastresort.evals.scorers import format_ok
from lastresort.records.measurement import ItemScore
from lastresort.rungs.prompting.optimise import without_headroom
from lastresort.rungs.prompting.reflection import copied_rows, feedback
from lastresort.spec.output import Output
from lastresort.types import Example, Message

LONG = "my parcel was left in the rain next to the bins behind house nine"


def row(text: str, answer: str) -> Example:
    return Example(text, (Message("user", text),), answer)


TWO_LINES = "the box is wet\nand so am I"
ROWS = [
    row(LONG, "delivery"),
    row("van late", "delivery"),
    row("double charge", "billing"),
    row("Lampe kaputt", "repairs"),
    row(TWO_LINES, "delivery"),
    row("my door was left open all day long", "delivery"),
]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Parcels and vans are delivery, charges are billing.", None),
        ("Left in the rain next to the bins: delivery.", None),  # eight words
        ("Say delivery where it was LEFT in the rain, next to the bins behind house.", "shares words"),  # nine
        ("Van late: delivery.", None),  # one row may be a coincidence
        ("Van late: delivery. Double charge: billing.", "lists rows"),
        ("double charge -> billing; Lampe kaputt -> repairs", "lists rows"),
        ("delivery: van late\nbilling: double charge", "lists rows"),  # the answer first
        ('billing: "double charge"\nrepairs: "Lampe kaputt"', "lists rows"),
        ("| input | label |\n|---|---|\n| van late | delivery |\n| double charge | billing |", "lists rows"),
        ('{"input": "van late", "output": "delivery"}\n{"input": "double charge", "output": "billing"}', "lists rows"),
        ('{"label": "delivery", "text": "van late"}\n{"label": "repairs", "text": "Lampe kaputt"}', "lists rows"),
        (
            f"delivery:\n- {TWO_LINES}\n- my door was left open all day long\n- van late",
            "lists rows",
        ),  # once for several
        ('{"input": "the box is wet\\nand so am I", "answer": "delivery"}, van late: delivery', "lists rows"),
        ("| the box is wet<br>and so am I | delivery | van late | delivery |", "lists rows"),
        ("delivery: van late\nbilling: van late", None),  # one row
        ("A van may be late. A double charge too. Answer delivery or billing, whatever fits best in the end.", None),
    ],
)
def test_an_instruction_may_state_rules_and_not_copy_rows(text: str, kind: str | None) -> None:
    found = copied_rows(text, "Route the case.", ROWS)
    assert (None if found is None else found.kind) == kind


def test_an_answer_that_its_input_holds_is_not_yet_a_row() -> None:
    """Else no rule could quote two short inputs."""
    rows = [row("late delivery", "delivery"), row("billing error", "billing")]
    quoted = 'Inputs are short, such as "late delivery" or "billing error".'
    assert copied_rows(quoted, "", rows) is None
    assert copied_rows(f"{quoted} The first is delivery, the second billing.", "", rows) is not None


@pytest.mark.parametrize(
    "labels",
    [
        "Answer with billing, delivery or repairs.",
        "Answer with delivery, billing or repairs.",
        "Delivery is about transport, billing about money.",
        "Billing is about money, delivery about transport.",
        "Answer billing for anything about money and delivery for transport.",
    ],
)
def test_an_instruction_may_quote_inputs_and_name_the_labels(labels: str) -> None:
    """Which input has which label is not told by naming them one after the other."""
    for quoted in ("van late", "double charge"), ("double charge", "van late"), ("van late", "Lampe kaputt"):
        looks = 'Inputs look like "{}" or "{}".'.format(*quoted)
        assert copied_rows(f"{looks} {labels}", "Route the case.", ROWS) is None, looks
        assert copied_rows(f"{labels} {looks}", "Route the case.", ROWS) is None, looks


@pytest.mark.parametrize(
    "text",
    [
        "van late, double charge and Lampe kaputt are delivery, billing and repairs.",
        '{"inputs": ["van late", "double charge"], "labels": ["delivery", "billing"]}',
        "Labels: billing, delivery, repairs. Lampe kaputt is repairs, van late is delivery.",
        "delivery: van late. billing: double charge. repairs: Lampe kaputt. One of billing, delivery or repairs.",
    ],
)
def test_labels_that_are_named_in_one_go_do_not_hide_a_list(text: str) -> None:
    found = copied_rows(text, "Route the case.", ROWS)
    assert found is not None
    assert found.kind == "lists rows"


def test_an_answer_that_holds_its_input_is_a_row() -> None:
    rows = [row("good", "good morning"), row("van late", "the van late again"), row("so what", "and so what then")]
    copied = "good -> good morning; van late -> the van late again; so what -> and so what then"
    assert copied_rows(copied, "", rows) is not None
    assert copied_rows("Such as good morning, the van late again, and so what then.", "", rows) is None


MOODS = [row("good", "positive"), row("bad", "negative"), row("fine", "positive"), row("awful", "negative")]


def test_a_rule_may_name_a_few_inputs_of_one_word() -> None:
    assert copied_rows("Say positive for a good mood and negative for a bad one.", "", MOODS) is None
    found = copied_rows("good: positive, bad: negative, fine: positive, awful: negative", "", MOODS)
    assert found is not None
    assert found.kind == "lists rows"


def test_examples_of_the_plain_instruction_may_be_kept() -> None:
    """Not a row more: two of them would be a list."""
    plain = "Route the case. Van late: delivery. Double charge: billing."
    assert copied_rows(f"{plain} Look twice.", plain, ROWS) is None
    one = f"{plain} Lampe kaputt: repairs."
    assert copied_rows(one, plain, ROWS) is None
    assert copied_rows(f"{one} My door was left open all day long: delivery.", plain, ROWS) is not None


def test_words_of_the_plain_instruction_are_the_tasks_own() -> None:
    told = "Answer with exactly one of: billing and money, delivery and vans, repairs."
    rows = [row("Which? " + told, "repairs")]
    assert copied_rows(f"Look twice. {told}", told, rows) is None
    assert copied_rows(f"Look twice. {told}", "Route the case.", rows) is not None


def test_a_character_of_a_script_without_spaces_is_a_word() -> None:
    asked = row("我的包裹被放在雨里的垃圾箱旁边了", "配送")
    found = copied_rows("如果包裹被放在雨里的垃圾箱旁边就是配送", "", [asked])
    assert found is not None
    assert found.kind == "shares words"


SCHEMA = {"type": "object", "properties": {"team": {"enum": ["a", "b"]}, "n": {"type": "number"}}, "required": ["team"]}


def item(answer: str, expected: str, output: Output, *, score: float = 0.0, finish: str = "stop") -> ItemScore:
    ok = format_ok(answer, json_schema=output.json_schema, choices=output.choices)
    return ItemScore("1", score, answer, expected, "in", finish, ok, 1, 1, 0.0, 0.0)


FORM, LABELS, FREE = Output(json_schema=SCHEMA), Output(choices=("red", "green")), Output()


@pytest.mark.parametrize(
    ("output", "answer", "expected", "told"),
    [
        (FORM, 'Sure: {"team": "a"}', '{"team": "a"}', "The answer is not JSON and nothing else: "),
        (FORM, '{"n": 1}', '{"team": "a"}', "The answer does not match the schema: $: 'team' is a required property."),
        (FORM, '{"team": "b", "n": 2}', '{"team": "a", "n": 2.0}', "Wrong fields: team: expected 'a', got 'b'."),
        (FORM, '{"team": "a"}', '{"team": "a", "n": 2}', "Wrong fields: n: expected 2, got nothing."),
        (
            LABELS,
            "It is red or green.",
            "red",
            "not among the labels, or holds more than one label. The labels are: red, green.",
        ),
        (LABELS, "green", "red", 'Expected "red", got "green".'),
        (FREE, "maybe", "yes", 'Expected "yes", got "maybe".'),
    ],
)
def test_a_reflection_is_told_what_is_wrong(output: Output, answer: str, expected: str, told: str) -> None:
    assert told in feedback(item(answer, expected, output), output)


def test_a_reflection_is_told_of_cut_refused_partial_and_right_answers() -> None:
    assert "cut off" in feedback(item("gre", "green", LABELS, finish="length"), LABELS)
    assert "longer than the assistant can read" in feedback(item("", "red", LABELS, finish="refused"), LABELS)
    assert "The score is 0.40 of 1." in feedback(item("a b", "a b c", FREE, score=0.4), FREE)
    assert feedback(item("red", "red", LABELS, score=1.0), LABELS) == "The answer is right."


def scored(*scores: float, form: bool | None = True) -> list[ItemScore]:
    return [ItemScore(str(i), score, "a", "b", "in", "stop", form, 1, 1, 0.0, 0.0) for i, score in enumerate(scores)]


def headroom_of(**items: list[ItemScore]) -> object:
    return without_headroom(items, "plain", "best", binary=True, groups=None, seed=0)


def test_headroom_is_a_clear_difference_or_answers_without_their_form() -> None:
    plain = scored(*[1.0] * 20 + [0.0] * 20)
    near = scored(*[1.0] * 23 + [0.0] * 17)
    far = scored(*[1.0] * 34 + [0.0] * 6)
    found = headroom_of(plain=plain, best=near)
    assert found is not None
    assert found.p == 0.25  # type: ignore[attr-defined]  # three against none, two-sided
    assert headroom_of(plain=plain, best=far) is None
    assert headroom_of(plain=far, best=far, other=plain) is None  # a worse prompt shows as much
    spoiled = [replace(one, format_ok=False) for one in near[:2]] + near[2:]
    assert headroom_of(plain=plain, best=spoiled) is None


def test_prompts_are_compared_on_what_both_answered_and_for_each_other_prompt() -> None:
    plain, six = scored(*[0.0] * 6), scored(*[1.0] * 6 + [0.0] * 90)
    assert headroom_of(plain=plain, best=six) is None  # p = 2/64
    assert headroom_of(plain=plain, best=six, other=plain) is not None  # 2 x 2/64 > .05
