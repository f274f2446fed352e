"""Rules about preferences and rewards: which objective for which data, and what it does not teach."""

from __future__ import annotations

from lastresort.advice.facts import PRACTICE, Facts, Rule
from lastresort.report.words.wording import round_percent as percent
from lastresort.rungs.supervised.sft import LEAST_ROWS

FEW_PREFERENCES = 500
HARDLY_EVER = 0.05


def _prefers(facts: Facts) -> bool:
    return "preference" in facts.ladder


def _rated(facts: Facts) -> bool:
    return _prefers(facts) and facts.preferences in ("pairs", "labels")


def _pairs_dpo(facts: Facts) -> str | None:
    if (
        not _prefers(facts)
        or facts.preferences != "pairs"
        or (facts.n_train is not None and facts.n_train < LEAST_ROWS)
    ):
        return None
    return "Train on your pairs with DPO, on top of the supervised adapter."


def _pairs_orpo(facts: Facts) -> str | None:
    if not _prefers(facts) or facts.preferences != "pairs" or facts.n_train is None or facts.n_train >= LEAST_ROWS:
        return None
    return f"Train on your pairs with ORPO, from the base: {facts.n_train} rows are too few for the supervised step before DPO."


def _labels_kto(facts: Facts) -> str | None:
    if not _prefers(facts) or facts.preferences != "labels":
        return None
    return "Train on your good and bad answers with KTO; you need not build pairs."


def _reward_grpo(facts: Facts) -> str | None:
    if not facts.for_grpo:
        return None
    return "Train on your reward with GRPO, in groups of samples of one prompt."


def _reward_needs_hits(facts: Facts) -> str | None:
    score = facts.best_prompt_score
    if not facts.for_grpo or score is None or score > HARDLY_EVER:
        return None
    return f"Teach the task by examples before GRPO: at {percent(score)} nearly every group of samples is all wrong."


def _collect_pairs(facts: Facts) -> str | None:
    if not _prefers(facts) or not facts.is_wrong("preferences") or facts.preferences != "none" or facts.reward:
        return None
    return (
        f"Let people choose between two answers to about {FEW_PREFERENCES} of your own prompts; choosing takes seconds."
    )


def _no_facts_from_preferences(facts: Facts) -> str | None:
    if not _prefers(facts) or not facts.only_wrong("knowledge"):
        return None
    return "Leave preference training out: what is missing is knowledge."


def _few_preferences(facts: Facts) -> str | None:
    if not _rated(facts) or facts.n_preferences is None or facts.n_preferences >= FEW_PREFERENCES:
        return None
    return f"Collect more than {facts.n_preferences} preferences; below {FEW_PREFERENCES}, length and luck decide."


def _longer_is_not_better(facts: Facts) -> str | None:
    if not _rated(facts) and not (_prefers(facts) and facts.scorer == "judge"):
        return None
    return "Watch answer length during training, and compare answers of equal length."


def _agreeable_is_not_right(facts: Facts) -> str | None:
    if not _rated(facts):
        return None
    return "Before you ship, test whether the tuned model still contradicts a user who is wrong."


RULES = (
    Rule(
        "pairs-dpo",
        "MODERATE",
        f"there are preference pairs, and {LEAST_ROWS} training rows or more",
        _pairs_dpo,
        "Pairs say which of two answers is better; supervised training first makes both likely under the model.",
        "Rafailov et al. 2023 (arXiv 2305.18290)",
        favours=("preference",),
    ),
    Rule(
        "pairs-orpo",
        "MODERATE",
        f"there are preference pairs, and fewer than {LEAST_ROWS} training rows",
        _pairs_orpo,
        "ORPO learns the answer and the preference in one step and needs neither reference nor supervised model.",
        "Hong et al. 2024 (arXiv 2403.07691)",
        favours=("preference",),
    ),
    Rule(
        "labels-kto",
        "MODERATE",
        "there are answers labelled good or bad",
        _labels_kto,
        "KTO takes thumbs up and down as they are, even if one kind is far more common.",
        "Ethayarajh et al. 2024 (arXiv 2402.01306)",
        favours=("preference",),
    ),
    Rule(
        "reward-grpo",
        "MODERATE",
        "there is a reward that a program computes",
        _reward_grpo,
        "It needs no labelled answer and no value model: the group's mean is the baseline.",
        "Shao et al. 2024, DeepSeekMath (arXiv 2402.03300)",
        favours=("preference",),
    ),
    Rule(
        "reward-needs-hits",
        "MODERATE",
        f"there is a reward, but the best prompt is right in at most {percent(HARDLY_EVER)}",
        _reward_needs_hits,
        "A group of equal rewards teaches nothing: a reward sharpens what the model can already do sometimes.",
        "Yue et al. 2025 (arXiv 2504.13837)",
        opposes=("preference",),
    ),
    Rule(
        "collect-pairs",
        "MODERATE",
        "people prefer other answers, and there are no preferences or reward",
        _collect_pairs,
        "Taste is easier to show by choosing than to write down, and pairs can be trained on.",
        "Ouyang et al. 2022 (arXiv 2203.02155)",
        favours=("preference",),
    ),
    Rule(
        "no-facts-from-preferences",
        "STRONG",
        "only knowledge is missing",
        _no_facts_from_preferences,
        "Preferences shift which of the things it knows a model says; they add no knowledge.",
        PRACTICE,
        opposes=("preference",),
    ),
    Rule(
        "few-preferences",
        "WEAK",
        f"there are fewer than {FEW_PREFERENCES} preferences",
        _few_preferences,
        "Raters agree in about three cases of four, so a few pairs are mostly noise.",
        "Ouyang et al. 2022 (arXiv 2203.02155)",
        concerns=("preference",),
    ),
    Rule(
        "longer-is-not-better",
        "MODERATE",
        "there are preferences, or a judge scores the answers",
        _longer_is_not_better,
        "Much of what preference training gains is length.",
        "Singhal et al. 2023 (arXiv 2310.03716); Park et al. 2024 (arXiv 2403.19159)",
        concerns=("preference",),
    ),
    Rule(
        "agreeable-is-not-right",
        "MODERATE",
        "there are preferences",
        _agreeable_is_not_right,
        "People and preference models sometimes prefer a convincing answer that agrees with them to a correct one.",
        "Sharma et al. 2023 (arXiv 2310.13548)",
        concerns=("preference",),
    ),
)
