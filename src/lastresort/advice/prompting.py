"""Rules about what must exist before anything is tried, what a prompt can do, and when it is enough.

What must exist: examples, a bar, a test set that can decide, a checked judge.
"""

from __future__ import annotations

from lastresort.advice.facts import PRACTICE, SHOTS, TRAINED, Facts, Rule
from lastresort.ladder import MARGIN_ONLY
from lastresort.report.words.wording import round_percent as percent

NEAR_PERFECT = 0.97  # mean share of wrong labels in ten public test sets: 3.3% (Northcutt et al. 2021)


def _evals_first(facts: Facts) -> str | None:
    if facts.bar is not None and facts.n_examples:
        return None
    missing = "a few hundred labelled examples" if not facts.n_examples else ""
    bar = "the score that would be good enough" if facts.bar is None else ""
    return f"Write down {' and '.join(part for part in (missing, bar) if part)} before you change anything."


def _test_decides(facts: Facts) -> str | None:
    if facts.n_test is None or facts.test_least is None or facts.n_test >= facts.test_least:
        return None
    return (
        f"Collect test examples: with {facts.n_test}, even a perfect score cannot show at every rung that the bar is met; that "
        f"takes {facts.test_least}, all of them right, or more."
    )


def _labels_cap_the_bar(facts: Facts) -> str | None:
    if facts.bar is None or facts.bar < NEAR_PERFECT:
        return None
    return (
        "Have a second person check a sample of the labels: they are rarely right often enough for a bar of "
        f"{percent(facts.bar)}."
    )


def _judge_checked(facts: Facts) -> str | None:
    if facts.scorer != "judge":
        return None
    return "Before its scores decide anything, compare the judge with about 50 human ratings, in both orders."


FORMAT_BY_PROMPT = 0.85  # tune for format only where prompting stays below it on a representative set (DESIGN part 7)
SMALL_PARAMETERS = 4_000_000_000
WHOLE_IN_PROMPT_TOKENS = 200_000
NEAR_THE_BAR, OPTIMISER_ROWS = 0.10, 50


def _prompt_first(facts: Facts) -> str | None:
    if facts.best_prompt_score is not None:
        return None
    return "Measure the best prompt first; whatever you train must beat it."


def _bar_met(facts: Facts) -> str | None:
    score, bar = facts.best_prompt_score, facts.bar
    if score is None or bar is None or score < bar or facts.for_cost:
        return None
    return f"Stop if held-out examples confirm it: your prompt is at {percent(score)} and the bar at {percent(bar)}."


def _nothing_wrong(facts: Facts) -> str | None:
    if facts.wrong != () or facts.goal == "cost":
        return None
    return "Leave it as it is, and keep the examples as a test for the day something changes."


def _margin_only(facts: Facts) -> str | None:
    score = facts.best_prompt_score
    if score is None or score < MARGIN_ONLY or facts.prompt_meets:
        return None
    return (
        f"Expect little from tuning: the prompt is at {percent(score)}. Read its failures before you pay for the rest."
    )


def _optimise_the_prompt(facts: Facts) -> str | None:
    score, bar = facts.best_prompt_score, facts.bar
    if score is None or bar is None or not 0 < bar - score <= NEAR_THE_BAR:
        return None
    if facts.n_train is None or facts.n_train < OPTIMISER_ROWS:
        return None
    points = f"{100 * (bar - score):.0f} points are within its reach"
    if facts.prompt_kept is not None:
        return f"A prompt optimiser may be enough, since {points}, but a climb would not run one: {facts.prompt_kept}."
    return f"Let an optimiser search instructions and examples: {points}."


def _constrain_first(facts: Facts) -> str | None:
    if not facts.is_wrong("format") or facts.output not in ("schema", "choices"):
        return None
    what = "schema" if facts.output == "schema" else "choices"
    return f"Enforce your {what} with constrained decoding before you train for format."


def _name_the_form(facts: Facts) -> str | None:
    if not facts.is_wrong("format") or facts.output in ("schema", "choices"):
        return None
    return "Declare the format as `output: {schema: …}` or `{choices: […]}`: what is declared can be enforced."


def _reason_before_form(facts: Facts) -> str | None:
    if not facts.is_wrong("capability") or facts.output not in ("schema", "choices"):
        return None
    return "Let the model reason in free text before the constrained answer."


def _format_by_prompt(facts: Facts) -> str | None:
    score = facts.best_prompt_score
    if not facts.only_wrong("format") or score is None or score < FORMAT_BY_PROMPT:
        return None
    return f"Do not tune for format: the prompt gets {percent(score)}, and the rest is cheaper to enforce or to repair."


def _format_by_tuning(facts: Facts) -> str | None:
    score = facts.best_prompt_score
    if not facts.is_wrong("format") or score is None or score >= FORMAT_BY_PROMPT:
        return None
    return f"Tuning for format is justified at {percent(score)}, if constrained decoding has been tried."


def _shots_first(facts: Facts) -> str | None:
    if facts.best_prompt_score is not None or not (facts.is_wrong("style") or facts.is_wrong("format")):
        return None
    if facts.n_train is None or facts.n_train < SHOTS:
        return None
    return f"Show {SHOTS} of your examples in the prompt, those nearest to each input, before you tune for format or style."


def _larger_model_first(facts: Facts) -> str | None:
    if not facts.is_wrong("capability") or facts.parameters is None or facts.parameters > SMALL_PARAMETERS:
        return None
    return f"Prompt a larger model once before you train this one of {facts.parameters / 1e9:.2g} billion parameters."


def _whole_in_prompt(facts: Facts) -> str | None:
    tokens = facts.knowledge_tokens
    if not facts.knowledge or not facts.in_context or not facts.outside or not tokens:
        return None
    if tokens > WHOLE_IN_PROMPT_TOKENS:
        return None
    return f"Try all documents in the prompt, about {tokens:,} tokens and cached by the vendor, before you build retrieval."


RULES = (
    Rule(
        "evals-first",
        "STRONG",
        "there are no labelled examples, or no bar",
        _evals_first,
        "Without them nobody can tell whether a change helped, and every later step is a matter of taste.",
        "OpenAI, Supervised fine-tuning guide (evals before tuning)",
    ),
    Rule(
        "test-decides",
        "STRONG",
        "the test set is too small to show that the bar is met",
        _test_decides,
        "A perfect score on a few items may be luck.",
        "Clopper & Pearson 1934",
    ),
    Rule(
        "labels-cap-the-bar",
        "MODERATE",
        f"the bar is {percent(NEAR_PERFECT)} or more",
        _labels_cap_the_bar,
        "About 3% of the labels in public test sets are wrong; above that a model is scored against mistakes.",
        "Northcutt et al. 2021 (arXiv 2103.14749)",
    ),
    Rule(
        "judge-checked",
        "MODERATE",
        "answers are scored by a model",
        _judge_checked,
        "Judges prefer the first answer, the longer answer and their own style.",
        "Zheng et al. 2023 (arXiv 2306.05685)",
    ),
    Rule(
        "prompt-first",
        "STRONG",
        "no prompt has been measured",
        _prompt_first,
        "It costs hours, not weeks, and is usually enough: 57% of organisations never fine-tune.",
        "Anthropic, Prompt engineering overview; LangChain, State of Agent Engineering 2025 (57%)",
        favours=("prompting",),
    ),
    Rule(
        "bar-met",
        "STRONG",
        "the best prompt is at the bar or above, and cost is no reason to tune",
        _bar_met,
        "Every higher rung only adds cost, upkeep and something that can break.",
        "OpenAI, Model optimization guide",
        favours=("prompting",),
        opposes=("retrieval", *TRAINED),
    ),
    Rule(
        "nothing-wrong",
        "STRONG",
        "nothing is wrong with today's answers, and cost is no reason",
        _nothing_wrong,
        "There is nothing to gain, and any change can break something.",
        PRACTICE,
        opposes=("retrieval", *TRAINED),
    ),
    Rule(
        "margin-only",
        "MODERATE",
        f"the best prompt is at {percent(MARGIN_ONLY)} or above, yet below the bar",
        _margin_only,
        "What is left is often wrong labels and ambiguous inputs, which no training fixes.",
        PRACTICE,
        opposes=TRAINED,
    ),
    Rule(
        "optimise-the-prompt",
        "MODERATE",
        f"the best prompt is at most {100 * NEAR_THE_BAR:.0f} points below the bar, with {OPTIMISER_ROWS} training rows or more",
        _optimise_the_prompt,
        "Optimised prompts have gained as much over handwritten ones, and nothing has to be trained or served.",
        "Khattab et al. 2023, DSPy (arXiv 2310.03714); Opsahl-Ong et al. 2024 (arXiv 2406.11695)",
        favours=("prompting",),
    ),
    Rule(
        "constrain-first",
        "STRONG",
        "the format of the answers is wrong, and a schema or choices are given",
        _constrain_first,
        "Constrained decoding makes invalid answers impossible, at no cost.",
        "Willard & Louf 2023 (arXiv 2307.09702)",
        favours=("prompting",),
    ),
    Rule(
        "name-the-form",
        "MODERATE",
        "the format of the answers is wrong, and neither schema nor choices are given",
        _name_the_form,
        "A decoder can only enforce a format that is declared.",
        "Willard & Louf 2023 (arXiv 2307.09702)",
        favours=("prompting",),
    ),
    Rule(
        "reason-before-form",
        "WEAK",
        "a capability is missing, and answers have a schema or choices",
        _reason_before_form,
        "Models reason worse when the first token already has to fit a format.",
        "Tam et al. 2024 (arXiv 2408.02442)",
        favours=("prompting",),
    ),
    Rule(
        "format-by-prompt",
        "STRONG",
        f"only the format is wrong, and the best prompt is at {percent(FORMAT_BY_PROMPT)} or above",
        _format_by_prompt,
        "A prompt, a grammar or a retry fixes format; weights are the most expensive way.",
        PRACTICE,
        opposes=TRAINED,
    ),
    Rule(
        "format-by-tuning",
        "MODERATE",
        f"the format is wrong, and the best prompt stays below {percent(FORMAT_BY_PROMPT)}",
        _format_by_tuning,
        "Format is what tuning teaches fastest and most reliably.",
        "Meta AI, To fine-tune or not to fine-tune, 2024",
        favours=("sft",),
    ),
    Rule(
        "shots-first",
        "MODERATE",
        "format or style is wrong, no prompt has been measured, and there are examples to show",
        _shots_first,
        "Examples in the prompt convey format and style, and near ones more than random ones.",
        "Brown et al. 2020 (arXiv 2005.14165); Liu et al. 2022 (arXiv 2101.06804)",
        favours=("prompting",),
    ),
    Rule(
        "larger-model-first",
        "MODERATE",
        f"a capability is missing from a model of at most {SMALL_PARAMETERS / 1e9:.0f} billion parameters",
        _larger_model_first,
        "Within an hour it shows whether the task is too hard or the model too small.",
        PRACTICE,
        favours=("prompting",),
    ),
    Rule(
        "whole-in-prompt",
        "MODERATE",
        f"the knowledge has at most {WHOLE_IN_PROMPT_TOKENS:,} tokens, may travel in the prompt, and the model is an endpoint",
        _whole_in_prompt,
        "Without a search, nothing can be missed.",
        "Anthropic, Introducing contextual retrieval, 2024",
        favours=("prompting",),
    ),
)
