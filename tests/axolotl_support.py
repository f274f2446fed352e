"""Axolotl's YAML written, read, and its rows as this program trains on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from lastresort.interop.foreign_keys import ImportedTraining, ImportRemark
from lastresort.interop.reading import read
from train_support import write_rows

LEAST: dict[str, Any] = {"base_model": "./model", "learning_rate": 1e-4}
"""Without data. The model need not be there: nothing of it is read but its chat template, where it has one."""


def config(folder: Path, rows: list[dict[str, Any]] | None = None, *, kind: Any = "alpaca", **keys: Any) -> Path:
    """A file with one data set of this type, unless `datasets` is among the keys; a key that is None is left out."""
    found: dict[str, Any] = dict(LEAST)
    if "datasets" not in keys:
        write_rows(folder / "rows.jsonl", rows or [{"instruction": "a", "input": "", "output": "b"}])
        entry = {"path": str(folder / "rows.jsonl"), "type": kind}
        found["datasets"] = [{name: value for name, value in entry.items() if value is not None}]
    path = folder / "axolotl.yml"
    merged = {**found, **keys}
    path.write_text(
        yaml.safe_dump({k: v for k, v in merged.items() if v is not None}, sort_keys=False), encoding="utf-8"
    )
    return path


def imported(
    folder: Path, rows: list[dict[str, Any]] | None = None, *, kind: Any = "alpaca", **keys: Any
) -> ImportedTraining:
    return read(config(folder, rows, kind=kind, **keys))


def rows_of(found: ImportedTraining) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(row)) for source in found.train for _, row in source.rows()]


def only_row(folder: Path, row: dict[str, Any], kind: Any, **keys: Any) -> dict[str, Any]:
    """What becomes of one row of a type."""
    (found,) = rows_of(imported(folder, [row], kind=kind, **keys))
    return found


def entry_row(folder: Path, row: dict[str, Any], entry: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """As `only_row`, of an entry with more than its type."""
    write_rows(folder / "rows.jsonl", [row])
    (found,) = rows_of(imported(folder, datasets=[{"path": str(folder / "rows.jsonl"), **entry}], **keys))
    return found


def told(found: ImportedTraining, key: str, kind: str | None = None) -> list[str]:
    """The sentences about a key."""

    def wanted(remark: ImportRemark) -> bool:
        return remark.key == key and kind in (None, remark.kind)

    return [remark.sentence for remark in found.remarks if wanted(remark)]


def answered(prompt: str, answer: str, *, whole: bool = False) -> dict[str, Any]:
    return {"segments": [{"text": prompt, "train": whole}, {"text": answer, "train": True, "end": True}]}


def pair(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    sides = {"chosen_segments": [{"text": chosen, "end": True}], "rejected_segments": [{"text": rejected, "end": True}]}
    return {"segments": [{"text": prompt}], **sides}
