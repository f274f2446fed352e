"""Rules about supervised tuning: how many rows, whose rows, which adapter, which card.

Also about a missing capability: when full fine-tuning or continued pretraining is worth it.
"""

from __future__ import annotations

from lastresort.advice.facts import TRAINED, Facts, Rule, known
from lastresort.rungs.supervised.sft import ADVISED_ROWS, LEAST_ROWS

NARROW_ROWS, BROAD_ROWS = 5_000, 50_000  # practice: the most that a narrow task needs, the least that a broad one does
BIG_CARD_GB = 80.0
LORA_ON_A_BIG_CARD = (6_000_000_000, 14_000_000_000)


def _in_4_bits(facts: Facts) -> bool:
    return facts.method == "qlora" or facts.too_small_for_lora


RULES = (
    Rule(
        "too-few-rows",
        "STRONG",
        f"there are fewer than {LEAST_ROWS} training rows",
        lambda facts: facts.rows_below(LEAST_ROWS),
        advice=lambda facts: (
            f"Do not tune on {facts.n_train} rows: a narrow task needs {ADVISED_ROWS} to {NARROW_ROWS:,}, and at least "
            f"{LEAST_ROWS}."
        ),
        because="So few rows are memorised, and they are worth more as test rows.",
        source="OpenAI, Supervised fine-tuning guide (50 to begin with)",
        opposes=("sft", "full"),
    ),
    Rule(
        "few-rows",
        "MODERATE",
        f"there are {LEAST_ROWS} to {ADVISED_ROWS - 1} training rows, and the task is not broad",
        lambda facts: facts.breadth != "broad" and facts.rows_from(LEAST_ROWS) and facts.rows_below(ADVISED_ROWS),
        advice=lambda facts: (
            f"Expect a noisy gain from {facts.n_train} rows and compare several seeds; it settles at {ADVISED_ROWS} rows."
        ),
        because="On small sets the seed alone moves the score by several points.",
        source="Dodge et al. 2020 (arXiv 2002.06305)",
        concerns=("sft",),
    ),
    Rule(
        "broad-rows",
        "MODERATE",
        f"the task is broad, and there are fewer than {BROAD_ROWS:,} training rows",
        lambda facts: facts.breadth == "broad" and facts.rows_below(BROAD_ROWS),
        advice=lambda facts: (
            f"Narrow the task, or stay with the prompt: a broad task needs {BROAD_ROWS:,} rows or more, and you have "
            f"{facts.n_train:,}."
        ),
        because="What the rows do not cover is answered as the nearest row would be.",
        opposes=("sft",),
    ),
    Rule(
        "enough-rows",
        "MODERATE",
        f"behaviour is wrong, and there are {ADVISED_ROWS} training rows or more ({BROAD_ROWS:,} for a broad task)",
        lambda facts: (
            facts.rows_from(BROAD_ROWS if facts.breadth == "broad" else ADVISED_ROWS)
            and bool(facts.wrong)
            and not facts.only_wrong("knowledge", "cost", "latency")
        ),
        advice=lambda facts: (
            f"Your {facts.n_train:,} rows are enough for a fair try at LoRA, once the prompt has failed."
        ),
        because="Behaviour is learned from hundreds to thousands of good rows.",
        source="Zhou et al. 2023, LIMA (arXiv 2305.11206)",
        favours=("sft",),
    ),
    Rule(
        "clean-not-more",
        "WEAK",
        f"there are more than {NARROW_ROWS:,} training rows, and the task is not broad",
        lambda facts: facts.breadth != "broad" and facts.rows_from(NARROW_ROWS + 1),
        advice=lambda facts: f"Clean and deduplicate your {facts.n_train:,} rows instead of adding more.",
        because="A thousand chosen rows did as well as fifty times as many; wrong rows are learned like right ones.",
        source="Zhou et al. 2023, LIMA (arXiv 2305.11206)",
        concerns=("sft",),
    ),
    Rule(
        "label-more",
        "MODERATE",
        f"there are fewer than {ADVISED_ROWS} training rows and people who can label",
        lambda facts: facts.can_label is True and facts.rows_below(ADVISED_ROWS),
        advice=lambda facts: (
            f"Have {ADVISED_ROWS - known(facts.n_train)} more examples labelled, starting with those that the prompt gets wrong."
        ),
        because="An hour of labelling helps every rung: few-shot prompts, tuning and the test all use the labels.",
        source="OpenAI, Supervised fine-tuning guide",
    ),
    Rule(
        "teacher-labels",
        "MODERATE",
        f"there are fewer than {ADVISED_ROWS} training rows, and a larger model answers well enough",
        lambda facts: facts.teacher is True and facts.rows_below(ADVISED_ROWS),
        advice="Let the larger model answer a few thousand real inputs and train the small one on what passes your scorer; read "
        "its licence first.",
        because="Small models trained on a large model's rationales matched it with fewer rows than labels alone need.",
        source="Hsieh et al. 2023 (arXiv 2305.02301)",
        favours=("sft",),
    ),
    Rule(
        "weights-elsewhere",
        "STRONG",
        "the model to be tuned is an endpoint",
        lambda facts: facts.trainable is False and facts.may_train,
        advice="Name an open model under `tune.model`: the weights of the model you prompt are not available for training.",
        because="What a closed vendor tunes for you can be neither moved nor merged, and ends when its base is retired.",
        opposes=TRAINED,
    ),
    Rule(
        "style-by-tuning",
        "MODERATE",
        f"the style is wrong, and there are {LEAST_ROWS} training rows or more",
        lambda facts: facts.is_wrong("style") and not facts.rows_below(LEAST_ROWS),
        advice="Tune for style if five examples in the prompt do not convey it; prefer good rows to many.",
        because="Tuning mostly teaches how to say what the model already knows.",
        source="Zhou et al. 2023, LIMA (arXiv 2305.11206); Meta AI, To fine-tune or not to fine-tune, 2024",
        favours=("sft",),
    ),
    Rule(
        "lora-not-full",
        "MODERATE",
        "all weights would be trained although no capability is missing and the knowledge may go into the prompt",
        lambda facts: (
            "full" in facts.ladder
            and not facts.into_weights
            and not facts.is_wrong("capability")
            and (facts.wrong is not None or facts.method == "full")
        ),
        advice="Train an adapter, not all weights.",
        because="On sets of this size an adapter learns as much, forgets less, and can be removed again.",
        source="Biderman et al. 2024 (arXiv 2405.09673); Schulman et al. 2025, LoRA without regret",
        opposes=("full",),
    ),
    Rule(
        "qlora-gap",
        "MODERATE",
        "QLoRA is chosen, or the GPU is too small for LoRA",
        lambda facts: _in_4_bits(facts) and facts.may_train,
        advice="Where the last points matter, compare QLoRA with LoRA on your own test set: the 4-bit base costs about 1 to 3%.",
        because="Its paper found no loss on its tasks, users report some on theirs; only yours count.",
        source="Dettmers et al. 2023 (arXiv 2305.14314); practice",
        concerns=TRAINED,
    ),
    Rule(
        "rent-a-big-card",
        "WEAK",
        "QLoRA is chosen or the GPU too small for LoRA, and the model has 6 to 14 billion parameters",
        lambda facts: (
            _in_4_bits(facts)
            and facts.may_train
            and facts.parameters is not None
            and LORA_ON_A_BIG_CARD[0] <= facts.parameters <= LORA_ON_A_BIG_CARD[1]
        ),
        advice=f"Rent an {BIG_CARD_GB:.0f} GB GPU for a few hours if that gap matters: this model trains there in 16 bits.",
        because="A few hours of such a GPU cost a few dollars.",
        concerns=TRAINED,
    ),
    Rule(
        "all-linear",
        "WEAK",
        "adapters are on attention only",
        lambda facts: facts.target == "attention" and "sft" in facts.ladder,
        advice="Set `sft.target: all-linear`: adapters on attention alone learn less.",
        because="Most of a model's capacity is in the feed-forward layers; a 135M model gained 7 to 22 points on four small tasks.",
        source="Schulman et al. 2025, LoRA without regret; docs/defaults.md, one seed each",
        concerns=("sft",),
    ),
)


def _full_could_help(facts: Facts) -> bool:
    """Whether a capability is missing, and all weights may be trained to add it."""
    return "full" in facts.ladder and facts.is_wrong("capability")


CAPABILITY_RULES = (
    Rule(
        "full-for-capability",
        "MODERATE",
        f"a capability is missing, and there are {BROAD_ROWS:,} training rows or more",
        lambda facts: _full_could_help(facts) and facts.rows_from(BROAD_ROWS),
        advice=lambda facts: (
            f"Train all weights if LoRA misses the bar: a new capability and {facts.n_train:,} rows call for it."
        ),
        because="With much to learn, adapters learn less than full fine-tuning, above all in code and mathematics.",
        source="Biderman et al. 2024 (arXiv 2405.09673)",
        favours=("full",),
    ),
    Rule(
        "capability-without-data",
        "MODERATE",
        f"a capability is missing, with fewer than {BROAD_ROWS:,} rows, no documents and no reward",
        lambda facts: (
            _full_could_help(facts) and facts.knowledge is False and not facts.reward and facts.rows_below(BROAD_ROWS)
        ),
        advice=lambda facts: f"Do not expect {facts.n_train:,} rows to teach a capability; use a model that has it.",
        because="Examples show what to do, not how; that was learned in pretraining or not at all.",
        opposes=("full",),
    ),
    Rule(
        "domain-of-documents",
        "MODERATE",
        "a capability is missing, and there are documents that change no faster than you retrain",
        lambda facts: _full_could_help(facts) and facts.knowledge is True and not facts.outdates_weights,
        advice="Continue pretraining on the documents of the domain, then tune on your examples, if retrieval leaves the model "
        "lost in them.",
        because="More pretraining on a domain's own text helped in all four domains tried, with few labels and with many.",
        source="Gururangan et al. 2020 (arXiv 2004.10964)",
        favours=("full",),
    ),
)
