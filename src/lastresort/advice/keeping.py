"""Rules about cost, privacy and upkeep, and about what tuning must not break."""

from __future__ import annotations

from lastresort.advice.facts import PRACTICE, TRAINED, Facts, Rule
from lastresort.rungs.supervised.sft import LEAST_ROWS

WORTH_A_YEAR_USD = 500.0  # about a day of somebody's work: less than tuning, gating and serving a model takes
LITTLE_REPLAY = 0.05


def _two_for_five(facts: Facts) -> str | None:
    if not facts.general_use or not facts.may_train:
        return None
    return (
        "Measure the model's other work before and after tuning: two points on your task for five lost elsewhere are "
        "rarely worth it."
    )


def _replay(facts: Facts) -> str | None:
    if facts.replay is None or facts.replay >= LITTLE_REPLAY or facts.general_use is False or "sft" not in facts.ladder:
        return None
    return "Mix 5 to 10% general rows into training (`sft.replay`)."


def _stay_in_the_house(facts: Facts) -> str | None:
    if not facts.private or not facts.outside:
        return None
    return "Use an open model on your own machines: neither prompts nor training rows may go to the endpoint you named."


def _cache_the_prompt(facts: Facts) -> str | None:
    if not facts.for_cost or not facts.outside:
        return None
    return "Before you train to shorten the prompt, put what all prompts share first and use the vendor's prompt cache."


def _too_little_to_save(facts: Facts) -> str | None:
    saved = facts.shots_usd_a_year
    if not facts.for_cost or saved is None or saved >= WORTH_A_YEAR_USD:
        return None
    if not (facts.prompt_meets or facts.only_wrong("cost")):
        return None
    return f"Do not tune to save money: the examples in your prompts cost about {saved:,.0f} USD a year."


def _enough_to_save(facts: Facts) -> str | None:
    saved = facts.shots_usd_a_year
    if not facts.for_cost or saved is None or saved < WORTH_A_YEAR_USD:
        return None
    return f"Compare a small tuned model with a short prompt: the examples in your prompts cost about {saved:,.0f} USD a year."


def _short_prompt_is_fast(facts: Facts) -> str | None:
    if not facts.is_wrong("latency"):
        return None
    return (
        "Shorten the answers first, then try a smaller model. A tuned model with no examples in its prompt comes last."
    )


def _who_retrains(facts: Facts) -> str | None:
    if facts.retrain_every is not None or not facts.may_train or facts.prompt_meets:
        return None
    if facts.n_train is None or facts.n_train < LEAST_ROWS:
        return None
    return "Before the first run, decide who retrains the model, and when."


RULES = (
    Rule(
        "two-for-five",
        "STRONG",
        "the same model must stay good at other work",
        _two_for_five,
        "Tuning on one task makes a model worse at others, and you only see it if you look.",
        "Luo et al. 2023 (arXiv 2308.08747)",
    ),
    Rule(
        "replay",
        "MODERATE",
        "less than 5% of the training rows would be general",
        _replay,
        "A few general rows preserve most other skills, at little cost to the new task.",
        "Scialom et al. 2022 (arXiv 2205.12393)",
        concerns=TRAINED,
    ),
    Rule(
        "stay-in-the-house",
        "STRONG",
        "data must stay in-house, and the model is an external endpoint",
        _stay_in_the_house,
        "However well it scores there, it cannot be used.",
        PRACTICE,
    ),
    Rule(
        "cache-the-prompt",
        "MODERATE",
        "cost is the reason, and the model is an endpoint",
        _cache_the_prompt,
        "Vendors bill cached prompt tokens at 10 to 50%, which is much of what tuning would save.",
        "Anthropic and OpenAI, Prompt caching",
        favours=("prompting",),
    ),
    Rule(
        "too-little-to-save",
        "STRONG",
        f"cost is the only reason, and the examples in the prompts cost less than {WORTH_A_YEAR_USD:.0f} USD a year",
        _too_little_to_save,
        "A tuned model has to be trained, gated, served and retrained, which costs more than a day's work.",
        PRACTICE,
        opposes=TRAINED,
    ),
    Rule(
        "enough-to-save",
        "MODERATE",
        f"cost is a reason, and the examples in the prompts cost {WORTH_A_YEAR_USD:.0f} USD a year or more",
        _enough_to_save,
        "A tuned model answers from the instruction alone; `goal: cost` computes the volume from which it is cheaper.",
        "Meta AI, To fine-tune or not to fine-tune, 2024",
        favours=("sft",),
    ),
    Rule(
        "short-prompt-is-fast",
        "MODERATE",
        "answers are too slow",
        _short_prompt_is_fast,
        "Latency depends most on the tokens generated, then on the model's size, and least on a cached prompt.",
        "OpenAI, Latency optimization guide",
    ),
    Rule(
        "who-retrains",
        "WEAK",
        "there are enough rows to train on, and no retraining schedule",
        _who_retrains,
        "Data drifts and base models are retired: a tuned model needs upkeep.",
        PRACTICE,
        concerns=TRAINED,
    ),
)
