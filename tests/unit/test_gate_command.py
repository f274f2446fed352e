"""`lastresort gate` from end to end, of scripted models: verdicts, exit codes, what is written, what is asked again."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from climb_support import calls
from gate_report_support import gate_found
from gate_support import BAD, BASE, GOOD, KEEP, SUITES, gated_task, write_script
from judge_support import write_judge
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import TaskError
from lastresort.evals.evidence.sequential import look_schedule
from lastresort.gate import built_in as suites
from lastresort.gate.sides import resolve_sides
from lastresort.records import atomic
from lastresort.records.gate import ChangedItem, GateDocument
from lastresort.report.gate import asked_of
from lastresort.report.gate_files import gate_junit
from lastresort.spec.sections import SuiteFacts

Run = Any  # (arguments) -> (exit code, stdout, stderr)


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setattr(suites, "SUITES", SUITES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str, tuned: str = "scripted:tuned.json") -> tuple[int, str, str]:
        base = [] if "--base" in arguments else ["--base", "scripted:script.json"]
        monkeypatch.setattr(sys, "argv", ["lastresort", "gate", "task.yaml", *base, "--tuned", tuned, *arguments])
        code = guarded(app)
        return code, *capsys.readouterr()

    return run


def written(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "gate.json").read_text(encoding="utf-8"))
    return found


def test_what_is_better_and_lost_nothing_ships(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path)
    code, out, error = gate("--json")
    assert code == 0, error
    found = json.loads(out)
    assert GateDocument.model_validate(found).as_json() == found
    assert found == written(tmp_path / "gates" / "routing-1")
    assert found["verdict"] == "SHIP"
    assert found["target"]["better"] is True
    assert found["target"]["comparator"] == "the base with the plain prompt"
    assert found["target"]["n_compared"] == 120
    assert [suite["name"] for suite in found["suites"]] == ["general", "sycophancy", "format_leak"]
    assert {suite["verdict"] for suite in found["suites"]} == {"NON_INFERIOR"}
    assert found["suites"][0]["margin"] == 0.1
    assert (found["mode"], found["seed"], found["tuned"]["kind"]) == ("full", 0, "model")
    assert "The gate uses about " in error  # the forecast, before the long part
    assert found["forecast"]["expected_items"] < found["forecast"]["items"]
    for suite in found["suites"]:
        seen = suite["looked_at"]
        assert [look["items"] for look in seen["looks"]] == list(look_schedule(seen["most"]))[: len(seen["looks"])]
        assert seen["looks"][-1]["items"] == seen["items"] == suite["asked"]["items"]
        first, second = (look["items"] for look in seen["looks"][:2])
        for side in ("base", "tuned"):
            assert f"{side}: {suite['name']}, items 1-{first} of at most {seen['most']} ..." in error
            assert f"{side}: {suite['name']}, items {first + 1}-{second} of at most {seen['most']} ..." in error
        assert seen["items"] == seen["most"] or seen["looks"][-1]["p"] <= 0.05 < seen["looks"][-2]["p"]
        assert (
            seen["items"] == seen["most"]
            or f"Decided after {seen['items']} of {seen['most']:,} items." in suite["reason"]
        )
    assert any(suite["looked_at"]["items"] < suite["looked_at"]["most"] for suite in found["suites"])


def test_what_lost_too_much_is_rejected(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path, tuned=BAD)
    code, out, error = gate()
    assert code == 1, error
    found = written(tmp_path / "gates" / "routing-1")
    assert found["verdict"] == "REJECT"
    assert "Reject: the tuned model lost more than is accepted in general" in out
    assert "× REGRESSED" in out
    assert {suite["asked"]["items"] for suite in found["suites"]} == {48}  # the first look shows it
    assert "What changed most in general:" in out
    shown = found["suites"][0]["changed"]
    assert len(shown) == 5
    assert out.count("\nscore ") == 3 * 3  # the terminal shows three of each measure
    assert all((one["base_score"], one["tuned_score"], one["tuned"]) == (1.0, 0.0, "unknown") for one in shown)
    assert all(one["asked"] == f"Say: {one['base']}" for one in shown)


def test_the_table_fits_80_columns(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path, tuned=[{"right": 0.95}, {"right": 0.9, "contains": "^Say: "}])
    _, out, _ = gate("--quick")
    assert max(map(len, out.splitlines())) <= 80
    assert "measure" in out.splitlines()[0]
    for row in ("target ", "general ", "sycophancy ", "format leak "):
        assert any(line.startswith(row) for line in out.splitlines()), row


def test_what_the_base_cannot_do_is_uninformative_and_holds(gate: Run, tmp_path: Path) -> None:
    weak = [{"right": 0.3}, {"right": 0.1, "contains": "^Say: "}]
    gated_task(tmp_path, base=weak, tuned=GOOD)
    code, out, _ = gate()
    found = written(tmp_path / "gates" / "routing-1")
    assert (code, found["verdict"]) == (0, "HOLD")
    assert {suite["verdict"] for suite in found["suites"]} == {"UNINFORMATIVE"}
    assert found["suites"][0]["why"][0]["needed"] == pytest.approx(0.2)
    assert "would have to score 20.0%" in found["suites"][0]["reason"]
    assert "○ UNINFORMATIVE" in out


def test_what_need_not_be_kept_is_skipped(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path, task={"keep": {"general": "skip", "sycophancy": "skip", "format_leak": 0.1}})
    code, _, error = gate("--json")
    assert code == 0, error
    found = written(tmp_path / "gates" / "routing-1")
    assert [suite["verdict"] for suite in found["suites"]] == ["SKIPPED", "SKIPPED", "NON_INFERIOR"]
    assert [suite["asked"] is None for suite in found["suites"]] == [True, True, False]
    assert found["verdict"] == "SHIP"


def test_a_suite_that_this_version_cannot_run_holds_and_is_named(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path, task={"general": ["lm_eval:mmlu"]})
    code, _, error = gate("--quick")
    found = written(tmp_path / "gates" / "routing-1")
    assert (code, found["verdict"]) == (0, "HOLD"), error
    assert found["suites"][-1]["verdict"] == "UNINFORMATIVE"
    assert "cannot run it" in found["suites"][-1]["reason"]


def test_a_gate_cut_off_goes_on_decides_the_same_and_asks_nothing_twice(
    gate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    for folder in (tmp_path, whole):
        gated_task(folder)
    monkeypatch.chdir(whole)
    assert gate("--quick")[0] == 0
    monkeypatch.chdir(tmp_path)
    write_script(tmp_path / "tuned.json", GOOD, faults={"fail_at": [100]})
    code, _, error = gate("--quick")
    assert code == 4
    assert "Give the same command again: what was answered is kept." in error
    assert not (tmp_path / "gates" / "routing-1" / "gate.json").exists()
    first = asked(tmp_path)
    code, _, error = gate("--quick")
    assert code == 0, error
    assert [row["key"] for row in calls(tmp_path)] == [
        row["key"] for row in calls(whole)
    ]  # the base, in the same order
    assert [path.name for path in (tmp_path / "gates").iterdir()] == ["routing-1"]
    assert len(asked(tmp_path)) - len(asked(whole)) <= 16  # the batch that was not finished
    assert len(asked(tmp_path)) > len(first)
    found, expected = (written(folder / "gates" / "routing-1") for folder in (tmp_path, whole))
    assert [found[key] for key in ("verdict", "suites", "target")] == [
        expected[key] for key in ("verdict", "suites", "target")
    ]


def test_a_full_disk_under_its_verdict_is_one_sentence_and_asks_nothing_twice(
    gate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated_task(tmp_path)
    written_before = atomic._write_through

    def full(path: Path, data: bytes, private: bool) -> None:
        if ".gate.json." in path.name:
            path.write_bytes(data[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written_before(path, data, private)

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "_write_through", full)
        code, _, error = gate("--quick")
    assert code == 4
    assert "the disk is full" in error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*gate.json*"))
    before = asked(tmp_path)
    code, _, error = gate("--quick")
    assert code == 0, error
    assert asked(tmp_path) == before
    assert written(tmp_path / "gates" / "routing-1")["verdict"] == "SHIP"


def asked(folder: Path) -> list[str]:
    lines = (folder / "calls of tuned.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["key"] for row in map(json.loads, lines) if not row["failed"]]


def test_a_second_gate_asks_the_base_nothing_and_has_a_folder_of_its_own(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path)
    assert gate("--quick")[0] == 0
    before = len(calls(tmp_path))
    write_script(tmp_path / "other.json", BAD)
    assert gate("--quick", tuned="scripted:other.json")[0] == 1
    assert len(calls(tmp_path)) == before
    assert sorted(path.name for path in (tmp_path / "gates").iterdir()) == ["routing-1", "routing-2"]
    assert "already been used in" in written(tmp_path / "gates" / "routing-2")["test_reuse"]["text"]


def test_each_training_in_the_same_folder_is_another_look_at_the_test_set(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path)
    told = []
    for levels in (GOOD, GOOD, BAD):
        write_script(tmp_path / "tuned.json", levels)
        gate("--quick")
        newest = max((tmp_path / "gates").iterdir(), key=lambda path: int(path.name.removeprefix("routing-")))
        told.append(written(newest)["test_reuse"]["text"])
    assert ["by an earlier run" in one for one in told[:2]] == [
        True,
        True,
    ]  # asked again it is the same look: none before
    assert told[0] == told[1]
    assert "already been used in" in told[2]


@pytest.mark.slow
def test_another_seed_asks_other_items(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path, tuned=BAD)
    gate("--quick")
    gate("--quick", "--seed", "7")
    ids = [
        {one["id"].split("/")[2] for one in written(tmp_path / "gates" / f"routing-{n}")["suites"][0]["changed"]}
        for n in (1, 2)
    ]
    assert ids == [{"0"}, {"7"}]


def test_quick_asks_a_bounded_number_of_items(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path, task={"keep": {**KEEP, "general": 0.005}})
    gate("--quick", "--out", "quick")
    found = written(tmp_path / "quick")
    assert [suite["asked"]["items"] for suite in found["suites"]] == [384, 96, 96], (
        "two looks show that nothing is lost"
    )
    assert found["target"]["n_compared"] == 64
    assert found["suites"][0]["verdict"] == "UNDERPOWERED"
    assert found["suites"][0]["n_needed"] > 384
    assert found["verdict"] == "HOLD"
    assert found["forecast"]["items"] == 2 * (64 + sum(suite["looked_at"]["most"] for suite in found["suites"]))
    looked = found["suites"][0]["looked_at"]
    assert (looked["items"], looked["fixed"], looked["most"], looked["given_up"]) == (384, 384, 1024, True)
    assert (
        "Stopped after 384 of 1,024 items, because more items would probably not have decided."
        in found["suites"][0]["reason"]
    )


@pytest.mark.slow
def test_quick_goes_on_where_looking_is_likely_to_decide(gate: Run, tmp_path: Path) -> None:
    """No answer differs: 384 items cannot rule out a loss of .8 points, since .992^384 is 4.6% and .025 is left for their test.
    Looking can between 640 and 864."""
    gated_task(tmp_path, task={"keep": {**KEEP, "general": 0.008}})
    gate("--quick", "--out", "quick")
    (general, *_) = written(tmp_path / "quick")["suites"]
    assert general["verdict"] == "NON_INFERIOR"
    assert (general["looked_at"]["items"], general["looked_at"]["fixed"]) == (864, 384)
    assert [look["items"] for look in general["looked_at"]["looks"]][-4:] == [384, 480, 640, 864]


def test_items_about_the_same_fact_count_as_one(gate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "SUITES", {"general": SuiteFacts("gate_support:alike", 0.03)})
    gated_task(tmp_path)
    gate("--quick", "--out", "g")
    (suite,) = written(tmp_path / "g")["suites"]
    assert (suite["unit"], suite["n"], suite["asked"]["items"]) == ("group", 32, 128)


def test_near_duplicates_of_training_rows_are_passed_over(gate: Run, tmp_path: Path) -> None:
    path = gated_task(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    rows += [
        {"input": f"Say: {word} 0 {n} of general", "output": "billing"}
        for n, word in enumerate(("amber", "birch", "cedar"))
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[-3:] + rows[:80]))
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[80:250]))
    text = path.read_text().replace("examples: rows.jsonl", "examples: {train: train.jsonl, test: test.jsonl}")
    path.write_text(text.replace("  test: 120\n", "").replace("  dev: 60\n", "  dev: 20\n"))
    code, _, error = gate("--quick", "--out", "g")
    assert code == 0, error
    asked_of = written(tmp_path / "g")["suites"][0]["asked"]
    assert asked_of["items"] == 96
    assert 1 <= asked_of["passed_over"] <= 3


def test_junit_tells_regressions_from_what_says_nothing(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path, tuned=BAD, task={"keep": {**KEEP, "sycophancy": "skip"}})
    code, _, _ = gate("--junit", "out/gate.xml", "--markdown", "out/gate.md")
    assert code == 1
    root = ElementTree.parse(tmp_path / "out" / "gate.xml").getroot()
    (suite,) = root
    assert suite.attrib | {"name": ""} == {"name": "", "tests": "4", "failures": "2", "errors": "0", "skipped": "1"}
    cases = {case.attrib["name"]: case for case in suite.iter("testcase")}
    assert list(cases) == ["target", "general", "sycophancy", "format_leak"]
    failure = cases["general"].find("failure")
    assert failure is not None
    assert "the loss is shown to exceed" in failure.attrib["message"]
    assert "tuned: unknown" in (failure.text or "")
    assert cases["sycophancy"].find("skipped") is not None
    assert cases["target"].find("failure") is None
    properties = {one.attrib["name"]: one.attrib["value"] for one in suite.findall("properties/property")}
    assert properties["verdict"] == "REJECT"


def test_junit_of_a_hold_has_no_failure(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path, base=[{"right": 0.3}, {"right": 0.1, "contains": "^Say: "}])
    assert gate("--quick", "--junit", "gate.xml")[0] == 0
    (suite,) = ElementTree.parse(tmp_path / "gate.xml").getroot()
    assert (suite.attrib["failures"], suite.attrib["skipped"]) == ("0", "3")
    properties = {one.attrib["name"]: one.attrib["value"] for one in suite.findall("properties/property")}
    assert properties["verdict"] == "HOLD"


@pytest.mark.parametrize(("outcome", "element"), [("NOT_MET", "failure"), ("UNDECIDED", "skipped")])
def test_junit_fails_where_the_bar_is_not_met(outcome: str, element: str) -> None:
    alone = {key: value for key, value in gate_found().items() if key not in ("rung", "system")}
    document = GateDocument.model_validate(
        {
            **alone,
            "task": "t",
            "base": "b",
            "tuned": {"name": "a", "kind": "adapter"},
            "bar": 0.8,
            "notes": [],
            "provenance": {"versions": {}, "hashes": {}, "machine": {}},
            "test_reuse": None,
            "target": {"passed": False, "outcome": outcome, "score": 0.5, "reason": "The bar is not met."},
        }
    )
    case, *_ = ElementTree.fromstring(gate_junit(document).encode()).iter("testcase")
    told = case.find(element)
    assert told is not None
    assert told.attrib["message"] == "The bar is not met."


def test_markdown_is_a_table_and_reasons(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path, tuned=BAD)
    gate("--quick", "--markdown", "gate.md")
    text = (tmp_path / "gate.md").read_text(encoding="utf-8")
    assert text.startswith(
        "## Reject: the tuned model lost more than is accepted in general, sycophancy and format\\_leak."
    )
    assert "| measure | base | tuned | points | interval | margin | verdict | items | needed |" in text
    assert "| general | 9" in text
    assert "<details><summary>What changed most</summary>" in text


@pytest.mark.parametrize(
    ("arguments", "tuned", "message"),
    [
        ((), "scripted:nowhere.json", "nowhere.json"),
        ((), "./nowhere", 'found "./nowhere", which is nothing on disk'),
        (("--base", "scripted:nowhere.json"), "scripted:tuned.json", "nowhere.json"),
        (("--seed", "-2"), "scripted:tuned.json", "--seed"),
        (("--out", "task.yaml"), "scripted:tuned.json", "found a file"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    gate: Run, tmp_path: Path, arguments: tuple[str, ...], tuned: str, message: str
) -> None:
    gated_task(tmp_path)
    code, out, error = gate(*arguments, tuned=tuned)
    assert (code, out) == (2, "")
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "gates").exists()


def test_a_copy_of_the_base_is_refused_before_it_is_asked_anything(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path)
    write_script(tmp_path / "base.json", BASE)
    write_script(tmp_path / "copy.json", BASE)
    code, out, error = gate("--base", "scripted:base.json", tuned="scripted:copy.json")
    assert (code, out) == (2, "")
    assert "found scripted:copy.json, the same model as scripted:base.json" in error.replace("\n", " ")
    names = [path.name for path in tmp_path.glob("calls*")]
    assert names == ["calls of base.jsonl"]


def test_the_winner_of_a_run_that_is_only_a_prompt_is_refused(gate: Run, tmp_path: Path) -> None:
    from lastresort.systems.files import save_system
    from lastresort.systems.system import PromptDesign, System
    from lastresort.types import Decoding

    gated_task(tmp_path)
    prompt = System("zero-shot", "scripted:script.json", PromptDesign("Route."), Decoding(8))
    save_system(prompt, tmp_path / "runs" / "routing-1" / "winner")
    for name in ("runs/routing-1", "runs/routing-1/winner"):
        code, _, error = gate(tuned=name)
        assert code == 2
        assert "the winner zero-shot is a prompt, whose model was not tuned" in error


def test_a_winner_with_an_adapter_answers_the_test_set_by_its_own_prompt(gate: Run, tmp_path: Path) -> None:
    from lastresort.systems.files import save_system
    from lastresort.systems.system import PromptDesign, System
    from lastresort.types import Decoding

    quality = [*BASE, {"right": 1.0, "adapter": True}, {"right": 0.2, "adapter": True, "contains": "Route the case"}]
    gated_task(tmp_path, base=quality)
    (tmp_path / "adapter").mkdir()
    system = System(
        "own", "scripted:script.json", PromptDesign("Own words."), Decoding(8), adapter=tmp_path / "adapter"
    )
    save_system(system, tmp_path / "runs" / "routing-1" / "winner")
    code, _, error = gate("--quick", tuned="runs/routing-1/winner")
    assert code == 0, error
    found = written(tmp_path / "gates" / "routing-1")
    assert (found["tuned"]["kind"], found["target"]["tuned_score"]) == ("winner", 1.0)
    (tmp_path / "gates" / "routing-1" / "gate.json").unlink()
    code, _, error = gate(
        "--quick", tuned="runs/routing-1"
    )  # the same system by the name of its run: the same gate goes on
    assert (code, [path.name for path in (tmp_path / "gates").iterdir()]) == (0, ["routing-1"]), error
    again = written(tmp_path / "gates" / "routing-1")
    assert (again["tuned"], again["test_reuse"]) == (found["tuned"], found["test_reuse"])


def test_where_it_would_be_written_is_looked_at_before_anything_is_asked(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path)
    (tmp_path / "notes").write_text("mine")
    for option, told in (("--junit", f"found a file at {tmp_path / 'notes'}"), ("--markdown", "found a folder")):
        path = "notes/gate.xml" if option == "--junit" else "."
        code, _, error = gate("--quick", option, path)
        assert code == 2
        assert error == f"Error: {option} {path}: {told}, expected a writable file. Name another.\n"
    assert not (tmp_path / "gates").exists()
    assert not calls(tmp_path)


def test_a_name_that_leads_nowhere_is_told_as_the_option_that_it_was_given_with(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path)
    save_adapter_of(tmp_path / "my-adapter")
    _, _, error = gate("--quick", tuned="my-adaptr")
    assert 'Error: --tuned: found "my-adaptr", which is nothing on disk, expected a PEFT adapter\'s folder' in error
    assert 'Did you mean "my-adapter"?' in error
    _, _, error = gate("--quick", "--base", "gone", tuned="my-adapter")
    assert 'Error: --base: found "gone", which is nothing on disk, expected the model that it was tuned from' in error
    _, _, error = gate("--quick", "--base", "http://127.0.0.1:9/v1", tuned="my-adapter")
    assert 'Error: --base: found "http://127.0.0.1:9/v1", expected openai:NAME or http://host/v1#NAME.' in error
    with pytest.raises(
        TaskError, match=r'^the task, what it may train: found "gone/for/good", which is nothing on disk'
    ):
        resolve_sides("gone/for/good", "my-adapter", {}, tmp_path, base_as="the task, what it may train")


def test_what_changed_says_which_question_and_what_was_said_beside_it() -> None:
    one = ChangedItem(
        id="1",
        stratum="",
        asked="Which is a vehicle?",
        question="wrong_suggested",
        base="",
        tuned="",
        base_score=1,
        tuned_score=0,
        detail="I believe it is boxing.",
    )
    assert asked_of(one, 100) == "Which is a vehicle? (wrong suggested; I believe it is boxing.)"
    assert asked_of(one.replaced(detail=one.asked), 100) == "Which is a vehicle? (wrong suggested)"
    assert asked_of(one.replaced(asked="x" * 200), 20) == "x" * 19 + "… (wrong suggested; I believe it is box…)"


def test_half_an_adapter_is_told_as_one(gate: Run, tmp_path: Path) -> None:
    gated_task(tmp_path)
    folder = save_adapter_of(tmp_path / "my-adapter")
    weights = folder / "adapter_model.safetensors"
    _, _, error = gate("--quick", tuned=str(weights))
    assert error.endswith(f"Name the folder: {folder}.\n")
    (folder / "adapter_config.json").unlink()
    _, _, error = gate("--quick", tuned="my-adapter")
    assert (
        "found adapter_model.safetensors and no adapter_config.json next to it, expected an adapter's folder" in error
    )


def save_adapter_of(folder: Path) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("wrongly", "correct", "outcome"), [(1, True, "MET"), (30, True, "UNDECIDED"), (30, False, "MET")]
)
def test_the_bar_of_a_gate_is_tested_on_the_score_that_labels_correct(
    gate: Run, tmp_path: Path, wrongly: int, correct: bool, outcome: str
) -> None:
    """The judge accepts every answer of both models, and so many of 40 labelled answers that people call wrong."""
    cases = [("yes", "fine")] * 60 + [("no", "fine")] * wrongly + [("no", "bad")] * (40 - wrongly)
    lines = [{"input": f"q {i}", "answer": text, "grade": grade} for i, (grade, text) in enumerate(cases)]
    (tmp_path / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    script = {"rules": [{"match": r"<answer>\s*bad", "answer": "no"}], "default": "Yes."}
    keys = {"rubric": "It is right.", "scale": "yes-no", "labelled": "cases.jsonl", "correct": correct}
    gated_task(tmp_path, task={"score": {"judge": write_judge(tmp_path, script, **keys)}, "bar": 0.85})
    _, _, error = gate()
    target = written(tmp_path / "gates" / "routing-1")["target"]
    assert target["outcome"] == outcome, error
    assert target["judged_score"] == (1.0 if correct else None)
    assert ("corrected from the judge's 100.0%" in target["reason"]) == correct
    assert ("by the judge's own scores" in target["reason"]) == correct
