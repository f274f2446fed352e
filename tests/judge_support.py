"""Scripted judges of known habits. Answers that begin with `good` are better than those that begin with `bad`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lastresort.evals.scorers.judge import Judge, judge
from lastresort.evals.scorers.scorer import AnswerForm

FAIR = {
    "rules": [
        {"match": r"<answer_a>\s*good[^<]*</answer_a>\s*<answer_b>\s*bad", "answer": "A"},
        {"match": r"<answer_a>\s*bad[^<]*</answer_a>\s*<answer_b>\s*good", "answer": "B"},
    ],
    "default": "tie",
}
ALWAYS_FIRST = {"default": "A"}
ALWAYS_SECOND = {"default": "B"}
ALWAYS_TIE = {"default": "tie"}
GARBAGE = {"default": "Both answers have their merits."}
CHATTY = {  # says a sentence first, and the verdict when reminded
    "rules": [{"match": "^That is no verdict", "answer": "Verdict: B."}],
    "default": "I think that B is better.",
}
GRADER = {"rules": [{"match": r"<answer>\s*good", "answer": "5"}, {"match": r"<answer>\s*bad", "answer": "2"}]}
APPROVER = {"rules": [{"match": r"<answer>\s*good", "answer": "Yes."}, {"match": r"<answer>\s*bad", "answer": "no"}]}


def write_judge(folder: Path, script: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """The parameters of a scripted judge, whose script and log of calls are written to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    body = {"calls": "judge-calls.jsonl", **script}
    (folder / "judge.json").write_text(json.dumps(body), encoding="utf-8")
    return {"model": f"scripted:{folder / 'judge.json'}", **keys}


def judge_of(folder: Path, script: dict[str, Any], *, about: str = "", **keys: Any) -> Judge:
    return judge(write_judge(folder, script, **keys), AnswerForm(about=about))


def judge_calls(folder: Path) -> list[dict[str, Any]]:
    """Every call that the judge of this folder got, over all processes."""
    path = folder / "judge-calls.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
