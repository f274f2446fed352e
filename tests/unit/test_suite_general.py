"""The general suite: stable items, balanced draws, how it asks and scores; headroom by a rule; items that training gives away."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from lastresort.errors import ContractError
from lastresort.gate.drawing import Facts, draw, without_duplicates
from lastresort.gate.probes.sycophancy import Sycophancy
from lastresort.gate.suites.general import (
    CHOSEN_STRATA,
    FACT,
    KEY,
    STRATA,
    WRITTEN_STRATA,
    General,
    Stratum,
    StratumItems,
    every_stratum,
    find_option,
    score,
)
from lastresort.gate.suites.headroom import Pilot, headroom
from lastresort.gate.suites.suite import ChoiceRequest, Suite, SuiteItem, SuiteReply, TextRequest
from lastresort.records.uninformative import FewFamilies

SUMS, KINDS2, SHAPE = STRATA["sums/1"], STRATA["kinds/2"], STRATA["constraints_shape/1"]
CAPITALS = STRATA["capitals/1"]
WORDS = STRATA["written_kinds/2"]
GOLDEN = {
    "sums/1/0/0": ("Zoe has 11 cards and gets 2 more. How many cards does Zoe have now? Answer with the number.", 2),
    "clock/3/0/7": (
        "Maria's meeting begins at 12:44 and takes 2 hours and 50 minutes. At what time does it end?",
        0,
    ),
    "written_capitals/1/0/2": (
        "David flies to the capital of Brazil. Which city is that?\nChoose one of these answers and write nothing else:\n"
        "- Brasilia\n- Bangkok\n- Caracas\n- Lisbon",
        0,
    ),
    "capitals/1/0/27": ("Samuel was born in the capital of Italy. Which city is that?", 1),
    "constraints_wording/2/0/3": (
        'Write a note to a colleague about tree houses. Keep it short. Use the word "island" and the word "letter" somewhere. '
        "Put your whole answer in double quotation marks and use none inside.",
        None,
    ),
}


def item_of(name: str) -> SuiteItem:
    """The item of this id, of any stratum."""
    family, level, seed, number = name.split("/")
    return StratumItems(STRATA[f"{family}/{level}"], int(seed))[int(number)]


def right_reply(item: SuiteItem) -> SuiteReply:
    return SuiteReply(item.facts["options"][item.facts["right"]])


@pytest.mark.parametrize("name", GOLDEN)
def test_an_item_of_this_id_is_this_item(name: str) -> None:
    """A change here makes other items of the same ids: then the suite's version grows."""
    text, right = GOLDEN[name]
    item = item_of(name)
    assert item.text == text
    assert item.facts.get("right") == right


def test_items_of_every_stratum_are_their_ids_and_travel_as_json() -> None:
    suite: Suite = General(written=True)
    strata = every_stratum(written=True)
    items = suite.draw(4, 0, 2 * len(strata))
    assert len({item.id for item in items}) == len({item.text for item in items}) == len(items)
    for place in (0, 17, len(strata) + 3, 2 * len(strata) - 1):
        assert item_of(items[place].id) == items[place]
    assert json.loads(json.dumps([item.facts for item in items])) == [item.facts for item in items]
    assert len(strata) >= 3 * 12


def test_a_draw_does_not_depend_on_the_draws_before_and_is_balanced() -> None:
    strata = (SUMS, KINDS2, SHAPE)
    whole = General(strata).draw(1, 0, 90)
    late = General(strata)
    assert late.draw(1, 60, 90) == whole[60:]
    assert late.draw(1, 0, 60) == whole[:60]
    assert [item.family for item in whole[:4]] == ["sums", "kinds", "constraints_shape", "sums"]
    for end in range(90):
        counts = [sum(item.family == stratum.family for item in whole[:end]) for stratum in strata]
        assert max(counts) - min(counts) <= 1
    assert not {item.text for item in whole} & {item.text for item in General(strata).draw(2, 0, 90)}


def test_a_stratum_has_a_thousand_items_or_as_many_as_there_are_facts() -> None:
    for stratum in CHOSEN_STRATA[::7] + WRITTEN_STRATA[::23]:
        items = General([stratum]).draw(0, 0, 1000)
        assert len({item.text for item in items}) == len(items)
        assert len(items) == 1000 or all("fact" in item.facts for item in items)


def test_no_fact_is_asked_twice_at_any_level_or_in_any_way() -> None:
    """Of the 30 countries of level 1 one (Ethiopia) has a capital of a length that no three others have."""
    strata = (CAPITALS, STRATA["written_capitals/1"], STRATA["products/1"], STRATA["products/2"], SUMS)
    items = General(strata).draw(3, 0, 300)
    facts = [item.facts["fact"] for item in items]
    assert len(set(facts)) == len(facts) == 300
    told = [fact for fact in facts if fact.startswith("capitals: ")]
    assert 28 <= len(told) <= 30
    by_likelihood = sum(item.family == "capitals" for item in items)
    assert abs(2 * by_likelihood - len(told)) <= 1  # both ways take turns until there are none left


def test_a_stratum_that_has_no_more_facts_leaves_its_turn_to_the_others_and_a_draw_may_end() -> None:
    items = General((CAPITALS, KINDS2)).draw(0, 0, 120)
    ends = max(place for place, item in enumerate(items) if item.family == "capitals")
    assert 56 <= ends <= 60
    assert {item.family for item in items[ends + 1 :]} == {"kinds"}
    assert [item.family for item in items[:4]] == ["capitals", "kinds", "capitals", "kinds"]
    few = General((CAPITALS,))
    whole = few.draw(0, 0, 100)
    assert 28 <= len(whole) <= 30
    assert few.draw(0, 20, 100) == whole[20:]
    assert few.draw(0, 100, 200) == []
    assert item_of(whole[-1].id) == whole[-1]
    with pytest.raises(ContractError, match=f"only {len(whole)} different items"):
        item_of("capitals/1/0/30")


def test_items_of_one_stratum_are_the_same_whatever_the_others_took() -> None:
    suite = General((CAPITALS, STRATA["written_capitals/1"]))
    alone = suite.of_stratum(CAPITALS, 0, 0, 25)
    assert alone[3:20] == suite.of_stratum(CAPITALS, 0, 3, 20)
    drawn = [item for item in suite.draw(0, 0, 60) if item.family == "capitals"]
    assert {item.id for item in drawn} < {item.id for item in suite.of_stratum(CAPITALS, 0, 0, 30)}


def test_a_gate_takes_what_there_is_of_a_suite_that_ends() -> None:
    suite = General((CAPITALS,))
    whole = suite.draw(0, 0, 100)
    drawn = draw(suite, 0, 160, [whole[2].text])
    assert list(drawn.items) == [item for item in whole if item.id != whole[2].id]
    assert drawn.passed_over == 1


@pytest.mark.parametrize("strata", [(), (SUMS, SUMS), (Stratum("sums", 9),)])
def test_strata_that_are_none_are_refused(strata: tuple[Stratum, ...]) -> None:
    with pytest.raises(ContractError, match="strata"):
        General(strata)


def test_questions_are_asked_once_and_each_in_its_way() -> None:
    suite = General((KINDS2, WORDS, SHAPE))
    chosen, written, constrained = suite.draw(0, 0, 3)
    (question,) = suite.ask(chosen, {})
    assert isinstance(question, ChoiceRequest)
    assert question.options == tuple(chosen.facts["options"])
    assert question.prompt[0].content == chosen.text
    for item in (written, constrained):
        (question,) = suite.ask(item, {})
        assert isinstance(question, TextRequest)
        assert question.prompt[0].content == item.text
        assert question.decoding.temperature == 0
    assert all(option in written.text for option in written.facts["options"])
    assert suite.ask(chosen, {KEY: SuiteReply("x")}) == ()


def test_scores_and_pairs() -> None:
    suite = General((KINDS2, WORDS, SHAPE))
    chosen, written, _ = suite.draw(0, 0, 3)
    wrong = SuiteReply(next(option for option in chosen.facts["options"] if option != right_reply(chosen).text))
    (measure,) = suite.measures
    assert (measure.name, measure.binary, measure.margin_factor) == ("general", True, 1.0)
    pair = measure.pair(chosen, {KEY: right_reply(chosen)}, {KEY: wrong})
    assert pair is not None
    assert (pair.id, pair.base, pair.tuned, pair.stratum) == (chosen.id, 1.0, 0.0, "kinds/2")
    assert score(written, SuiteReply(f"It is {right_reply(written).text}.")) == 1.0
    assert score(written, SuiteReply("I cannot say.")) == 0.0


def test_an_answer_that_was_cut_keeps_no_constraint() -> None:
    item = SuiteItem("i", "constraints_length", 1, "?", {"constraints": {"words_at_most": {"n": 3}}})
    assert score(item, SuiteReply("Two words")) == 1.0
    assert score(item, SuiteReply("Two words", finish="length")) == 0.0
    assert score(item, SuiteReply("far too many words")) == 0.0


def test_chance_is_the_mean_over_the_strata() -> None:
    assert General((SUMS, STRATA["agreement/1"])).measures[0].chance == pytest.approx((0.25 + 0.5) / 2)
    assert WORDS.chance == KINDS2.chance == 0.25
    assert STRATA["constraints_frame/1"].chance == 0.0


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("57", "57"),
        ("57, since 34 is smaller.", "57"),
        ("Between 34 and 57 the larger is 57.", "57"),
        ("- 57", "57"),
        ("It is 570.", None),
        ("It is 5.7 or 57.5", None),
        ("It is 34.", "34"),
        ("", None),
        ("**57**", "57"),
    ],
)
def test_the_option_that_an_answer_names(text: str, option: str | None) -> None:
    assert find_option(text, ("34", "57")) == option


def test_options_of_words_times_and_letters_are_named() -> None:
    assert find_option("The answer is the Red one", ("red", "blue")) == "red"
    assert find_option("colored", ("red", "blue")) is None
    assert find_option("infra-red or red-hot", ("red", "blue")) is None
    assert find_option("T-R-U-N", ("T-R-U-T", "T-R-U-N")) == "T-R-U-N"
    assert find_option("at 13:05.", ("13:05", "3:05")) == "13:05"
    assert find_option("The birds sit.", ("The birds sits.", "The birds sit.")) == "The birds sit."
    assert find_option("North Macedonia", ("Macedonia", "North Macedonia")) == "North Macedonia"


def pilots(scores: dict[str, float], n: int = 100) -> list[Pilot]:
    return [Pilot(STRATA[name], round(score * n), n) for name, score in scores.items()]


def test_the_lower_limit_by_hand() -> None:
    """All right of n: the limit p has p^n = .05, so .05^(1/20) = .8609; none right: 0."""
    assert Pilot(SUMS, 20, 20).lower == pytest.approx(0.05 ** (1 / 20))
    assert Pilot(SUMS, 0, 20).lower == 0.0
    assert Pilot(SUMS, 1, 20).lower == pytest.approx(1 - 0.95 ** (1 / 20))


def test_of_a_family_the_informative_level_nearest_to_the_middle_is_used() -> None:
    """Middle of .25 and 1 is .625: 1.0 is .375 away, .7 is .075, .35 is not informative (limit .27 < .31)."""
    found = headroom(pilots({"sums/1": 1.0, "sums/2": 0.7, "sums/3": 0.35}), margin=0.03, fewest=1)
    assert found.used == (STRATA["sums/2"],)
    assert found.why is None
    only_easy = headroom(pilots({"sums/1": 1.0, "sums/2": 0.25, "sums/3": 0.2}), margin=0.03, fewest=1)
    assert only_easy.used == (STRATA["sums/1"],)
    equal = headroom(pilots({"sums/1": 0.725, "sums/2": 0.525}, n=400), margin=0.03, fewest=1)
    assert equal.used == (STRATA["sums/1"],)


def test_a_suite_wants_four_informative_families() -> None:
    three = {"sums/1": 0.6, "kinds/1": 0.6, "rules/1": 0.6, "agreement/1": 0.55, "constraints_frame/1": 0.02}
    assert headroom(pilots(three), margin=0.03).why == FewFamilies(families=3, asked=5, needed=4, margin=0.03)
    assert headroom(pilots({**three, "constraints_frame/1": 0.2}), margin=0.03).why is None
    twice = headroom(pilots({**three, "written_sums/1": 0.6}), margin=0.03)
    assert STRATA["written_sums/1"] in twice.used
    assert twice.why is not None


def test_a_wider_margin_needs_more_room() -> None:
    at = pilots({"sums/1": 0.5})
    assert headroom(at, margin=0.03, fewest=1).why is None
    assert headroom(at, margin=0.1, fewest=1).why is not None


@pytest.mark.parametrize(
    ("found", "margin"), [([Pilot(SUMS, 0, 0)], 0.03), ([Pilot(SUMS, 3, 2)], 0.03), ([], 0.0), ([], 1.0)]
)
def test_a_pilot_that_is_none_is_refused(found: list[Pilot], margin: float) -> None:
    with pytest.raises(ContractError, match="pilots"):
        headroom(found, margin=margin)


def test_items_that_a_training_row_gives_away_are_passed_over() -> None:
    items = General((SUMS, STRATA["kinds/1"], STRATA["passages/3"])).draw(0, 0, 60)
    equal, slipped, other = items[0], items[1], items[3]
    training = [
        equal.text.upper(),
        slipped.text.replace("Which", "Whihc").replace("answer", "anwser"),
        other.text.replace(other.text.split()[2], "999"),
        "Route this ticket: my invoice is wrong.",
    ]
    assert without_duplicates(items, training) == [items[2], *items[3:]]
    assert without_duplicates(items, []) == items
    twins = [items[0], replace(items[0], id="twin")]
    assert without_duplicates(twins, [items[0].text]) == []


def test_import_loads_neither_torch_nor_scipy() -> None:
    code = (
        "import sys, lastresort.gate.suites.general, lastresort.gate.suites.headroom, lastresort.gate.drawing;"
        "print([m for m in ('torch', 'scipy', 'transformers') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize(
    "suite", [General([Stratum("sums", 1), Stratum("capitals", 2), Stratum("kinds", 1)]), Sycophancy()]
)
def test_two_draws_can_be_about_different_facts_where_seeds_alone_do_not_part_them(suite: Suite) -> None:
    def facts(seed: int, which: Facts, count: int) -> set[str]:
        items = draw(suite, seed, count, (), which).items
        assert len(items) == count
        return {str(item.facts.get(FACT, item.text)) for item in items}

    assert facts(-2, "all", 60) & facts(1, "all", 200)
    assert not facts(-2, "few", 60) & facts(1, "most", 200)
    assert facts(-2, "few", 60) & facts(1, "few", 60)
