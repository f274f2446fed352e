"""What torch, CUDA and Python say of memory becomes one sentence with the plan's numbers; other errors stay what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lastresort.errors import InfrastructureError, PrerequisiteError
from lastresort.hardware.cards import GIB, Card
from lastresort.hardware.find import shape_named
from lastresort.hardware.plan.fit import PlannedTraining
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.spec.training import load_training
from lastresort.train.files.memory import NOTHING, MemoryAdvice, Room, memory_errors, what_to_lower
from lastresort.train.settings import TrainingFile

CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.2 GiB is free."
)
SETUP = Setup("lora", row_tokens=512, checkpointing=False, compute="float32")
PLANNED = PlannedTraining(shape_named("smollm2-135m"), SETUP, Cards(Card("cpu", 16 * GIB)), 512, 8 * 512, 1536)


def lower_it() -> MemoryAdvice:
    return MemoryAdvice("", "Lower it.")


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (MemoryError(), ""),
        (torch.OutOfMemoryError(CUDA), " for 2.50 GiB more"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), ""),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), ""),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 3221225472 bytes."
            ),
            " for 3.0 GiB more",
        ),
    ],
)
def test_out_of_memory_is_one_sentence(error: Exception, asked: str) -> None:
    with pytest.raises(InfrastructureError) as caught, memory_errors(lower_it):
        raise error
    assert str(caught.value) == f"training: there is not enough memory{asked}, expected a pass that fits. Lower it."
    assert caught.value.exit_code == 4


def test_torch_itself_on_this_machine() -> None:
    with pytest.raises(InfrastructureError, match=r"for 4,194,304\.0 GiB more"), memory_errors(lower_it):
        torch.empty(1 << 50)


def test_other_errors_stay_what_they_are_and_nothing_is_planned_for_them() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_errors(lambda: pytest.fail("asked")):
        raise RuntimeError("shapes do not match")


def test_the_answer_has_the_plans_numbers_and_a_setting_that_holds_less() -> None:
    """Whatever is free: what ran out of memory is advised less than it held by the plan."""
    room = Room(PLANNED, 100 * GIB)
    with pytest.raises(InfrastructureError) as caught, memory_errors(lambda: room.answer(begun=True)):
        raise MemoryError
    told = str(caught.value)
    needed = f"{PLANNED.needed_bytes / GIB:.1f} GiB"
    assert f"not enough memory: the plan says that it holds {needed} (most of it activations, " in told
    assert "and 100 GiB were free before it" in told
    assert "Go on with max_pass_tokens: " in told
    tokens = int(told.partition("max_pass_tokens: ")[2].partition(",")[0])
    activations = PLANNED.memory.of("activations")
    assert replace(PLANNED, pass_tokens=tokens).memory.of("activations") < 0.8 * activations
    assert "by --resume from the last checkpoint" in told


def test_what_cannot_go_on_begins_anew_and_what_never_fits_is_told() -> None:
    least = PlannedTraining(PLANNED.shape, replace(SETUP, checkpointing=True), PLANNED.cards, 512, 512, 512)
    assert Room(least, 100 * GIB).answer(begun=True).remedy.startswith("Begin a new run with adapter: qlora")
    assert Room(PLANNED, 1000).answer(begun=True).remedy.startswith(NOTHING)
    assert Room(PLANNED, None).answer(begun=False).remedy.startswith("Set max_pass_tokens: ")


def test_a_warning_comes_before_a_training_that_will_not_fit_and_no_other() -> None:
    assert Room(PLANNED, PLANNED.needed_bytes).warning() is None
    assert Room(PLANNED, None).warning() is None
    told = Room(PLANNED, int(0.9 * PLANNED.needed_bytes)).warning()
    assert told is not None
    assert told.startswith("this training may not fit: the plan says that it holds ")
    assert ". Set max_pass_tokens: " in told


def test_only_the_impossible_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, gradients and optimizer of all 134,515,008 weights are 2.0 GiB; activations would only be a forecast."""
    full = replace(PLANNED, setup=replace(SETUP, method="full"))

    def on(memory: float) -> Room:
        return Room(replace(full, cards=Cards(Card("cpu", int(memory * GIB)))), 0)

    monkeypatch.setattr("lastresort.train.files.memory.swap_bytes", lambda: 0)
    on(2.1).refuse_the_impossible()
    with pytest.raises(PrerequisiteError, match=r"alone take 2\.0 GiB and there are 1\.9 GiB\. Set .*adapter: lora"):
        on(1.9).refuse_the_impossible()
    monkeypatch.setattr("lastresort.train.files.memory.swap_bytes", lambda: GIB)
    on(1.9).refuse_the_impossible()


def test_without_a_plan_the_remedy_names_keys_that_the_file_has(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n', encoding="utf-8")

    def remedy(text: str) -> str:
        path = tmp_path / "train.yaml"
        path.write_text(f"data: rows.jsonl\nmax_pass_tokens: 512\n{text}", encoding="utf-8")
        file: TrainingFile = load_training(path)
        assert what_to_lower(replace(file, settings=replace(file.settings, checkpointing=True))) == what_to_lower(
            file
        ).replace(", or write checkpointing: true", "")
        return what_to_lower(file)

    assert remedy("") == (
        "Lower max_pass_tokens (512), or write checkpointing: true, and go on with --resume from the last checkpoint; a new run "
        "may lower max_tokens."
    )
    assert remedy("adapter: full").endswith("may lower max_tokens or train an adapter in place of all weights.")
    groups = "objective: grpo\nreward: [exact]\nmax_new_tokens: 99\n"
    assert "rows_at_once (64)" in remedy(groups)
    assert remedy(groups).endswith("may lower max_new_tokens (99).")
    assert "rows_at_once" not in remedy(groups + "server: http://h/v1#m")
