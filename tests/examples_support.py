"""The examples that ship: their folder, and the programs in it as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parents[1] / "examples"


def module_of(path: Path) -> ModuleType:
    """The file as a module; running it as a script is not what happens."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # frozen dataclasses with slots look their module up there
    spec.loader.exec_module(module)
    return module
