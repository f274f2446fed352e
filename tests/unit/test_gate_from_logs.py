"""`lastresort gate --from-logs`: verdicts, exit codes and files from what other tools wrote."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gate_support import gated_task
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.gate.from_logs import judge_logged, read_logs
from lastresort.gate.logs.logged import pair_measures
from lastresort.gate.verdict.compare import judge_measure
from lastresort.records.gate import GateDocument
from logs_support import DATE, FOLDER, write_inspect, write_samples

Run = Any  # (arguments) -> (exit code, stdout, stderr)
MANY = 400


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lastresort", "gate", *arguments])
        code = guarded(app)
        return code, *capsys.readouterr()

    return run


def two(tmp_path: Path, wrong: int, *, base_wrong: int = 20, task: str = "letters") -> tuple[str, str]:
    """Folders of base and tuned, of 400 items; the tuned model answers so many wrongly, those of the base first."""
    write_samples(tmp_path / "base", [0.0] * base_wrong + [1.0] * (MANY - base_wrong), task=task)
    write_samples(tmp_path / "tuned", [0.0] * wrong + [1.0] * (MANY - wrong), task=task, model="tuned")
    return "base", "tuned"


def written(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "gate.json").read_text(encoding="utf-8"))
    return found


def test_what_lost_nothing_ships(gate: Run, tmp_path: Path) -> None:
    code, out, error = gate("--from-logs", *two(tmp_path, 20), "--json")
    assert code == 0, error
    found = json.loads(out)
    assert GateDocument.model_validate(found).as_json() == found
    assert found == written(tmp_path / "gates" / "logs-1")
    assert (found["verdict"], found["mode"], found["bar"], found["tuned"]["kind"]) == ("SHIP", "logs", None, "logs")
    (suite,) = found["suites"]
    assert (suite["name"], suite["margin"], suite["n"], suite["base"]) == ("lm_eval:letters", 0.03, MANY, 0.95)
    assert found["target"]["passed"] is None
    assert "weights, precision and tokenizers are unknown" in found["notes"][-1]
    assert str(tmp_path) not in json.dumps(found)


def test_what_lost_too_much_is_rejected_everywhere(gate: Run, tmp_path: Path) -> None:
    logs = two(tmp_path, 80)
    code, out, error = gate("--from-logs", *logs, "--junit", "gate.xml", "--markdown", "gate.md")
    assert code == 1, error
    assert "Reject: the tuned model lost more than is accepted in lm_eval:letters." in out
    assert "\nlm_eval:letters: 95.0% before, 80.0% after" in " ".join(out.split(" "))
    assert max(map(len, out.splitlines())) <= 80
    suite = ElementTree.parse(tmp_path / "gate.xml").getroot().find("testsuite")
    assert suite is not None
    assert [case.get("name") for case in suite.findall("testcase")] == ["lm_eval:letters"]
    assert suite.get("failures") == "1"
    text = (tmp_path / "gate.md").read_text(encoding="utf-8")
    assert "**REJECT** · base base · tuned tuned (logs)" in text
    shown = written(tmp_path / "gates" / "logs-1")["suites"][0]["changed"]
    assert [(one["base_score"], one["tuned_score"]) for one in shown] == [(1.0, 0.0)] * 5


def test_margins_of_the_command_line_of_the_task_and_by_default(gate: Run, tmp_path: Path) -> None:
    logs = two(tmp_path, 32)
    assert gate("--from-logs", *logs, "--margin", "0.2")[0] == 0
    assert written(tmp_path / "gates" / "logs-1")["verdict"] == "SHIP"
    gate("--from-logs", *logs, "--margin", "lm_eval:letters=0.1", "--margin", "0.2")
    assert written(tmp_path / "gates" / "logs-2")["suites"][0]["margin"] == 0.1
    gated_task(tmp_path, task={"general": ["lm_eval:letters"], "keep": {"lm_eval:letters": 0.15, "general": 0.01}})
    gate("--from-logs", *logs, "task.yaml")
    assert written(tmp_path / "gates" / "routing-1")["suites"][0]["margin"] == 0.15
    two(tmp_path, 20, task="extra")
    gate("--from-logs", *logs, "--margin", "lm_eval:letters=skip")
    verdicts = {one["name"]: one["verdict"] for one in written(tmp_path / "gates" / "logs-3")["suites"]}
    assert verdicts == {"lm_eval:extra": "NON_INFERIOR", "lm_eval:letters": "SKIPPED"}


def test_what_the_base_only_guesses_says_nothing(gate: Run, tmp_path: Path) -> None:
    code, out, _ = gate("--from-logs", *two(tmp_path, 300, base_wrong=300))  # a quarter is right, of four choices
    found = written(tmp_path / "gates" / "logs-1")
    assert (code, found["verdict"], found["suites"][0]["verdict"]) == (0, "HOLD", "UNINFORMATIVE")
    assert "would have to score 31.0%, chance plus twice the margin" in found["suites"][0]["reason"]
    assert "--margin lm_eval:letters=skip" in " ".join(out.split())


def test_logs_that_the_tools_wrote(gate: Run, tmp_path: Path) -> None:
    inspect = [str(FOLDER / "inspect" / side) for side in ("base", "tuned")]
    assert gate("--from-logs", *inspect, "--out", "a")[0] == 0
    found = written(tmp_path / "a")
    assert [(one["name"], one["n"]) for one in found["suites"]] == [
        ("inspect:letters/choice", 4),
        ("inspect:sums/match", 8),
    ]
    assert {one["verdict"] for one in found["suites"]} == {"UNDERPOWERED"}
    assert any(
        "The logs of inspect:sums/match do not say how often a guess is right" in note for note in found["notes"]
    )
    assert gate("--from-logs", *inspect, "--margin", "0.001", "--out", "b")[0] == 0  # so few items prove nothing
    lm_eval = [str(FOLDER / "lm_eval" / side) for side in ("base", "tuned")]
    assert gate("--from-logs", *lm_eval, "--out", "c")[0] == 0
    letters = written(tmp_path / "c")["suites"][0]
    assert (letters["name"], letters["base"]) == ("lm_eval:letters", 0.25)
    assert [part["n"] for part in letters["strata"]] == [12, 12]


def test_the_verdict_is_that_of_any_suite_on_the_same_pairs(tmp_path: Path) -> None:
    two(tmp_path, 40)
    base, tuned = (read_logs(tmp_path / side).measures[0] for side in ("base", "tuned"))
    measure = pair_measures(base, tuned)
    expected = judge_measure("lm_eval:letters", "lm_eval:letters", measure.pairs, margin=0.03, binary=True, alpha=0.05)
    assert judge_logged(measure, 0.03) == expected
    assert expected.difference == pytest.approx(-0.05)


def test_a_measure_of_one_side_is_named(gate: Run, tmp_path: Path) -> None:
    logs = two(tmp_path, 20)
    write_samples(tmp_path / "base", [1.0] * 9, task="extra")
    assert gate("--from-logs", *logs)[0] == 0
    assert "lm_eval:extra is not in tuned and was left out." in written(tmp_path / "gates" / "logs-1")["notes"]


def inspected(path: Path, unscored: int, wrong: int = 0) -> str:
    values = [*"I" * wrong, *"C" * (MANY - wrong)][unscored:]
    scores: list[dict[str, Any]] = [{} for _ in range(unscored)] + [{"match": {"value": one}} for one in values]
    return write_inspect(path, ({"id": number, "scores": one} for number, one in enumerate(scores))).name


@pytest.mark.sampled(3, each="verdict")
@pytest.mark.parametrize(("unscored", "verdict"), [(12, "SHIP"), (13, "HOLD"), (160, "HOLD")])
def test_what_the_tuned_model_has_no_score_on_may_hide_its_loss(
    gate: Run, tmp_path: Path, unscored: int, verdict: str
) -> None:
    """3% of 400 are 12. The other way round nothing is hidden: what only the base could not be scored on is left out."""
    base, tuned = inspected(tmp_path / "base.json", 0), inspected(tmp_path / "tuned.json", unscored)
    assert gate("--from-logs", base, tuned)[0] == 0
    found = written(tmp_path / "gates" / "logs-1")
    assert found["verdict"] == verdict
    assert (f"{unscored} of 400 items" in found["suites"][0]["reason"]) is (verdict == "HOLD")
    assert found["suites"][0]["verdict"] == ("UNINFORMATIVE" if verdict == "HOLD" else "NON_INFERIOR")
    gate("--from-logs", tuned, base)
    assert written(tmp_path / "gates" / "logs-2")["verdict"] == "SHIP"
    worse = inspected(tmp_path / "worse.json", unscored, wrong=unscored + 100)
    assert gate("--from-logs", base, worse)[0] == 1  # a loss that is shown on the others stays one


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from-logs", "base", "missing"), "missing: found nothing on disk"),
        (("--from-logs", "base", "base"), "found the same place twice, base and base"),
        (("--from-logs", "base", "tuned/../base"), "Name first what the base wrote"),
        (("--from-logs", "base", "copy"), "found the same logs twice: base and copy hold the same bytes"),
        (("--from-logs", f"base/samples_letters_{DATE}.jsonl", "copy"), "found the same logs twice"),
        (("--from-logs", "base", "other"), "found lm_eval:letters in one and lm_eval:other in the other"),
        (("--from-logs", "base", "tuned", "--margin", "lm_eval:mmlu=0.03"), "a measure that both logs hold"),
        (("--from-logs", "base", "tuned", "--margin", "lm_eval:letters=skip"), "every measure is skipped"),
        (("--from-logs", "base", "tuned", "--margin", "3"), "a share strictly between 0 and 1"),
        (("--from-logs", "base", "tuned", "--margin", "0.1", "--margin", "0.2"), "each measure once"),
        (("--from-logs", "base", "tuned", "--tuned", "x"), "found --tuned with --from-logs"),
        (("--from-logs", "base", "tuned", "--quick"), "Remove --quick."),
        (("task.yaml",), "found no tuned model"),
        ((), "found no task file"),
        (("task.yaml", "--tuned", "x", "--margin", "0.1"), "found --margin without --from-logs"),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_sentence(
    gate: Run, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    two(tmp_path, 20)
    (samples,) = (tmp_path / "base").iterdir()
    (tmp_path / "copy").mkdir()
    shutil.copy(samples, tmp_path / "copy" / "samples_letters_2026-02-02T03-04-05.678901.jsonl")
    (tmp_path / "copy" / "notes.txt").write_text("not a log", encoding="utf-8")
    write_samples(tmp_path / "other", [1.0], task="other")
    code, _, error = gate(*arguments)
    assert code == 2
    assert told in " ".join(error.split())
    assert not (tmp_path / "gates").exists()


def test_two_that_answer_alike_in_every_character_are_told_apart_by_their_results(gate: Run, tmp_path: Path) -> None:
    for side in ("base", "tuned"):
        samples = write_samples(tmp_path / side, [1.0] * MANY)
        results = {"config": {"model": side}, "results": {}, "group_subtasks": {}, "higher_is_better": {}}
        samples.with_name(f"results_{DATE}.json").write_text(json.dumps(results), encoding="utf-8")
    gate("--from-logs", "base", "tuned")
    assert written(tmp_path / "gates" / "logs-1")["verdict"] == "SHIP"


def in_epochs(path: Path, short: int, *, logged: bool = True) -> str:
    """Of 400 samples in 4 epochs so many are without the score of one; logged: whether that epoch stands in the log at all."""
    samples: list[dict[str, Any]] = []
    for number in range(MANY):
        kept = [1, 2, 3] if number < short else [1, 2, 3, 4]
        scored = {"match": {"value": "C"}}
        samples += [{"id": number, "epoch": epoch, "scores": scored} for epoch in kept]
        if logged and number < short:
            error = {"message": "timed out", "traceback": "", "traceback_ansi": ""}
            samples.append({"id": number, "epoch": 4, "error": error})
    return write_inspect(path, samples, epochs=4).name


@pytest.mark.sampled(4, each="verdict")
@pytest.mark.parametrize("logged", [True, False])
@pytest.mark.parametrize(("short", "verdict"), [(48, "SHIP"), (52, "HOLD")])
def test_an_epoch_without_a_score_hides_its_share_of_an_item(
    gate: Run, tmp_path: Path, short: int, verdict: str, logged: bool
) -> None:
    base, tuned = in_epochs(tmp_path / "base.json", 0), in_epochs(tmp_path / "tuned.json", short, logged=logged)
    assert gate("--from-logs", base, tuned)[0] == 0
    found = written(tmp_path / "gates" / "logs-1")
    assert found["verdict"] == verdict
    assert ("13 of 400 items" in found["suites"][0]["reason"]) is (verdict == "HOLD")
    assert f"{short} samples of tuned.json have a score in only some of the epochs." in " ".join(found["notes"])
    alike = (tmp_path / tuned).read_text(encoding="utf-8").replace("2026-01-02T", "2026-01-01T")
    (tmp_path / "alike.json").write_text(alike, encoding="utf-8")
    gate("--from-logs", "alike.json", tuned)
    assert written(tmp_path / "gates" / "logs-2")["verdict"] == "SHIP"  # what neither has hides nothing
