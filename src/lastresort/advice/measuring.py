"""Rules about what must exist before anything is tried: examples, a bar, a test set that can decide, a checked judge."""

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
        f"Collect test examples: with {facts.n_test}, even a perfect score cannot show that the bar is met; you need "
        f"at least {facts.test_needed}."
    )


def _labels_cap_the_bar(facts: Facts) -> str | None:
    if facts.bar is None or facts.bar < NEAR_PERFECT:
        return None
    return (
        "Have a second person check a sample of the labels: they are rarely right often enough for a bar of "
        f"{percent(facts.bar)}."
    )


def _judge_checked(facts: Facts) -> str | None:
    if facts.scorer != "judge":
        return None
    return "Before its scores decide anything, compare the judge with about 50 human ratings, in both orders."


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
        "the test set is too small to show that the bar is met",
        _test_decides,
        "A perfect score on a few items may be luck.",
        "Clopper & Pearson 1934",
    ),
    Rule(
        "labels-cap-the-bar",
        "MODERATE",
        f"the bar is {percent(NEAR_PERFECT)} or more",
        _labels_cap_the_bar,
        "About 3% of the labels in public test sets are wrong; above that a model is scored against mistakes.",
        "Northcutt et al. 2021 (arXiv 2103.14749)",
    ),
    Rule(
        "judge-checked",
        "MODERATE",
        "answers are scored by a model",
        _judge_checked,
        "Judges prefer the first answer, the longer answer and their own style.",
        "Zheng et al. 2023 (arXiv 2306.05685)",
    ),
)
