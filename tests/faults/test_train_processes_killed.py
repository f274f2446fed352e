"""`lastresort train` in two processes: killed or stopped, one or both, and resumed by as many or by another number of them."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file

from processes_support import Cut, Ended, Sent, commands
from tiny_model import save_tiny_model
from train_support import record, training_file

ADAPTER = Path("out", "adapter", "adapter_model.safetensors")
MODEL = Path("out", "model", "model.safetensors")
PROMPTS = ["Name an animal that lives in the sea.", "Name an animal that lives on land.", "Name one that flies."]
ANSWERS = ["crab", "seal", "shark", "cow", "dog", "elk", "crow", "wasp", "owl", "eel", "ox", "bat"]
ROWS = [{"input": PROMPTS[i % 3], "output": answer} for i, answer in enumerate(ANSWERS)]
"""Four answers to each prompt: the prefixes that processes keep together."""
LOST = (
    "another process of this run has ended, or has not answered for 60 minutes, expected all of them to run to the end."
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base") / "model")


def file_for(folder: Path, model: Path, **keys: Any) -> Path:
    """Eight steps, with a checkpoint after each."""
    known = {"batch_size": 6, "epochs": 4, "learning_rate": 1e-3, "checkpoint_every_s": 0}
    return training_file(folder, "sft", ROWS, model=str(model), **{**known, **keys})


def trained(folder: Path, model: Path, *lives: tuple[int, Sent | None], **keys: Any) -> list[list[Ended]]:
    """The training in so many processes, again and again until one of these lives ends by itself."""
    file, said = file_for(folder, model, **keys), []
    for number, (count, sent) in enumerate(lives):
        more = ["--resume"] if number else []
        said.append(commands(["train", str(file), *more], folder / f"said-{number}", count=count, sent=sent))
    assert all(code == 0 for code, _, _ in said[-1]), said[-1]
    return said


@pytest.fixture(scope="module")
def uncut(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by two processes without a break."""
    folder = tmp_path_factory.mktemp("uncut")
    trained(folder, model, (2, None))
    return folder


@pytest.fixture(scope="module")
def alone(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by one process without a break."""
    folder = tmp_path_factory.mktemp("alone")
    trained(folder, model, (1, None))
    return folder


def losses(folder: Path) -> list[float]:
    found = record(folder / "out")
    assert [line["step"] for line in found["steps"]] == list(range(1, found["trained"]["steps"] + 1))
    return [line["loss"] for line in found["steps"]]


def equal_up_to_rounding(ours: Path, theirs: Path, saved: Path = ADAPTER) -> None:
    assert losses(ours) == pytest.approx(losses(theirs), abs=1e-5)
    found, expected = load_file(ours / saved), load_file(theirs / saved)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)


def told_once(told: str, survivor: int) -> None:
    """What a process says that misses the other one."""
    assert told.count("Error") == 1
    assert f"Error: process {survivor} of 2: {LOST} See what that one says. Go on with --resume." in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_two_train_what_one_trains_and_compute_hardly_more(uncut: Path, alone: Path) -> None:
    equal_up_to_rounding(uncut, alone)
    two, one = (record(folder / "out")["trained"] for folder in (uncut, alone))
    assert (two["processes"], one["processes"]) == (2, 1)
    assert two["nominal_tokens"] == one["nominal_tokens"]
    assert one["computed_tokens"] < two["computed_tokens"] < 1.2 * one["computed_tokens"] < one["nominal_tokens"]


@pytest.mark.slow
def test_killed_and_resumed_is_uncut_bit_for_bit(model: Path, uncut: Path, tmp_path: Path) -> None:
    """The second, then both, then the first one."""
    said = trained(tmp_path, model, (2, Sent(2, [1])), (2, Sent(4, [0, 1])), (2, Sent(6, [0])), (2, None))
    assert [[code for code, _, _ in life] for life in said] == [[4, -9], [-9, -9], [-9, 4], [0, 0]]
    for life, survivor in ((0, 0), (2, 1)):
        told_once(said[life][survivor][2], survivor)
    assert ["training continues from step" in life[0][2] for life in said] == [False, True, True, True]
    assert (tmp_path / ADAPTER).read_bytes() == (uncut / ADAPTER).read_bytes()
    assert losses(tmp_path) == losses(uncut)


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["lora", "qlora"])
def test_a_base_in_shards_is_killed_and_goes_on_with_another_number(adapter: str, model: Path, tmp_path: Path) -> None:
    """Two processes with half of the base each, one with all of it, two with halves again; against one that is not killed.

    The command trains qlora in bfloat16 only, which rounds by what shares a pass; test_train_processes.py stops and resumes it in
    float32.
    """
    keys = {
        "adapter": adapter,
        "precision": "float32" if adapter == "lora" else None,
        "epochs": 2,
        "learning_rate": 3e-3,
    }
    files = [file_for(tmp_path / name, model, **keys) for name in ("cut", "whole")]
    lives = [(2, Sent(1, [1])), (1, Sent(2, [0])), (2, None)]
    ends = []
    for number, (count, sent) in enumerate(lives):
        more = ["--resume"] if number else []
        said = tmp_path / f"said-{number}"
        ends.append(commands(["train", str(files[0]), *more], said, count=count, sent=sent, shards=count == 2))
    assert [[code for code, _, _ in life] for life in ends] == [[4, -9], [-9], [0, 0]], ends
    told_once(ends[0][0][2], 0)
    assert [code for code, _, _ in commands(["train", str(files[1])], tmp_path / "said", count=1)] == [0]
    cut, whole = (record(tmp_path / name / "out") for name in ("cut", "whole"))
    assert (cut["trained"]["sharded"], whole["trained"]["sharded"]) == (True, False)
    found, expected = losses(tmp_path / "cut"), losses(tmp_path / "whole")
    assert expected[0] - expected[-1] > 0.1
    if adapter == "lora":
        equal_up_to_rounding(tmp_path / "cut", tmp_path / "whole")
    else:
        assert cut["model"]["quantised"] == whole["model"]["quantised"] == {"quantize": "nf4", "dtype": "bfloat16"}
        assert found == pytest.approx(expected, abs=0.01)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("shards", "keys"), [(False, {}), (True, {}), (True, {"adapter": "full"})], ids=["whole", "shards", "all in shards"]
)
def test_a_signal_to_one_of_them_stops_both_at_the_same_step(
    shards: bool, keys: dict[str, str], model: Path, tmp_path: Path
) -> None:
    """To the second, as where one of several machines is taken away. It waits until the first has saved, since a launcher ends all
    as soon as one of them ends.
    """
    file, said = file_for(tmp_path, model, checkpoint_every_s=3600, **keys), tmp_path / "said"
    sent = Sent(2, [1], signal.SIGTERM)
    asked = commands(["train", str(file)], said, sent=sent, shards=shards, save_s=1)
    assert [code for code, _, _ in asked] == [4, 4]
    assert "Stopped: a signal asked to stop, in step 4 of 8. Go on with --resume." in asked[0][2]
    assert asked[1][1:] == ("", "")
    assert steps_done(tmp_path) == 3
    saved = tmp_path / "out" / "checkpoint" / "state.json"
    assert saved.stat().st_mtime_ns < (said / "ended-1").stat().st_mtime_ns


def steps_done(folder: Path) -> int:
    return int(json.loads((folder / "out" / "checkpoint" / "state.json").read_text(encoding="utf-8"))["step"])


@pytest.mark.sampled_slow(3)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "shards"),
    [("kill", False), ("full disk", False), ("full disk", True)],
    ids=["killed", "full", "full, in shards"],
)
def test_a_checkpoint_that_does_not_become_whole_leaves_the_one_before(
    by: Literal["kill", "full disk"], shards: bool, model: Path, uncut: Path, alone: Path, tmp_path: Path
) -> None:
    file, said = file_for(tmp_path, model), tmp_path / "said"
    (first, _, told), (second, _, other) = commands(["train", str(file)], said, shards=shards, cut=Cut(4, by))
    assert (first, second) == (-9 if by == "kill" else 4, 4)
    full = f"Error: {tmp_path / 'out' / 'checkpoint'}: the disk is full."
    assert (told.count("Error"), told.count(full)) == ((0, 0) if by == "kill" else (1, 1))
    if by == "kill" or shards:
        told_once(other, 1)
    else:
        assert other == ""
    assert steps_done(tmp_path) == 3
    count = 1 if by == "kill" else 2
    assert [code for code, _, _ in commands(["train", str(file), "--resume"], said, count=count)] == [0] * count
    equal_up_to_rounding(tmp_path, alone if count == 1 else uncut)
    assert not list((tmp_path / "out").glob("checkpoint.new"))


@pytest.mark.release
def test_all_weights_go_on_in_another_number_of_processes(model: Path, tmp_path: Path) -> None:
    """What a checkpoint holds is whole in every process, so one of them writes it and any number goes on from it."""
    lives = [(2, Sent(2, [0, 1])), (1, Sent(4, [0])), (2, None)]
    for name, own in (("cut", lives), ("whole", [(1, None)])):
        (tmp_path / name).mkdir()
        trained(tmp_path / name, model, *own, adapter="full", epochs=3)
    equal_up_to_rounding(tmp_path / "cut", tmp_path / "whole", MODEL)


@pytest.mark.slow
def test_all_weights_in_shards_go_on_in_another_number_of_processes(model: Path, tmp_path: Path) -> None:
    """Two processes with half of the weights each, one with all, two with halves; the model saved is that of one process."""
    files = [file_for(tmp_path / name, model, adapter="full", epochs=3) for name in ("cut", "whole")]
    lives = [(2, Sent(2, [0, 1])), (1, Sent(4, [0])), (2, None)]
    for number, (count, sent) in enumerate(lives):
        said, more = tmp_path / f"said-{number}", ["--resume"] if number else []
        ends = commands(["train", str(files[0]), *more], said, count=count, sent=sent, shards=count == 2)
        assert [code for code, _, _ in ends] == ([0, 0] if sent is None else [-9] * count), ends
        kept = sorted(path.name for path in (tmp_path / "cut" / "out" / "checkpoint").glob("weights*"))
        assert kept == (
            ["weights-1-of-2.safetensors", "weights-2-of-2.safetensors"] if count == 2 else ["weights.safetensors"]
        )
    assert [code for code, _, _ in commands(["train", str(files[1])], tmp_path / "said", count=1)] == [0]
    assert [record(tmp_path / name / "out")["trained"]["sharded"] for name in ("cut", "whole")] == [True, False]
    equal_up_to_rounding(tmp_path / "cut", tmp_path / "whole", MODEL)
    saved = [sorted(path.name for path in (tmp_path / name / "out" / "model").iterdir()) for name in ("cut", "whole")]
    assert saved[0] == saved[1]


@pytest.mark.sampled_slow(2)
@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("by", ["kill", "full disk"])
def test_a_part_of_a_checkpoint_that_does_not_become_whole_leaves_the_one_before(
    by: Literal["kill", "full disk"], place: int, model: Path, tmp_path: Path
) -> None:
    """In whichever process it happens, the checkpoint after the third step stays, in both parts, and both go on from it."""
    file, said = file_for(tmp_path, model, adapter="full", epochs=3), tmp_path / "said"
    ends = commands(["train", str(file)], said, shards=True, cut=Cut(4, by, place))
    if by == "kill":
        assert (ends[place][0], ends[1 - place][0]) == (-9, 4), ends
        told_once(ends[1 - place][2], 1 - place)
    else:
        assert [code for code, _, _ in ends] == [4, 4], ends
        full = f"Error: {tmp_path / 'out' / 'checkpoint'}: the disk is full."
        assert ends[0][2].count("Error") == ends[0][2].count(full) == 1
        assert ends[1][1:] == ("", "")
        assert not list((tmp_path / "out").glob("checkpoint.new"))
    assert steps_done(tmp_path) == 3
    assert [code for code, _, _ in commands(["train", str(file), "--resume"], said, shards=True)] == [0, 0]
    whole = tmp_path / "whole"
    alone = commands(["train", str(file_for(whole, model, adapter="full", epochs=3))], said, count=1)
    assert [code for code, _, _ in alone] == [0]
    equal_up_to_rounding(tmp_path, whole, MODEL)
    assert not list((tmp_path / "out").glob("checkpoint.new"))


@pytest.mark.release
def test_two_then_one_then_two_processes_train_what_one_trains(model: Path, alone: Path, tmp_path: Path) -> None:
    trained(tmp_path, model, (2, Sent(3, [0, 1])), (1, Sent(6, [0])), (2, None))
    equal_up_to_rounding(tmp_path, alone)
    assert record(tmp_path / "out")["trained"]["processes"] == 2
