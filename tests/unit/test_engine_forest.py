import itertools

import pytest

from engine_support import draw, row, shapes
from lastresort.engine.forest import (
    MIN_SHARED,
    PASS_COST_TOKENS,
    Row,
    common_length,
    plan_forest,
    split_evenly,
    split_indices,
    split_padded,
    split_passes,
)
from lastresort.errors import ContractError


@pytest.mark.parametrize("min_shared", [1, 8, 16, 10_000])
@pytest.mark.parametrize("name", shapes())
def test_forest_holds_every_row(name, min_shared):
    rows = shapes()[name]
    forest = plan_forest(rows, min_shared=min_shared)
    for r, path in zip(rows, forest.paths, strict=True):
        places = [i for start, end in path for i in range(start, end)]
        assert tuple(forest.ids[i] for i in places)[: r.needed] == r.ids[: r.needed]
        assert [forest.positions[i] for i in places] == list(range(len(places)))
        # What a token of the row's end sees is exactly the nodes of its path.
        seen = [(start, end) for start, end, last in forest.nodes if start <= places[-1] < last]
        assert seen == list(path)
    wanted = [(i, r.ids[t], t) for i, r in enumerate(rows) for t in range(len(r.ids)) if r.targets[t]]
    assert [(i, token) for i, token, _ in wanted] == list(zip(forest.row, forest.target, strict=True))
    assert [forest.positions[pick] for pick in forest.pick] == [t - 1 for _, _, t in wanted]
    assert forest.computed_tokens == len(forest.ids) == sum(end - start for start, end, _ in forest.nodes)
    assert forest.nominal_tokens == sum(len(r.ids) for r in rows)


def test_each_shared_piece_is_computed_once():
    root, prompts = draw(30, 1), [draw(20, 2), draw(25, 3)]
    rows = [row(root + p, draw(5, i)) for i, p in enumerate(prompts * 2)]
    forest = plan_forest(rows)
    assert forest.computed_tokens == 30 + 20 + 25 + 4 * 4  # a row's last token predicts nothing
    assert plan_forest(rows, min_shared=10_000).computed_tokens == sum(len(r.ids) - 1 for r in rows)
    #                     root          prompt       its two branches          prompt       its two branches
    assert sorted(forest.nodes)[0] == (0, 30, 91)
    assert [end - start for start, end, _ in forest.nodes] in ([30, 20, 4, 4, 25, 4, 4], [30, 25, 4, 4, 20, 4, 4])


def test_the_prompt_of_a_row_ends_before_its_first_target():
    assert Row((5, 6, 7, 8, 9), (False, False, True, False, True)).prompt == (5, 6)
    assert Row((5, 6), (False, False)).prompt == (5, 6)


def test_identical_rows_are_one():
    rows = [row(draw(9, 1), draw(4, 2))] * 5
    forest = plan_forest(rows)
    assert forest.nodes == ((0, 12, 12),)
    assert forest.pick == (8, 9, 10, 11) * 5


def test_a_node_that_saves_too_little_is_not_made():
    rows = [row(draw(4, 1) + draw(6, 10 + i), draw(2, i)) for i in range(3)]
    assert len(plan_forest(rows, min_shared=9).nodes) == 3
    assert len(plan_forest(rows, min_shared=8).nodes) == 4


def test_an_external_prefix_is_left_out():
    root = draw(16, 1)
    rows = [row(root + draw(3 + i, i), draw(2, 5)) for i in range(3)]
    forest = plan_forest(rows, offset=16)
    assert min(forest.positions) == 16
    assert forest.computed_tokens == sum(len(r.ids) - 1 - 16 for r in rows)
    with pytest.raises(ContractError, match="left-out prefix"):
        plan_forest([row(draw(16, 1), draw(3, 2))], offset=16)


def test_rows_are_checked():
    with pytest.raises(ContractError, match="first token"):
        Row((1, 2), (True, False))
    with pytest.raises(ContractError, match="2 ids and 1 targets"):
        Row((1, 2), (False,))
    with pytest.raises(ContractError, match="max_tokens"):
        split_passes([row(draw(3, 1), draw(1, 2))], 0)


def test_rows_without_targets_cost_nothing():
    assert plan_forest([Row((1, 2, 3), (False,) * 3)]).computed_tokens == 0


def test_common_length():
    assert common_length((1, 2, 3), (1, 2, 4)) == 2
    assert common_length((), (1,)) == 0
    assert common_length((1, 2), (1, 2, 3)) == 2


def _tokens(rows, part):
    return plan_forest([rows[i] for i in part], min_shared=1).computed_tokens


@pytest.mark.parametrize("budget", [30, 60, 100, 1000])
def test_split_is_the_best_cut_of_the_sorted_rows(budget):
    rows = [row(draw(20, i % 3) + draw(4 + i, i), draw(3, i)) for i in range(8)]
    parts = split_indices(rows, budget)
    assert sorted(itertools.chain(*parts)) == list(range(8))
    assert all(_tokens(rows, part) <= budget or len(part) == 1 for part in parts)
    order = sorted(range(8), key=lambda i: rows[i].ids)
    costs = []
    for cuts in itertools.product([False, True], repeat=7):
        bounds = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), 8]
        cut_parts = [order[a:b] for a, b in itertools.pairwise(bounds)]
        if all(_tokens(rows, part) <= budget or len(part) == 1 for part in cut_parts):
            costs.append(sum(_tokens(rows, part) + PASS_COST_TOKENS for part in cut_parts))
    assert sum(_tokens(rows, part) + PASS_COST_TOKENS for part in parts) == min(costs)


def test_split_keeps_relatives_together():
    rows = [row(draw(50, i % 2), draw(5, i)) for i in range(6)]
    parts = split_indices(rows, 70)
    assert sorted(map(sorted, parts)) == [[0, 2, 4], [1, 3, 5]]
    assert split_passes(rows, 70) == [[rows[i] for i in part] for part in parts]


@pytest.mark.parametrize("budget", [1, 30, 64, 1000])
def test_split_of_padded_rows(budget):
    rows = [row(draw(20, i % 3) + draw(4 + 3 * i, i), draw(3, i)) for i in range(8)]
    parts = split_padded(rows, budget)
    assert sorted(itertools.chain(*parts)) == list(range(8))
    padded = [len(part) * max(len(rows[i].ids) for i in part) for part in parts]
    assert all(tokens <= budget or len(part) == 1 for part, tokens in zip(parts, padded, strict=True))
    assert len(parts) == {1: 8, 30: 8, 1000: 1}.get(budget, len(parts))
    assert split_padded([], budget) == []


def test_a_pass_exceeds_its_tokens_by_no_more_than_pieces_too_short_to_share():
    """Pairs of rows that have MIN_SHARED - 1 tokens in common, each pair too few to be a node."""
    rows = [row(draw(MIN_SHARED - 1, 100 + i // 2) + draw(6, i), draw(2, i)) for i in range(20)]
    budget = 150
    for part in split_passes(rows, budget):
        assert plan_forest(part).computed_tokens <= budget + (MIN_SHARED - 1) * (len(part) - 1)
    assert max(plan_forest(part).computed_tokens for part in split_passes(rows, budget)) > budget


def cost(units, part):
    """Computed tokens of a part by itself."""
    rows = [one for number in part for one in units[number]]
    return plan_forest(rows, min_shared=1).computed_tokens if rows else 0


@pytest.mark.parametrize("count", [2, 3, 4])
def test_even_parts_are_the_best_of_all_cuts_of_the_sorted_rows(count):
    for seed in range(6):
        prompts = [draw(30 + 9 * i, 10 * seed + i) for i in range(3)]
        texts = sorted(prompts[i % 3] + draw(4 + (5 * i + seed) % 11, 100 * seed + i) for i in range(8))
        rows = [row(text[:-2], text[-2:]) for text in texts]
        units = [(rows[i],) for i in (3, 0, 6, 2, 7, 1, 5, 4)]  # the order given does not matter
        parts = split_evenly(units, count)
        assert sorted(number for part in parts for number in part) == list(range(8))
        ordered = [(one,) for one in rows]
        cuts = itertools.combinations_with_replacement(range(9), count - 1)
        best = min(max(cost(ordered, range(a, b)) for a, b in itertools.pairwise((0, *cut, 8))) for cut in cuts)
        assert max(cost(units, part) for part in parts) == best


def test_what_shares_a_prompt_shares_a_part():
    """The answers to each prompt far apart in the batch, as a shuffled epoch leaves them."""
    units = [(row(draw(40, i % 4), draw(5, 10 + i)),) for i in range(12)]
    first, second = split_evenly(units, 2)
    assert {i % 4 for i in first}.isdisjoint(i % 4 for i in second)
    assert len(first) == len(second) == 6


def test_a_prompt_that_all_share_is_computed_in_every_part():
    units = [(row(draw(40, 1), draw(5, 10 + i)),) for i in range(6)]
    assert [len(part) for part in split_evenly(units, 3)] == [2, 2, 2]


@pytest.mark.parametrize("count", [2, 4])
def test_parts_of_the_plain_path_are_even_in_the_tokens_of_whole_rows(count):
    """32 rows below one prompt of 2,000 tokens and 32 short ones, which would be uneven if the prompt counted once."""
    prompt = draw(2000, 1)
    rows = [(row(prompt + draw(100, i), draw(20, i)) if i % 2 else row(draw(100, i), draw(20, i))) for i in range(64)]
    units = [(one,) for one in rows]
    tokens = [sum(len(rows[i].ids) for i in part) for part in split_evenly(units, count, shared=False)]
    assert sum(tokens) == sum(len(one.ids) for one in rows)
    assert max(tokens) <= sum(tokens) / count + 2120
    packed = [sum(len(rows[i].ids) for i in part) for part in split_evenly(units, count)]
    assert max(packed) > 1.3 * max(tokens)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_there_may_be_more_parts_than_rows(n):
    units = [(row(draw(4, i), draw(3, 10 + i)),) for i in range(n)]
    assert sorted(map(len, split_evenly(units, 5))) == [0] * (5 - n) + [1] * n
    assert split_evenly(units, 1) == [list(range(n))]
    with pytest.raises(ContractError):
        split_evenly(units, 0)


@pytest.mark.parametrize("shared", [True, False])
def test_even_parts_of_nothing_to_compute(shared):
    units = [(), (Row((5, 6), (False, False)),), ()]
    assert sorted(number for part in split_evenly(units, 2, shared=shared) for number in part) == [0, 1, 2]
