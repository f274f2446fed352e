"""A saved system, ready to answer."""

from __future__ import annotations

from pathlib import Path

from lastresort.models.open import open_model
from lastresort.systems.answerer import Answerer
from lastresort.systems.system import System


def open_answerer(system: System, folder: Path) -> Answerer:
    """Open the system's own model with its adapter. folder: where system.yaml stands, from which relative names lead."""
    model = open_model(
        system.model,
        base_folder=folder,
        precision=system.precision,
        adapter=system.adapter,
        template_kwargs=system.template_kwargs,
    )
    return Answerer(system, model)
