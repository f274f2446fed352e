"""Rules about preferences and rewards: which objective for which data, and what it does not teach."""

from __future__ import annotations

from lastresort.advice.facts import Facts, Rule, known
from lastresort.report.words.wording import round_percent as percent
from lastresort.rungs.supervised.sft import LEAST_ROWS

FEW_PREFERENCES = 500
HARDLY_EVER = 0.05


def _preferences_are(facts: Facts, *kinds: str) -> bool:
    """Whether the preferences are of one of these kinds, and there is the rung that could use them."""
    return "preference" in facts.ladder and facts.preferences in kinds


RULES = (
    Rule(
        "pairs-dpo",
        "MODERATE",
        f"there are preference pairs, and {LEAST_ROWS} training rows or more",
        lambda facts: _preferences_are(facts, "pairs") and not facts.rows_below(LEAST_ROWS),
        advice="Train on your pairs with DPO, on top of the supervised adapter.",
        because="Pairs say which of two answers is better; supervised training first makes both likely under the model.",
        source="Rafailov et al. 2023 (arXiv 2305.18290)",
        favours=("preference",),
    ),
    Rule(
        "pairs-orpo",
        "MODERATE",
        f"there are preference pairs, and fewer than {LEAST_ROWS} training rows",
        lambda facts: _preferences_are(facts, "pairs") and facts.rows_below(LEAST_ROWS),
        advice=lambda facts: (
            f"Train on your pairs with ORPO, from the base: {facts.n_train} rows are too few for the supervised step before DPO."
        ),
        because="ORPO learns the answer and the preference in one step and needs neither reference nor supervised model.",
        source="Hong et al. 2024 (arXiv 2403.07691)",
        favours=("preference",),
    ),
    Rule(
        "labels-kto",
        "MODERATE",
        "there are answers labelled good or bad",
        lambda facts: _preferences_are(facts, "labels"),
        advice="Train on your good and bad answers with KTO; you need not build pairs.",
        because="KTO takes thumbs up and down as they are, even if one kind is far more common.",
        source="Ethayarajh et al. 2024 (arXiv 2402.01306)",
        favours=("preference",),
    ),
    Rule(
        "reward-grpo",
        "MODERATE",
        "there is a reward that a program computes",
        lambda facts: facts.for_grpo,
        advice="Train on your reward with GRPO, in groups of samples of one prompt.",
        because="It needs no labelled answer and no value model: the group's mean is the baseline.",
        source="Shao et al. 2024, DeepSeekMath (arXiv 2402.03300)",
        favours=("preference",),
    ),
    Rule(
        "reward-needs-hits",
        "MODERATE",
        f"there is a reward, but the best prompt is right in at most {percent(HARDLY_EVER)}",
        lambda facts: facts.for_grpo and facts.best_prompt_score is not None and facts.best_prompt_score <= HARDLY_EVER,
        advice=lambda facts: (
            f"Teach the task by examples before GRPO: at {percent(known(facts.best_prompt_score))} nearly every group of "
            "samples is all wrong."
        ),
        because="A group of equal rewards teaches nothing: a reward sharpens what the model can already do sometimes.",
        source="Yue et al. 2025 (arXiv 2504.13837)",
        opposes=("preference",),
    ),
    Rule(
        "collect-pairs",
        "MODERATE",
        "people prefer other answers, and there are no preferences or reward",
        lambda facts: _preferences_are(facts, "none") and facts.is_wrong("preferences") and not facts.reward,
        advice=f"Let people choose between two answers to about {FEW_PREFERENCES} of your own prompts; choosing takes seconds.",
        because="Taste is easier to show by choosing than to write down, and pairs can be trained on.",
        source="Ouyang et al. 2022 (arXiv 2203.02155)",
        favours=("preference",),
    ),
    Rule(
        "no-facts-from-preferences",
        "STRONG",
        "only knowledge is missing",
        lambda facts: "preference" in facts.ladder and facts.only_wrong("knowledge"),
        advice="Leave preference training out: what is missing is knowledge.",
        because="Preferences shift which of the things it knows a model says; they add no knowledge.",
        opposes=("preference",),
    ),
    Rule(
        "few-preferences",
        "WEAK",
        f"there are fewer than {FEW_PREFERENCES} preferences",
        lambda facts: (
            _preferences_are(facts, "pairs", "labels")
            and facts.n_preferences is not None
            and facts.n_preferences < FEW_PREFERENCES
        ),
        advice=lambda facts: (
            f"Collect more than {facts.n_preferences} preferences; below {FEW_PREFERENCES}, length and luck decide."
        ),
        because="Raters agree in about three cases of four, so a few pairs are mostly noise.",
        source="Ouyang et al. 2022 (arXiv 2203.02155)",
        concerns=("preference",),
    ),
    Rule(
        "longer-is-not-better",
        "MODERATE",
        "there are preferences, or a judge scores the answers",
        lambda facts: (
            _preferences_are(facts, "pairs", "labels") or ("preference" in facts.ladder and facts.scorer == "judge")
        ),
        advice="Watch answer length during training, and compare answers of equal length.",
        because="Much of what preference training gains is length.",
        source="Singhal et al. 2023 (arXiv 2310.03716); Park et al. 2024 (arXiv 2403.19159)",
        concerns=("preference",),
    ),
    Rule(
        "agreeable-is-not-right",
        "MODERATE",
        "there are preferences",
        lambda facts: _preferences_are(facts, "pairs", "labels"),
        advice="Before you ship, test whether the tuned model still contradicts a user who is wrong.",
        because="People and preference models sometimes prefer a convincing answer that agrees with them to a correct one.",
        source="Sharma et al. 2023 (arXiv 2310.13548)",
        concerns=("preference",),
    ),
)
