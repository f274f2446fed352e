"""Write the JSON schemas of the documents that the program writes, from their types: `make schemas`."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from lastresort.hardware.plan.document import PlanDocument
from lastresort.records.advice import AdviceDocument
from lastresort.records.decision import RunView
from lastresort.records.document import JsonDocument
from lastresort.records.gate import GateDocument
from lastresort.report.recheck import RecheckDocument
from lastresort.report.study import CrossoverDocument, MinDataDocument, OrpoVsDpoDocument, SyntheticDocument
from lastresort.report.verify import VerifyDocument
from lastresort.train.files.run_folder import TrainingRecord

DOCUMENTS: dict[str, type[JsonDocument]] = {  # by the beginning of the file's name
    "advice": AdviceDocument,
    "crossover": CrossoverDocument,
    "decision": RunView,
    "gate": GateDocument,
    "min_data": MinDataDocument,
    "orpo_vs_dpo": OrpoVsDpoDocument,
    "plan": PlanDocument,
    "recheck": RecheckDocument,
    "synthetic": SyntheticDocument,
    "train": TrainingRecord,
    "verify": VerifyDocument,
}


class _Schema(GenerateJsonSchema):
    """Without a title on each field, which says its name once more."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def generated_schema(document: type[JsonDocument], name: str) -> JsonSchemaValue:
    """JSON Schema (2020-12) of what `as_json` gives. name: of its URN, with the version where it has one."""
    found = document.model_json_schema(mode="serialization", schema_generator=_Schema)
    version = document.model_fields.get("version")
    urn = f"urn:lastresort:{name}" + ("" if version is None else f":{version.default}")
    return {"$schema": _Schema.schema_dialect, "$id": urn, **found}


def text_of(name: str) -> str:
    return json.dumps(generated_schema(DOCUMENTS[name], name), indent=1, ensure_ascii=False) + "\n"


def path_of(name: str) -> Path:
    return Path(str(files("lastresort.report").joinpath(f"{name}_schema.json")))


if __name__ == "__main__":
    for known in DOCUMENTS:
        path_of(known).write_text(text_of(known), encoding="utf-8")
