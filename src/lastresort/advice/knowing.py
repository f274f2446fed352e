"""Rules about knowledge: into the prompt by retrieval, or into the weights."""

from __future__ import annotations

from lastresort.advice.facts import Facts, Rule

LITTLE_TEXT_TOKENS = (
    10_000_000  # Yang et al. 2024 found plain continued pretraining on 1.3 million tokens to teach next to nothing
)


def _paces(facts: Facts) -> str:
    again = "never" if facts.retrain_every == "never" else f"only {facts.retrain_every}"
    return f"it changes {facts.knowledge_changes}, the model would be retrained {again}"


RULES = (
    Rule(
        "retrieve",
        "STRONG",
        "knowledge is missing, and it may go into the prompt",
        lambda facts: facts.is_wrong("knowledge") and facts.in_context and facts.documents,
        advice="Give the model the documents by retrieval before you train anything.",
        because="It beat training on the documents, for known and for new facts.",
        source="Ovadia et al. 2023 (arXiv 2312.05934); Soudani et al. 2024 (arXiv 2403.01432)",
        favours=("retrieval",),
    ),
    Rule(
        "find-documents",
        "STRONG",
        "knowledge is missing, and there are no documents",
        lambda facts: facts.is_wrong("knowledge") and facts.knowledge is False,
        advice="Find or write the documents that the answers should come from, before you choose how to use them.",
        because="Neither retrieval nor training can give a model what nobody wrote down.",
    ),
    Rule(
        "retrieve-and-tune",
        "MODERATE",
        "knowledge is missing and behaviour is wrong too, and the knowledge changes no faster than you retrain",
        lambda facts: (
            facts.is_wrong("knowledge")
            and any(map(facts.is_wrong, ("style", "format", "capability")))
            and facts.in_context
            and not facts.outdates_weights
            and {"sft", "retrieval"} <= set(facts.ladder)
        ),
        advice="If retrieval alone falls short, tune on prompts with the retrieved passages, including wrong ones.",
        because="Passages supply the facts, tuning teaches how to use them; together they beat either alone.",
        source="Zhang et al. 2024, RAFT (arXiv 2403.10131); Meta AI, To fine-tune or not to fine-tune, 2024",
        favours=("retrieval", "sft"),
    ),
    Rule(
        "nothing-to-retrieve",
        "STRONG",
        "there are documents, but what is wrong is not knowledge",
        lambda facts: facts.knowledge is True and bool(facts.wrong) and not facts.is_wrong("knowledge"),
        advice="Leave retrieval out: what is wrong is not missing knowledge.",
        because="Passages without new facts only lengthen the prompt, and irrelevant ones make answers worse.",
        source="Shi et al. 2023 (arXiv 2302.00093)",
        opposes=("retrieval",),
    ),
    Rule(
        "ask-with-the-passage",
        "MODERATE",
        "there are documents, and what is wrong today is not known",
        lambda facts: (
            facts.knowledge is True and facts.in_context and facts.wrong is None and "retrieval" in facts.ladder
        ),
        advice="Ask ten of the failed questions again with the right passage pasted in: use retrieval only if that helps.",
        because="If an answer is wrong even with the right passage, no search will fix it.",
        favours=("retrieval",),
    ),
    Rule(
        "stale-weights",
        "STRONG",
        "the knowledge changes more often than the model would be retrained",
        lambda facts: facts.outdates_weights and facts.in_context,
        advice=lambda facts: f"Keep retrieval, and do not train the knowledge into the model: {_paces(facts)}.",
        because="Weights would be out of date most of the time; an index is updated in minutes.",
        source="OpenAI, Optimizing LLM accuracy guide",
        favours=("retrieval",),
        opposes=("sft", "full"),
    ),
    Rule(
        "forbidden-and-stale",
        "MODERATE",
        "the knowledge may not go into the prompt and changes more often than the model would be retrained",
        lambda facts: facts.outdates_weights and not facts.in_context,
        advice=lambda facts: (
            f"Retrain as often as the knowledge changes, or get it allowed in the prompt: {_paces(facts)}."
        ),
        because="Whatever is trained is out of date before it is replaced, and nothing else is allowed.",
        opposes=("sft", "full"),
    ),
    Rule(
        "context-forbidden",
        "STRONG",
        "the knowledge may not go into the prompt",
        lambda facts: facts.into_weights,
        advice="Train on the documents first (continued pretraining), then on questions and answers: weights are the only way "
        "left.",
        because="Retrieval is ruled out, and questions alone teach the form of an answer rather than what the documents say.",
        source="Balaguer et al. 2024 (arXiv 2401.08406); Gururangan et al. 2020 (arXiv 2004.10964)",
        favours=("full",),
        opposes=("retrieval",),
    ),
    Rule(
        "verbatim",
        "STRONG",
        "answers must quote the documents, which may go into the prompt",
        lambda facts: facts.verbatim is True and facts.documents and facts.in_context,
        advice="Quote retrieved passages and cite them; do not rely on weights for exact words.",
        because="A model paraphrases what it has learned, and it learns little of rare facts.",
        source="Kandpal et al. 2023 (arXiv 2211.08411)",
        favours=("retrieval",),
        opposes=("full",),
    ),
    Rule(
        "verbatim-forbidden",
        "STRONG",
        "answers must quote documents that may not go into the prompt",
        lambda facts: facts.verbatim is True and facts.into_weights,
        advice="Resolve the contradiction first: answers must quote the documents, but these may not go into the prompt.",
        because="Weights cannot guarantee exact words, so no rung can do both.",
        source="Kandpal et al. 2023 (arXiv 2211.08411)",
    ),
    Rule(
        "facts-not-by-sft",
        "MODERATE",
        "only knowledge is missing, and it may go into the prompt",
        lambda facts: facts.only_wrong("knowledge") and facts.in_context and "sft" in facts.ladder,
        advice="Do not teach facts by supervised tuning on answers.",
        because="New facts are learned slowly that way, and the more are learned, the more the model hallucinates.",
        source="Gekhman et al. 2024 (arXiv 2405.05904)",
        opposes=("sft",),
    ),
    Rule(
        "who-may-see",
        "STRONG",
        "not every user may see all documents",
        lambda facts: facts.restricted is True and facts.documents,
        advice="Keep the documents out of the weights, and filter retrieval by each user's rights.",
        because="Weights answer everyone alike, and training text can be extracted from them.",
        source="Carlini et al. 2021 (arXiv 2012.07805)",
        opposes=("full",),
    ),
    Rule(
        "rewrite-little-text",
        "MODERATE",
        f"documents of fewer than {LITTLE_TEXT_TOKENS:,} tokens would be trained on",
        lambda facts: (
            facts.knowledge is True
            and facts.knowledge_tokens is not None
            and facts.knowledge_tokens < LITTLE_TEXT_TOKENS
            and "full" in facts.ladder
            and (not facts.in_context or facts.is_wrong("capability"))
        ),
        advice=lambda facts: (
            f"Have the documents rewritten in many ways before you train on them: {facts.knowledge_tokens:,} tokens are few."
        ),
        because="A fact seen once is memorised but not usable; a fact seen in many wordings is.",
        source="Allen-Zhu & Li 2023 (arXiv 2309.14316); Yang et al. 2024 (arXiv 2409.07431)",
        concerns=("full",),
    ),
)
