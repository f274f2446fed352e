"""Rules about cost, privacy and upkeep, and about what tuning must not break."""

from __future__ import annotations

from lastresort.advice.facts import TRAINED, Facts, Rule
from lastresort.rungs.supervised.sft import LEAST_ROWS

WORTH_A_YEAR_USD = 500.0  # about a day of somebody's work: less than tuning, gating and serving a model takes
LITTLE_REPLAY = 0.05


def _saves_little(facts: Facts) -> bool:
    """Whether cost is a reason, and what a tuned model could save is known and little."""
    saved = facts.shots_usd_a_year
    return facts.for_cost and saved is not None and saved < WORTH_A_YEAR_USD


def _saves_enough(facts: Facts) -> bool:
    """Whether cost is a reason, and what a tuned model could save is known and worth its work."""
    saved = facts.shots_usd_a_year
    return facts.for_cost and saved is not None and saved >= WORTH_A_YEAR_USD


RULES = (
    Rule(
        "two-for-five",
        "STRONG",
        "the same model must stay good at other work",
        lambda facts: facts.general_use is True and facts.may_train,
        advice="Measure the model's other work before and after tuning: two points on your task for five lost elsewhere are "
        "rarely worth it.",
        because="Tuning on one task makes a model worse at others, and you only see it if you look.",
        source="Luo et al. 2023 (arXiv 2308.08747)",
    ),
    Rule(
        "replay",
        "MODERATE",
        "less than 5% of the training rows would be general",
        lambda facts: (
            facts.replay is not None
            and facts.replay < LITTLE_REPLAY
            and facts.general_use is not False
            and "sft" in facts.ladder
        ),
        advice="Mix 5 to 10% general rows into training (`sft.replay`).",
        because="A few general rows preserve most other skills, at little cost to the new task.",
        source="Scialom et al. 2022 (arXiv 2205.12393)",
        concerns=TRAINED,
    ),
    Rule(
        "stay-in-the-house",
        "STRONG",
        "data must stay in-house, and the model is an external endpoint",
        lambda facts: facts.private is True and facts.outside is True,
        advice="Use an open model on your own machines: neither prompts nor training rows may go to the endpoint you named.",
        because="However well it scores there, it cannot be used.",
    ),
    Rule(
        "cache-the-prompt",
        "MODERATE",
        "cost is the reason, and the model is an endpoint",
        lambda facts: facts.for_cost and facts.outside is True,
        advice="Before you train to shorten the prompt, put what all prompts share first and use the vendor's prompt cache.",
        because="Vendors bill cached prompt tokens at 10 to 50%, which is much of what tuning would save.",
        source="Anthropic and OpenAI, Prompt caching",
        favours=("prompting",),
    ),
    Rule(
        "too-little-to-save",
        "STRONG",
        f"cost is the only reason, and the examples in the prompts cost less than {WORTH_A_YEAR_USD:.0f} USD a year",
        lambda facts: _saves_little(facts) and (facts.prompt_meets or facts.only_wrong("cost")),
        advice=lambda facts: (
            f"Do not tune to save money: the examples in your prompts cost about {facts.shots_usd_a_year:,.0f} USD a year."
        ),
        because="A tuned model has to be trained, gated, served and retrained, which costs more than a day's work.",
        opposes=TRAINED,
    ),
    Rule(
        "enough-to-save",
        "MODERATE",
        f"cost is a reason, and the examples in the prompts cost {WORTH_A_YEAR_USD:.0f} USD a year or more",
        _saves_enough,
        advice=lambda facts: (
            f"Compare a small tuned model with a short prompt: the examples in your prompts cost about "
            f"{facts.shots_usd_a_year:,.0f} USD a year."
        ),
        because="A tuned model answers from the instruction alone; `goal: cost` computes the volume from which it is cheaper.",
        source="Meta AI, To fine-tune or not to fine-tune, 2024",
        favours=("sft",),
    ),
    Rule(
        "short-prompt-is-fast",
        "MODERATE",
        "answers are too slow",
        lambda facts: facts.is_wrong("latency"),
        advice="Shorten the answers first, then try a smaller model. A tuned model with no examples in its prompt comes last.",
        because="Latency depends most on the tokens generated, then on the model's size, and least on a cached prompt.",
        source="OpenAI, Latency optimization guide",
    ),
    Rule(
        "who-retrains",
        "WEAK",
        "there are enough rows to train on, and no retraining schedule",
        lambda facts: (
            facts.retrain_every is None and facts.may_train and not facts.prompt_meets and facts.rows_from(LEAST_ROWS)
        ),
        advice="Before the first run, decide who retrains the model, and when.",
        because="Data drifts and base models are retired: a tuned model needs upkeep.",
        concerns=TRAINED,
    ),
)
