"""Rules about supervised tuning: how many rows, whose rows, which adapter, which card.

Also about a missing capability: when full fine-tuning or continued pretraining is worth it.
"""

from __future__ import annotations

from lastresort.advice.facts import PRACTICE, TRAINED, Facts, Rule
from lastresort.rungs.supervised.sft import ADVISED_ROWS, LEAST_ROWS

NARROW_ROWS, BROAD_ROWS = (
    5_000,
    50_000,
)  # the most that a narrow task needs, the least that a broad one does (DESIGN part 7)
BIG_CARD_GB = 80.0
LORA_ON_A_BIG_CARD = (6_000_000_000, 14_000_000_000)


def _too_few_rows(facts: Facts) -> str | None:
    if facts.n_train is None or facts.n_train >= LEAST_ROWS:
        return None
    return f"Do not tune on {facts.n_train} rows: a narrow task needs {ADVISED_ROWS} to {NARROW_ROWS:,}, and at least {LEAST_ROWS}."


def _few_rows(facts: Facts) -> str | None:
    if facts.n_train is None or facts.breadth == "broad" or not LEAST_ROWS <= facts.n_train < ADVISED_ROWS:
        return None
    return (
        f"Expect a noisy gain from {facts.n_train} rows and compare several seeds; it settles at {ADVISED_ROWS} rows."
    )


def _broad_rows(facts: Facts) -> str | None:
    if facts.breadth != "broad" or facts.n_train is None or facts.n_train >= BROAD_ROWS:
        return None
    return (
        f"Narrow the task, or stay with the prompt: a broad task needs {BROAD_ROWS:,} rows or more, and you have "
        f"{facts.n_train:,}."
    )


def _enough_rows(facts: Facts) -> str | None:
    least = BROAD_ROWS if facts.breadth == "broad" else ADVISED_ROWS
    if (
        facts.n_train is None
        or facts.n_train < least
        or not facts.wrong
        or facts.only_wrong("knowledge", "cost", "latency")
    ):
        return None
    return f"Your {facts.n_train:,} rows are enough for a fair try at LoRA, once the prompt has failed."


def _clean_not_more(facts: Facts) -> str | None:
    if facts.breadth == "broad" or facts.n_train is None or facts.n_train <= NARROW_ROWS:
        return None
    return f"Clean and deduplicate your {facts.n_train:,} rows instead of adding more."


def _label_more(facts: Facts) -> str | None:
    if not facts.can_label or facts.n_train is None or facts.n_train >= ADVISED_ROWS:
        return None
    return (
        f"Have {ADVISED_ROWS - facts.n_train} more examples labelled, starting with those that the prompt gets wrong."
    )


def _teacher_labels(facts: Facts) -> str | None:
    if not facts.teacher or facts.n_train is None or facts.n_train >= ADVISED_ROWS:
        return None
    return (
        "Let the larger model answer a few thousand real inputs and train the small one on what passes your scorer; read its "
        "licence first."
    )


def _weights_elsewhere(facts: Facts) -> str | None:
    if facts.trainable is not False or not facts.may_train:
        return None
    return "Name an open model under `tune.model`: the weights of the model you prompt are not available for training."


def _style_by_tuning(facts: Facts) -> str | None:
    if not facts.is_wrong("style") or (facts.n_train is not None and facts.n_train < LEAST_ROWS):
        return None
    return "Tune for style if five examples in the prompt do not convey it; prefer good rows to many."


def _lora_not_full(facts: Facts) -> str | None:
    if "full" not in facts.ladder or facts.into_weights or facts.is_wrong("capability"):
        return None
    if facts.wrong is None and facts.method != "full":
        return None
    return "Train an adapter, not all weights."


def _qlora_gap(facts: Facts) -> str | None:
    if not (facts.method == "qlora" or facts.too_small_for_lora) or not facts.may_train:
        return None
    return "Where the last points matter, compare QLoRA with LoRA on your own test set: the 4-bit base costs about 1 to 3%."


def _rent_a_big_card(facts: Facts) -> str | None:
    low, high = LORA_ON_A_BIG_CARD
    if facts.parameters is None or not low <= facts.parameters <= high or not facts.may_train:
        return None
    if not (facts.method == "qlora" or facts.too_small_for_lora):
        return None
    return f"Rent an {BIG_CARD_GB:.0f} GB card for a few hours if that gap matters: this model trains there in 16 bits."


def _all_linear(facts: Facts) -> str | None:
    if facts.target != "attention" or "sft" not in facts.ladder:
        return None
    if not facts.is_wrong("capability") and (facts.n_train is None or facts.n_train <= NARROW_ROWS):
        return None
    return "Set `sft.target: all-linear`: adapters on attention alone learn less."


RULES = (
    Rule(
        "too-few-rows",
        "STRONG",
        f"there are fewer than {LEAST_ROWS} training rows",
        _too_few_rows,
        "So few rows are memorised, and they are worth more as test rows.",
        "OpenAI, Supervised fine-tuning guide (50 to begin with)",
        opposes=("sft", "full"),
    ),
    Rule(
        "few-rows",
        "MODERATE",
        f"there are {LEAST_ROWS} to {ADVISED_ROWS - 1} training rows, and the task is not broad",
        _few_rows,
        "On small sets the seed alone moves the score by several points.",
        "Dodge et al. 2020 (arXiv 2002.06305)",
        concerns=("sft",),
    ),
    Rule(
        "broad-rows",
        "MODERATE",
        f"the task is broad, and there are fewer than {BROAD_ROWS:,} training rows",
        _broad_rows,
        "What the rows do not cover is answered as the nearest row would be.",
        PRACTICE,
        opposes=("sft",),
    ),
    Rule(
        "enough-rows",
        "MODERATE",
        f"behaviour is wrong, and there are {ADVISED_ROWS} training rows or more ({BROAD_ROWS:,} for a broad task)",
        _enough_rows,
        "Behaviour is learned from hundreds to thousands of good rows.",
        "Zhou et al. 2023, LIMA (arXiv 2305.11206)",
        favours=("sft",),
    ),
    Rule(
        "clean-not-more",
        "WEAK",
        f"there are more than {NARROW_ROWS:,} training rows, and the task is not broad",
        _clean_not_more,
        "A thousand chosen rows did as well as fifty times as many; wrong rows are learned like right ones.",
        "Zhou et al. 2023, LIMA (arXiv 2305.11206)",
        concerns=("sft",),
    ),
    Rule(
        "label-more",
        "MODERATE",
        f"there are fewer than {ADVISED_ROWS} training rows and people who can label",
        _label_more,
        "An hour of labelling helps every rung: few-shot prompts, tuning and the test all use the labels.",
        "OpenAI, Supervised fine-tuning guide",
    ),
    Rule(
        "teacher-labels",
        "MODERATE",
        f"there are fewer than {ADVISED_ROWS} training rows, and a larger model answers well enough",
        _teacher_labels,
        "Small models trained on a large model's rationales matched it with fewer rows than labels alone need.",
        "Hsieh et al. 2023 (arXiv 2305.02301)",
        favours=("sft",),
    ),
    Rule(
        "weights-elsewhere",
        "STRONG",
        "the model to be tuned is an endpoint",
        _weights_elsewhere,
        "What a closed vendor tunes for you can be neither moved nor merged, and ends when its base is retired.",
        PRACTICE,
        opposes=TRAINED,
    ),
    Rule(
        "style-by-tuning",
        "MODERATE",
        f"the style is wrong, and there are {LEAST_ROWS} training rows or more",
        _style_by_tuning,
        "Tuning mostly teaches how to say what the model already knows.",
        "Zhou et al. 2023, LIMA (arXiv 2305.11206); Meta AI, To fine-tune or not to fine-tune, 2024",
        favours=("sft",),
    ),
    Rule(
        "lora-not-full",
        "MODERATE",
        "all weights would be trained although no capability is missing and the knowledge may travel in the prompt",
        _lora_not_full,
        "On sets of this size an adapter learns as much, forgets less, and can be removed again.",
        "Biderman et al. 2024 (arXiv 2405.09673); Schulman et al. 2025, LoRA without regret",
        opposes=("full",),
    ),
    Rule(
        "qlora-gap",
        "MODERATE",
        "QLoRA is chosen, or the card is too small for LoRA",
        _qlora_gap,
        "Its paper found no loss on its tasks, users report some on theirs; only yours count.",
        "Dettmers et al. 2023 (arXiv 2305.14314); practice",
        concerns=TRAINED,
    ),
    Rule(
        "rent-a-big-card",
        "WEAK",
        "QLoRA is chosen or the card too small for LoRA, and the model has 6 to 14 billion parameters",
        _rent_a_big_card,
        "A few hours of such a card cost a few dollars.",
        PRACTICE,
        concerns=TRAINED,
    ),
    Rule(
        "all-linear",
        "WEAK",
        f"adapters are on attention only, and a capability is missing or there are more than {NARROW_ROWS:,} rows",
        _all_linear,
        "Most of a model's capacity is in the feed-forward layers; on small format tasks it makes no difference.",
        "Schulman et al. 2025, LoRA without regret",
        concerns=("sft",),
    ),
)


def _full_for_capability(facts: Facts) -> str | None:
    if "full" not in facts.ladder or not facts.is_wrong("capability"):
        return None
    if facts.n_train is None or facts.n_train < BROAD_ROWS:
        return None
    return f"Train all weights if LoRA misses the bar: a new capability and {facts.n_train:,} rows call for it."


def _capability_without_data(facts: Facts) -> str | None:
    if "full" not in facts.ladder or not facts.is_wrong("capability") or facts.knowledge is not False or facts.reward:
        return None
    if facts.n_train is None or facts.n_train >= BROAD_ROWS:
        return None
    return f"Do not expect {facts.n_train:,} rows to teach a capability; use a model that has it."


def _domain_of_documents(facts: Facts) -> str | None:
    if "full" not in facts.ladder or not facts.is_wrong("capability") or not facts.knowledge or facts.outdates_weights:
        return None
    return (
        "Continue pretraining on the documents of the domain, then tune on your examples, if retrieval leaves the model "
        "lost in them."
    )


CAPABILITY_RULES = (
    Rule(
        "full-for-capability",
        "MODERATE",
        f"a capability is missing, and there are {BROAD_ROWS:,} training rows or more",
        _full_for_capability,
        "With much to learn, adapters learn less than full fine-tuning, above all in code and mathematics.",
        "Biderman et al. 2024 (arXiv 2405.09673)",
        favours=("full",),
    ),
    Rule(
        "capability-without-data",
        "MODERATE",
        f"a capability is missing, with fewer than {BROAD_ROWS:,} rows, no documents and no reward",
        _capability_without_data,
        "Examples show what to do, not how; that was learned in pretraining or not at all.",
        PRACTICE,
        opposes=("full",),
    ),
    Rule(
        "domain-of-documents",
        "MODERATE",
        "a capability is missing, and there are documents that change no faster than you retrain",
        _domain_of_documents,
        "More pretraining on a domain's own text helped in all four domains tried, with few labels and with many.",
        "Gururangan et al. 2020 (arXiv 2004.10964)",
        favours=("full",),
    ),
)
