"""A climb's run -> what of it can be exported: the training of the winner, or of another rung that trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, InputError
from lastresort.ladder.exported.preference import preference_rows
from lastresort.ladder.exported.source import Source
from lastresort.ladder.exported.supervised import supervised_rows
from lastresort.ladder.recheck.finished import read_again
from lastresort.models.open import settled_name
from lastresort.neighbours.exporting.adapter import layers_in
from lastresort.neighbours.exporting.job import Exportable, Row
from lastresort.neighbours.exporting.trained import context_of
from lastresort.records.record import Record
from lastresort.report.decision import read_decision
from lastresort.rungs import TRAINED
from lastresort.rungs.sft_training import tuned_model
from lastresort.spec.wording import listed
from lastresort.systems.files import load_system

_SETTINGS = (
    "learning_rate", "epochs", "batch_size", "optimizer", "schedule", "warmup", "weight_decay", "max_grad_norm", "max_steps",
    "loraplus_lr_ratio",
    "max_pass_tokens", "checkpointing", "seed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Rows:
    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    notes: tuple[str, ...]
    keys: Mapping[str, Any]


def of_climb(run: Path, rung: str | None = None, task_file: Path | None = None) -> Exportable:
    """The training of the winner, or of the rung that is named, by the rows that it was trained on.

    Raises InputError where nothing was trained there, DataError where the run is not finished, its files have changed, or
    the record does not give the rows again.
    """
    with Record.open(run, read_only=True) as record:
        decision = read_decision(run)
        name, chosen = _chosen(run, record, decision, rung)
        system = load_system(run / "candidates" / name / chosen)
        noted = _training(run, record, name, chosen)
        unused = ("path", "knowledge") if name == "preference" else ("path", "preferences", "reward", "knowledge")
        path, _, prepared = read_again(run, record, task_file, without=unused)
        base = settled_name(tuned_model(prepared.task), path.parent)
        source = Source(run, record, prepared, noted, system, base)
        made = _Rows(*(preference_rows(source) if name == "preference" else supervised_rows(source, name)))
        document = {**_document(noted, source), **made.keys}
        layers = layers_in(system.adapter) if system.adapter is not None else ()
        notes = (*made.notes, *_on_the_way(noted, chosen))
        title = f"{decision['task']}, {name} of a climb"
        return Exportable(title, document, made.train, made.held_out, layers, context_of(str(document["model"])), notes)


def _chosen(run: Path, record: Record, decision: Mapping[str, Any], rung: str | None) -> tuple[str, str]:
    """The rung and the name of its system."""
    tested = {one["name"]: one["chosen"] for one in decision["rungs"] if one["chosen"] is not None}
    trained = [name for name in tested if name in TRAINED]
    if rung is None:
        return _winner(run, decision, tested, trained)
    if rung in trained:
        return rung, str(tested[rung])
    others = f"; {listed(trained)} did" if trained else ""
    raise InputError(
        f"the rung {rung} trained nothing in this climb{others}",
        where=str(run),
        expected="a rung that trained",
        remedy=f"Name {listed(trained, 'or')}." if trained else "Climb further.",
    )


def _winner(run: Path, decision: Mapping[str, Any], tested: Mapping[str, str], trained: list[str]) -> tuple[str, str]:
    kind, path = decision["winner"]["kind"], decision["winner"]["path"]
    system = load_system(run / path) if path is not None else None
    rungs = [name for name in trained if system is not None and tested[name] == system.name]
    if rungs and kind in ("adapter", "merged"):
        return rungs[0], tested[rungs[0]]
    what = "no system won" if system is None else f"the winner is {system.name}, which was not tuned"
    remedy = (
        f"Add --rung {trained[0]} to export what {listed(trained)} trained."
        if trained
        else "Nothing was trained in it."
    )
    raise InputError(what, where=str(run), expected="a winner that was trained", remedy=remedy)


def _training(run: Path, record: Record, rung: str, chosen: str) -> dict[str, Any]:
    """What was noted of the training that the candidate came of: its run has the longest name that the candidate's begins with."""
    plain = chosen.split("+")[0]
    notes = [note for note in record.notes("training") if note.get("rung") == rung]
    fitting = [note for note in notes if _of_candidate(str(note["candidate"]), plain)]
    if not fitting:
        raise DataError(
            f"the record does not say how {chosen} was trained",
            where=str(run),
            expected="a run of this version",
            remedy="Another version of lastresort wrote it: climb again.",
        )
    return dict(fitting[-1])


def _of_candidate(run_name: str, candidate: str) -> bool:
    """`lr0.0003` of `lora-lr0.0003-epoch2`, `full-lr2e-05` of `full-lr2e-05-epoch2`, `replay20-lr0.0003` of its candidate, and
    `dpo-lr2e-05` of `dpo-lr2e-05-step12`."""
    for end in ("-epoch", "-step"):
        begun = candidate.rpartition(end)[0]
        if begun and (begun == run_name or begun.removeprefix("lora-").removeprefix("qlora-") == run_name):
            return True
    return False


def _document(noted: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """Keys of a training file."""
    found: dict[str, Any] = {"model": source.base}
    objective = noted["objective"]
    options = dict(objective["options"])
    found["objective"] = {objective["name"]: options} if options else objective["name"]
    found |= {key: noted[key] for key in _SETTINGS if key in noted}
    adapter = noted["adapter"]
    if adapter["kind"] == "none":
        found["adapter"] = "full"
    else:
        kind = "qlora" if adapter["quantize"] else adapter["kind"]
        found["adapter"] = {"kind": kind, **{key: adapter[key] for key in ("r", "alpha", "target", "dropout")}}
    found["chat_template_kwargs"] = dict(source.prepared.task.chat_template_kwargs)
    return found


def _on_the_way(noted: Mapping[str, Any], chosen: str) -> list[str]:
    """What the climb kept is not the end of the training, or was changed after it."""
    found, plain = [], chosen.split("+")[0]
    for part, whole in (("epoch", noted["epochs"]), ("step", noted.get("steps"))):
        kept = plain.rpartition(f"-{part}")[2].split("-")[0]
        if f"-{part}" in plain and kept.isdecimal() and whole is not None and int(kept) < whole:
            found.append(
                f"The climb kept what was there after {part} {kept}, under a schedule for {whole}: stop there for the same model."
            )
    if "-scale" in chosen:
        found.append(f"The climb scaled what was trained by {chosen.rpartition('-scale')[2]} after the training.")
    return found
