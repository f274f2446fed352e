"""Two processes train what one trains: the same loss at each step, the same adapter, resumed too, and they fail together."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from accelerate.tracking import GeneralTracker
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from engine_support import draw, relative_difference, row, tiny
from groups_in_processes import prepared, refusing_the_third, seen_by_this_process
from groups_support import python_reward, sampled_groups, tiny_and_tokenizer
from lastresort.errors import DataError, LastresortError
from lastresort.models.quantized import keep_exact, nf4_arguments, unmap_weights
from lastresort.records.training import TrainedSteps
from lastresort.train.adapters.adapters import attach_adapter, save_adapter, trainable
from lastresort.train.files.run_folder import Trackers
from lastresort.train.loop.batches import Batch, DataSet, TrainingItem, completions, labelled, pairs
from lastresort.train.loop.gradients import batch_gradients
from lastresort.train.loop.loop import StepSeen, train
from lastresort.train.loop.policy import Policy
from lastresort.train.loop.processes import Processes, ProcessLost, into_shards, join
from lastresort.train.loop.reference import ReferenceStore, reference_of_run
from lastresort.train.settings import AdapterSettings, Objective, TrainSettings
from lastresort.types import SilentProgress
from processes_support import ended, started
from server_support import serving

pytestmark = pytest.mark.slow

LORA, FULL = AdapterSettings(r=4, alpha=8), AdapterSettings(kind="none")
DORA, QLORA = replace(LORA, kind="dora"), replace(LORA, quantize="nf4")
SHARDED, WIDE = ("dpo", "many passes", "recomputed", "qlora", "qlora recomputed"), ("kto",)
Weights = dict[str, torch.Tensor]
PRECISIONS = {torch.float32: 1e-5, torch.float64: 1e-6}
"""What gradients may differ by, as a share of their norm."""
OBJECTIVES = ("sft", "dpo", "kto", "grpo")
SETTINGS = TrainSettings(learning_rate=1e-3, epochs=2, batch_size=3, adapter=LORA, seed=3)
"""Seven items: the third batch of an epoch holds a single one."""
RUNS = {
    **{name: replace(SETTINGS, objective=Objective(name)) for name in OBJECTIVES},
    "full": replace(SETTINGS, adapter=FULL, epochs=1),
    "full dpo": replace(SETTINGS, objective=Objective("dpo"), adapter=FULL, epochs=1),
    "shared prompts": replace(SETTINGS, batch_size=8),
    "qlora": replace(SETTINGS, adapter=QLORA, epochs=1),
    "qlora recomputed": replace(SETTINGS, adapter=QLORA, objective=Objective("dpo"), checkpointing=True, epochs=1),
    "recomputed": replace(SETTINGS, adapter=DORA, checkpointing=True, epochs=1),
    "many passes": replace(SETTINGS, objective=Objective("kto"), max_pass_tokens=1, epochs=1),
}


def items_of(name: str, n: int = 7) -> list[TrainingItem]:
    prompts = [draw(20, 1) + draw(3 + i % 4, 10 + i) for i in range(n)]
    if name == "shared prompts":
        return completions([row(draw(30, i % 4), draw(2 + i % 3, 30 + i)) for i in range(12)])
    good = [row(p, draw(2 + i % 3, 30 + i)) for i, p in enumerate(prompts)]
    bad = [row(p, draw(1 + i % 4, 60 + i)) for i, p in enumerate(prompts)]
    if name == "dpo":
        return pairs(good, bad)
    return labelled(good, [i % 3 > 0 for i in range(n)]) if name == "kto" else completions(good)


class Sampled:
    """Groups as if they had been sampled, two answers to each of two prompts, and in step 3 none that teaches."""

    size, items = 4, ()

    def fingerprint(self) -> str:
        return "sampled"

    def first_items(self) -> tuple[TrainingItem, ...]:
        return ()

    def at(self, step: int, model: Any, reference: Any, *, plain: bool = False) -> Batch:
        items = [
            TrainingItem((row(draw(20, 1), draw(2 + j, 90 + 7 * step + 2 * i + j)),), advantage=1.0 if j else -0.5)
            for i in range(2)
            for j in range(2)
        ]
        return Batch(tuple(items) if step != 2 else (), figures={"reward": 0.5})


def model_of(name: str, dtype: torch.dtype = torch.float32) -> Any:
    base, adapter = tiny(dtype=dtype), RUNS[name].adapter
    if adapter.quantize is None:
        return attach_adapter(base, adapter, base_name="tiny").to(dtype)
    with TemporaryDirectory() as folder:
        # Not by save_pretrained, which writes in the first of several processes only.
        base.config.to_json_file(Path(folder) / "config.json")
        save_file(base.state_dict(), Path(folder) / "model.safetensors", metadata={"format": "pt"})
        arguments = nf4_arguments(dtype, torch.device("cpu"))
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **arguments).eval().requires_grad_(False)
        unmap_weights(base)
    keep_exact(base)
    return attach_adapter(base, adapter, base_name="tiny")


def run(
    name: str,
    folder: Path,
    source: Any = None,
    dtype: torch.dtype = torch.float32,
    model: Any = None,
    **arguments: Any,
) -> tuple[TrainedSteps, list[StepSeen], Any]:
    settings, seen, model = RUNS[name], list[StepSeen](), model or model_of(name, dtype)
    need = settings.objective.name
    source = source or (Sampled() if need == "grpo" else items_of(name if name == "shared prompts" else need))
    held_out = () if need == "grpo" else items_of(need, 3)
    trained = train(model, source, settings, folder=folder / name, held_out=held_out, on_step=seen.append, **arguments)
    return trained, seen, model


def gradients_of(name: str, folder: Path, dtype: torch.dtype, processes: Processes) -> Weights:
    """Of the first batch, by a policy that has moved away from its reference."""
    settings, model = RUNS[name], model_of(name, dtype)
    source: Any = Sampled() if name == "grpo" else DataSet(items_of(name), settings.batch_size, settings.seed)
    policy, objective = Policy(model, settings.max_pass_tokens, processes), settings.objective
    store = ReferenceStore(folder / f"{name}-{dtype}", "run", begun=False)
    reference = reference_of_run(policy, source, objective, store, SilentProgress())
    with torch.no_grad():
        for i, (_, parameter) in enumerate(trainable(model)):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
            parameter.add_((0.1 * noise).to(dtype))
    batch_gradients(policy, source.at(0, model, reference.of_answers), objective, reference)
    return {name: parameter.grad.clone() for name, parameter in trainable(model) if parameter.grad is not None}


def weights(model: Any) -> Weights:
    return {name: parameter.detach().clone() for name, parameter in trainable(model)}


def figures(seen: list[StepSeen]) -> list[Any]:
    """What a run shows of each step, but for the time, the tokens that two processes do not share alike, and on which side of
    0 a margin lies before the first step, when it is 0 up to rounding."""
    return [
        [
            s.step,
            s.loss,
            s.grad_norm,
            {name: value for name, value in s.figures.items() if s.step > 1 or name != "margin_above_0"},
            s.nominal_tokens,
            s.skipped,
        ]
        + ([] if s.evaluated is None else [s.evaluated.loss, dict(s.evaluated.figures)])
        for s in seen
    ]


class FailsInTheSecond(DataSet):
    """Its third batch cannot be had by the second process."""

    def at(self, step: int, model: Any, reference: Any, *, plain: bool = False) -> Batch:
        if step == 2 and torch.distributed.get_rank() == 1:
            raise DataError("the second process fails", where="here")
        return super().at(step, model, reference)


def in_each_process(folder: Path, server: str) -> None:
    """What the script does: every run, one in pieces, one that fails in one process, one with different data, some in shards; the
    last one there fails in the second process, which is killed."""
    found: dict[str, Any] = {"figures": {}, "errors": []}
    processes = join()
    found["groups"] = seen_by_this_process(folder / "groups", server)
    trackers = Trackers([LastTracked(folder)] if processes.main else (), folder, {})
    trackers.log({"loss": 1.5}, 1)
    trackers.close()
    for name in RUNS:
        trained, seen, model = run(name, folder)
        found["figures"][name] = figures(seen)
        save_file(weights(model), str(folder / f"{name}-{place()}.safetensors"))
    for name in OBJECTIVES:
        for dtype in PRECISIONS:
            found_here = gradients_of(name, folder / "gradients", dtype, processes)
            save_file(found_here, str(folder / f"{name}-{dtype}-{place()}.safetensors"))
    for name in WIDE:
        _, _, wide = run(name, folder / "wide", dtype=torch.float64)
        save_file(weights(wide), str(folder / f"{name}-wide-{place()}.safetensors"))
    found["processes"], found["path"] = trained.processes, trained.path
    run("dpo", folder / "cut", until=2)
    _, seen, model = run("dpo", folder / "cut")
    found["resumed"] = [figures(seen), seen[0].step]
    save_file(weights(model), str(folder / f"resumed-{place()}.safetensors"))
    run("dpo", folder / "left", until=2)
    for source in (FailsInTheSecond(items_of("sft"), 3, 3), items_of("sft", 7 - place())):
        try:
            run("sft", folder / "errors", source)
        except LastresortError as error:
            found["errors"].append(str(error))
    found["sharded"] = in_shards(folder, processes.place)
    (folder / f"found-{place()}.json").write_text(json.dumps(found))
    fails_in_shards(folder, processes.place)
    try:
        processes.each(lambda: None)
    except ProcessLost as error:
        (folder / "lost.txt").write_text(str(error))
    processes.close()


def in_shards(folder: Path, place: int) -> dict[str, Any]:
    """The runs on adapters again, the frozen base cut into shards. Small passes: the second process has fewer of them."""
    found: dict[str, Any] = {}
    processes = Processes(place, 2, sharded=True)
    for name in SHARDED:
        model = into_shards(model_of(name), processes)
        layers = model.get_base_model().model.layers
        held = sum(p.to_local().numel() for p in layers.parameters() if isinstance(p, DTensor))
        whole = sum(p.numel() for p in layers.parameters() if isinstance(p, DTensor))
        _, seen, _ = run(name, folder / "sharded", model=model, processes=processes)
        found[name] = [figures(seen), held / whole]
        save_file(weights(model), str(folder / f"{name}-sharded-{place}.safetensors"))
        if place == 0:
            save_adapter(model, folder / "sharded" / f"{name}-adapter")
    run(
        "qlora",
        folder / "left in shards",
        model=into_shards(model_of("qlora"), processes),
        processes=processes,
        until=2,
    )
    return found


def fails_in_shards(folder: Path, place: int) -> None:
    """The second process fails where the first one may be waiting for its part of a layer, and cannot tell it."""
    processes = Processes(place, 2, sharded=True)
    model, source = into_shards(model_of("dpo"), processes), FailsInTheSecond(items_of("dpo"), 3, 3)
    try:
        with processes.connected():
            run("dpo", folder / "ends", source, model=model, processes=processes, checkpoint_every_s=0)
    except LastresortError as error:
        (folder / f"ended-{place}.txt").write_text(str(error))
        if place == 1:
            os.kill(os.getpid(), signal.SIGKILL)


class LastTracked(GeneralTracker):
    """Writes down its last figure at its end."""

    name, requires_logging_directory, tracker = "last", False, None

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def store_init_configuration(self, values: dict[str, Any]) -> None: ...

    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        self.last = (step, values)

    def finish(self) -> None:
        (self.folder / "tracked.txt").write_text(str(self.last))


def place() -> int:
    return torch.distributed.get_rank()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have trained."""
    folder = tmp_path_factory.mktemp("both")
    code = "import sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\nimport test_train_processes\n"
    code += "test_train_processes.in_each_process(Path(sys.argv[2]), sys.argv[3])"
    with serving(prepared(folder / "groups")) as server:
        refusing_the_third(server)
        found = ended(started(code, str(Path(__file__).parent), str(folder), server.name), timeout_s=300)
        asked = {"commands": [what for what, _ in server.commands()], "chats": len(server.chats())}
    (folder / "server.json").write_text(json.dumps(asked))
    assert [code for code, _, _ in found] == [0, -signal.SIGKILL], found
    return folder


def told(folder: Path, which: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"found-{which}.json").read_text())
    return found


def near(found: Any, expected: Any) -> None:
    """Equal up to the rounding of float32, in which a gain is the difference of two sums of some -30 nats."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            near(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            near(ours, theirs)
    else:
        assert found == pytest.approx(expected, rel=1e-5, abs=5e-5)


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_what_one_trains(name: str, both: Path, tmp_path: Path) -> None:
    _, seen, model = run(name, tmp_path)
    found = told(both, 0)["figures"][name]
    near(found, figures(seen))
    assert [one[1] for one in found] == pytest.approx([one.loss for one in seen], rel=1e-6, abs=1e-7)
    ours, alone = load_file(both / f"{name}-0.safetensors"), weights(model)
    assert changed(name, ours, alone) < 1e-3
    # AdamW divides the baseline's small gradients by their own size.
    most = 1e-4 if RUNS[name].objective.name == "kto" else 1e-5
    assert max(float((ours[key] - alone[key]).abs().max()) for key in alone) < most


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_those_of_one_process_up_to_rounding(
    name: str, dtype: torch.dtype, both: Path, tmp_path: Path
) -> None:
    """In float64 to the norms, which transformers forms in float32 there too. What sets the adapters of float32 further apart is
    AdamW: it divides each gradient by its own size, and so makes steps of the rate of what is itself hardly more than rounding.
    """
    ours = load_file(both / f"{name}-{dtype}-0.safetensors")
    alone = gradients_of(name, tmp_path, dtype, Processes())
    assert len(ours) == len(alone)
    assert relative_difference(ours, alone) < PRECISIONS[dtype]


@pytest.mark.parametrize("name", WIDE)
def test_in_float64_the_adapter_is_the_same(name: str, both: Path, tmp_path: Path) -> None:
    """With rounding that small AdamW too gives what it gives to one process."""
    _, _, wide = run(name, tmp_path / "wide", dtype=torch.float64)
    assert changed(name, load_file(both / f"{name}-wide-0.safetensors"), weights(wide), torch.float64) < 1e-5


def changed(name: str, ours: Weights, theirs: Weights, dtype: torch.dtype = torch.float32) -> float:
    """How far two trained models are apart, as a share of what training changed. AdamW divides by small numbers."""
    start = weights(model_of(name, dtype))
    assert max(float((start[key] - theirs[key]).abs().max()) for key in start) > 1e-3
    first, second = ({key: found[key] - start[key] for key in start} for found in (ours, theirs))
    return relative_difference(first, second)


def test_both_processes_hold_the_same_bits(both: Path) -> None:
    for name in (*RUNS, "resumed"):
        first, second = (load_file(both / f"{name}-{i}.safetensors") for i in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert told(both, 0) == told(both, 1)
    assert told(both, 0)["processes"] == 2


def test_resumed_by_as_many_processes_is_uncut_bit_for_bit(both: Path) -> None:
    whole, resumed = (load_file(both / f"{name}-0.safetensors") for name in ("dpo", "resumed"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    after, first = told(both, 0)["resumed"]
    assert first == 3
    assert after == told(both, 0)["figures"]["dpo"][2:]


def test_resumed_by_one_process_is_equal_up_to_rounding(both: Path) -> None:
    """Two processes left a checkpoint after two steps; one goes on."""
    trained, seen, model = run("dpo", both / "left")
    assert (seen[0].step, trained.processes) == (3, 1)
    assert changed("dpo", load_file(both / "dpo-0.safetensors"), weights(model)) < 1e-4


def test_what_fails_in_one_process_is_raised_in_both(both: Path) -> None:
    own, other = told(both, 0)["errors"]
    assert own == "here: the second process fails."
    assert "the processes were given different models, settings or data" in other


def test_the_end_of_a_tracker_is_not_the_end_of_the_run(both: Path) -> None:
    """Everything else in the script came after it."""
    assert (both / "tracked.txt").read_text() == "(1, {'loss': 1.5})"


LOST = (
    "process 0 of 2: another process of this run has ended, or has not answered for 60 minutes, expected all of them to run "
    "to the end. See what that one says."
)


def test_one_that_is_killed_is_missed_by_the_other(both: Path) -> None:
    assert (both / "lost.txt").read_text() == LOST


def test_one_that_fails_in_shards_ends_both_and_each_says_what_it_knows(both: Path) -> None:
    assert (both / "ended-1.txt").read_text() == "here: the second process fails."
    assert (both / "ended-0.txt").read_text() == LOST
    assert json.loads((both / "ends" / "dpo" / "state.json").read_text())["step"] == 2


def test_they_see_the_groups_of_one_and_stop_together(both: Path, tmp_path: Path) -> None:
    """Of three groups the second process has one; in the second part its reward alone fails. With a server the first process
    alone gives it the weights, and where it refuses them both stop."""
    found = told(both, 0)["groups"]
    model, tokenizer = tiny_and_tokenizer(both / "groups", dtype="float64")
    rewards, alone = [python_reward(both / "groups" / "rewards.py")], tmp_path / "alone.jsonl"
    with sampled_groups(tmp_path, tokenizer, rewards=rewards, log=alone) as groups:
        batches = [groups.at(step, model, None) for step in range(2)]
    assert found["items"] == [
        [[list(item.rows[0].ids), pytest.approx(item.advantage)] for item in batch.items] for batch in batches
    ]
    assert [len(batch.items) for batch in batches] == [12, 12]
    assert found["shown"] == [pytest.approx(batch.figures) for batch in batches]
    assert (both / "groups" / "completions.jsonl").read_bytes() == alone.read_bytes()
    assert "in_the_second(), called for example e" in found["failed"]
    assert "returned None, expected a finite number for each answer. Correct the function" in found["failed"]
    assert [len(batch) for batch in found["served"]] == [12, 12]
    server = json.loads((both / "server.json").read_text())
    assert server == {"commands": ["load", "load", "unload", "load", "unload", "unload"], "chats": 24}
    assert "the server does not load the adapter" in found["refused"]
    assert "(500: too many)" in found["refused"]


def test_a_whole_base_goes_on_where_one_in_shards_stopped(both: Path) -> None:
    """Two processes that held half of a base in 4 bits left a checkpoint after two steps; one that holds all of it goes on."""
    trained, seen, model = run("qlora", both / "left in shards")
    assert (seen[0].step, trained.processes, trained.sharded) == (3, 1, False)
    assert changed("qlora", load_file(both / "qlora-0.safetensors"), weights(model)) < 1e-4


@pytest.mark.parametrize("name", SHARDED)
def test_a_base_in_shards_trains_as_a_whole_one(name: str, both: Path) -> None:
    """FSDP2: two processes that hold half of each layer against two that hold all of it."""
    found, share = told(both, 0)["sharded"][name]
    assert share == pytest.approx(0.5, abs=0.01)
    near(found, told(both, 0)["figures"][name])
    ours, whole = (load_file(both / f"{name}-{which}0.safetensors") for which in ("sharded-", ""))
    assert changed(name, ours, whole) < 1e-4
    other = load_file(both / f"{name}-sharded-1.safetensors")
    assert all(torch.equal(ours[key], other[key]) for key in ours)
    saved = load_file(both / "sharded" / f"{name}-adapter" / "adapter_model.safetensors")
    by_name = {key.removesuffix(".default.weight"): value for key, value in ours.items()}
    assert len(saved) == len(by_name)
    assert all(torch.equal(value, by_name[key.removesuffix(".weight")]) for key, value in saved.items())
