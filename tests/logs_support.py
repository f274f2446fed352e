"""Sample logs for tests: those of `tests/logs`, which their tools wrote, and rows as lm-eval writes them, with scores of choice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
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


def write_inspect(
    path: Path, samples: Iterable[Mapping[str, Any]], *, status: str = "success", epochs: int | None = None
) -> Path:
    """By Inspect itself, as .eval or .json. samples: what differs from a sample of the first epoch."""
    from inspect_ai.log import EvalLog, EvalSample, write_eval_log

    eval_spec = {"created": "2026-01-02T03:04:05+00:00", "task": "sums", "dataset": {}, "model": "mockllm/model"}
    body = [EvalSample.model_validate({"epoch": 1, "input": "?", "target": "!", **one}) for one in samples]
    log = EvalLog.model_validate({"status": status, "eval": {**eval_spec, "config": {"epochs": epochs}}})
    write_eval_log(log.model_copy(update={"samples": body}), str(path))
    return path


def local_tasks(folder: Path, documents: int = 40) -> Path:
    """A folder with two tasks of lm-eval, which needs no network: choices of four, scored twice, and a word to be said."""
    folder.mkdir(parents=True)
    choices = [{"question": f"Letter {one}?", "choices": list("abcd"), "answer": one % 4} for one in range(documents)]
    _data(folder / "letters.jsonl", choices)
    _data(folder / "words.jsonl", [{"question": f"Say {one}:", "answer": str(one)} for one in range(documents)])
    accuracy = ["acc", "acc_norm"]
    letters = {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "answer"}
    said = {"output_type": "generate_until", "doc_to_target": "{{answer}}"}
    until = {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 4, "do_sample": False}}
    _task(folder, "letters", accuracy, **letters)
    _task(folder, "words", ["exact_match"], **said, **until)
    return folder


def scored_by(folder: Path, body: str, documents: int = 40) -> Path:
    """A folder of tasks whose `words` are scored by a function of its own, of `document` and `results`."""
    tasks = local_tasks(folder, documents)
    (tasks / "scores.py").write_text(f"def scored(document, results):\n    {body}\n", encoding="utf-8")
    told = json.loads((tasks / "words.yaml").read_text())
    text = json.dumps(told)[:-1] + ', "process_results": !function scores.scored}'
    (tasks / "words.yaml").write_text(text, encoding="utf-8")
    return tasks


def _data(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _task(folder: Path, name: str, metrics: Sequence[str], **keys: Any) -> None:
    body = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "num_fewshot": 2 if name == "letters" else 0,
        "fewshot_split": "test",
        "metric_list": [{"metric": one, "aggregation": "mean", "higher_is_better": True} for one in metrics],
        **keys,
    }
    (folder / f"{name}.yaml").write_text(json.dumps(body), encoding="utf-8")
