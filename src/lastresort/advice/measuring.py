"""Rules about what must stand before anything is tried: examples, a bar, a test that can decide, a judge that was checked."""

from __future__ import annotations

from lastresort.advice.facts import Facts, Rule
from lastresort.report.words.wording import round_percent as percent

NEAR_PERFECT = 0.97  # mean share of wrong labels in ten public test sets: 3.3% (Northcutt et al. 2021)


def _evals_first(facts: Facts) -> str | None:
    if facts.bar is not None and facts.n_examples:
        return None
    missing = "a few hundred labelled examples" if not facts.n_examples else ""
    bar = "the score that would be good enough" if facts.bar is None else ""
    return f"Write down {' and '.join(part for part in (missing, bar) if part)} before you change anything."


def _test_decides(facts: Facts) -> str | None:
    if facts.n_test is None or facts.test_needed is None or facts.n_test >= facts.test_needed:
        return None
    return (
        f"Collect test examples: on {facts.n_test} even a perfect score cannot show that the bar is reached; "
        f"{facts.test_needed} is the least."
    )


def _labels_cap_the_bar(facts: Facts) -> str | None:
    if facts.bar is None or facts.bar < NEAR_PERFECT:
        return None
    return (
        f"Have a sample of the labels checked by a second person: a bar of {percent(facts.bar)} asks more than labels "
        "usually hold."
    )


def _judge_checked(facts: Facts) -> str | None:
    if facts.scorer != "judge":
        return None
    return "Compare the judge with some fifty answers that people have rated, in both orders, before its scores decide anything."


RULES = (
    Rule(
        "evals-first",
        "STRONG",
        "there are no labelled examples, or no bar",
        _evals_first,
        "Without them nobody can tell whether a change helped, and every later step is a matter of taste.",
        "OpenAI, Supervised fine-tuning guide (evals before tuning)",
    ),
    Rule(
        "test-decides",
        "STRONG",
        "the test set is smaller than the least that could show the bar to be met",
        _test_decides,
        "A run of right answers that luck alone produces too often shows nothing.",
        "Clopper & Pearson 1934",
    ),
    Rule(
        "labels-cap-the-bar",
        "MODERATE",
        f"the bar is {percent(NEAR_PERFECT)} or more",
        _labels_cap_the_bar,
        "Public test sets hold about 3% wrong labels; beyond that a model is scored against mistakes.",
        "Northcutt et al. 2021 (arXiv 2103.14749)",
    ),
    Rule(
        "judge-checked",
        "MODERATE",
        "answers are scored by a model",
        _judge_checked,
        "A judge prefers what stands first, what is longer and what it would have written itself.",
        "Zheng et al. 2023 (arXiv 2306.05685)",
    ),
)
