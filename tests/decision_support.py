"""Decisions as other programs read them, and runs that decide something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from lastresort.errors import ContractError
from lastresort.records.decision import RunView
from lastresort.records.events.run import ClimbDecided, ClimbFinished
from lastresort.records.record import Record
from lastresort.report.decision import refuse_incoherent, write_decision


def validate_decision(document: object) -> RunView:
    """The decision in a JSON document. Raises ContractError, naming the first fault: of its shape, else of its coherence."""
    try:
        found = RunView.model_validate_json(json.dumps(document, allow_nan=False), strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
        raise _no_decision(f'found at key "${place}" a fault: {fault["msg"]}') from error
    except (TypeError, ValueError) as error:
        raise _no_decision(f"found a value that is no JSON ({error})") from error
    if isinstance(document, Mapping) and "schema" not in document:  # its default is for those who make one
        raise _no_decision('found at key "$.schema" a fault: Field required')
    refuse_incoherent(found)
    return found


def _no_decision(fault: str) -> ContractError:
    return ContractError(fault, where="decision.json", expected="a decision as in decision_schema.json")


def decide(folder: Path, decision: RunView) -> None:
    """Make this the decision of the run in this folder."""
    with Record.open(folder) as record:
        record.append(ClimbDecided(decision=decision))
        record.append(ClimbFinished())
    write_decision(folder, decision)
