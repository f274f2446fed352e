"""Who speaks, what of accelerate's settings is refused or named, and how work is divided among processes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lastresort.errors import InfrastructureError, InputError
from lastresort.spec.training import load_training
from lastresort.train.loop.launch import leads, process_count, shards, unused_settings
from lastresort.train.loop.loop import _draws_of
from lastresort.train.loop.processes import Processes, ProcessLost, _receive, check_shardable, join
from lastresort.train.loop.spawn import outcome
from lastresort.train.loop.spawned import TrainingEnd
from train_support import lastresort, training_file


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, True),
        ({"RANK": "0", "WORLD_SIZE": "2"}, True),
        ({"RANK": "1", "WORLD_SIZE": "2"}, False),
        ({"OMPI_COMM_WORLD_RANK": "3"}, False),
        ({"RANK": "", "PMI_RANK": "2"}, False),
    ],
)
def test_the_first_process_speaks(environment: dict[str, str], expected: bool) -> None:
    assert leads(environment) is expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, 1), ({"WORLD_SIZE": "4"}, 4), ({"WORLD_SIZE": "", "OMPI_COMM_WORLD_SIZE": "2"}, 2), ({"WORLD_SIZE": "1"}, 1)],
)
def test_how_many_processes_there_are(environment: dict[str, str], expected: int) -> None:
    assert process_count(environment) == expected


@pytest.mark.parametrize("text", ["two", "0", "-1", "1.5"])
def test_a_number_of_processes_must_be_a_positive_whole_number(text: str) -> None:
    with pytest.raises(InputError, match=f'WORLD_SIZE: found "{text}", expected the number of processes'):
        process_count({"WORLD_SIZE": text})


def test_one_process_connects_with_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where torchrun starts it."""
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    assert (join().place, join().count) == (0, 1)
    assert not torch.distributed.is_initialized()


def test_processes_wait_an_hour_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the message of a lost one says; without a limit of ours the backends have 10 and 30 minutes."""
    given: dict[str, Any] = {}

    def connected(**arguments: Any) -> SimpleNamespace:
        given.update(arguments)
        return SimpleNamespace(process_index=1, num_processes=2)

    monkeypatch.setattr("accelerate.PartialState", connected)
    monkeypatch.setenv("WORLD_SIZE", "2")
    processes = join()
    assert (processes.place, processes.count, given["timeout"]) == (1, 2, timedelta(hours=1))


def test_each_process_draws_its_own_numbers_again_when_resumed() -> None:
    """By seed, step and place; the state of random numbers outside stays as it was."""

    def drawn(step: int, seed: int, place: int) -> float:
        policy: Any = SimpleNamespace(model=SimpleNamespace(device=torch.device("cpu")), processes=Processes(place, 2))
        with _draws_of(step, seed, policy):
            return float(torch.rand(()))

    before = torch.get_rng_state()
    first = drawn(3, 7, 0)
    assert drawn(3, 7, 0) == first
    assert len({first, drawn(3, 7, 1), drawn(4, 7, 0), drawn(3, 8, 0)}) == 4
    assert torch.equal(torch.get_rng_state(), before)


def test_random_numbers_are_kept_for_this_card_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other cards of the machine belong to other processes."""
    forked: list[Any] = []

    def forks(devices: list[torch.device]) -> AbstractContextManager[None]:
        forked.append(devices)
        return nullcontext()

    monkeypatch.setattr(torch.random, "fork_rng", forks)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)
    for device in (torch.device("cuda", 1), torch.device("cpu")):
        policy: Any = SimpleNamespace(model=SimpleNamespace(device=device), processes=Processes(1, 2))
        with _draws_of(0, 0, policy):
            pass
    assert forked == [[torch.device("cuda", 1)], []]


@pytest.mark.parametrize(("place", "said"), [("0", True), ("1", False)])
def test_commands_that_do_not_divide_their_work_run_in_one_process(
    place: str, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", place)
    assert lastresort(monkeypatch, "data", "check", str(tmp_path / "missing.yaml")) == 2
    assert "missing.yaml" in capsys.readouterr().err  # in the pod of a job, which started nothing else for it
    monkeypatch.setenv("LOCAL_RANK", place)
    assert lastresort(monkeypatch, "climb", str(tmp_path / "missing.yaml")) == 2
    told = capsys.readouterr().err
    expected = (
        "lastresort climb: started in 2 processes at once, expected one process, since only `lastresort train` divides"
    )
    assert (expected in told) is said
    assert bool(told) is said


@pytest.mark.parametrize(
    ("environment", "what"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed"),
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP 1"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "FSDP 1"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "Megatron-LM"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "a parallelism configuration"),
    ],
)
def test_other_ways_to_share_a_model_are_refused(environment: dict[str, str], what: str) -> None:
    with pytest.raises(InputError, match=rf"accelerate is set to {what}, expected .* Launch with torchrun"):
        shards(environment)
    assert not shards(dict.fromkeys(environment, "false"))


def test_fsdp_2_shards() -> None:
    assert shards({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"})
    assert not shards({"FSDP_VERSION": "2"})


@pytest.mark.parametrize(
    ("objective", "keys", "found"),
    [
        (
            "sft",
            {"adapter": "full", "optimizer": "paged_adamw_8bit"},
            "FSDP with adapter: full and optimizer: paged_adamw_8bit.*expected optimizer: adamw. Take adamw, or an adapter",
        ),
        (
            "grpo",
            {"reward": [{"regex": "a"}]},
            "FSDP with objective: grpo, whose answers differ in length.*expected a training on rows.* Launch with torchrun",
        ),
    ],
)
def test_what_shards_cannot_train_is_refused(objective: str, keys: dict[str, Any], found: str, tmp_path: Path) -> None:
    file = load_training(training_file(tmp_path, objective, model="embedded", **keys))
    with pytest.raises(InputError, match=found):
        check_shardable(file, Processes(0, 2, sharded=True))
    check_shardable(file, Processes(0, 2))


def test_all_weights_and_adapters_are_trained_in_shards_also_from_another(tmp_path: Path) -> None:
    write = partial(training_file, tmp_path, model="embedded")
    for keys in (
        {"adapter": "dora"},
        {"adapter": "full"},
        {"adapter": "qlora", "precision": None},
        {"adapter": None, "start_from": "sft/adapter"},
    ):
        if "start_from" in keys:
            (tmp_path / "sft" / "adapter").mkdir(parents=True)
        check_shardable(load_training(write(**keys)), Processes(0, 2, sharded=True))


def test_one_that_waits_for_weights_says_only_that_another_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is shown is the end of the one that was killed as it loaded them, and no error of the connection."""

    def broken(*_: Any) -> None:
        raise RuntimeError("[../gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:41234")

    processes, weights = Processes(1, 2, sharded=True), torch.nn.Linear(2, 2)
    monkeypatch.setattr(processes, "each", lambda make: [make()] * 2)
    monkeypatch.setattr(processes, "from_main", lambda make: make())
    monkeypatch.setattr(torch.distributed, "broadcast", broken)
    with pytest.raises(ProcessLost) as lost:
        _receive(weights, torch.device("cpu"), processes)
    ends = {1: TrainingEnd(error=lost.value), 0: None}
    with pytest.raises(InfrastructureError, match="process 1 was killed"):
        outcome(ends, lambda places: InfrastructureError(f"process {places[0] + 1} was killed"))


def test_settings_of_accelerate_that_change_nothing_are_named() -> None:
    assert unused_settings({}) == []
    # What `accelerate launch` sets for two processes with its defaults.
    usual = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO", "WORLD_SIZE": "2"}
    assert unused_settings({**usual, "ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}) == []
    found = unused_settings(
        {
            "ACCELERATE_MIXED_PRECISION": "bf16",
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
            "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
            "ACCELERATE_USE_FSDP": "true",
            "FSDP_ACTIVATION_CHECKPOINTING": "true",
            "FSDP_OFFLOAD_PARAMS": "true",
            "ACCELERATE_USE_CPU": "True",
            "MASTER_ADDR": "127.0.0.1",
        }
    )
    assert [sentence.split(" is ")[0].split(" starts ")[0] for sentence in found] == [
        "accelerate's mixed_precision bf16",
        "accelerate's gradient_accumulation_steps 4",
        "accelerate's dynamo_backend",
        "accelerate's fsdp_activation_checkpointing",
        "accelerate's fsdp_offload_params",
        "accelerate launch --cpu",
    ]


@pytest.mark.parametrize(("place", "said"), [("0", True), ("1", False)])
def test_an_error_of_all_processes_is_told_once(
    place: str, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", place)
    assert lastresort(monkeypatch, "train", str(tmp_path / "missing.yaml")) == 2
    out, told = capsys.readouterr()
    assert (out, "missing.yaml" in told) == ("", said)
    assert bool(told) is said
