"""Every reason to skip a rung, and everything that a search may say, has words; the statement keeps its figures."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from lastresort.records import rungs
from lastresort.report.words.rungs import of_search, of_selection, of_skip
from lastresort.types import Judgement, Selection

FOUND = Judgement("NOT_MET", 0.25, 20, 60, (0.1, 0.4))
SKIPS: list[tuple[rungs.Skip, str]] = [
    (
        rungs.WeightsNotLocal("openai:large"),
        "the weights of openai:large are not local; name a model that can be trained under `tune.model`",
    ),
    (
        rungs.MethodExcluded("adapters", "full"),
        "it trains adapters, but `tune.method` is full; set it to auto, lora or qlora",
    ),
    (
        rungs.MethodExcluded("all weights", "lora"),
        "it trains all weights, but `tune.method` is lora; set it to auto or full",
    ),
    (
        rungs.KnowledgeOutpacesTraining("weekly", "never"),
        "the knowledge changes weekly and the model would be retrained never, so its weights would be out of date: use retrieval",
    ),
    (rungs.TooFewRows(12, 50, 200), "12 training rows are too few (at least 50, better 200 to 5,000)"),
    (
        rungs.TooLarge(10**9, 16 << 30, 15 << 30),
        "training all 1 billion weights takes 16 GiB for weights, gradients and optimizer alone, and this machine has 15 GiB",
    ),
    (
        rungs.TooLarge(10**9, 16 << 30, 15 << 30, enough=4),
        "training all 1 billion weights takes 16 GiB for weights, gradients and optimizer alone, and this machine has 15 GiB; "
        "`tune.processes: auto` trains them in shards on the 4 GPUs here",
    ),
    (
        rungs.SmallestPassTooLarge(18 << 30, 16 << 30, 1200, on_card=True, enough=4),
        "training all weights needs 18.0 GiB by the plan, even with one row in a pass, and one GPU has 16.0 GiB; "
        "`tune.processes: auto` trains them in shards on the 4 GPUs here",
    ),
    (
        rungs.SmallestPassTooLarge(18 << 30, 16 << 30, 1200, on_card=True),
        "training all weights needs 18.0 GiB by the plan, even with one row in a pass, and one GPU has 16.0 GiB",
    ),
    (
        rungs.SmallestPassTooLarge(18 << 30, 16 << 30, 1200, on_card=True, cards=4),
        "training all weights needs 18.0 GiB on each of 4 GPUs by the plan, even in shards and with one row in a pass, and a GPU "
        "has 16.0 GiB",
    ),
    (
        rungs.SmallestPassTooLarge(18 << 30, 16 << 30, 90, on_card=False),
        "training all weights needs 18.0 GiB by the plan, even with one row in a pass, and this machine has 16.0 GiB",
    ),
    (rungs.NoKnowledge(), "the task names no knowledge to retrieve from"),
    (
        rungs.KnowledgeNotInPrompt(),
        "the knowledge may not go into the prompt (`use.context: forbidden`), so only weights can hold it",
    ),
    (rungs.TooFewPrompts(3, 20, to_pair=False), "3 training rows are too few prompts (at least 20)"),
    (
        rungs.TooFewPrompts(3, 50, to_pair=True),
        "the task names neither preferences nor a reward, and 3 training rows are too few prompts to make pairs of the model's own "
        "samples (at least 50)",
    ),
    (
        rungs.JudgeAlone(),
        "the task names neither preferences nor a reward, and its scorer is a judge: pairs of its verdicts would "
        "teach the model to please the very judge that examines it",
    ),
    (
        rungs.TooFewPreferences(40, 50, labelled=False, source="given"),
        "40 preference pairs are too few: below 50, a few more or less decide which way the model goes",
    ),
    (
        rungs.TooFewPreferences(0, 50, labelled=False, source="sampled", sampled="0 pairs from 0 of 70 prompts"),
        "0 preference pairs made of the model's own samples (0 pairs from 0 of 70 prompts) are too few: below 50, a few more or "
        "less decide which way the model goes",
    ),
    (
        rungs.OneSidedLabels(58, 2, 10, "given, without those that dev or test hold"),
        "58 good and 2 bad answers after those in dev or test are left out do not show the difference (at least 10 of each)",
    ),
    (
        rungs.OverTime(7200, 0.5),
        "its plan of 2 h exceeds the 30 min left of `limits.hours`; raise it and continue with --resume",
    ),
    (
        rungs.OutOfReach(0.7, True, {"zero-shot": FOUND}),
        "even with the right passages in the prompt, the bar of 70.0% is out of reach: zero-shot scored 25.0% on 20 dev items "
        "(interval 10.0% to 40.0%)",
    ),
    (
        rungs.SamplesOutOfReach(0.7, 8, 0.1, FOUND, 0.01),
        "preferences would be made of the model's own samples, and not even the best of 8 samples to each dev item reaches the bar "
        "of 70.0%, which is wrong in at most 1.0% of cases: the best scored 25.0% on 20 dev items (interval 10.0% to 40.0%), one "
        "alone 10.0%",
    ),
    (
        rungs.RewardsAlike(96, 70, 8, 0.0419),
        "GRPO learns from answers to a prompt that are rewarded differently, and in none of 96 groups of 8 answers, to "
        "70 different prompts, did the reward differ: with 95% confidence it does in fewer than 4.2% of groups",
    ),
    (rungs.NothingMeasured("ways", ("too long", "cut")), "none of the ways can be measured: too long; cut"),
    (
        rungs.OnlyKnowledgeMissing(4),
        "every answer that is wrong on dev (4) was right with the right passage in the prompt: what is missing is knowledge, which "
        "preferences do not add",
    ),
]
SEARCHES: list[tuple[rungs.SearchFinding, str]] = [
    (
        rungs.RacedOnDev("retrieval settings", 2, 0, 0, 60, 60, None, 0.01, 0.5),
        "2 retrieval settings were tried on dev.",
    ),
    (
        rungs.RacedOnDev("ways of prompting", 9, 4, 0, 60, 60, None, 0.01, 0.5),
        "9 ways of prompting were tried on dev; 4 were dropped early by successive halving.",
    ),
    (
        rungs.RacedOnDev("ways of prompting", 9, 6, 2, 60, 60, None, 0.01, 0.5),
        "9 ways of prompting were tried on dev; 6 were dropped early, 2 by a paired test at an error of 50% and 4 by halving.",
    ),
    (
        rungs.RacedOnDev("ways of prompting", 9, 8, 4, 40, 60, "ONE_LEFT", 0.01, 0.5),
        "9 ways of prompting were tried on dev; the race ended after 40 of 60 items, where a paired test at an error of 50% left "
        "one.",
    ),
    (
        rungs.RacedOnDev("ways of prompting", 9, 4, 1, 24, 60, "BELOW_BAR", 0.01, 0.5),
        "9 ways of prompting were tried on dev; the race ended after 24 of 60 items: all remaining ways of prompting miss the bar "
        "(error rate 1%).",
    ),
    (
        rungs.CurveBelowBar(40, 120, 96, 0.1, 0.05, 0.2, 0.8, False, 0.05),
        "After 40 of 120 steps it scored 10.0% on 96 dev items; drawn straight on from the untrained model's 5.0%, that ends at "
        "20.0%, below the bar of 80.0%. If the line did reach it, a score this low would come up in at most 5.0% of cases. This is "
        "a warning, not a verdict.",
    ),
    (
        rungs.CurveBelowBar(40, 120, 96, 0.1, None, 0.3, 0.75, True, 0.05),
        "After 40 of 120 steps it scored 10.0% on 96 dev items; drawn straight on from 0, that ends at 30.0%, below 75.0%, the "
        "judge's score that counts as a miss. If the line did reach it, a score this low would come up in at most 5.0% of cases. "
        "This is a warning, not a verdict.",
    ),
    (rungs.NotTried("few-shot-5", "it is too long."), "few-shot-5 could not be tried: it is too long."),
    (
        rungs.RefusedLater("few-shot-5", 32, "it is too long."),
        "few-shot-5 was dropped after 32 dev items, because its model refused others: it is too long.",
    ),
    (
        rungs.MoreShotsTried("few-shot-5", ("few-shot-8", "few-shot-16"), "NOT_AHEAD"),
        "More examples were tried, since few-shot-5 helped: few-shot-8 and few-shot-16; the last was not ahead of the one before "
        "by more than one item.",
    ),
    (rungs.GepaMissing(), "No prompt was optimised: gepa is not installed (run pip install 'lastresort[prompts]')."),
    (
        rungs.NoReflector("http://host/v1#m", None, 6_500_000_000),
        "No prompt was optimised: http://host/v1#m is of unknown size, and a model of about 7 billion or more is needed to reflect "
        "on failures; name one under `prompting.reflect`.",
    ),
    (
        rungs.NoReflector("embedded", 134_515_008, 6_500_000_000),
        "No prompt was optimised: embedded has 0.13 billion weights, and a model of about 7 billion or more is needed to reflect "
        "on failures; name one under `prompting.reflect`.",
    ),
    (rungs.TooFewRowsToOptimise(12, 20), "No prompt was optimised: 12 training rows are too few (at least 20)."),
    (
        rungs.NoHeadroom(7, "few-shot-5", 24, 0.31, 0.05, "structured", 0, 100),
        "No prompt was optimised: no hand-made prompt differs significantly from the plain one on dev (7 compared, the clearest "
        "difference few-shot-5 on 24 items, p = 0.31 after correction), and no answer of structured lacks the required form, so "
        "that another wording is unlikely to help; `prompting: {optimise: on}` tries it anyway.",
    ),
    (
        rungs.NoNeedToOptimise("few-shot-3", 0.93),
        "No prompt was optimised: few-shot-3 is likely to meet the bar as it is (93%, as far as dev can tell).",
    ),
    (
        rungs.UsdTooSmall(0.1, 0.254),
        "No prompt was optimised: `prompting.usd` of 0.1 is too small for one step, which may cost 0.25 USD.",
    ),
    (
        rungs.PromptRewritten("large", 0.5, 0.8, True, 30, 6, 1, 0, 0, 290, 9, "calls"),
        "GEPA tried 6 instructions by large and refused 1 that copied training rows, in 290 calls (9 of them reflections), until "
        "the next step could have passed `prompting.calls`; the best scored 80.0% on 30 training rows kept for choosing "
        "(optimistic, as it was chosen on them), the plain one 50.0%.",
    ),
    (
        rungs.PromptRewritten("large", 0.5, 0.5, False, 30, 1, 0, 2, 0, 290, 9, "usd"),
        "GEPA tried 1 instruction by large (2 more were cut at the token limit), in 290 calls (9 of them reflections), until the "
        "next step could have passed `prompting.usd`; none scored higher than the plain one, "
        "50.0% on 30 training rows kept for choosing.",
    ),
    (
        rungs.PromptRewritten("large", 0.5, 0.5, False, 30, 0, 0, 2, 1, 60, 3, "cut or late"),
        "GEPA tried no instruction by large (2 more were cut at the token limit, 1 more timed out), in 60 calls (3 of them "
        "reflections): its texts kept being cut or timing out (a faster model, or one that thinks less, may write whole ones). The "
        "plain one scored 50.0% on 30 training rows kept for choosing.",
    ),
    (
        rungs.PromptRewritten("large", 1.0, 1.0, False, 30, 0, 0, 0, 0, 30, 0, "all right"),
        "GEPA tried no instruction by large, in 30 calls: every row kept for choosing was answered right. The plain one scored "
        "100.0% on 30 training rows kept for choosing.",
    ),
    (rungs.SearchAlone(()), "No dev example names its passages, so the search was not measured on its own."),
    (
        rungs.WithPassages(False, {"zero-shot": FOUND}, {"few-shot-3": "it is too long"}),
        "With the likeliest passages in the prompt: zero-shot 25.0% (NOT_MET); few-shot-3 could not be tried: it is too long.",
    ),
    (
        rungs.TrainedOnRows("LoRA r 8 on all layers", 100, 10, 3, 8, 1e-4, (1e-4,), ()),
        "LoRA r 8 on all layers, 100 rows and 10 of replay, 3 epochs, batch 8, learning rate 0.0001, the only one tried.",
    ),
    (
        rungs.TrainedOnRows("LoRA r 8 on all layers", 100, 10, 1, 8, 1e-4, (1e-4,), ()),
        "LoRA r 8 on all layers, 100 rows and 10 of replay, 1 epoch, batch 8, learning rate 0.0001, the only one tried.",
    ),
    (
        rungs.TrainedOnPreferences(rungs.PreferencePlan("dpo", "pairs", True), "60 pairs", 1e-5, (1e-5,), 1, 16),
        "DPO on the task's pairs, from the adapter of sft, which is the reference too; 60 pairs. Learning rate 1e-05, the only "
        "learning rate tried; 1 epoch at most, batch 16.",
    ),
    (rungs.RacedOnDev("ways of prompting", 1, 0, 0, 60, 60, None, 0.01, 0.5), "One candidate was tried on dev."),
    (
        rungs.TrainedOnPreferences(rungs.PreferencePlan("dpo", "pairs", True), "60 pairs", 1e-5, (1e-5, 3e-5), 2, 16),
        "DPO on the task's pairs, from the adapter of sft, which is the reference too; 60 pairs. Learning rate 1e-05, raced on "
        "dev with 1e-05, 3e-05; 2 epochs at most, batch 16.",
    ),
    (
        rungs.SmallReflector("small", 135_000_000, 7_000_000_000),
        "small reflects with 0.14 billion weights, but about 7 are advised; it may find nothing better.",
    ),
]


@pytest.mark.parametrize(("skip", "words"), SKIPS)
def test_why_a_rung_is_skipped_in_words(skip: rungs.Skip, words: str) -> None:
    assert of_skip(skip).text == words


@pytest.mark.parametrize(("finding", "words"), SEARCHES)
def test_how_a_rung_searched_in_words(finding: rungs.SearchFinding, words: str) -> None:
    assert of_search(finding).text == words


def test_every_kind_has_words_and_a_code_of_its_own() -> None:
    assert {type(skip) for skip, _ in SKIPS} == set(get_args(rungs.Skip))
    assert {type(finding) for finding, _ in SEARCHES} == set(get_args(rungs.SearchFinding))
    codes = {of_skip(skip).code for skip, _ in SKIPS} | {of_search(finding).code for finding, _ in SEARCHES}
    assert len(codes) == len(get_args(rungs.Skip)) + len(get_args(rungs.SearchFinding))


def test_the_figures_are_beside_the_words() -> None:
    assert of_skip(rungs.TooFewRows(12, 50, 200)).figures == {"n": 12, "least": 50, "advised": 200}
    found = of_skip(rungs.OutOfReach(0.7, True, {"zero-shot": FOUND})).figures["systems"]
    assert isinstance(found, dict)
    assert found["zero-shot"] == {
        "outcome": "NOT_MET",
        "score": 0.25,
        "n_used": 20,
        "n_available": 60,
        "interval": [0.1, 0.4],
        "n_needed": None,
        "unit": "item",
        "decided": None,
        "parts": [],
        "outlook": None,
        "judged": None,
    }


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Selection("five", "HIGHEST", 0.88, 60), "it has the highest dev score, 88.0% on 60 dev items."),
        (
            Selection("five", "HIGHEST", 0.88, 60, tied=("three", "eight")),
            "it has the highest dev score, 88.0% on 60 dev items, tied with three and eight, none of which is cheaper.",
        ),
        (
            Selection("five", "HIGHEST", 0.88, 60, tied=("three",)),
            "it has the highest dev score, 88.0% on 60 dev items, tied with three, which is not cheaper.",
        ),
        (Selection("five", "ONLY", 0.5, 1), "it is the only candidate left, with 50.0% on 1 dev item."),
        (
            Selection("three", "WITHIN_ONE_ITEM", 0.87, 100, "five", 0.88),
            "it is cheaper and within one item of five (87.0% on 100 dev items, against 88.0%).",
        ),
        (
            Selection("zero", "NON_INFERIOR", 0.898, 1000, "five", 0.9, 0.02, 0.0123),
            "it is cheaper and shown to lose less than 2 points to five (89.8% on 1,000 dev items, against 90.0%), p = 0.012.",
        ),
    ],
)
def test_why_a_candidate_goes_to_the_test(found: Selection, said: str) -> None:
    assert of_selection(found) == said


def test_next_to_scores_of_a_judge_the_bar_names_the_judged_score_that_misses_it() -> None:
    for skip in (
        rungs.OutOfReach(0.7, True, {"zero-shot": FOUND}, 0.62),
        rungs.SamplesOutOfReach(0.7, 8, 0.1, FOUND, 0.01, 0.62),
    ):
        assert "the bar of 70.0% (judged scores below 62.0% miss it)" in of_skip(skip).text
        assert "judged" not in of_skip(replace(skip, missed_below=None)).text
