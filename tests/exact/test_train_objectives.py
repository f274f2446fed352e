"""Every objective in the loop: accumulation changes nothing, packed = plain, resumed = uninterrupted, first loss = by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine_support import draw, relative_difference, row, tiny
from lastresort.engine.forest import Row
from lastresort.errors import DataError, InputError
from lastresort.objectives import OBJECTIVES
from lastresort.train.adapters.adapters import attach_adapter, trainable
from lastresort.train.loop.batches import Batch, DataSet, TrainingItem, completions, labelled, pairs
from lastresort.train.loop.gradients import batch_gradients
from lastresort.train.loop.loop import StepSeen, train
from lastresort.train.loop.policy import Policy
from lastresort.train.loop.processes import Processes
from lastresort.train.loop.reference import ReferenceStore, reference_of_run
from lastresort.train.settings import AdapterSettings, Objective, TrainSettings
from lastresort.types import SilentProgress

SMALL = AdapterSettings(r=4, alpha=8)
NAMES = sorted(OBJECTIVES)
ROOT = draw(20, 1)


def prompts(n: int = 7) -> list[tuple[int, ...]]:
    return [ROOT + draw(3 + i % 4, 10 + i) for i in range(n)]


def items_of(name: str) -> list[TrainingItem]:
    need = OBJECTIVES[name].need
    good = [row(p, draw(2 + i % 3, 30 + i)) for i, p in enumerate(prompts())]
    bad = [row(p, draw(1 + i % 4, 60 + i)) for i, p in enumerate(prompts())]
    if need in ("completions", "text"):
        return completions(good)
    if need == "pairs":
        return pairs(good, bad)
    if need == "labels":
        return labelled(good, [i % 3 > 0 for i in range(len(good))])
    return []


class Sampled:
    """Groups as if they had been sampled: two answers a prompt, with advantages and log-probabilities of their own."""

    size = 7
    items: tuple[TrainingItem, ...] = ()

    def fingerprint(self) -> str:
        return "sampled"

    def first_items(self) -> tuple[TrainingItem, ...]:
        return ()

    def at(self, step: int, model: Any, reference: Any, *, plain: bool = False) -> Batch:
        items = []
        for i in range(3):
            for j in range(2):
                answer = row(prompts()[(step + i) % 7], draw(2 + j, 90 + 7 * step + 2 * i + j))
                far = () if reference is None else reference([answer])[0]
                old = tuple(-3.0 - 0.1 * k for k in range(sum(answer.targets)))
                items.append(TrainingItem((answer,), advantage=1.0 if j else -0.5, old=old, reference=far))
        return Batch(tuple(items), figures={"reward": 0.5})


def settings_of(name: str, **changes: Any) -> TrainSettings:
    options = changes.pop("options", (("kl_weight", 0.05),) if OBJECTIVES[name].need == "groups" else ())
    known = {"epochs": 2, "batch_size": 3, "adapter": SMALL, "seed": 3, **changes}
    return TrainSettings(learning_rate=1e-2, objective=Objective(name, options), **known)


def run(
    name: str, folder: Path, *, dtype: torch.dtype = torch.float64, **arguments: Any
) -> tuple[dict[str, torch.Tensor], list[StepSeen]]:
    changes = {key: arguments.pop(key) for key in ("max_pass_tokens", "batch_size") if key in arguments}
    model = attach_adapter(tiny(dtype=dtype), SMALL, base_name="tiny")
    if dtype == torch.float64:
        model = model.double()
    seen: list[StepSeen] = []
    source = items_of(name) or Sampled()
    settings = settings_of(name, **changes)
    train(model, source, settings, folder=folder / "run", max_new_tokens=4, on_step=seen.append, **arguments)
    return {n: p.detach().clone() for n, p in trainable(model)}, seen


def move(model: Any) -> None:
    """Away from its start."""
    with torch.no_grad():
        for i, (_, parameter) in enumerate(trainable(model)):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.1)


def gradients(name: str, folder: Path, **changes: Any) -> tuple[dict[str, torch.Tensor], float, dict[str, float], int]:
    """Of one batch of seven, by a policy that has moved away from its reference: gradients, loss, figures, tokens."""
    plain, source = changes.pop("plain", False), changes.pop("source", None)
    model = attach_adapter(tiny(), SMALL, base_name="tiny").double()
    settings = settings_of(name, batch_size=7, **changes)
    source = source or (DataSet(items, 7, 3) if (items := items_of(name)) else Sampled())
    policy, objective = Policy(model, settings.max_pass_tokens, Processes(), plain=plain), settings.objective
    reference = reference_of_run(
        policy, source, objective, ReferenceStore(folder, "run", begun=False), SilentProgress()
    )
    move(model)
    batch = source.at(0, model, reference.of_answers)
    passed = batch_gradients(policy, batch, objective, reference, max_new_tokens=4)
    found = {n: p.grad.clone() for n, p in trainable(model)}
    return found, passed.loss, dict(passed.figures), passed.computed_tokens


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", NAMES)
def test_accumulation_changes_nothing(name, tmp_path):
    whole, loss, shown, tokens = gradients(name, tmp_path / "a", max_pass_tokens=10_000)
    cut, loss_cut, shown_cut, tokens_cut = gradients(name, tmp_path / "b", max_pass_tokens=1)
    assert relative_difference(whole, cut) < 1e-6  # transformers forms norms in float32, also in float64 models
    assert loss == pytest.approx(loss_cut, rel=1e-12)
    assert shown == pytest.approx(shown_cut, rel=1e-9, abs=1e-12)
    assert tokens < tokens_cut


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", NAMES)
def test_packed_is_plain(name, tmp_path):
    packed, loss, shown, _ = gradients(name, tmp_path / "a")
    plain, loss_plain, shown_plain, _ = gradients(name, tmp_path / "b", plain=True)
    assert relative_difference(packed, plain) < 1e-6
    assert loss == pytest.approx(loss_plain, rel=1e-9)
    assert shown == pytest.approx(shown_plain, rel=1e-6, abs=1e-9)


OPTIONS: dict[str, dict[str, float]] = {
    "dpo": {"beta": 0.3, "label_smoothing": 0.1},
    "ipo": {"beta": 0.3},
    "hinge": {"beta": 0.3},
    "simpo": {"beta": 1.5, "gamma": 0.4},
    "apo_zero": {"beta": 0.3},
    "orpo": {"weight": 0.7},
    "kto": {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.5},
    **{name: {"eps_low": 0.1, "eps_high": 0.3, "kl_weight": 0.05} for name in ("grpo", "dr_grpo", "dapo")},
}


def target_logps(model: Any, item: Row) -> torch.Tensor:
    """Of each target of one row, by the model's own forward."""
    logps = model(input_ids=torch.tensor([item.ids])).logits[0].log_softmax(-1)
    places = [place for place, wanted in enumerate(item.targets) if wanted]
    return torch.stack([logps[place - 1, item.ids[place]] for place in places])


def by_hand(name: str, model: Any) -> torch.Tensor:
    """The loss of a batch as the papers write it, row by row: no engine, and none of the program's objectives."""

    def both(item: Row) -> tuple[torch.Tensor, torch.Tensor]:
        with model.disable_adapter(), torch.no_grad():
            far = target_logps(model, item)
        return target_logps(model, item), far

    def gain(item: Row) -> torch.Tensor:
        near, far = both(item)
        return near.sum() - far.sum()

    items, sigmoid = items_of(name), torch.sigmoid
    if OBJECTIVES[name].need in ("completions", "text"):
        return -torch.cat([target_logps(model, item.rows[0]) for item in items]).mean()
    if OBJECTIVES[name].need == "labels":
        good = [item.rows[0] for item in items]
        swapped = [row(p, draw(2 + (i + 1) % 7 % 3, 30 + (i + 1) % 7)) for i, p in enumerate(prompts())]
        baseline = torch.stack([gain(one) for one in swapped]).mean().clamp(min=0).detach()
        assert baseline > 0, "a baseline of 0 would not be missed"
        losses = [
            1.5 * (1 - sigmoid(0.3 * (gain(one) - baseline)))
            if i % 3 > 0
            else 0.5 * (1 - sigmoid(0.3 * (baseline - gain(one))))
            for i, one in enumerate(good)
        ]
        return torch.stack(losses).mean()
    if OBJECTIVES[name].need == "pairs":
        losses = []
        for item in items:
            better, worse = gain(item.rows[0]), gain(item.rows[1])
            mean_better, mean_worse = (target_logps(model, one).mean() for one in item.rows)
            odds = [torch.log(mean.exp() / (1 - mean.exp())) for mean in (mean_better, mean_worse)]
            losses.append(
                {
                    "dpo": -0.9 * sigmoid(0.3 * (better - worse)).log() - 0.1 * sigmoid(0.3 * (worse - better)).log(),
                    "ipo": (better - worse - 1 / 0.6) ** 2,
                    "hinge": (1 - 0.3 * (better - worse)).clamp(min=0),
                    "simpo": -sigmoid(1.5 * (mean_better - mean_worse) - 0.4).log(),
                    "apo_zero": 1 - sigmoid(0.3 * better) + sigmoid(0.3 * worse),
                    "orpo": -mean_better - 0.7 * sigmoid(odds[0] - odds[1]).log(),
                }[name]
            )
        return torch.stack(losses).mean()
    tokens = []
    for item in Sampled().at(0, model, None).items:
        near, far = both(item.rows[0])
        ratio = (near - torch.tensor(item.old, dtype=near.dtype)).exp()
        clipped = torch.min(ratio * item.advantage, ratio.clamp(0.9, 1.3) * item.advantage)
        tokens.append(-clipped + 0.05 * ((far - near).exp() - (far - near) - 1))
    return {
        "grpo": torch.stack([one.mean() for one in tokens]).mean(),
        "dr_grpo": torch.stack([one.sum() / 4 for one in tokens]).mean(),
        "dapo": torch.cat(tokens).mean(),
    }[name]


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_are_those_of_the_paper_on_plain_forwards(name, tmp_path):
    options = tuple(OPTIONS.get(name, {}).items())
    found, loss, _, _ = gradients(name, tmp_path, options=options)
    model = attach_adapter(tiny(), SMALL, base_name="tiny").double()
    move(model)
    expected = by_hand(name, model)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-7)
    assert relative_difference(found, {n: p.grad for n, p in trainable(model)}) < 1e-6


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo"])
def test_dropped_answers_count_as_answers_without_an_advantage(name, tmp_path):
    """The means of grpo and dr_grpo are over all answers of a batch, those of groups rewarded alike too, which add nothing to
    the sum. dapo's is over the tokens of what is left, since it draws other groups in their place."""

    def of(alike: float | None, dropped: int) -> dict[str, torch.Tensor]:
        class Half(Sampled):
            def at(self, step, model, reference, *, plain=False):
                items = super().at(step, model, reference).items
                kept = items[:4] if alike is None else (*items[:4], *(replace(i, advantage=alike) for i in items[4:]))
                return Batch(kept, dropped=dropped)

        return gradients(name, tmp_path, source=Half(), options=())[0]

    kept, left, counted = of(0.0, 0), of(None, 0), of(None, 2)
    same = left if name == "dapo" else kept
    assert relative_difference(counted, same) < 1e-9
    assert relative_difference(left, kept) > 0.1


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", ["dpo", "kto", "grpo", "simpo"])
def test_resumed_is_uninterrupted_bit_for_bit(name, tmp_path):
    whole, seen_whole = run(name, tmp_path / "a", dtype=torch.float32)
    run(name, tmp_path / "b", dtype=torch.float32, until=2)
    resumed, seen = run(name, tmp_path / "b", dtype=torch.float32)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert [s.loss for s in seen] == [s.loss for s in seen_whole[2:]]


def test_a_resumed_run_wants_its_reference(tmp_path):
    run("dpo", tmp_path, until=2)
    (tmp_path / "run.reference" / "reference.safetensors").write_bytes(b"cut")
    with pytest.raises(DataError, match="the reference of this run is gone"):
        run("dpo", tmp_path)


def test_dpo_starts_at_log_2_and_raises_the_margin(tmp_path):
    _, seen = run("dpo", tmp_path, batch_size=7)
    assert seen[0].loss == pytest.approx(0.6931471805599453, rel=1e-9)  # policy = reference: -log sigmoid(0)
    assert seen[0].figures["margin"] == pytest.approx(0, abs=1e-9)
    assert seen[-1].figures["margin"] > 0


def test_kto_starts_at_one_half(tmp_path):
    _, seen = run("kto", tmp_path, batch_size=7)
    assert seen[0].loss == pytest.approx(0.5, rel=1e-9)  # every gain 0, baseline 0: 1 - sigmoid(0)
    assert seen[-1].figures["gain_of_desirable"] > seen[-1].figures["gain_of_undesirable"]


def test_a_mismatched_row_is_the_prompt_with_another_answer():
    good = [row(p, draw(2, 30 + i)) for i, p in enumerate(prompts(3))]
    for number, item in enumerate(labelled(good, [True] * 3)):
        own, other = good[number], good[(number + 1) % 3]
        assert item.rows[1].ids == own.ids[:-2] + other.ids[-2:]
        assert item.rows[1].targets == own.targets


def test_a_batch_that_teaches_nothing_is_skipped(tmp_path):
    class Nothing(Sampled):
        def at(self, step, model, reference, *, plain=False):
            return Batch((), figures={"dropped_groups": 3.0})

    model = attach_adapter(tiny(), SMALL, base_name="tiny")
    before = {n: p.detach().clone() for n, p in trainable(model)}
    seen: list[StepSeen] = []
    train(model, Nothing(), settings_of("grpo"), folder=tmp_path / "run", on_step=seen.append)
    assert all(s.skipped and s.figures == {"dropped_groups": 3.0} for s in seen)
    assert len(seen) == 6
    assert all(torch.equal(before[n], p) for n, p in trainable(model))


def test_unknown_names_and_options_are_refused():
    with pytest.raises(InputError, match="one of sft"):
        Objective("dpoo")
    with pytest.raises(InputError, match="beta, label_smoothing"):
        Objective("dpo", (("bta", 0.1),))


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("name", "start"), [("dpo", 0.6931471805599453), ("kto", 0.5)])
@pytest.mark.parametrize("max_pass_tokens", [1, 60, 10_000])
def test_the_first_step_is_at_the_reference_in_bfloat16_too(name, start, max_pass_tokens, tmp_path):
    """What shares a pass decides the rounding: the reference has to be computed in the same passes."""
    _, seen = run(name, tmp_path, dtype=torch.bfloat16, max_pass_tokens=max_pass_tokens, batch_size=7)
    assert seen[0].loss == pytest.approx(start, abs=1e-6)
    assert abs(seen[-1].loss - start) > 1e-3
