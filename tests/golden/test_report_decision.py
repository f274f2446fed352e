"""decision.json: valid decisions pass, every kind of fault is named, and reading gives back what was written."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from climb_support import statement
from cost_support import costs
from decision_support import decide, validate_decision
from document_schemas import schema_of
from gate_report_support import gate_found, gated
from lastresort.after.recheck.finished import open_finished
from lastresort.app.exported import of_climb
from lastresort.app.runs import Run
from lastresort.errors import ContractError, DataError
from lastresort.records.decision import RunView
from lastresort.records.events.run import ClimbDecided
from lastresort.records.events.search import RungSkipped
from lastresort.records.record import Record
from lastresort.report.decision import decision_in, read_decision, read_view, write_decision
from lastresort.report.html import write_report
from report_support import COMPARED, SAMPLES, make

KEYS = """
schema task goal model bar confidence r alpha_per_rung shares verdict meets_bar provisional stopped_at answer
answer_code answer_figures reasons would_change
judge retrieval test_reuse rungs gate first_gate repairs compare break_even winner provenance
""".split()


@pytest.fixture(scope="module")
def decision(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return read_decision(make(tmp_path_factory.mktemp("run") / "run", "sft-met")).as_json()


def test_the_schema_is_one_and_closed_at_every_known_level() -> None:
    schema = schema_of("decision")
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(schema["properties"]) == schema["required"] == KEYS


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_valid_and_read_as_written(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "run", name)
    found = read_decision(folder)
    assert validate_decision(found.as_json()) == found
    decide(folder, found)
    assert read_decision(folder) == found
    assert json.loads((folder / "decision.json").read_text("utf-8")) == found.as_json()


def test_tuples_are_arrays(decision: dict[str, Any]) -> None:
    found = copy.deepcopy(decision)
    found["rungs"][0]["test"]["interval"] = (0.4, 0.8)
    validate_decision(found)


def change(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def changed(decision: dict[str, Any]) -> None:
        place: Any = decision
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return changed


FAULTS = {
    "unknown key": change("surprise", to=1),
    "unknown key in a rung": change("rungs", 0, "surprise", to=1),
    "unknown key in a test": change("rungs", 0, "test", "surprise", to=1),
    "unknown key in the winner": change("winner", "surprise", to=1),
    "another version": change("schema", to=1),
    "verdict in small letters": change("verdict", to="met"),
    "unknown gate verdict": lambda d: gated(d).update(gate=gate_found() | {"verdict": "MET"}),
    "a gate without its target": lambda d: gated(d)["gate"].pop("target"),
    "a gate of which no rung speaks": lambda d: d.update(gate=gate_found()),
    "a rung that speaks of no gate": lambda d: gated(d).update(gate=None),
    "a gate that says something else": lambda d: gated(d)["gate"].update(verdict="SHIP"),
    "a winner held by nobody": change("winner", "held", to=True),
    "a measure as version 5 had it": lambda d: gated(d)["gate"].update(suites=[{"name": "general", "n": 3}]),
    "unknown goal": change("goal", to="speed"),
    "bar of 1": change("bar", to=1),
    "confidence of 0": change("confidence", to=0),
    "empty answer": change("answer", to=""),
    "score above 1": change("rungs", 0, "test", "score", to=1.2),
    "not a number": change("rungs", 0, "test", "score", to=float("nan")),
    "three limits": change("rungs", 0, "test", "interval", to=[0.1, 0.2, 0.3]),
    "one limit": change("rungs", 0, "test", "interval", to=[0.1]),
    "interval upside down": change("rungs", 0, "test", "interval", to=[0.8, 0.2]),
    "more used than there are": change("rungs", 0, "test", "n_used", to=301),
    "a unit that is none": change("rungs", 0, "test", "unit", to="row"),
    "a verdict without its rule": change("rungs", 0, "test", "decided", to=None),
    "a rule that is none": change("rungs", 0, "test", "decided", "by", to="eye"),
    "half an item": change("rungs", 0, "test", "n_used", to=1.5),
    "negative cost": change("rungs", 0, "cost", "usd", to=-1),
    "a skipped rung without a reason": change("rungs", 1, "skipped_because", to=None),
    "a skipped rung with a test": lambda d: change("rungs", 1, "test", to=d["rungs"][0]["test"])(d),
    "a chosen system that was no candidate": change("rungs", 0, "chosen", to="other"),
    "a rung twice": lambda d: d["rungs"].append(d["rungs"][0]),
    "stopped at no rung": change("stopped_at", to="full"),
    "meets the bar without a MET": lambda d: change("rungs", 2, "test", "verdict", to="NOT_MET")(d),
    "a winner without a path": change("winner", "path", to=None),
    "no winner with a path": change("winner", "kind", to="none"),
    "a hash that is none": change("winner", "sha256", to="abc"),
    "a judge without its agreement": lambda d: d.update(judge={k: v for k, v in COMPARED.items() if k != "agreement"}),
    "a judge that asks otherwise": lambda d: d.update(judge=COMPARED | {"asks": "a coin"}),
    "a judge's verdict that is no number": lambda d: d.update(judge=COMPARED | {"verdicts": {"won": "many"}}),
    "costs of a rung that was not reached": lambda d: d.update(break_even=costs(sft={"rung": "full"})),
    "costs of a rung twice": lambda d: d.update(break_even=costs(sft={"rung": "prompting"})),
    "a pair without its costs": lambda d: d.update(break_even=costs(pair={"tuned": "full"})),
    "a crossing without calls": lambda d: d.update(break_even=costs(pair={"calls": None})),
    "calls without a crossing": lambda d: d.update(break_even=costs(pair={"crossing": "never"})),
    "a crossing that is none": lambda d: d.update(break_even=costs(pair={"crossing": "soon"})),
    "costs below nothing": lambda d: d.update(break_even=costs(sft={"per_call_usd": -1})),
    "another currency": lambda d: d.update(break_even=costs(currency="euro")),
    "costs as version 4 had them": lambda d: d.update(
        break_even={"calls_per_month": 1, "one_off_usd": 3, "per_call_usd": {}}
    ),
    "half a call": lambda d: d.update(break_even=costs(pair={"calls": 1.5})),
    "an object that is no JSON": change("provenance", "seeds", to={"seed": object()}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused(decision: dict[str, Any], tmp_path: Path, fault: str) -> None:
    found = copy.deepcopy(decision)
    FAULTS[fault](found)
    with pytest.raises(ContractError, match=r"decision\.json: found"):
        validate_decision(found)
    with pytest.raises((ContractError, ValidationError)):
        write_decision(tmp_path, RunView.model_validate(found))
    assert not (tmp_path / "decision.json").exists()


@pytest.mark.parametrize("key", [key for key in KEYS if key != "shares"])  # runs that began with equal shares have none
def test_no_key_may_be_missing(decision: dict[str, Any], key: str) -> None:
    found = {name: value for name, value in decision.items() if name != key}
    with pytest.raises(ContractError, match=rf'key "\$\.{key}" a fault: Field required'):
        validate_decision(found)


def test_money_may_be_unknown(decision: dict[str, Any]) -> None:
    found = copy.deepcopy(decision)
    found["rungs"][0]["cost"]["usd"] = None
    validate_decision(found)


def test_costs_may_be_known_or_not(decision: dict[str, Any]) -> None:
    validate_decision(decision | {"break_even": costs()})
    unknown = {"crossing": "unknown", "calls": None, "months": None}
    validate_decision(decision | {"break_even": costs(currency=None, prompting={"per_call_usd": None}, pair=unknown)})


def test_nothing_that_won(decision: dict[str, Any]) -> None:
    found = copy.deepcopy(decision)
    found["winner"] = {"kind": "none", "path": None, "held": False, "sha256": None}
    validate_decision(found)


def test_a_decision_is_the_records_and_its_file_is_restored_from_it(tmp_path: Path) -> None:
    """The climb was killed after its record had the decision, before the file had it."""
    folder = make(tmp_path / "run", "sft-met")
    file = folder / "decision.json"
    before = read_decision(folder)
    with Record.open(folder) as record:
        record.append(ClimbDecided(decision=before.replaced(answer="Yes: sft met it again.")))
    for stale in (file.read_bytes(), None):
        file.unlink(missing_ok=True)
        if stale is not None:
            file.write_bytes(stale)
        for found in (read_decision(folder), read_view(folder), Run(folder).view):
            assert found.answer == "Yes: sft met it again."
        assert "Yes: sft met it again." in write_report(folder).read_text("utf-8")
        assert json.loads(file.read_text("utf-8")) == found.as_json()


def test_a_run_that_goes_on_has_no_decision_until_the_next(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", "sft-met")
    with Record.open(folder) as record:
        record.append(RungSkipped(rung="full", reason=statement("no time")))
        with pytest.raises(DataError, match="has not decided, or has gone on since, expected a run with a decision"):
            decision_in(record)
        with pytest.raises(DataError, match="has gone on since"):
            open_finished(folder, record)
    with pytest.raises(DataError, match="has gone on since"):
        Run(folder).decision  # noqa: B018
    with pytest.raises(DataError, match="has gone on since"):
        of_climb(folder)


def test_the_file_is_utf8_and_ends_with_a_line(decision: dict[str, Any], tmp_path: Path) -> None:
    write_decision(tmp_path, RunView.model_validate(decision | {"answer": "Ja: sft erfüllt es."}))
    text = (tmp_path / "decision.json").read_text("utf-8")
    assert "erfüllt" in text
    assert text.endswith("}\n")
    assert json.loads(text)["answer"] == "Ja: sft erfüllt es."


@pytest.mark.parametrize("verdict", ["SHIP", "HOLD", "REJECT"])
def test_a_gate_is_held_with_all_that_it_found(decision: dict[str, Any], tmp_path: Path, verdict: str) -> None:
    found = RunView.model_validate(gated(copy.deepcopy(decision), verdict))
    write_decision(tmp_path, found)
    assert validate_decision(json.loads((tmp_path / "decision.json").read_text("utf-8"))) == found
