"""Sample logs for tests: those of `tests/logs`, which their tools wrote, and rows as lm-eval writes them, with scores of choice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "logs"
DATE = "2026-01-02T03-04-05.678901"


def lm_eval_row(number: int, score: float, *, choices: int = 4, **changes: Any) -> dict[str, Any]:
    """As in a file of lm-eval: a document of so many choices."""
    asked = {f"gen_args_{one}": {"arg_0": f"Question {number}", "arg_1": f" {one}"} for one in range(choices)}
    logps = [[[str(-float(one + 1)), "False"]] for one in range(choices)]
    hashes = {"doc_hash": f"d{number}", "prompt_hash": f"p{number}", "target_hash": "t"}
    told = {"doc": {"question": number}, "target": "0", "arguments": asked, "resps": logps}
    answers = {"filtered_resps": [one[0] for one in logps], "filter": "none", "metrics": ["acc"], "acc": score}
    return {"doc_id": number, **told, **answers, **hashes, **changes}


def write_samples(
    folder: Path, scores: Sequence[float], *, task: str = "letters", date: str = DATE, **changes: Any
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_{date}.jsonl"
    rows = [lm_eval_row(number, score, **changes) for number, score in enumerate(scores)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
