"""Rules about knowledge: into the prompt by retrieval, or into the weights."""

from __future__ import annotations

from lastresort.advice.facts import PRACTICE, Facts, Rule

LITTLE_TEXT_TOKENS = (
    10_000_000  # Yang et al. 2024 found plain continued pretraining on 1.3 million tokens to teach next to nothing
)


def _retrieve(facts: Facts) -> str | None:
    if not facts.is_wrong("knowledge") or not facts.in_context or not facts.documents:
        return None
    return "Give the model the documents by retrieval before you train anything."


def _find_documents(facts: Facts) -> str | None:
    if not facts.is_wrong("knowledge") or facts.knowledge is not False:
        return None
    return "Find or write the documents that the answers should come from, before you choose how to use them."


def _retrieve_and_tune(facts: Facts) -> str | None:
    behaviour = facts.is_wrong("style") or facts.is_wrong("format") or facts.is_wrong("capability")
    if not facts.is_wrong("knowledge") or not behaviour or not facts.in_context or facts.outdates_weights:
        return None
    if "sft" not in facts.ladder or "retrieval" not in facts.ladder:
        return None
    return "If retrieval alone falls short, tune on prompts with the retrieved passages, including wrong ones."


def _nothing_to_retrieve(facts: Facts) -> str | None:
    if not facts.knowledge or not facts.wrong or facts.is_wrong("knowledge"):
        return None
    return "Leave retrieval out: what is wrong is not missing knowledge."


def _ask_with_the_passage(facts: Facts) -> str | None:
    if not facts.knowledge or not facts.in_context or facts.wrong is not None or "retrieval" not in facts.ladder:
        return None
    return "Ask ten of the failed questions again with the right passage pasted in: use retrieval only if that helps."


def _stale_weights(facts: Facts) -> str | None:
    if not facts.outdates_weights or not facts.in_context:
        return None
    return f"Keep retrieval, and do not train the knowledge into the model: {_paces(facts)}."


def _forbidden_and_stale(facts: Facts) -> str | None:
    if not facts.outdates_weights or facts.in_context:
        return None
    return f"Retrain as often as the knowledge changes, or get it allowed in the prompt: {_paces(facts)}."


def _context_forbidden(facts: Facts) -> str | None:
    if not facts.into_weights:
        return None
    return "Train on the documents first (continued pretraining), then on questions and answers: weights are the only way left."


def _verbatim(facts: Facts) -> str | None:
    if not facts.verbatim or not facts.documents or not facts.in_context:
        return None
    return "Quote retrieved passages and cite them; do not rely on weights for exact words."


def _verbatim_forbidden(facts: Facts) -> str | None:
    if not facts.verbatim or not facts.into_weights:
        return None
    return "Resolve the contradiction first: answers must quote the documents, but these may not travel in the prompt."


def _facts_not_by_sft(facts: Facts) -> str | None:
    if not facts.only_wrong("knowledge") or not facts.in_context or "sft" not in facts.ladder:
        return None
    return "Do not teach facts by supervised tuning on answers."


def _who_may_see(facts: Facts) -> str | None:
    if not facts.restricted or not facts.documents:
        return None
    return "Keep the documents out of the weights, and filter retrieval by each user's rights."


def _rewrite_little_text(facts: Facts) -> str | None:
    tokens = facts.knowledge_tokens
    if not facts.knowledge or tokens is None or tokens >= LITTLE_TEXT_TOKENS or "full" not in facts.ladder:
        return None
    if facts.in_context and not facts.is_wrong("capability"):
        return None
    return f"Have the documents rewritten in many ways before you train on them: {tokens:,} tokens are few."


def _paces(facts: Facts) -> str:
    again = "never" if facts.retrain_every == "never" else f"only {facts.retrain_every}"
    return f"it changes {facts.knowledge_changes}, the model would be retrained {again}"


RULES = (
    Rule(
        "retrieve",
        "STRONG",
        "knowledge is missing, and it may travel in the prompt",
        _retrieve,
        "It beat training on the documents, for known and for new facts.",
        "Ovadia et al. 2023 (arXiv 2312.05934); Soudani et al. 2024 (arXiv 2403.01432)",
        favours=("retrieval",),
    ),
    Rule(
        "find-documents",
        "STRONG",
        "knowledge is missing, and there are no documents",
        _find_documents,
        "Neither retrieval nor training can give a model what nobody wrote down.",
        PRACTICE,
    ),
    Rule(
        "retrieve-and-tune",
        "MODERATE",
        "knowledge is missing and behaviour is wrong too, and the knowledge changes no faster than you retrain",
        _retrieve_and_tune,
        "Passages supply the facts, tuning teaches how to use them; together they beat either alone.",
        "Zhang et al. 2024, RAFT (arXiv 2403.10131); Meta AI, To fine-tune or not to fine-tune, 2024",
        favours=("retrieval", "sft"),
    ),
    Rule(
        "nothing-to-retrieve",
        "STRONG",
        "there are documents, but what is wrong is not knowledge",
        _nothing_to_retrieve,
        "Passages without new facts only lengthen the prompt, and irrelevant ones make answers worse.",
        "Shi et al. 2023 (arXiv 2302.00093)",
        opposes=("retrieval",),
    ),
    Rule(
        "ask-with-the-passage",
        "MODERATE",
        "there are documents, and what is wrong today is not known",
        _ask_with_the_passage,
        "If an answer is wrong even with the right passage, no search will fix it.",
        PRACTICE,
        favours=("retrieval",),
    ),
    Rule(
        "stale-weights",
        "STRONG",
        "the knowledge changes more often than the model would be retrained",
        _stale_weights,
        "Weights would be out of date most of the time; an index is updated in minutes.",
        "OpenAI, Optimizing LLM accuracy guide",
        favours=("retrieval",),
        opposes=("sft", "full"),
    ),
    Rule(
        "forbidden-and-stale",
        "MODERATE",
        "the knowledge may not travel in the prompt and changes more often than the model would be retrained",
        _forbidden_and_stale,
        "Whatever is trained is out of date before it is replaced, and nothing else is allowed.",
        PRACTICE,
        opposes=("sft", "full"),
    ),
    Rule(
        "context-forbidden",
        "STRONG",
        "the knowledge may not travel in the prompt",
        _context_forbidden,
        "Retrieval is ruled out, and questions alone teach the form of an answer rather than what the documents say.",
        "Balaguer et al. 2024 (arXiv 2401.08406); Gururangan et al. 2020 (arXiv 2004.10964)",
        favours=("full",),
        opposes=("retrieval",),
    ),
    Rule(
        "verbatim",
        "STRONG",
        "answers must quote the documents, which may travel in the prompt",
        _verbatim,
        "A model paraphrases what it has learned, and it learns little of rare facts.",
        "Kandpal et al. 2023 (arXiv 2211.08411)",
        favours=("retrieval",),
        opposes=("full",),
    ),
    Rule(
        "verbatim-forbidden",
        "STRONG",
        "answers must quote documents that may not travel in the prompt",
        _verbatim_forbidden,
        "Weights cannot guarantee exact words, so no rung can do both.",
        "Kandpal et al. 2023 (arXiv 2211.08411)",
    ),
    Rule(
        "facts-not-by-sft",
        "MODERATE",
        "only knowledge is missing, and it may travel in the prompt",
        _facts_not_by_sft,
        "New facts are learned slowly that way, and the more are learned, the more the model hallucinates.",
        "Gekhman et al. 2024 (arXiv 2405.05904)",
        opposes=("sft",),
    ),
    Rule(
        "who-may-see",
        "STRONG",
        "not every user may see all documents",
        _who_may_see,
        "Weights answer everyone alike, and training text can be extracted from them.",
        "Carlini et al. 2021 (arXiv 2012.07805)",
        opposes=("full",),
    ),
    Rule(
        "rewrite-little-text",
        "MODERATE",
        f"documents of fewer than {LITTLE_TEXT_TOKENS:,} tokens would be trained on",
        _rewrite_little_text,
        "A fact seen once is memorised but not usable; a fact seen in many wordings is.",
        "Allen-Zhu & Li 2023 (arXiv 2309.14316); Yang et al. 2024 (arXiv 2409.07431)",
        concerns=("full",),
    ),
)
