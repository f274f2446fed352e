"""All weights trained in shards (FSDP2): two processes with half of the weights each train what one trains with all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from engine_support import draw, row, tiny
from lastresort.engine.parts import whole
from lastresort.records.training import TrainedSteps
from lastresort.train.adapters.adapters import trainable
from lastresort.train.loop.batches import TrainingItem, completions, labelled, pairs, replayed
from lastresort.train.loop.loop import StepSeen, train
from lastresort.train.loop.processes import Processes, into_shards, join
from lastresort.train.settings import AdapterSettings, Objective, TrainSettings
from processes_support import ended, started

pytestmark = pytest.mark.slow

SFT = TrainSettings(learning_rate=1e-3, epochs=2, batch_size=6, adapter=AdapterSettings(kind="none"), seed=3)
RUNS = {
    "shared prompts, tied": SFT,
    "shared prompts, untied": SFT,
    "many passes": replace(SFT, max_pass_tokens=1, epochs=1),
    "recomputed": replace(SFT, checkpointing=True, epochs=1),
    "held": replace(SFT, epochs=1),
    "plain": replace(SFT, epochs=1),
    "dpo": replace(SFT, objective=Objective("dpo"), epochs=1),
    "orpo": replace(SFT, objective=Objective("orpo"), epochs=1),
    "kto": replace(SFT, objective=Objective("kto"), epochs=1),
}
"""Thirteen items: the last batch of an epoch holds one, which leaves the second process without any."""


def items_of(name: str) -> list[TrainingItem]:
    prompts = [draw(30, i % 4) for i in range(13)]
    good = [row(prompt, draw(2 + i % 3, 30 + i)) for i, prompt in enumerate(prompts)]
    if name in ("dpo", "orpo"):
        return pairs(good, [row(prompt, draw(1 + i % 4, 60 + i)) for i, prompt in enumerate(prompts)])
    if name == "kto":
        return labelled(good, [i % 3 > 0 for i in range(13)])
    return [*completions(good[:9]), *replayed(good[9:], held=True, weight=5)] if name == "held" else completions(good)


def model_of(name: str) -> Any:
    """Of an odd number of tokens, and of more heads than processes: no shard but of whole rows."""
    return tiny(dtype=torch.float32, tie_word_embeddings="untied" not in name).requires_grad_(True)


def run(name: str, folder: Path, model: Any, processes: Processes, until: int | None = None) -> tuple[Any, list[Any]]:
    settings, seen = RUNS[name], list[StepSeen]()
    items, held_out = items_of(name), items_of(name)[:3]
    trained = train(
        model,
        items,
        settings,
        folder=folder / name,
        held_out=held_out,
        until=until,
        plain=name == "plain",
        on_step=seen.append,
        processes=processes,
    )
    return trained, [figures(one) for one in seen]


def figures(seen: StepSeen) -> dict[str, float]:
    shown = {name: seen.figures[name] for name in ("kl_to_base", "baseline", "chosen_gain") if name in seen.figures}
    held_out = {} if seen.evaluated is None else {"held out": seen.evaluated.loss}
    return {"loss": seen.loss, "norm": seen.grad_norm, **held_out, **shown}


def in_each_process(folder: Path) -> None:
    """What the script does: each run with half of the weights here; one of them in three parts, the second by one process alone."""
    place, found = join().place, dict[str, Any]()
    for name in RUNS:
        processes = Processes(place, 2, sharded=True)
        model = into_shards(model_of(name), processes)
        trained, seen = run(name, folder, model, processes)
        found[name] = told(trained, seen, model)
        keep(model, folder / f"{name}-{place}.safetensors")
    for until in (1, 2, None):
        processes = Processes() if until == 2 else Processes(place, 2, sharded=True)
        model = into_shards(model_of("held"), processes)
        if until != 2 or place == 0:
            run("held", folder / "resumed", model, processes, until)
        torch.distributed.barrier()
    keep(model, folder / f"resumed-{place}.safetensors")
    (folder / f"found-{place}.json").write_text(json.dumps(found))
    join().close()


def told(trained: TrainedSteps, seen: list[Any], model: Any) -> dict[str, Any]:
    """held: shares of the weights, of their gradients' place and of AdamW's moments that this process holds."""
    weights: Sequence[Any] = [parameter for _, parameter in trainable(model)]
    assert all(isinstance(one, DTensor) for one in weights)
    own, all_of_them = sum(one.to_local().numel() for one in weights), sum(one.numel() for one in weights)
    check = trained.check
    return {
        "figures": seen,
        "path": trained.path,
        "check": None if check is None else [check.ok, check.gradient_difference],
        "held": own / all_of_them,
        "sharded": trained.sharded,
    }


def keep(model: Any, path: Path) -> None:
    save_file({name: whole(parameter.detach()).clone() for name, parameter in trainable(model)}, str(path))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have trained."""
    folder = tmp_path_factory.mktemp("both")
    code = "import sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\nimport test_full_in_shards\n"
    code += "test_full_in_shards.in_each_process(Path(sys.argv[2]))"
    found = ended(started(code, str(Path(__file__).parent), str(folder)), timeout_s=300)
    assert [code for code, _, _ in found] == [0, 0], found
    return folder


def of_process(folder: Path, place: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"found-{place}.json").read_text())
    return found


@pytest.mark.parametrize("name", RUNS)
def test_two_halves_train_what_one_process_trains(name: str, both: Path, tmp_path: Path) -> None:
    """AdamW divides the small gradients of KTO's baseline by their own size."""
    model = model_of(name)
    alone, seen = run(name, tmp_path, model, Processes())
    found = of_process(both, 0)[name]
    for ours, theirs in zip(found["figures"], seen, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    assert found["path"] == alone.path == ("plain" if name == "plain" else "packed")
    assert found["sharded"]
    assert not alone.sharded
    weights, start = load_file(both / f"{name}-0.safetensors"), dict(model_of(name).named_parameters())
    for key, value in model.named_parameters():
        torch.testing.assert_close(weights[key], value.detach(), rtol=0, atol=1e-4 if name == "kto" else 1e-5)
        assert not torch.equal(weights[key], start[key])
    assert ("lm_head.weight" in weights) == ("untied" in name)


def test_each_holds_half_and_both_know_the_same(both: Path) -> None:
    first, second = (of_process(both, place) for place in range(2))
    for name in RUNS:
        one, other = first[name], second[name]
        assert one["held"] + other["held"] == 1
        assert abs(one["held"] - other["held"]) < 0.02
        assert one["figures"] == other["figures"]
        weights = [load_file(both / f"{name}-{place}.safetensors") for place in range(2)]
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_the_first_batch_is_checked_with_gradients(both: Path) -> None:
    """By a backward, in which FSDP sums them; torch.autograd.grad would find none."""
    ok, difference = of_process(both, 0)["shared prompts, tied"]["check"]
    assert ok
    assert 0 < difference < 1e-4


def test_two_one_and_two_processes_train_what_two_train(both: Path) -> None:
    """With rows that are held to the weights as they were at the start, which each process keeps its rows of."""
    whole_run, resumed = (load_file(both / f"{name}-0.safetensors") for name in ("held", "resumed"))
    for key, value in whole_run.items():
        torch.testing.assert_close(resumed[key], value, rtol=0, atol=1e-5)
