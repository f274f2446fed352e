"""Winners of every kind that is handed over, on a tiny random model: for `check_handoffs.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from handoff_support import NASTY, SHOTS, run_of, system
from lastresort.systems.system import PromptDesign
from lastresort.types import Decoding, Grammar
from models_support import save_adapter, save_tiny

SCHEMA = {"type": "object", "properties": {"team": {"enum": ["billing", "tech"]}, "n": {"type": "integer"}}}


def samples(folder: Path) -> Iterator[tuple[str, Path]]:
    """The name of each, and its run."""
    base = save_tiny(folder / "models" / "base")
    adapter = save_adapter(base, folder / "models" / "adapter")
    winners = {
        "prompt": system(base, prompt=PromptDesign("Route the ticket.")),
        "few-shot": system(base, prompt=PromptDesign(NASTY, "sections", SHOTS, k=3)),
        "nearest": system(base, prompt=PromptDesign(NASTY, shots=SHOTS, k=1, selection="nearest")),
        "sampled": system(base, decoding=Decoding(8, 0.7, 0.9, 20, stop=("\n", '"'), seed=3)),
        "schema": system(base, decoding=Decoding(8, grammar=Grammar(json_schema=SCHEMA))),
        "choices": system(base, decoding=Decoding(8, grammar=Grammar(choices=("billing", "tech", "a.b (c)")))),
        "adapter": system(base, adapter=adapter),
        "endpoint": system("http://127.0.0.1:9/v1#other", precision="auto"),
    }
    for name, winner in winners.items():
        yield name, run_of(folder / name, winner)
