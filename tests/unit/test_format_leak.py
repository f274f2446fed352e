"""The probe of format leak: its prompts to the letter, and what it finds in models of known behaviour."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from lastresort.data.duplicates import near_pairs
from lastresort.data.wording import entries
from lastresort.errors import ContractError
from lastresort.evals.scorers.forms import has_form, is_forced, is_one_sentence
from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.gate.probes.format_leak import (
    COUNTER,
    OFF_TASK,
    OFF_TOPIC,
    ON_TASK,
    FormatLeak,
    conditions_with_headroom,
    for_pilot,
    why_uninformative,
)
from lastresort.gate.suites.suite import SuiteItem, TextRequest
from lastresort.synthesis.replay import REQUESTS, general_prompts
from lastresort.systems.system import PromptDesign, Shot
from lastresort.types import Message
from probes_support import Said, asked, by_text

SCHEMA = {
    "type": "object",
    "properties": {"team": {"enum": ["billing", "tech", "other"]}, "order": {"type": ["string", "null"]}},
    "required": ["team", "order"],
    "additionalProperties": False,
}
JSON, LABELS, FREE = AnswerForm(json_schema=SCHEMA), AnswerForm(choices=("billing", "tech", "other")), AnswerForm()
DESIGN = PromptDesign("Route the ticket.")
INPUTS = ("My invoice is wrong.", "The robot hums.", "Where is my parcel?")
PROSE, FORM = "Of course, here are some thoughts on that.", '{"team":"billing","order":null}'

Replying = Callable[[str], str]


def suite_of(output: AnswerForm = JSON, **keys: object) -> FormatLeak:
    return FormatLeak(output, DESIGN, INPUTS, **keys)  # type: ignore[arg-type]


def said_by(suite: FormatLeak, answer: Replying, n: int = 40) -> Said:
    return asked(suite, suite.draw(1, 0, n), by_text(lambda text, _: answer(text)))


def scores(suite: FormatLeak, base: Replying, tuned: Replying, n: int = 40) -> dict[str, set[tuple[float, float]]]:
    found: dict[str, set[tuple[float, float]]] = {}
    (measure,) = suite.measures
    for (item, before), (_, after) in zip(said_by(suite, base, n), said_by(suite, tuned, n), strict=True):
        pair = measure.pair(item, before, after)
        assert pair is not None
        found.setdefault(pair.stratum, set()).add((pair.base, pair.tuned))
    return found


def prose(text: str) -> str:
    return PROSE


def form(text: str) -> str:
    return FORM


def is_counter(text: str) -> bool:
    return any(text.endswith(entry) for entry in entries("counter"))


def obedient(text: str) -> str:
    """Gives the form to real inputs only."""
    return FORM if text in INPUTS else PROSE


def test_prompts_to_the_letter() -> None:
    suite = for_pilot(suite_of())
    ask = {
        condition: [
            f"{turn.role}: {turn.content}" for turn in suite.ask(SuiteItem("", condition, 1, "Text."), {})[0].prompt
        ]
        for condition in (OFF_TASK, COUNTER, OFF_TOPIC, ON_TASK)
    }
    routed = ["system: Route the ticket.", "user: Text."]
    assert ask == {OFF_TASK: ["user: Text."], COUNTER: routed, OFF_TOPIC: routed, ON_TASK: routed}


def test_texts_to_the_letter() -> None:
    first = {item.family: item.text for item in for_pilot(suite_of()).draw(1, 0, 5)}
    assert first == {
        OFF_TASK: "Compare playing the flute and badminton as a way to spend an evening.",
        COUNTER: "The robot hums.\n\nExplain in one plain sentence, as you would to a colleague, what the writer wants.",
        OFF_TOPIC: "brillig plovv manx",
        ON_TASK: "The robot hums.",
    }


def test_shots_stand_where_the_systems_stand_and_not_before_a_general_request() -> None:
    design = PromptDesign("Route.", shots=(Shot((Message("user", "Hello"),), FORM),), k=1)
    (question,) = FormatLeak(JSON, design, INPUTS).ask(SuiteItem("", COUNTER, 1, "Text."), {})
    assert [turn.content for turn in question.prompt] == ["Route.", "Hello", FORM, "Text."]
    (question,) = FormatLeak(JSON, design, INPUTS).ask(SuiteItem("", OFF_TASK, 1, "Text."), {})
    assert [turn.content for turn in question.prompt] == ["Text."]


def test_a_trained_answer_has_room_and_is_not_held_to_a_form() -> None:
    (question,) = suite_of(LABELS, answer_tokens=200).ask(SuiteItem("", OFF_TASK, 1, "Text."), {})
    assert isinstance(question, TextRequest)
    assert (question.decoding.max_new_tokens, question.decoding.grammar) == (200, None)


def test_where_the_beginning_of_an_answer_tells_its_form_no_more_is_asked() -> None:
    def tokens(suite: FormatLeak, condition: str) -> int:
        (question,) = suite.ask(SuiteItem("", condition, 1, "Text."), {})
        assert isinstance(question, TextRequest)
        return question.decoding.max_new_tokens

    schema = suite_of(answer_tokens=200)
    assert [tokens(schema, one) for one in (OFF_TASK, COUNTER, ON_TASK)] == [32, 32, 32]
    assert tokens(schema, OFF_TOPIC) == 200  # whether the JSON says "other" shows at its end
    thinking = FormatLeak(JSON, replace(DESIGN, reasoning=True), INPUTS, answer_tokens=200)
    text = suite_of(AnswerForm(json_schema={"type": "string"}))
    assert (tokens(thinking, OFF_TASK), tokens(text, OFF_TASK), tokens(suite_of(FREE), OFF_TASK)) == (200, 64, 64)


@pytest.mark.parametrize(("output", "trained"), [(JSON, FORM), (LABELS, "billing")])
def test_a_model_that_knows_only_its_form_loses_everywhere(output: AnswerForm, trained: str) -> None:
    found = scores(suite_of(output), prose, lambda text: trained)
    assert found == {OFF_TASK: {(1.0, 0.0)}, COUNTER: {(1.0, 0.0)}, OFF_TOPIC: {(1.0, 0.0)}}


def test_a_model_that_gives_the_form_where_it_belongs_loses_nothing() -> None:
    found = scores(suite_of(), prose, obedient)
    assert found == {OFF_TASK: {(1.0, 1.0)}, COUNTER: {(1.0, 1.0)}, OFF_TOPIC: {(1.0, 1.0)}}


def test_a_force_labeller_loses_off_topic_and_nothing_else() -> None:
    suite = suite_of(LABELS)
    off_topic = {item.text for item in suite.draw(1, 0, 40) if item.family == OFF_TOPIC}
    found = scores(suite, prose, lambda text: "tech" if text in off_topic else PROSE)
    assert found == {OFF_TASK: {(1.0, 1.0)}, COUNTER: {(1.0, 1.0)}, OFF_TOPIC: {(1.0, 0.0)}}
    assert scores(suite, prose, lambda text: "other" if text in off_topic else PROSE)[OFF_TOPIC] == {(1.0, 1.0)}


def test_one_that_overhears_counter_instructions_loses_there_and_nowhere_else() -> None:
    found = scores(suite_of(), prose, lambda text: FORM if is_counter(text) else PROSE)
    assert found == {OFF_TASK: {(1.0, 1.0)}, COUNTER: {(1.0, 0.0)}, OFF_TOPIC: {(1.0, 1.0)}}


def test_an_unchanged_model_differs_in_nothing() -> None:
    def mixed(text: str) -> str:
        return Random(text).choice([PROSE, FORM, ""])

    for output in (JSON, LABELS, FREE):
        found = set().union(*scores(suite_of(output), mixed, mixed).values())
        assert found == {(0.0, 0.0), (1.0, 1.0)}


def test_silence_is_no_answer() -> None:
    assert set().union(*scores(suite_of(), prose, lambda text: " \n").values()) == {(1.0, 0.0)}


def test_free_text_is_asked_in_two_conditions_and_leaks_by_its_length() -> None:
    suite = suite_of(FREE)
    long = "This is one of the many sentences that make a paragraph. " * 6

    def answering(off_task: str, counter: str) -> Replying:
        return lambda text: counter if is_counter(text) else off_task

    same = scores(suite, answering(long, PROSE), answering(long[:200], PROSE))
    assert same == {OFF_TASK: {(1.0, 1.0)}, COUNTER: {(1.0, 1.0)}}
    assert scores(suite, answering(long, PROSE), answering("Yes.", PROSE))[OFF_TASK] == {(1.0, 0.0)}
    assert scores(suite, answering("Well, yes.", PROSE), answering(long, PROSE))[OFF_TASK] == {(1.0, 0.0)}
    assert scores(suite, answering(long, PROSE), answering("", PROSE))[OFF_TASK] == {(1.0, 0.0)}
    assert scores(suite, answering(long, PROSE), answering(long, long))[COUNTER] == {(1.0, 0.0)}


def test_reasoning_before_the_answer_does_not_hide_the_form() -> None:
    suite = FormatLeak(LABELS, PromptDesign("Route.", reasoning=True), INPUTS)
    found = scores(suite, prose, lambda text: "It says so.\nAnswer: tech")
    assert found[OFF_TASK] == {(1.0, 0.0)}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (FORM, True),
        (f"```json\n{FORM}\n```", True),
        ('{"team":"sales","order":null}', True),
        ('{"team":"bil', True),
        ('[{"team": 1}]', True),
        (f"Here you are: {FORM}", False),
        ("{name} is a placeholder.", False),
        ("[1] is a footnote", True),
        ("billing", False),
        ("", False),
    ],
)
def test_the_form_of_a_schema(text: str, found: bool) -> None:
    assert has_form(text, JSON) is found


def test_a_schema_of_other_kinds_is_left_to_the_validator() -> None:
    number = AnswerForm(json_schema={"type": "integer", "maximum": 9})
    assert [has_form(text, number) for text in ("7", "70", "seven")] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "found"),
    [("Billing.", True), ("tech\nBecause it hums.", True), ("It is a matter for billing.", False), ("", False)],
)
def test_the_form_of_labels(text: str, found: bool) -> None:
    assert has_form(text, LABELS) is found


def test_a_label_that_says_that_nothing_fits_is_not_forced() -> None:
    assert is_forced("tech", LABELS)
    assert not is_forced("Other", LABELS)
    assert not is_forced(json.dumps({"team": "other", "order": None}), JSON)
    assert is_forced(FORM, JSON)
    assert is_forced('{"team":"other', JSON)


def test_one_sentence() -> None:
    assert is_one_sentence("The writer wants a new invoice.")
    assert is_one_sentence("It costs 3.50 in all, e.g., today")
    assert not is_one_sentence("The writer is cross. He wants a new invoice.")
    assert not is_one_sentence("An invoice.")
    assert not is_one_sentence("word " * 60)


def headroom(base: Replying, output: AnswerForm = JSON) -> tuple[str, ...]:
    suite = for_pilot(suite_of(output))
    return conditions_with_headroom(suite, said_by(suite, base, 100), 0.02)


def test_conditions_in_which_the_base_has_something_to_lose() -> None:
    assert headroom(obedient) == (OFF_TASK, COUNTER, OFF_TOPIC)
    assert headroom(prose) == (OFF_TASK, COUNTER)
    assert headroom(lambda text: FORM if text in INPUTS or is_counter(text) else PROSE) == (OFF_TASK, OFF_TOPIC)
    assert headroom(form) == ()
    assert headroom(prose, FREE) == (OFF_TASK, COUNTER)


def test_a_base_that_gives_the_form_to_everything_has_nothing_to_leak() -> None:
    suite = for_pilot(suite_of())
    assert why_uninformative(suite, said_by(suite, obedient, 50), 0.02) is None
    why = why_uninformative(suite, said_by(suite, form, 50), 0.02)
    assert why is not None
    assert (why.condition, why.score, why.n, why.needed) == ("general_requests", 0.0, 30, 0.04)


def test_conditions_that_cannot_be_asked_are_left_out() -> None:
    assert FormatLeak(LABELS, DESIGN).possible == (OFF_TASK, OFF_TOPIC)
    with pytest.raises(ContractError, match="no condition"):
        FormatLeak(FREE, DESIGN, conditions=(OFF_TOPIC,))
    with pytest.raises(ContractError, match="found weather"):
        FormatLeak(LABELS, DESIGN, conditions=("weather",))


def test_none_of_the_general_prompts_that_replay_trains_on_is_asked() -> None:
    asked_here = {item.text for item in FormatLeak(JSON, DESIGN, conditions=(OFF_TASK,)).draw(1, 0, 1500)}
    assert len(asked_here) == 1500
    assert not asked_here & set(general_prompts(1200, 0))
    sentences = [*REQUESTS, *entries("off_task")]
    first = len(REQUESTS)
    assert not near_pairs(sentences, border=first)
