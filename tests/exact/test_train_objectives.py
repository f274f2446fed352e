"""Every objective in the loop: accumulation changes nothing, packed = plain, resumed = uninterrupted, first loss = by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine_support import draw, relative_difference, row, tiny
from lastresort.errors import DataError, InputError
from lastresort.objectives import NEEDS
from lastresort.train.adapters import attach_adapter, trainable
from lastresort.train.batches import Batch, DataSet
from lastresort.train.gradients import batch_gradients
from lastresort.train.items import Item, completions, labelled, pairs
from lastresort.train.loop import StepSeen, train
from lastresort.train.objective import Objective
from lastresort.train.policy import Policy
from lastresort.train.processes import Processes
from lastresort.train.reference import Keeping, reference_of_run
from lastresort.train.settings import AdapterSettings, TrainSettings
from lastresort.types import Silent

SMALL = AdapterSettings(r=4, alpha=8)
NAMES = sorted(NEEDS)
ROOT = draw(20, 1)


def prompts(n: int = 7) -> list[tuple[int, ...]]:
    return [ROOT + draw(3 + i % 4, 10 + i) for i in range(n)]


def items_of(name: str) -> list[Item]:
    need = NEEDS[name]
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
    items: tuple[Item, ...] = ()

    def fingerprint(self) -> str:
        return "sampled"

    def at(self, step: int, model: Any, reference: Any) -> Batch:
        items = []
        for i in range(3):
            for j in range(2):
                answer = row(prompts()[(step + i) % 7], draw(2 + j, 90 + 7 * step + 2 * i + j))
                far = () if reference is None else reference([answer])[0]
                old = tuple(-3.0 - 0.1 * k for k in range(sum(answer.targets)))
                items.append(Item((answer,), advantage=1.0 if j else -0.5, old=old, reference=far))
        return Batch(tuple(items), shown={"reward": 0.5})


def settings_of(name: str, **changes: Any) -> TrainSettings:
    options = (("kl_weight", 0.05),) if NEEDS[name] == "groups" else ()
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


def gradients(name: str, folder: Path, **changes: Any) -> tuple[dict[str, torch.Tensor], float, dict[str, float], int]:
    """Of one batch of seven, by a policy that has moved away from its reference: gradients, loss, figures, tokens."""
    plain = changes.pop("plain", False)
    model = attach_adapter(tiny(), SMALL, base_name="tiny").double()
    settings = settings_of(name, batch_size=7, **changes)
    source = DataSet(items, 7, 3) if (items := items_of(name)) else Sampled()
    policy, objective = Policy(model, settings.max_pass_tokens, Processes(), plain=plain), settings.objective
    reference = reference_of_run(policy, source, objective, Keeping(folder, "run", begun=False), Silent())
    with torch.no_grad():
        for i, (_, parameter) in enumerate(trainable(model)):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.1)
    batch = source.at(0, model, reference.of_answers)
    passed = batch_gradients(policy, batch, objective, reference, max_new_tokens=4)
    found = {n: p.grad.clone() for n, p in trainable(model)}
    return found, passed.loss, dict(passed.shown), passed.computed_tokens


@pytest.mark.parametrize("name", NAMES)
def test_accumulation_changes_nothing(name, tmp_path):
    whole, loss, shown, tokens = gradients(name, tmp_path / "a", max_pass_tokens=10_000)
    cut, loss_cut, shown_cut, tokens_cut = gradients(name, tmp_path / "b", max_pass_tokens=1)
    assert relative_difference(whole, cut) < 1e-6  # transformers forms norms in float32, also in float64 models
    assert loss == pytest.approx(loss_cut, rel=1e-12)
    assert shown == pytest.approx(shown_cut, rel=1e-9, abs=1e-12)
    assert tokens < tokens_cut


@pytest.mark.parametrize("name", NAMES)
def test_packed_is_plain(name, tmp_path):
    packed, loss, shown, _ = gradients(name, tmp_path / "a")
    plain, loss_plain, shown_plain, _ = gradients(name, tmp_path / "b", plain=True)
    assert relative_difference(packed, plain) < 1e-6
    assert loss == pytest.approx(loss_plain, rel=1e-9)
    assert shown == pytest.approx(shown_plain, rel=1e-6, abs=1e-9)


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
    assert seen[0].shown["margin"] == pytest.approx(0, abs=1e-9)
    assert seen[-1].shown["margin"] > 0


def test_kto_starts_at_one_half(tmp_path):
    _, seen = run("kto", tmp_path, batch_size=7)
    assert seen[0].loss == pytest.approx(0.5, rel=1e-9)  # every gain 0, baseline 0: 1 - sigmoid(0)
    assert seen[-1].shown["gain_of_desirable"] > seen[-1].shown["gain_of_undesirable"]


def test_a_mismatched_row_is_the_prompt_with_another_answer():
    good = [row(p, draw(2, 30 + i)) for i, p in enumerate(prompts(3))]
    for number, item in enumerate(labelled(good, [True] * 3)):
        own, other = good[number], good[(number + 1) % 3]
        assert item.rows[1].ids == own.ids[:-2] + other.ids[-2:]
        assert item.rows[1].targets == own.targets


def test_a_batch_that_teaches_nothing_is_skipped(tmp_path):
    class Nothing(Sampled):
        def at(self, step, model, reference):
            return Batch((), shown={"dropped_groups": 3.0})

    model = attach_adapter(tiny(), SMALL, base_name="tiny")
    before = {n: p.detach().clone() for n, p in trainable(model)}
    seen: list[StepSeen] = []
    train(model, Nothing(), settings_of("grpo"), folder=tmp_path / "run", on_step=seen.append)
    assert all(s.skipped and s.shown == {"dropped_groups": 3.0} for s in seen)
    assert len(seen) == 6
    assert all(torch.equal(before[n], p) for n, p in trainable(model))


def test_unknown_names_and_options_are_refused():
    with pytest.raises(InputError, match="one of sft"):
        Objective("dpoo")
    with pytest.raises(InputError, match="beta, label_smoothing"):
        Objective("dpo", (("bta", 0.1),))


@pytest.mark.parametrize(("name", "start"), [("dpo", 0.6931471805599453), ("kto", 0.5)])
@pytest.mark.parametrize("max_pass_tokens", [1, 60, 10_000])
def test_the_first_step_is_at_the_reference_in_bfloat16_too(name, start, max_pass_tokens, tmp_path):
    """What shares a pass decides the rounding: the reference has to be computed in the same passes."""
    _, seen = run(name, tmp_path, dtype=torch.bfloat16, max_pass_tokens=max_pass_tokens, batch_size=7)
    assert seen[0].loss == pytest.approx(start, abs=1e-6)
    assert abs(seen[-1].loss - start) > 1e-3
