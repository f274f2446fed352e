"""Rules about what must exist before anything is tried, what a prompt can do, and when it is enough.

What must exist: examples, a bar, a test set that can decide, a checked judge.
"""

from __future__ import annotations

from lastresort.advice.facts import SHOTS, TRAINED, Facts, Rule, known
from lastresort.ladder import MARGIN_ONLY
from lastresort.report.words.wording import round_percent as percent

NEAR_PERFECT = 0.97  # mean share of wrong labels in ten public test sets: 3.3% (Northcutt et al. 2021)
FORMAT_BY_PROMPT = 0.85  # tune for format only where prompting stays below it on a representative set (practice)
SMALL_PARAMETERS = 4_000_000_000
WHOLE_IN_PROMPT_TOKENS = 200_000
NEAR_THE_BAR, OPTIMISER_ROWS = 0.10, 50


def _write_down(facts: Facts) -> str:
    missing = [] if facts.labelled else ["a few hundred labelled examples"]
    missing += ["the score that would be good enough"] if facts.bar is None else []
    return f"Write down {' and '.join(missing)} before you change anything."


def _score(facts: Facts) -> str:
    return percent(known(facts.best_prompt_score))


def _below_the_bar(facts: Facts) -> float:
    """How far the best prompt is below the bar; 0 where that is not known."""
    return 0.0 if facts.bar is None or facts.best_prompt_score is None else facts.bar - facts.best_prompt_score


def _optimiser(facts: Facts) -> str:
    points = f"{100 * _below_the_bar(facts):.0f} points are within its reach"
    if facts.prompt_kept is not None:
        return f"A prompt optimiser may be enough, since {points}, but a climb would not run one: {facts.prompt_kept}."
    return f"Let an optimiser search instructions and examples: {points}."


def _has_form(facts: Facts) -> bool:
    return facts.output in ("schema", "choices")


RULES = (
    Rule(
        "evals-first",
        "STRONG",
        "there are no labelled examples, or no bar",
        lambda facts: facts.bar is None or not facts.labelled,
        advice=_write_down,
        because="Without them nobody can tell whether a change helped, and every later step is a matter of taste.",
        source="OpenAI, Supervised fine-tuning guide (evals before tuning)",
    ),
    Rule(
        "test-decides",
        "STRONG",
        "the test set is too small to show that the bar is met",
        lambda facts: facts.n_test is not None and facts.test_least is not None and facts.n_test < facts.test_least,
        advice=lambda facts: (
            f"Collect test examples: with {facts.n_test}, even a perfect score cannot show at every rung that the bar is met; that "
            f"takes {facts.test_least}, all of them right, or more."
        ),
        because="A perfect score on a few items may be luck.",
        source="Clopper & Pearson 1934",
    ),
    Rule(
        "labels-cap-the-bar",
        "MODERATE",
        f"the bar is {percent(NEAR_PERFECT)} or more",
        lambda facts: facts.bar is not None and facts.bar >= NEAR_PERFECT,
        advice=lambda facts: (
            "Have a second person check a sample of the labels: they are rarely right often enough for a bar of "
            f"{percent(known(facts.bar))}."
        ),
        because="About 3% of the labels in public test sets are wrong; above that a model is scored against mistakes.",
        source="Northcutt et al. 2021 (arXiv 2103.14749)",
    ),
    Rule(
        "judge-checked",
        "MODERATE",
        "answers are scored by a model",
        lambda facts: facts.scorer == "judge",
        advice="Before its scores decide anything, compare the judge with about 50 human ratings, in both orders.",
        because="Judges prefer the first answer, the longer answer and their own style.",
        source="Zheng et al. 2023 (arXiv 2306.05685)",
    ),
    Rule(
        "prompt-first",
        "STRONG",
        "no prompt has been measured",
        lambda facts: facts.best_prompt_score is None,
        advice="Measure the best prompt first; whatever you train must beat it.",
        because="It costs hours, not weeks, and is usually enough: 57% of organisations never fine-tune.",
        source="Anthropic, Prompt engineering overview; LangChain, State of Agent Engineering 2025 (57%)",
        favours=("prompting",),
    ),
    Rule(
        "bar-met",
        "STRONG",
        "the best prompt is at the bar or above, and cost is no reason to tune",
        lambda facts: facts.prompt_meets and not facts.for_cost,
        advice=lambda facts: (
            f"Stop if held-out examples confirm it: your prompt is at {_score(facts)} and the bar at {percent(known(facts.bar))}."
        ),
        because="Every higher rung only adds cost, upkeep and something that can break.",
        source="OpenAI, Model optimization guide",
        favours=("prompting",),
        opposes=("retrieval", *TRAINED),
    ),
    Rule(
        "nothing-wrong",
        "STRONG",
        "nothing is wrong with today's answers, and cost is no reason",
        lambda facts: facts.wrong == () and facts.goal != "cost",
        advice="Leave it as it is, and keep the examples as a test for the day something changes.",
        because="There is nothing to gain, and any change can break something.",
        opposes=("retrieval", *TRAINED),
    ),
    Rule(
        "margin-only",
        "MODERATE",
        f"the best prompt is at {percent(MARGIN_ONLY)} or above, yet below the bar",
        lambda facts: facts.scores_from(MARGIN_ONLY) and not facts.prompt_meets,
        advice=lambda facts: (
            f"Expect little from tuning: the prompt is at {_score(facts)}. Read its failures before you pay for the rest."
        ),
        because="What is left is often wrong labels and ambiguous inputs, which no training fixes.",
        opposes=TRAINED,
    ),
    Rule(
        "optimise-the-prompt",
        "MODERATE",
        f"the best prompt is at most {100 * NEAR_THE_BAR:.0f} points below the bar, with {OPTIMISER_ROWS} training rows or more",
        lambda facts: 0 < _below_the_bar(facts) <= NEAR_THE_BAR and facts.rows_from(OPTIMISER_ROWS),
        advice=_optimiser,
        because="Optimised prompts have gained as much over handwritten ones, and nothing has to be trained or served.",
        source="Khattab et al. 2023, DSPy (arXiv 2310.03714); Opsahl-Ong et al. 2024 (arXiv 2406.11695)",
        favours=("prompting",),
    ),
    Rule(
        "constrain-first",
        "STRONG",
        "the format of the answers is wrong, and a schema or choices are given",
        lambda facts: facts.is_wrong("format") and _has_form(facts),
        advice=lambda facts: f"Enforce your {facts.output} with constrained decoding before you train for format.",
        because="Constrained decoding makes invalid answers impossible, at no cost.",
        source="Willard & Louf 2023 (arXiv 2307.09702)",
        favours=("prompting",),
    ),
    Rule(
        "name-the-form",
        "MODERATE",
        "the format of the answers is wrong, and neither schema nor choices are given",
        lambda facts: facts.is_wrong("format") and not _has_form(facts),
        advice="Declare the format as `output: {schema: …}` or `{choices: […]}`: what is declared can be enforced.",
        because="A decoder can only enforce a format that is declared.",
        source="Willard & Louf 2023 (arXiv 2307.09702)",
        favours=("prompting",),
    ),
    Rule(
        "reason-before-form",
        "WEAK",
        "a capability is missing, and answers have a schema or choices",
        lambda facts: facts.is_wrong("capability") and _has_form(facts),
        advice="Let the model reason in free text before the constrained answer.",
        because="Models reason worse when the first token already has to fit a format.",
        source="Tam et al. 2024 (arXiv 2408.02442)",
        favours=("prompting",),
    ),
    Rule(
        "format-by-prompt",
        "STRONG",
        f"only the format is wrong, and the best prompt is at {percent(FORMAT_BY_PROMPT)} or above",
        lambda facts: facts.only_wrong("format") and facts.scores_from(FORMAT_BY_PROMPT),
        advice=lambda facts: (
            f"Do not tune for format: the prompt gets {_score(facts)}, and the rest is cheaper to enforce or to repair."
        ),
        because="A prompt, a grammar or a retry fixes format; weights are the most expensive way.",
        opposes=TRAINED,
    ),
    Rule(
        "format-by-tuning",
        "MODERATE",
        f"the format is wrong, and the best prompt stays below {percent(FORMAT_BY_PROMPT)}",
        lambda facts: (
            facts.is_wrong("format") and facts.best_prompt_score is not None and not facts.scores_from(FORMAT_BY_PROMPT)
        ),
        advice=lambda facts: (
            f"Tuning for format is justified at {_score(facts)}, if constrained decoding has been tried."
        ),
        because="Format is what tuning teaches fastest and most reliably.",
        source="Meta AI, To fine-tune or not to fine-tune, 2024",
        favours=("sft",),
    ),
    Rule(
        "shots-first",
        "MODERATE",
        "format or style is wrong, no prompt has been measured, and there are examples to show",
        lambda facts: (
            facts.best_prompt_score is None
            and (facts.is_wrong("style") or facts.is_wrong("format"))
            and facts.rows_from(SHOTS)
        ),
        advice=f"Show {SHOTS} of your examples in the prompt, those nearest to each input, before you tune for format or style.",
        because="Examples in the prompt convey format and style, and near ones more than random ones.",
        source="Brown et al. 2020 (arXiv 2005.14165); Liu et al. 2022 (arXiv 2101.06804)",
        favours=("prompting",),
    ),
    Rule(
        "larger-model-first",
        "MODERATE",
        f"a capability is missing from a model of at most {SMALL_PARAMETERS / 1e9:.0f} billion parameters",
        lambda facts: (
            facts.is_wrong("capability") and facts.parameters is not None and facts.parameters <= SMALL_PARAMETERS
        ),
        advice=lambda facts: (
            f"Prompt a larger model once before you train this one of {known(facts.parameters) / 1e9:.2g} billion parameters."
        ),
        because="Within an hour it shows whether the task is too hard or the model too small.",
        favours=("prompting",),
    ),
    Rule(
        "whole-in-prompt",
        "MODERATE",
        f"the knowledge has at most {WHOLE_IN_PROMPT_TOKENS:,} tokens, may go into the prompt, and the model is an endpoint",
        lambda facts: (
            facts.knowledge is True
            and facts.in_context
            and facts.outside is True
            and 0 < (facts.knowledge_tokens or 0) <= WHOLE_IN_PROMPT_TOKENS
        ),
        advice=lambda facts: (
            f"Try all documents in the prompt, about {facts.knowledge_tokens:,} tokens and cached by the vendor, before you "
            "build retrieval."
        ),
        because="Without a search, nothing can be missed.",
        source="Anthropic, Introducing contextual retrieval, 2024",
        favours=("prompting",),
    ),
)
