"""KL to the start and margins of preferences, against what plain forwards say."""

from __future__ import annotations

from typing import Any

import pytest

from groups_support import tiny_and_tokenizer


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A model whose adapter has moved, and its start."""
    import torch

    from lastresort.train.adapters.adapters import trainable
    from lastresort.train.loop.optimizers import StartWeights

    model, _ = tiny_and_tokenizer(tmp_path_factory.mktemp("divergence"), head=4.0)
    start = StartWeights(model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, parameter in trainable(model):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model, start


def rows() -> list[Any]:
    from lastresort.engine.forest import Row

    return [
        Row(tuple(range(10, 10 + prompt + answer)), (*[False] * prompt, *[True] * answer))
        for prompt, answer in ((5, 3), (7, 1), (4, 6))
    ]


def logps(model: Any, row: Any) -> Any:
    """Of every next token at every place, float64."""
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor([row.ids])).logits[0].double().log_softmax(-1)


def test_kl_is_the_sum_over_answer_tokens_of_the_whole_vocabulary(tuned: tuple[Any, Any]) -> None:
    from lastresort.train.watch.divergence import divergence

    model, start = tuned
    expected = []
    for row in rows():
        own = logps(model, row)
        with start.inside():
            other = logps(model, row)
        places = [place - 1 for place, wanted in enumerate(row.targets) if wanted]
        expected.append(sum(float((own[p].exp() * (own[p] - other[p])).sum()) for p in places))
    found = divergence(model, start, rows())
    assert found.kl == pytest.approx(sum(expected) / 3, rel=1e-4)
    assert found.kl > 0.01
    assert (found.answers, found.tokens) == (3, 10)
    assert found.kl_per_token == pytest.approx(sum(expected) / 10, rel=1e-4)
    assert found.error is not None


def test_at_the_start_nothing_has_moved(tuned: tuple[Any, Any]) -> None:
    from lastresort.train.loop.batches import pairs
    from lastresort.train.watch.divergence import divergence, margins

    model, start = tuned
    with start.inside():
        assert divergence(model, start, rows()).kl == pytest.approx(0, abs=1e-9)
        found = margins(model, start, pairs(rows()[:1], rows()[1:2]), 1000)
    assert found is not None
    assert found.mean == pytest.approx(0, abs=1e-6)


def test_inside_and_after_the_weights_are_what_they_were(tuned: tuple[Any, Any]) -> None:
    model, start = tuned
    before = logps(model, rows()[0])
    with start.inside():
        assert not logps(model, rows()[0]).equal(before)
    assert logps(model, rows()[0]).equal(before)


def total(model: Any, row: Any) -> float:
    found = logps(model, row)
    return sum(float(found[p - 1, row.ids[p]]) for p, wanted in enumerate(row.targets) if wanted)


def test_margins_of_pairs_and_of_labelled_answers(tuned: tuple[Any, Any]) -> None:
    from lastresort.train.loop.batches import labelled, pairs
    from lastresort.train.watch.divergence import margins

    model, start = tuned
    gains = []
    for row in rows():
        with start.inside():
            far = total(model, row)
        gains.append(total(model, row) - far)
    one, two, three = gains
    found = margins(model, start, pairs([rows()[0]], [rows()[1]]), 1000)
    assert found is not None
    assert found.mean == pytest.approx(one - two, abs=1e-4)
    assert found.above_0 == float(one > two)
    found = margins(model, start, labelled(rows(), [True, False, False]), 1000)
    assert found is not None
    assert found.mean == pytest.approx(one - (two + three) / 2, abs=1e-4)
    assert found.n == 2
    assert margins(model, start, labelled(rows(), [True, True, True]), 1000) is None


def test_margins_of_log_odds_are_those_of_a_token_and_of_the_model_itself(tuned: tuple[Any, Any]) -> None:
    """odds(p) = p / (1 - p), p = exp(mean log-probability), written out here; the worse answer is twice as long."""
    from math import exp, log

    from lastresort.train.loop.batches import pairs
    from lastresort.train.watch.divergence import odds_margins

    model, start = tuned
    better, worse = rows()[0], rows()[2]

    def log_odds(row: Any) -> float:
        p = exp(total(model, row) / sum(row.targets))
        return log(p / (1 - p))

    with start.inside():
        before = log_odds(better) - log_odds(worse)
    now = log_odds(better) - log_odds(worse)
    found = odds_margins(model, start, pairs([better], [worse]), 1000)
    assert (found.mean, found.before) == (pytest.approx(now, abs=1e-4), pytest.approx(before, abs=1e-4))
    assert abs(now - before) > 1e-3
    assert (found.above_0, found.n) == (float(now > 0), 1)
