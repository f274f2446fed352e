"""What every objective of the table must keep: shape, precision, finite gradients, their direction, no gradient elsewhere."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lastresort.errors import ContractError
from lastresort.objectives import OBJECTIVES
from lastresort.objectives.answers import PairLogps, kto_baseline
from lastresort.objectives.grpo import ADVANTAGE_SCALE, group_advantages, token_weights
from objectives_support import draw

KL = 0.2

REFERRING = [name for name, one in OBJECTIVES.items() if one.reference == "always"]
FOR_KL = [name for name, one in OBJECTIVES.items() if one.reference == "for_kl"]


def function(name: str) -> Any:
    module, attribute = OBJECTIVES[name].path.split(":")
    return getattr(import_module(module), attribute)


@dataclass
class Call:
    """One call of an objective. up, down: log-probabilities that it should raise, and lower; fixed: where no gradient may go."""

    loss: torch.Tensor
    up: list[torch.Tensor]
    down: list[torch.Tensor]
    fixed: list[torch.Tensor]

    def gradients(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        found = torch.autograd.grad(self.loss.sum(), self.up + self.down)
        return list(found[: len(self.up)]), list(found[len(self.up) :])


def leaf(values: torch.Tensor) -> torch.Tensor:
    return values.detach().clone().requires_grad_()


def call(name: str, good: torch.Tensor, bad: torch.Tensor, ref_good: torch.Tensor, ref_bad: torch.Tensor) -> Call:
    """The objective on as many good and bad answers (tokens, for those that read tokens) as there are values."""
    objective, need = function(name), OBJECTIVES[name].need
    good, bad, ref_good, ref_bad = leaf(good), leaf(bad), leaf(ref_good), leaf(ref_bad)
    if need in ("completions", "text"):
        return Call(objective(good), [good], [], [])
    if need == "pairs":
        counts = torch.full((len(good),), 3)
        reference = (ref_good, ref_bad) if name in REFERRING else (None, None)
        return Call(objective(PairLogps(good, bad, *reference, counts, counts)), [good], [bad], [ref_good, ref_bad])
    if need == "labels":
        labels = torch.arange(2 * len(good)) < len(good)
        kl, ref_kl = leaf(good), leaf(ref_good)
        loss = objective(torch.cat([good, bad]), torch.cat([ref_good, ref_bad]), labels, kto_baseline(kl, ref_kl))
        return Call(loss, [good], [bad], [ref_good, ref_bad, kl, ref_kl])
    assert need == "groups"
    advantages = leaf(
        torch.ones(2 * len(good), dtype=good.dtype) * (1 - 2 * (torch.arange(2 * len(good)) >= len(good)))
    )
    old = torch.cat([ref_good, ref_bad])
    return Call(objective(torch.cat([good, bad]), old, advantages), [good], [bad], [ref_good, ref_bad, advantages])


def ordinary(count: int = 5, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Policy within a tenth of a nat of the reference: nothing clipped, no margin reached."""
    refs = [draw(count, seed=seed) - 1 for seed in (1, 2)]
    return [value.to(dtype) for value in (*(ref + 0.05 * draw(count, seed=3) for ref in refs), *refs)]


def test_tables_agree() -> None:
    assert FOR_KL == [name for name, one in OBJECTIVES.items() if one.need == "groups"] == list(ADVANTAGE_SCALE)
    shared = {"text": "sft", "dr_grpo": "grpo"}
    assert all(function(name).__name__ == shared.get(name, name) for name in OBJECTIVES)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_reference_is_asked_for_where_the_table_says(name: str) -> None:
    """A pair without reference is refused by exactly these; the others say in their signature that they cannot do without."""
    objective, one, counts = function(name), torch.tensor([-1.0]), torch.tensor([1])
    if OBJECTIVES[name].need != "pairs":
        asked = "ref_logps" in inspect.signature(objective).parameters
    else:
        try:
            asked = not objective(PairLogps(one, one, chosen_tokens=counts, rejected_tokens=counts)).isfinite().all()
        except ContractError as error:
            asked = "reference" in str(error)
    assert asked == (name in REFERRING)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_docstring_names_its_source_and_oracle(name: str) -> None:
    text = inspect.getdoc(function(name)) or ""
    assert "Source:" in text
    assert "Oracle:" in text


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_unreduced_and_in_the_precision_it_was_given(name: str, dtype: torch.dtype) -> None:
    made = call(name, *ordinary(dtype=dtype))
    rows = 10 if OBJECTIVES[name].need in ("labels", "groups") else 5
    assert made.loss.shape == (rows,)
    assert made.loss.dtype == dtype
    assert all(gradient.dtype == dtype for side in made.gradients() for gradient in side)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_loss_is_its_own_rows(name: str) -> None:
    """A row beside others has the loss it has alone. kto's baseline is the one thing that all rows share."""
    values = ordinary()
    together = call(name, *values).loss
    if name == "kto":
        values[0], values[2] = values[2].clone(), values[2]  # equal to the reference: a baseline of 0 for any rows
        together = call(name, *values).loss
    alone = [call(name, *(value[i : i + 1] for value in values)).loss for i in range(5)]
    torch.testing.assert_close(together, torch.stack(alone, dim=1).flatten(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_direction_of_the_gradient(name: str) -> None:
    up, down = call(name, *ordinary()).gradients()
    assert all((gradient < 0).all() for gradient in up)
    assert all((gradient > 0).all() for gradient in down)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_gradient_into_what_is_given(name: str) -> None:
    made = call(name, *ordinary())
    made.loss.sum().backward()
    assert all(tensor.grad is None for tensor in made.fixed)


@pytest.mark.parametrize("name", REFERRING)
def test_reference_matters(name: str) -> None:
    """Moving policy and reference together changes nothing; moving the reference alone does."""
    good, bad, ref_good, ref_bad = ordinary()
    before = call(name, good, bad, ref_good, ref_bad).loss
    moved = call(name, good - 1, bad - 2, ref_good - 1, ref_bad - 2).loss
    torch.testing.assert_close(moved, before, rtol=1e-12, atol=1e-12)
    assert not torch.isclose(call(name, good, bad, ref_good - 1, ref_bad - 2).loss, before, rtol=1e-6).any()


@pytest.mark.parametrize("name", FOR_KL)
def test_kl_pulls_towards_the_reference(name: str) -> None:
    logps = leaf(torch.tensor([-2.0, -2.0, -2.0], dtype=torch.float64))
    ref = leaf(torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64))
    zero = torch.zeros(3, dtype=torch.float64)
    loss = function(name)(logps, logps.detach(), zero, kl_weight=KL, per_token_ref_logps=ref)
    (gradient,) = torch.autograd.grad(loss.sum(), logps, retain_graph=True)
    assert gradient.sign().tolist() == [-1, 0, 1]
    assert loss.sign().tolist() == [1, 0, 1]
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(loss.sum(), ref)


EXTREMES = (-1e4, -1.0, 0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_extremes_stay_finite(name: str, dtype: torch.dtype) -> None:
    grid = torch.cartesian_prod(*[torch.tensor(EXTREMES, dtype=dtype)] * 4)
    made = call(name, *grid.unbind(1))
    assert made.loss.isfinite().all()
    assert all(gradient.isfinite().all() for side in made.gradients() for gradient in side)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", FOR_KL)
def test_extremes_of_the_kl_stay_finite(name: str, dtype: torch.dtype) -> None:
    grid = torch.cartesian_prod(*[torch.tensor(EXTREMES, dtype=dtype)] * 3)
    logps = leaf(grid[:, 0])
    for sign in (-1, 1):
        advantages = torch.full_like(logps, sign)
        loss = function(name)(logps, grid[:, 1], advantages, kl_weight=KL, per_token_ref_logps=grid[:, 2])
        assert loss.isfinite().all()
        assert torch.autograd.grad(loss.sum(), logps)[0].isfinite().all()


logp = st.floats(-50, 0)


@pytest.mark.sampled(3)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", OBJECTIVES)
def test_any_rows(name: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4))
    values = [
        torch.tensor(data.draw(st.lists(logp, min_size=count, max_size=count)), dtype=torch.float64) for _ in "1234"
    ]
    made = call(name, *values)
    assert made.loss.isfinite().all()
    up, down = made.gradients()
    assert all(gradient.isfinite().all() for gradient in up + down)
    if name != "ipo":  # the one loss with a target that can be overshot
        assert all((gradient <= 0).all() for gradient in up)
        assert all((gradient >= 0).all() for gradient in down)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=6),
    cut=st.integers(0, 6),
    variant=st.sampled_from(sorted(ADVANTAGE_SCALE)),
)
def test_weights_do_not_depend_on_the_micro_batches(counts: list[int], cut: int, variant: Any) -> None:
    row_tokens = torch.tensor(counts)
    row = torch.arange(len(counts)).repeat_interleave(row_tokens)
    weigh = {"variant": variant, "max_tokens": 6, "dtype": torch.float64}
    whole = token_weights(row, row_tokens, **weigh)
    parts = [token_weights(part, row_tokens, **weigh) for part in (row[row < cut], row[row >= cut])]
    assert torch.equal(torch.cat(parts), whole)
    filled = sum(count > 0 for count in counts)
    share = {"grpo": filled / len(counts), "dr_grpo": sum(counts) / (6 * len(counts)), "dapo": float(filled > 0)}
    assert float(whole.sum()) == pytest.approx(share[variant])


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 3)), min_size=1, max_size=9), shift=st.floats(-3, 3))
def test_advantages_are_within_the_group(rows: list[tuple[float, int]], shift: float) -> None:
    """They sum to 0 in each group, do not see a constant added to it, nor the order of rows."""
    rewards = torch.tensor([reward for reward, _ in rows], dtype=torch.float64)
    groups = torch.tensor([group for _, group in rows])
    for scale in ("std", "none"):
        found = group_advantages(rewards, groups, scale=scale)
        for group in groups.unique():
            assert abs(float(found[groups == group].sum())) < 1e-9
        again = group_advantages((rewards + shift * groups).flip(0), groups.flip(0), scale=scale).flip(0)
        torch.testing.assert_close(again, found, rtol=1e-6, atol=1e-9)
