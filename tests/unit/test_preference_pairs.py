"""Pairs from samples: what is paired with what, and what is dropped and counted."""

from __future__ import annotations

from dataclasses import replace

from lastresort.synthesis.pairs import PAIRS_A_PROMPT, PromptCounts, Sample, pairs_from_samples


def samples(*told: tuple[str, float]) -> list[Sample]:
    return [Sample(text, score) for text, score in told]


def texts(*prompts: list[Sample]) -> list[tuple[int, str, str]]:
    return [(pair.prompt, pair.chosen.text, pair.rejected.text) for pair in pairs_from_samples(prompts).pairs]


def test_the_best_against_the_worst() -> None:
    assert texts(samples(("a", 0.2), ("b", 0.9), ("c", 0.5))) == [(0, "b", "a")]


def test_prompts_that_are_all_right_all_wrong_or_alike_are_dropped_and_counted() -> None:
    found = pairs_from_samples(
        [
            samples(("a", 1.0), ("b", 1.0)),
            samples(("a", 0.0), ("b", 0.0)),
            samples(("a", 0.5), ("b", 0.5)),
            samples(("a", 1.0), ("b", 0.0)),
        ]
    )
    assert found.counts == PromptCounts(4, 1, 1, all_right=1, all_wrong=1, ties=1, unusable=0)
    assert found.counts.summary() == "1 pairs from 1 of 4 prompts (1 were all right, 1 all wrong, 1 all alike)"
    assert (
        replace(found.counts, conflicting=2)
        .summary()
        .endswith("all alike); left out: 2 rows whose prompt has another answer in train")
    )


def test_equal_texts_count_once_and_a_prompt_gives_only_so_many_pairs() -> None:
    assert texts(samples(("no", 0.0), ("no", 0.0), ("yes", 1.0))) == [(0, "yes", "no")]
    many = samples(("yes", 1.0), *((f"no {i}", 0.0) for i in range(9)))
    assert [rejected for _, _, rejected in texts(many)] == [f"no {i}" for i in range(PAIRS_A_PROMPT)]


def test_the_chosen_is_the_best_that_is_nearest_in_length() -> None:
    own = samples(("short", 1.0), ("a much longer answer", 1.0), ("nope!", 0.0), ("a much longer mistake", 0.0))
    assert texts(own) == [(0, "short", "nope!"), (0, "a much longer answer", "a much longer mistake")]


def test_a_cut_answer_is_never_chosen_and_an_empty_one_never_used() -> None:
    own = [Sample("cut", 1.0, whole=False), Sample("", 1.0), Sample("bad", 0.0)]
    found = pairs_from_samples([own, [Sample("good", 1.0), Sample("", 0.0)]])
    assert not found.pairs
    assert found.counts.unusable == 2
    rejected = pairs_from_samples([[Sample("good", 1.0), Sample("cut", 0.0, whole=False)]]).pairs[0].rejected
    assert not rejected.whole
