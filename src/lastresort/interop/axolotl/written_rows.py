"""Rows in the shapes of Axolotl's dataset types, and the entry that names the type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lastresort.data.chat_template import rendered_text, template_of
from lastresort.data.segments import CHOSEN, REJECTED, SEGMENTS
from lastresort.errors import DataError
from lastresort.interop.exporting.course import answers_trained, has_segments, turns_trained
from lastresort.interop.exporting.job import ExportJob, Row
from lastresort.interop.exporting.rows import message_from
from lastresort.types import JsonObject

TEXTS = {"field_prompt": "prompt", "field_completion": "completion", "field_label": "label"}


def dataset_of(job: ExportJob, path: str) -> JsonObject:
    """An entry of `datasets`."""
    return {"path": path, "ds_type": "json", "split": "train", **_type(job)}


def _type(job: ExportJob) -> JsonObject:
    need = job.file.need
    if need == "text":
        return {"type": "completion", "field": "text"}
    if need == "groups":
        return {"type": "prompts.rows"}
    if need == "labels":
        return {
            "type": dict(TEXTS)
        }  # its own types for KTO hard-code ChatML or Llama 3: these texts are rendered already
    if has_segments(job):
        return {"type": "input_output"} if need == "completions" else {"type": "passthrough"}
    if job.file.objective == "orpo":
        return {"type": "chat_template.argilla"}
    if need == "pairs":
        return {"type": "chat_template.default", "field_messages": "prompt"}
    if answers_trained(job) != "all":
        return {
            "type": "chat_template",
            "message_field_training": "training",
            "roles_to_train": [],
            "train_on_eos": "turn",
        }
    return {"type": "chat_template", "roles_to_train": ["assistant"], "train_on_eos": "turn"}


def axolotl_rows(job: ExportJob, rows: Sequence[Row]) -> list[Row]:
    """Raises DataError for a row that the type cannot hold, PrerequisiteError where rendering needs a tokenizer not here."""
    need = job.file.need
    if need in ("text", "groups") or not rows:
        return [_with_expected(row) for row in rows]
    if need == "labels":
        return _rendered(job, rows)
    if has_segments(job):
        end = job.tokenizer().eos_token if any(_ends(row) for row in rows) else ""
        return [_segments(row, end) if need == "completions" else _texts(row) for row in rows]
    if job.file.objective == "orpo":
        return [_argilla(row, number) for number, row in enumerate(rows, 1)]
    if need == "pairs":
        return [_pair(row, number) for number, row in enumerate(rows, 1)]
    if answers_trained(job) != "all":
        return [_told_by_turn(job, row) for row in rows]
    return list(rows)


def _with_expected(row: Row) -> Row:
    from lastresort.interop.trl.rewards import EXPECTED

    kept = {key: value for key, value in row.items() if key != "completion"}
    return {EXPECTED: row["completion"], **kept} if "completion" in row else kept


def _told_by_turn(job: ExportJob, row: Row) -> Row:
    trained = turns_trained(job, row)
    return {"messages": [{**turn, "training": number in trained} for number, turn in enumerate(row["messages"])]}


def _pair(row: Row, number: int) -> Row:
    chosen, rejected = _only(row, "chosen", number), _only(row, "rejected", number)
    return {"prompt": row["prompt"], "chosen": chosen, "rejected": rejected}


def _argilla(row: Row, number: int) -> Row:
    """Whole conversations of user and assistant in turn, the system's text beside them."""
    prompt = row["prompt"]
    system = prompt[0]["content"] if prompt and prompt[0]["role"] == "system" else None
    turns = prompt[1:] if system is not None else prompt
    roles = [turn["role"] for turn in turns]
    if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        raise _refused(
            number, f"turns of {', '.join(roles)}", "a user and the assistant in turn, as its types for orpo read"
        )
    sides = {key: [*turns, _only(row, key, number)] for key in ("chosen", "rejected")}
    return {"system": system, **sides}


def _only(row: Row, key: str, number: int) -> JsonObject:
    turns = row[key]
    if any("tool_calls" in turn for turn in turns):
        raise _refused(number, f"a call of a tool in {key}", "text, which is all that it takes")
    if len(turns) != 1:
        raise _refused(number, f"{len(turns)} turns in {key}", "one, since it takes the last one alone")
    only: JsonObject = turns[0]
    return only


def _rendered(job: ExportJob, rows: Sequence[Row]) -> list[Row]:
    """Prompt and answer as texts, by the base's own template."""
    tokenizer = job.tokenizer()
    template = template_of(tokenizer, job.file.chat_template_kwargs)
    found = []
    for row in rows:
        if SEGMENTS in row:
            prompt = "".join(one["text"] for one in row[SEGMENTS] if not one.get("train"))
            answer = "".join(
                one["text"] + (tokenizer.eos_token if one.get("end") else "")
                for one in row[SEGMENTS]
                if one.get("train")
            )
        else:
            turns = [message_from(turn) for turn in row["messages"]]
            prompt = rendered_text(tokenizer, template, turns[:-1], prompt=True)
            answer = rendered_text(tokenizer, template, turns, prompt=False)[len(prompt) :].rstrip()
        found.append({"prompt": _without_start(tokenizer, prompt), "completion": answer, "label": row["label"]})
    return found


def _without_start(tokenizer: Any, text: str) -> str:
    """Without the begin-of-text token where the tokenizer puts one there anyway."""
    start = getattr(tokenizer, "bos_token", None) or ""
    twice = start and text.startswith(start) and tokenizer(text)["input_ids"][:2] == [tokenizer.bos_token_id] * 2
    return text.removeprefix(start) if twice else text


def _segments(row: Row, end: str) -> Row:
    return {
        "segments": [
            {"label": bool(one.get("train")), "text": one["text"] + (end if one.get("end") else "")}
            for one in row[SEGMENTS]
        ]
    }


def _texts(row: Row) -> Row:
    sides = {"prompt": SEGMENTS, "chosen": CHOSEN, "rejected": REJECTED}
    return {name: "".join(one["text"] for one in row[key]) for name, key in sides.items()}


def _ends(row: Row) -> bool:
    return any(one.get("end") for one in row[SEGMENTS])


def _refused(number: int, found: str, expected: str) -> DataError:
    return DataError(
        f"found {found}",
        where=f"row {number} of those to export",
        expected=expected,
        remedy="Export it --to trl, or train it with `lastresort train`.",
    )
