"""Rules about a missing capability: when full fine-tuning or continued pretraining is worth it."""

from __future__ import annotations

from lastresort.advice.facts import PRACTICE, Facts, Rule
from lastresort.advice.tuning import BROAD_ROWS


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


RULES = (
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
