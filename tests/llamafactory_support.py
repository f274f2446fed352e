"""A training file of LLaMA-Factory with its data, written where a test wants it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lastresort.interop.foreign_keys import ImportedTraining, Kind
from lastresort.interop.llamafactory.read import read

ROWS = [{"instruction": f"Question {number}?", "input": "", "output": f"Answer {number}."} for number in range(4)]


def data_set(
    folder: Path, rows: Sequence[Mapping[str, Any]] = ROWS, *, name: str = "mine", **entry: Any
) -> dict[str, Any]:
    """Writes the rows and adds their entry to dataset_info.json; returns the keys that name them."""
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / f"{name}.json").write_text(json.dumps(list(rows)))
    place = folder / "data" / "dataset_info.json"
    known = json.loads(place.read_text()) if place.is_file() else {}
    place.write_text(json.dumps(known | {name: {"file_name": f"{name}.json", **entry}}))
    return {"dataset_dir": str(folder / "data"), "dataset": name}


def imported(folder: Path, *keys: Mapping[str, Any], **more: Any) -> ImportedTraining:
    """Reads a file with these keys, of a model that is not on this machine."""
    values: dict[str, Any] = {"model_name_or_path": "nobody/nothing", "do_train": True}
    for part in (*keys, more):
        values |= part
    return read(values, folder / "train.yaml")


def rows_of(found: ImportedTraining) -> list[dict[str, Any]]:
    return [row for source in found.train for _, row in source.rows()]


def remarks(found: ImportedTraining, kind: Kind) -> dict[str, str]:
    return {remark.key: remark.sentence for remark in found.remarks if remark.kind == kind}
