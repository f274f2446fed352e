"""The size of a model by its name, without loading it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from lastresort.embedded import MODEL_FILE
from lastresort.hardware.shapes import parameters_of, parameters_of_gguf
from lastresort.models.open import EMBEDDED
from lastresort.models.protocol import is_endpoint

_IN_NAME = re.compile(r"(?<![\dx.])(\d+(?:\.\d+)?)([mb])(?![a-z0-9])", re.IGNORECASE)


def parameters_told(model: str, folder: Path) -> int | None:
    """Parameters of the model, from its config.json if it is here and says so, else from its name (`…-7B-…`), else from the head
    of its GGUF. folder: what relative paths start from.

    None where none of them tells. The name goes before a GGUF's head, which takes seconds to read.
    """
    if is_endpoint(model):
        return None
    path = folder / Path(model).expanduser()
    try:
        if (path / "config.json").is_file():
            counted = parameters_of(json.loads((path / "config.json").read_text(encoding="utf-8")))
            if counted is not None:
                return counted
        named = _IN_NAME.search(MODEL_FILE if model == EMBEDDED else Path(model).name)
        if named is not None:
            return round(float(named[1]) * {"m": 1e6, "b": 1e9}[named[2].lower()])
        return parameters_of_gguf(path) if path.suffix == ".gguf" and path.is_file() else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # damaged: a climb says so
        return None
