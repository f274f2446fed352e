"""The benchmark for a GPU, on the processor with a tiny model: the very code that runs on the day one is at hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.gpu import ANCHOR, forecasts, known_of, measure, ratio, table, wanted
from benchmarks.gpu_material import SHAPES, WORKS, Work, build, sft_rows
from benchmarks.gpu_peers import KERNELS, OURS, PADDED, UNPADDED, WHO, Who
from benchmarks.gpu_row import measured
from benchmarks.trl_side import TrlSetting

from lastresort.hardware.shape import shape_of

TINY = next(shape for shape in SHAPES if shape.name == "tiny")


def work_of(part: str) -> Work:
    return next(work for work in WORKS if work.part == part)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_ours_runs_every_work(work: Work) -> None:
    who = next(one for one in WHO[work.part] if one.ours and one.kernel in (None, "products"))
    row = measured(TINY, work, who, 2)
    assert "failed" not in row, row["failed"]
    assert row["rows_per_s"] > 0
    assert row["tokens_per_s"] > 0
    assert row["peak_bytes"] > 0
    assert (row["planned_bytes"] is not None) == (work.part in ("sft", "kernels", "pairs", "update"))
    if work.shared or work.members > 1:
        assert row["computed_tokens_per_s"] < row["tokens_per_s"] or work.part == "groups"
    if work.part == "kernels":
        assert row["path"] == "packed by products"


@pytest.mark.parametrize("part", ["sft", "pairs", "update"])
def test_checkpointing_changes_no_loss(part: str) -> None:
    plain, checkpointed = (measured(TINY, work_of(part), who, 2) for who in OURS)
    assert checkpointed["losses"] == pytest.approx(plain["losses"], abs=1e-3)


def test_a_kernel_that_the_device_has_not_is_a_row_that_says_so() -> None:
    levels = next(who for who in KERNELS if who.kernel == "levels")
    assert 'no attention kernel "levels" on cpu' in measured(TINY, work_of("kernels"), levels, 2)["failed"]


def test_both_score_the_same() -> None:
    ours, peer = (measured(TINY, work_of("scoring"), who, 2) for who in WHO["scoring"][:2])
    assert peer["losses"] == pytest.approx(ours["losses"], rel=1e-3)


@pytest.mark.parametrize("part", ["sampling", "fewshot"])
def test_transformers_answers(part: str) -> None:
    for who in (one for one in WHO[part] if not one.ours and not one.setting.flash):
        row = measured(TINY, work_of(part), who, 2)
        assert row.get("failed") is None
        assert row["tokens_per_s"] > 0


def trained_by(part: str, who: Who) -> dict[str, object]:
    pytest.importorskip("trl")
    row = measured(TINY, work_of(part), who, 3)
    assert "failed" not in row, row["failed"]
    return row


@pytest.mark.slow
@pytest.mark.parametrize("part", ["sft", "pairs", "update"])
def test_trl_trains_the_same(part: str) -> None:
    """The same losses, up to rounding in 16 bits."""
    ours = measured(TINY, work_of(part), OURS[0], 3)
    assert trained_by(part, PADDED[0])["losses"] == pytest.approx(ours["losses"], abs=2e-3)


@pytest.mark.slow
def test_trl_packs_and_samples() -> None:
    packed = trained_by("sft", UNPADDED[0])
    padded = trained_by("sft", PADDED[0])
    assert packed["rows"] == pytest.approx(padded["rows"], rel=0.1)
    assert trained_by("groups", PADDED[0])["tokens_per_s"]


def test_trl_takes_a_batch_in_passes(tmp_path: Path) -> None:
    from benchmarks.trl_side import trl_arguments

    from lastresort.train.settings import TrainSettings

    setting = TrlSetting(reduced=True, pass_rows=4)
    found = trl_arguments(TrainSettings(1e-4, batch_size=16), str(tmp_path), setting, device="cuda")
    assert (found["per_device_train_batch_size"], found["gradient_accumulation_steps"]) == (4, 4)
    assert found["use_cpu"] is False


def test_what_is_not_installed_is_a_row_and_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_process(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(subprocess, "run", no_process)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for who in PADDED[:2]:
        row = measure("tiny", work_of("sft"), who, 2, 0.0)
        assert row is not None
        assert row["failed"] == "trl is not installed"
    row = measure("tiny", work_of("sampling"), WHO["sampling"][2], 2, 0.0)
    assert row is not None
    assert row["failed"] == "flash_attn is not installed"


def test_a_pass_that_is_out_of_memory_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(int(command[-1]))
        rows = max(4, 16 >> asked[-1])
        row = {"no_memory": True, "pass_rows": rows} if rows > fits else {"rows_per_s": 1.0, "pass_rows": rows}
        return subprocess.CompletedProcess(command, 0, json.dumps(row), "")

    monkeypatch.setattr(subprocess, "run", run)
    fits = 8
    row = measure("tiny", work_of("sft"), OURS[0], 2, 1e18)
    assert (row, asked) == ({"rows_per_s": 1.0, "pass_rows": 8}, [0, 1])
    fits, asked = 0, []
    row = measure("tiny", work_of("sft"), OURS[0], 2, 1e18)
    assert (row, asked) == ({"no_memory": True, "pass_rows": 4}, [0, 1, 2, 3])


def test_the_shapes_are_those_of_their_models() -> None:
    """As their pages say: 0.49, 1.54, 7.62 and 8.03 billion weights."""
    found = {shape.name: shape_of(dict(shape.config), shape.name).parameters / 1e9 for shape in SHAPES}
    del found["tiny"]
    assert found == pytest.approx(
        {"Qwen2.5-0.5B": 0.494, "Qwen2.5-1.5B": 1.544, "Qwen2.5-7B": 7.616, "Llama-3-8B": 8.030}, abs=5e-4
    )


def test_the_rows_have_their_lengths() -> None:
    built = build(TINY, "cpu")
    long = next(work for work in WORKS if work.name == ANCHOR[1]).small
    assert {len(row.ids) for row in sft_rows(long, built, 2)} == {256}
    shared = work_of("sft").small
    rows = sft_rows(shared, built, 2)
    assert len({row.ids[: shared.shared] for row in rows}) == 1
    assert {sum(row.targets) for row in rows} == {shared.answer}
    assert len({len(row.ids) for row in rows}) > 1


def row_of(
    who: str, *, ours: bool, rows_per_s: float, peak_bytes: int, planned_bytes: int | None = None
) -> dict[str, object]:
    return {
        "shape": ANCHOR[0], "work": ANCHOR[1], "part": "sft", "who": who, "ours": ours, "device": "a GPU",
        "rows_per_s": rows_per_s, "tokens_per_s": 4096 * rows_per_s, "computed_tokens_per_s": 4096 * rows_per_s,
        "tflops_per_s": 400.0, "mfu": 0.404, "peak_bytes": peak_bytes, "planned_bytes": planned_bytes,
        "planned_passing_bytes": planned_bytes and planned_bytes // 2, "planned_rows_per_s": None, "pass_tokens": None,
        "pass_rows": 4, "losses": [1.0, 0.5], "path": "",
    }  # fmt: skip


def test_the_table_compares_the_best_of_each() -> None:
    rows = [
        row_of("lastresort", ours=True, rows_per_s=4.0, peak_bytes=60, planned_bytes=66),
        row_of("lastresort, checkpointing", ours=True, rows_per_s=3.0, peak_bytes=20),
        row_of("TRL", ours=False, rows_per_s=2.0, peak_bytes=80),
        row_of("TRL, checkpointing", ours=False, rows_per_s=1.0, peak_bytes=40),
    ]
    speed, anchor = ratio(*ANCHOR[:2], rows)
    assert "**2.00 x**" in speed
    assert "**0.50 of the peer's**" in speed
    assert "12,473" in anchor
    assert f"ours {4 * 4096 / 12_473:.2f} x" in anchor
    failed = {"shape": ANCHOR[0], "work": ANCHOR[1], "part": "sft", "who": "TRL, Liger", "ours": False, "failed": "no"}
    lines = table({"calls": [], "rows": [*rows, failed]}).splitlines()
    cells = {line.count("|") for line in lines if line.startswith("|")}
    assert cells == {16}
    assert any("+10%" in line for line in lines)


def test_what_the_plan_lacks_is_fitted_to_half() -> None:
    rows = [
        row_of(str(n), ours=True, rows_per_s=1.0, peak_bytes=planned + 500 + planned // 10, planned_bytes=planned)
        for n, planned in enumerate((1000, 2000, 3000, 4000, 5000, 6000))
    ]
    _, fitted = forecasts(rows)
    assert "+20.0% of what comes and goes" in fitted
    assert "in 3 of the 3 others, at most 0% off" in fitted


def test_a_part_of_it_is_chosen() -> None:
    found = list(wanted(["tiny"], ["sft"], ["packed"]))
    assert {work.part for _, work, _ in found} == {"sft"}
    assert {who.name for _, _, who in found} == {who.name for who in UNPADDED if "packed" in who.name}


@pytest.mark.slow
def test_one_command_measures_and_goes_on(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--models",
        "tiny",
        "--only",
        "scoring",
        "--out",
        str(tmp_path / "all"),
    ]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "lastresort ..." not in done.stderr
    document = known_of([tmp_path / "all.json"])
    assert [row["who"] for row in document["rows"]] == [who.name for who in WHO["scoring"]]
    assert len(document["calls"]) == 2
    assert done.stdout.strip() == (tmp_path / "all.md").read_text(encoding="utf-8").strip()
