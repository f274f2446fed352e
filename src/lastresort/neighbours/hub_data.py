"""Data on the Hugging Face Hub, through `datasets`, which is loaded only here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lastresort.data.rows import RawRow
from lastresort.errors import DataError, PrerequisiteError


def hub_rows(
    path: str,
    *,
    name: str | None,
    split: str,
    revision: str | None,
    data_files: Sequence[str] = (),
    data_dir: str | None = None,
) -> list[RawRow]:
    """The rows of one split. Raises PrerequisiteError without `datasets`, DataError where the data cannot be loaded."""
    try:
        import datasets
    except ImportError as error:
        raise PrerequisiteError(
            f'"{path}" is not on this machine, and the package datasets is not installed',
            where="datasets",
            remedy="Run: pip install datasets, or name a local file.",
        ) from error
    wanted: dict[str, Any] = {"name": name, "split": split, "revision": revision}
    if data_files:
        wanted["data_files"] = list(data_files)
    if data_dir is not None:
        wanted["data_dir"] = data_dir
    try:
        found = datasets.load_dataset(path, **wanted)
    except (OSError, ValueError, RuntimeError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DataError(
            f'"{path}" is not on this machine and cannot be loaded from the Hub ({reason[:200]})',
            where="datasets",
            expected="a local file or folder, or a data set that can be reached",
            remedy="Download it, or correct its name.",
        ) from error
    return [RawRow(dict(row), number, f"{path}, row {number}") for number, row in enumerate(found, 1)]
