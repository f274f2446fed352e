"""Two processes that cannot write a checkpoint in parts, or do not hold the same model: both hear the same sentence."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine_support import draw, row, tiny
from lastresort.engine.parts import back_into_shards, whole
from lastresort.errors import LastresortError
from lastresort.train.loop import checkpoints
from lastresort.train.loop.batches import completions
from lastresort.train.loop.checkpoints import STATE, CheckpointState, load_checkpoint, save_checkpoint
from lastresort.train.loop.loop import train
from lastresort.train.loop.processes import Processes, into_shards, join
from lastresort.train.settings import AdapterSettings, TrainSettings
from processes_support import ended, started


def in_each_process(folder: Path) -> None:
    place, found = join().place, dict[str, str]()

    def note(name: str, work: Callable[[Processes], Any]) -> None:
        processes = Processes(place, 2, sharded=True)
        try:
            with processes.together():
                work(processes)
        except LastresortError as error:
            found[name] = f"{error} ({'again' if processes.reported_by_main(error) else 'first'})"

    def other_disks(processes: Processes) -> None:
        model = into_shards(tiny(dtype=torch.float32).requires_grad_(True), processes)
        settings = TrainSettings(learning_rate=1e-3, max_steps=1, adapter=AdapterSettings(kind="none"))
        items = completions([row(draw(5, 1), draw(2, number)) for number in range(4)])
        train(model, items, settings, folder=folder / str(place) / "checkpoint", processes=processes)

    def other_weights(processes: Processes) -> None:
        into_shards(tiny(dtype=torch.float32, tie_word_embeddings=place > 0).requires_grad_(True), processes)

    def full_at_the_end(processes: Processes) -> None:
        model = into_shards(tiny(dtype=torch.float32).requires_grad_(True), processes)
        optimizer = torch.optim.AdamW(model.parameters())
        checkpoints.replace_folder = lambda *_: refuse(folder / "checkpoint" / STATE)
        save_checkpoint(folder / "checkpoint", model, optimizer, CheckpointState(1, "r", 0, 0, 0.0), processes)

    note("other disks", other_disks)
    note("other weights", other_weights)
    note("full at the end", full_at_the_end)
    (folder / f"found-{place}.json").write_text(json.dumps(found))
    join().close()


def refuse(path: Path) -> None:
    with checkpoints.disk_errors(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.slow
def test_both_hear_why_parts_cannot_be_written(tmp_path: Path) -> None:
    """Before the first step, where what each writes is on a disk of its own: no checkpoint would ever be whole."""
    code = "import sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[1])\nimport test_parts_of_checkpoints\n"
    code += "test_parts_of_checkpoints.in_each_process(Path(sys.argv[2]))"
    ends = ended(started(code, str(Path(__file__).parent), str(tmp_path)))
    assert [code for code, _, _ in ends] == [0, 0], ends
    first, second = (json.loads((tmp_path / f"found-{place}.json").read_text()) for place in range(2))
    for name, expected in (
        ("other disks", "the first process does not see what process 1 writes there"),
        ("other weights", "are not those that its config.json describes"),
        ("full at the end", "the disk is full"),
    ):
        assert expected in first[name]
        assert first[name].endswith("(first)")
        assert second[name] == first[name].replace(f"{tmp_path}/0", f"{tmp_path}/1").replace("(first)", "(again)")
    assert not list(tmp_path.rglob("checkpoint.new"))


def test_what_a_process_leaves_that_is_killed_while_they_look_for_each_other_goes_with_unfinished_checkpoints(
    tmp_path: Path,
) -> None:
    folder, seen = tmp_path / "checkpoint", list[Path]()

    class Watched(Processes):
        def from_main(self, make: Callable[[], Any]) -> Any:
            seen.extend(path for path in tmp_path.rglob("*") if path.is_file())
            return super().from_main(make)

    checkpoints._require_one_folder(folder, Watched())
    assert [path.parent for path in seen] == [tmp_path / "checkpoint.new"]
    assert list(tmp_path.iterdir()) == []
    seen[0].parent.mkdir()
    seen[0].touch()
    model = torch.nn.Linear(1, 1)
    assert load_checkpoint(folder, model, torch.optim.AdamW(model.parameters()), "run") is None
    assert list(tmp_path.iterdir()) == []


def test_a_torch_without_processes_trains_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some builds for Windows and Jetson have no torch.distributed, of which these modules then cannot be imported."""
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    for name in ("torch.distributed.tensor", "torch.distributed.fsdp"):
        monkeypatch.setitem(sys.modules, name, None)
    tensor = torch.zeros(1)
    assert whole(tensor) is tensor
    back_into_shards(torch.nn.Linear(1, 1))
    spec = importlib.util.spec_from_file_location("checkpoints_alone", str(checkpoints.__file__))
    assert spec is not None
    assert spec.loader is not None
    again = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, again)
    spec.loader.exec_module(again)
