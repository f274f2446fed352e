"""The replay rows of a run: made once by the base model, kept in the record, used by every rung that trains."""

from __future__ import annotations

from lastresort.rungs.rung import Workbench
from lastresort.synthesis.general_prompts import REQUESTS, SUBJECTS
from lastresort.synthesis.replay import Replay, generate_replay, replay_rows
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example, Message


def replay_size(n_train: int, share: float) -> int:
    """How many rows make `share` of the whole training set, as far as there are different prompts."""
    return min(replay_rows(n_train, share), len(REQUESTS) * len(SUBJECTS))


def replay_of(bench: Workbench, rung: str, n: int) -> Replay:
    """n replay rows (fewer where the base answered with nothing), from the record where so many were asked for before.

    rung: whose cost they are, where they have to be made.
    """
    if not n:
        return Replay()
    known = next((note for note in bench.record.notes("replay") if note.get("asked", n) == n), None)
    if known is not None:
        rows = known["rows"]
        examples = tuple(Example(row["id"], (Message("user", row["prompt"]),), row["answer"]) for row in rows)
        return Replay(examples, tuple(row["end"] for row in rows))
    bench.progress.stage(f"{rung}: replay rows from the base model", n)
    replay = generate_replay(bench.models.open(_base(bench)), n, bench.task.split.seed, bench.progress.advance)
    rows = [
        {"id": example.id, "prompt": example.input_text, "answer": example.output, "end": end}
        for example, end in zip(replay.examples, replay.ends, strict=True)
    ]
    spent = {"tokens_in": replay.tokens_in, "tokens_out": replay.tokens_out, "seconds": replay.seconds}
    bench.record.note("replay", {"rung": rung, "asked": n, "rows": rows, **spent})
    return replay


def _base(bench: Workbench) -> System:
    return System(
        "base",
        bench.models.tuned_name,
        PromptDesign(""),
        Decoding(1),
        template_kwargs=bench.task.chat_template_kwargs,
    )
