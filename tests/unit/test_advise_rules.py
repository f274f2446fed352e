"""Every rule of thumb: facts on which it speaks, and facts, one step away, on which it is silent."""

from __future__ import annotations

from typing import Any

import pytest

from lastresort.advice.advise import RULES
from lastresort.advice.facts import STRENGTHS, Facts, apply_rules
from lastresort.advice.frameworks import FRAMEWORKS, chosen_frameworks
from lastresort.advice.tuning import BROAD_ROWS, NARROW_ROWS
from lastresort.ladder import MARGIN_ONLY, RUNGS
from lastresort.rungs.supervised.sft import ADVISED_ROWS, LEAST_ROWS

Case = tuple[dict[str, Any], dict[str, Any]]
DOCUMENTS: dict[str, Any] = {"knowledge": True}
COST: dict[str, Any] = {"goal": "cost", "calls_per_month": 200_000, "input_tokens": 60.0, "answer_tokens": 20.0}
KNOWING = {"wrong": ("knowledge",)}
NO_FULL = ("prompting", "sft")

CASES: dict[str, Case] = {
    "evals-first": ({"bar": 0.8, "n_examples": 0}, {"bar": 0.8, "n_examples": 300}),
    "test-decides": ({"n_test": 29, "test_least": 30}, {"n_test": 30, "test_least": 30}),
    "labels-cap-the-bar": ({"bar": 0.97}, {"bar": 0.96}),
    "judge-checked": ({"scorer": "judge"}, {"scorer": "json_exact"}),
    "prompt-first": ({}, {"best_prompt_score": 0.4}),
    "bar-met": ({"bar": 0.8, "best_prompt_score": 0.8}, {"bar": 0.8, "best_prompt_score": 0.79}),
    "nothing-wrong": ({"wrong": ()}, {"wrong": ("format",)}),
    "margin-only": (
        {"bar": 0.95, "best_prompt_score": MARGIN_ONLY},
        {"bar": 0.95, "best_prompt_score": MARGIN_ONLY - 0.01},
    ),
    "optimise-the-prompt": (
        {"bar": 0.8, "best_prompt_score": 0.75, "n_train": 50},
        {"bar": 0.8, "best_prompt_score": 0.6, "n_train": 50},
    ),
    "constrain-first": ({"wrong": ("format",), "output": "schema"}, {"wrong": ("style",), "output": "schema"}),
    "name-the-form": ({"wrong": ("format",), "output": "text"}, {"wrong": ("format",), "output": "choices"}),
    "reason-before-form": (
        {"wrong": ("capability",), "output": "schema"},
        {"wrong": ("capability",), "output": "text"},
    ),
    "format-by-prompt": (
        {"wrong": ("format",), "best_prompt_score": 0.85},
        {"wrong": ("format",), "best_prompt_score": 0.84},
    ),
    "format-by-tuning": (
        {"wrong": ("format",), "best_prompt_score": 0.84},
        {"wrong": ("format",), "best_prompt_score": 0.85},
    ),
    "shots-first": ({"wrong": ("style",), "n_train": 5}, {"wrong": ("style",), "n_train": 5, "best_prompt_score": 0.5}),
    "larger-model-first": (
        {"wrong": ("capability",), "parameters": 135_000_000},
        {"wrong": ("capability",), "parameters": 8_000_000_000},
    ),
    "whole-in-prompt": (
        {**DOCUMENTS, "outside": True, "knowledge_tokens": 200_000},
        {**DOCUMENTS, "outside": True, "knowledge_tokens": 200_001},
    ),
    "retrieve": (KNOWING, {**KNOWING, "context": "forbidden"}),
    "find-documents": ({**KNOWING, "knowledge": False}, {**KNOWING, "knowledge": True}),
    "retrieve-and-tune": ({"wrong": ("knowledge", "style")}, KNOWING),
    "nothing-to-retrieve": ({**DOCUMENTS, "wrong": ("style",)}, {**DOCUMENTS, "wrong": ("style", "knowledge")}),
    "ask-with-the-passage": (DOCUMENTS, {**DOCUMENTS, **KNOWING}),
    "stale-weights": (
        {**DOCUMENTS, "knowledge_changes": "weekly", "retrain_every": "monthly"},
        {**DOCUMENTS, "knowledge_changes": "monthly", "retrain_every": "monthly"},
    ),
    "forbidden-and-stale": (
        {**DOCUMENTS, "knowledge_changes": "yearly", "retrain_every": "never", "context": "forbidden"},
        {**DOCUMENTS, "knowledge_changes": "yearly", "retrain_every": "never", "context": "allowed"},
    ),
    "context-forbidden": ({**DOCUMENTS, "context": "forbidden"}, {**DOCUMENTS, "context": "allowed"}),
    "verbatim": ({**DOCUMENTS, "verbatim": True}, {**DOCUMENTS, "verbatim": False}),
    "verbatim-forbidden": (
        {**DOCUMENTS, "verbatim": True, "context": "forbidden"},
        {**DOCUMENTS, "verbatim": True, "context": "allowed"},
    ),
    "facts-not-by-sft": (KNOWING, {"wrong": ("knowledge", "style")}),
    "who-may-see": ({**DOCUMENTS, "restricted": True}, {"knowledge": False, "restricted": True}),
    "rewrite-little-text": (
        {**DOCUMENTS, "context": "forbidden", "knowledge_tokens": 1_300_000},
        {**DOCUMENTS, "context": "allowed", "knowledge_tokens": 1_300_000},
    ),
    "too-few-rows": ({"n_train": LEAST_ROWS - 1}, {"n_train": LEAST_ROWS}),
    "few-rows": ({"n_train": ADVISED_ROWS - 1}, {"n_train": ADVISED_ROWS}),
    "broad-rows": (
        {"n_train": BROAD_ROWS - 1, "breadth": "broad"},
        {"n_train": BROAD_ROWS - 1, "breadth": "narrow"},
    ),
    "enough-rows": ({"n_train": ADVISED_ROWS, "wrong": ("style",)}, {"n_train": ADVISED_ROWS, "wrong": ("cost",)}),
    "clean-not-more": ({"n_train": NARROW_ROWS + 1}, {"n_train": NARROW_ROWS}),
    "label-more": ({"n_train": 200, "can_label": True}, {"n_train": 200, "can_label": False}),
    "teacher-labels": ({"n_train": 200, "teacher": True}, {"n_train": ADVISED_ROWS, "teacher": True}),
    "weights-elsewhere": ({"trainable": False}, {"trainable": False, "ladder": ("prompting", "retrieval")}),
    "style-by-tuning": ({"wrong": ("style",), "n_train": LEAST_ROWS}, {"wrong": ("style",), "n_train": LEAST_ROWS - 1}),
    "lora-not-full": ({"wrong": ("style",)}, {"wrong": ("style",), "ladder": NO_FULL}),
    "qlora-gap": ({"parameters": 7 * 10**9, "card_gb": 12.0}, {"parameters": 7 * 10**9, "card_gb": 24.0}),
    "rent-a-big-card": ({"parameters": 7 * 10**9, "method": "qlora"}, {"parameters": 10**9, "method": "qlora"}),
    "all-linear": ({"target": "attention", "n_train": 6_000}, {"target": "all-linear", "n_train": 6_000}),
    "pairs-dpo": ({"preferences": "pairs", "n_train": LEAST_ROWS}, {"preferences": "pairs", "n_train": LEAST_ROWS - 1}),
    "pairs-orpo": (
        {"preferences": "pairs", "n_train": LEAST_ROWS - 1},
        {"preferences": "pairs", "n_train": LEAST_ROWS},
    ),
    "labels-kto": ({"preferences": "labels"}, {"preferences": "pairs"}),
    "reward-grpo": ({"reward": True}, {"reward": True, "ladder": NO_FULL}),
    "reward-needs-hits": ({"reward": True, "best_prompt_score": 0.05}, {"reward": True, "best_prompt_score": 0.06}),
    "collect-pairs": (
        {"wrong": ("preferences",), "preferences": "none"},
        {"wrong": ("preferences",), "preferences": "none", "reward": True},
    ),
    "no-facts-from-preferences": (KNOWING, {"wrong": ("knowledge", "preferences")}),
    "few-preferences": ({"preferences": "pairs", "n_preferences": 499}, {"preferences": "pairs", "n_preferences": 500}),
    "longer-is-not-better": ({"preferences": "pairs"}, {"preferences": "none"}),
    "agreeable-is-not-right": ({"preferences": "labels"}, {"preferences": "labels", "ladder": NO_FULL}),
    "full-for-capability": (
        {"wrong": ("capability",), "n_train": BROAD_ROWS},
        {"wrong": ("capability",), "n_train": BROAD_ROWS - 1},
    ),
    "capability-without-data": (
        {"wrong": ("capability",), "n_train": 900, "knowledge": False},
        {"wrong": ("capability",), "n_train": 900, "knowledge": True},
    ),
    "domain-of-documents": (
        {**DOCUMENTS, "wrong": ("capability",)},
        {**DOCUMENTS, "wrong": ("capability",), "knowledge_changes": "daily", "retrain_every": "weekly"},
    ),
    "two-for-five": ({"general_use": True}, {"general_use": True, "ladder": ("prompting",)}),
    "replay": ({"replay": 0.0}, {"replay": 0.1}),
    "stay-in-the-house": ({"private": True, "outside": True}, {"private": True, "outside": False}),
    "cache-the-prompt": ({"wrong": ("cost",), "outside": True}, {"wrong": ("format",), "outside": True}),
    "too-little-to-save": (
        {**COST, "prompt_price": 0.15, "wrong": ("cost",)},
        {**COST, "prompt_price": 1.5, "wrong": ("cost",)},
    ),
    "enough-to-save": ({**COST, "prompt_price": 1.5}, {**COST, "prompt_price": 0.15}),
    "short-prompt-is-fast": ({"wrong": ("latency",)}, {"wrong": ("cost",)}),
    "who-retrains": ({"n_train": 900}, {"n_train": 900, "retrain_every": "yearly"}),
}


def spoke(facts: dict[str, Any]) -> dict[str, str]:
    return {one.rule.name: one.advice for one in apply_rules(RULES, Facts(**facts))}


def test_every_rule_has_a_case_and_its_own_name() -> None:
    assert list(CASES) == [rule.name for rule in RULES]
    assert len(set(CASES)) == len(RULES) >= 18


@pytest.mark.parametrize("name", CASES)
def test_the_rule_speaks_where_it_should_and_only_there(name: str) -> None:
    speaking, silent = CASES[name]
    assert name in spoke(speaking)
    assert name not in spoke(silent)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_reads_as_advice(name: str) -> None:
    """A sentence with its figures filled in, a reason, a source, and rungs that exist."""
    rule = next(rule for rule in RULES if rule.name == name)
    said = spoke(CASES[name][0])[name]
    for text in (said, rule.because):
        assert text[0].isupper()
        assert text.endswith(".")
        assert "None" not in text
        assert "  " not in text
    assert len(said) < 170, "advice is one sentence that can be remembered"
    assert rule.source
    assert rule.strength in STRENGTHS
    assert {*rule.favours, *rule.opposes} <= set(RUNGS)
    assert not set(rule.favours) & set(rule.opposes)


def test_of_what_is_not_known_only_the_first_steps_are_said() -> None:
    assert list(spoke({})) == ["evals-first", "prompt-first"]


def test_rows_to_train_on_are_labelled_examples() -> None:
    assert "evals-first" not in spoke({"bar": 0.9, "n_train": 2000})
    assert (
        spoke({"n_train": 2000})["evals-first"]
        == "Write down the score that would be good enough before you change anything."
    )


def test_the_strongest_stand_first() -> None:
    found = apply_rules(
        RULES, Facts(n_train=20, scorer="judge", target="attention", wrong=("capability",), output="schema")
    )
    order = [STRENGTHS.index(one.rule.strength) for one in found]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}


@pytest.mark.parametrize(
    ("facts", "figures"),
    [
        ({"bar": 0.85, "best_prompt_score": 0.91}, ("91%", "85%")),
        ({"n_test": 12, "test_least": 30}, ("12", "30")),
        ({"n_train": 31}, ("31", str(LEAST_ROWS))),
        ({"n_train": 200, "can_label": True}, (str(ADVISED_ROWS - 200),)),
        ({**DOCUMENTS, "knowledge_changes": "daily", "retrain_every": "yearly"}, ("daily", "yearly")),
        (
            {**COST, "prompt_price": 1.5},
            ("1,440 USD",),
        ),  # 12 months x 200,000 calls x 5 shots x 80 tokens x 1.5 / million
    ],
)
def test_the_advice_names_the_figures_of_the_task(facts: dict[str, Any], figures: tuple[str, ...]) -> None:
    told = " ".join(spoke(facts).values())
    for figure in figures:
        assert figure in told


def fits(facts: dict[str, Any]) -> dict[str, str]:
    return {one.framework.name: one.fit for one in chosen_frameworks(Facts(**facts))}


@pytest.mark.parametrize(
    ("facts", "taken"),
    [
        ({"cards": 8}, {"Axolotl"}),
        ({"cards": 8, "parameters": 70 * 10**9}, {"Axolotl"}),
        ({"cards": 1}, {"Unsloth"}),
        ({"cards": 0, "parameters": 135_000_000}, {"lastresort train"}),
        ({"cards": 0, "parameters": 8 * 10**9}, {"hosted tuning"}),
        ({"cards": 0, "parameters": 8 * 10**9, "private": True}, set()),
        ({"cards": 1, "preferences": "pairs"}, {"Unsloth", "lastresort train"}),
        ({"cards": 8, "reward": True}, {"Axolotl", "TRL", "ms-swift"}),
        ({"web_ui": True}, {"LLaMA-Factory"}),
        ({"web_ui": True, "reward": True}, {"ms-swift"}),
        ({"instruction_tokens": 280.0, "input_tokens": 25.0, "answer_tokens": 10.0}, {"lastresort train"}),
        ({"instruction_tokens": 20.0, "input_tokens": 25.0, "answer_tokens": 10.0}, set()),
        ({}, set()),
    ],
)
def test_the_framework_to_take(facts: dict[str, Any], taken: set[str]) -> None:
    assert {name for name, fit in fits(facts).items() if fit == "TAKE"} == taken


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({}, "torchtune"),
        ({"reward": True}, "LLaMA-Factory"),
        ({"cards": 0}, "Axolotl"),
        ({"private": True}, "hosted tuning"),
        ({"parameters": 70 * 10**9}, "lastresort train"),
    ],
)
def test_the_framework_to_leave(facts: dict[str, Any], name: str) -> None:
    assert fits(facts)[name] == "NOT"


def test_frameworks_say_what_they_lack_ours_too() -> None:
    for framework in FRAMEWORKS:
        assert framework.lacks
        assert framework.good_at
    assert FRAMEWORKS[0].name == "lastresort train"
