"""Rules about knowledge: into the prompt by retrieval, or into the weights."""

from __future__ import annotations

from lastresort.advice.facts import PRACTICE, Facts, Rule

LITTLE_TEXT_TOKENS = (
    10_000_000  # Yang et al. 2024 found plain continued pretraining on 1.3 million tokens to teach next to nothing
)


def _paces(facts: Facts) -> str:
    again = "never" if facts.retrain_every == "never" else f"only {facts.retrain_every}"
    return f"it changes {facts.knowledge_changes}, the model would be retrained {again}"


def _behaves_wrong(facts: Facts) -> bool:
    return any(map(facts.is_wrong, ("style", "format", "capability")))


RULES = (
    Rule(
        "retrieve",
        "STRONG",
        "knowledge is missing, and it may travel in the prompt",
        lambda facts: facts.is_wrong("knowledge") and facts.in_context and facts.documents,
        "Give the model the documents by retrieval before you train anything.",
        "It beat training on the documents, for known and for new facts.",
        "Ovadia et al. 2023 (arXiv 2312.05934); Soudani et al. 2024 (arXiv 2403.01432)",
        favours=("retrieval",),
    ),
    Rule(
        "find-documents",
        "STRONG",
        "knowledge is missing, and there are no documents",
        lambda facts: facts.is_wrong("knowledge") and facts.knowledge is False,
        "Find or write the documents that the answers should come from, before you choose how to use them.",
        "Neither retrieval nor training can give a model what nobody wrote down.",
        PRACTICE,
    ),
    Rule(
        "retrieve-and-tune",
        "MODERATE",
        "knowledge is missing and behaviour is wrong too, and the knowledge changes no faster than you retrain",
        lambda facts: (
            facts.is_wrong("knowledge")
            and _behaves_wrong(facts)
            and facts.in_context
            and not facts.outdates_weights
            and {"sft", "retrieval"} <= set(facts.ladder)
        ),
        "If retrieval alone falls short, tune on prompts with the retrieved passages, including wrong ones.",
        "Passages supply the facts, tuning teaches how to use them; together they beat either alone.",
        "Zhang et al. 2024, RAFT (arXiv 2403.10131); Meta AI, To fine-tune or not to fine-tune, 2024",
        favours=("retrieval", "sft"),
    ),
    Rule(
        "nothing-to-retrieve",
        "STRONG",
        "there are documents, but what is wrong is not knowledge",
        lambda facts: facts.knowledge and facts.wrong and not facts.is_wrong("knowledge"),
        "Leave retrieval out: what is wrong is not missing knowledge.",
        "Passages without new facts only lengthen the prompt, and irrelevant ones make answers worse.",
        "Shi et al. 2023 (arXiv 2302.00093)",
        opposes=("retrieval",),
    ),
    Rule(
        "ask-with-the-passage",
        "MODERATE",
        "there are documents, and what is wrong today is not known",
        lambda facts: facts.knowledge and facts.in_context and facts.wrong is None and "retrieval" in facts.ladder,
        "Ask ten of the failed questions again with the right passage pasted in: use retrieval only if that helps.",
        "If an answer is wrong even with the right passage, no search will fix it.",
        PRACTICE,
        favours=("retrieval",),
    ),
    Rule(
        "stale-weights",
        "STRONG",
        "the knowledge changes more often than the model would be retrained",
        lambda facts: facts.outdates_weights and facts.in_context,
        lambda facts: f"Keep retrieval, and do not train the knowledge into the model: {_paces(facts)}.",
        "Weights would be out of date most of the time; an index is updated in minutes.",
        "OpenAI, Optimizing LLM accuracy guide",
        favours=("retrieval",),
        opposes=("sft", "full"),
    ),
    Rule(
        "forbidden-and-stale",
        "MODERATE",
        "the knowledge may not travel in the prompt and changes more often than the model would be retrained",
        lambda facts: facts.outdates_weights and not facts.in_context,
        lambda facts: f"Retrain as often as the knowledge changes, or get it allowed in the prompt: {_paces(facts)}.",
        "Whatever is trained is out of date before it is replaced, and nothing else is allowed.",
        PRACTICE,
        opposes=("sft", "full"),
    ),
    Rule(
        "context-forbidden",
        "STRONG",
        "the knowledge may not travel in the prompt",
        lambda facts: facts.into_weights,
        "Train on the documents first (continued pretraining), then on questions and answers: weights are the only way left.",
        "Retrieval is ruled out, and questions alone teach the form of an answer rather than what the documents say.",
        "Balaguer et al. 2024 (arXiv 2401.08406); Gururangan et al. 2020 (arXiv 2004.10964)",
        favours=("full",),
        opposes=("retrieval",),
    ),
    Rule(
        "verbatim",
        "STRONG",
        "answers must quote the documents, which may travel in the prompt",
        lambda facts: facts.verbatim and facts.documents and facts.in_context,
        "Quote retrieved passages and cite them; do not rely on weights for exact words.",
        "A model paraphrases what it has learned, and it learns little of rare facts.",
        "Kandpal et al. 2023 (arXiv 2211.08411)",
        favours=("retrieval",),
        opposes=("full",),
    ),
    Rule(
        "verbatim-forbidden",
        "STRONG",
        "answers must quote documents that may not travel in the prompt",
        lambda facts: facts.verbatim and facts.into_weights,
        "Resolve the contradiction first: answers must quote the documents, but these may not travel in the prompt.",
        "Weights cannot guarantee exact words, so no rung can do both.",
        "Kandpal et al. 2023 (arXiv 2211.08411)",
    ),
    Rule(
        "facts-not-by-sft",
        "MODERATE",
        "only knowledge is missing, and it may travel in the prompt",
        lambda facts: facts.only_wrong("knowledge") and facts.in_context and "sft" in facts.ladder,
        "Do not teach facts by supervised tuning on answers.",
        "New facts are learned slowly that way, and the more are learned, the more the model hallucinates.",
        "Gekhman et al. 2024 (arXiv 2405.05904)",
        opposes=("sft",),
    ),
    Rule(
        "who-may-see",
        "STRONG",
        "not every user may see all documents",
        lambda facts: facts.restricted and facts.documents,
        "Keep the documents out of the weights, and filter retrieval by each user's rights.",
        "Weights answer everyone alike, and training text can be extracted from them.",
        "Carlini et al. 2021 (arXiv 2012.07805)",
        opposes=("full",),
    ),
    Rule(
        "rewrite-little-text",
        "MODERATE",
        f"documents of fewer than {LITTLE_TEXT_TOKENS:,} tokens would be trained on",
        lambda facts: (
            facts.knowledge
            and facts.knowledge_tokens is not None
            and facts.knowledge_tokens < LITTLE_TEXT_TOKENS
            and "full" in facts.ladder
            and (not facts.in_context or facts.is_wrong("capability"))
        ),
        lambda facts: (
            f"Have the documents rewritten in many ways before you train on them: {facts.knowledge_tokens:,} tokens are few."
        ),
        "A fact seen once is memorised but not usable; a fact seen in many wordings is.",
        "Allen-Zhu & Li 2023 (arXiv 2309.14316); Yang et al. 2024 (arXiv 2409.07431)",
        concerns=("full",),
    ),
)
