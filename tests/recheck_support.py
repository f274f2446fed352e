"""Finished runs to be asked anew: of a scripted model, whose rung sft is a scripted one too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import scripted_rung
from climb_support import scripted_task
from lastresort.after.recheck.models import Replacement
from lastresort.after.recheck.recheck import recheck
from lastresort.app.climb import climb
from lastresort.ladder import RUNGS
from lastresort.records.record import Record
from lastresort.spec.task import load_task
from retrieval_support import handbook_task

TUNED = [{"right": 0.5}, {"right": 0.99, "contains": "sft-way"}]  # what no prompt reaches, "weights" do


@contextmanager
def scripted(*rungs: str) -> Iterator[None]:
    """While it lasts, these rungs are a pair of prompts each, by whose words a script knows them."""
    own = dict(RUNGS)
    RUNGS.update({rung: replace(own[rung], path=f"{scripted_rung.__name__}:{rung}") for rung in rungs})
    try:
        yield
    finally:
        RUNGS.update(own)


def tuned_run(
    folder: Path,
    *,
    quality: list[dict[str, Any]] = TUNED,
    rungs: tuple[str, ...] = ("prompting", "sft"),
    **arguments: Any,
) -> Path:
    """A run that sft has won, or what the quality says. Returns its folder; its task lies beside, in `task`.

    rungs: those that are scripted, which takes less time.
    """
    path = scripted_task(folder / "task", quality=quality, **arguments)
    with scripted(*rungs):
        return climb(load_task(path), folder / "runs" / "routing-1", gate="none").run


def handbook_run(folder: Path, *, task: dict[str, Any] | None = None, **arguments: Any) -> Path:
    """A run of the handbook, which retrieval wins unless the script says otherwise."""
    path = handbook_task(folder / "task", task=task, **arguments)
    with scripted("sft"):
        return climb(load_task(path), folder / "runs" / "handbook-1", gate="none").run


def knowing_run(folder: Path, *, labelled: bool = True, **task: Any) -> Path:
    """A run of the handbook that sft wins: the script knows the answers, and passages do not help it to them."""
    script = {
        "rules": [],
        "answers_from": ["questions.jsonl"],
        "quality": [{"right": 0.2}, {"right": 1.0, "contains": "sft-way"}],
    }
    return handbook_run(folder, script=script, labelled=labelled, task=task)


def copied(run: Path, folder: Path) -> Path:
    """Run and task once more, so that what a test does to them stays with it. Model names lead to the first one's script."""
    shutil.copytree(run.parent.parent, folder, dirs_exist_ok=True)
    return folder / "runs" / run.name


def newer(folder: Path, name: str = "newer.json", **script: Any) -> Replacement:
    """A newer model: answers the task's rows."""
    body = {"answers_from": ["rows.jsonl"], "wrong": ["unknown"], "calls": f"calls of {name}l", **script}
    (folder / name).write_text(json.dumps(body), encoding="utf-8")
    return Replacement(f"scripted:{name}", f"scripted:{folder / name}")


def right(share: float, **keys: Any) -> dict[str, Any]:
    return {"quality": [{"right": share}], **keys}


def asked(folder: Path, name: str = "newer.json") -> int:
    """How many calls the newer model got."""
    path = folder / f"calls of {name}l"
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def rechecked(run: Path, **arguments: Any) -> dict[str, Any]:
    with scripted("sft"):
        return recheck(run, **arguments).as_json()


def untouched(run: Path) -> dict[str, Any]:
    """Whatever of a run a recheck must leave alone: its decision, its winner and its store, and all of the record but its own."""
    files = [run / "decision.json", *(run / "winner").rglob("*"), *(run / "store").rglob("*")]
    with Record.open(run, read_only=True) as record:
        events = [event for _, event in record.since() if event.kind != "recheck_counted"]
        measurements = record.measurements()
    held = {path.relative_to(run).as_posix(): path.read_bytes() for path in sorted(files) if path.is_file()}
    return {"files": held, "events": events, "measurements": measurements}
