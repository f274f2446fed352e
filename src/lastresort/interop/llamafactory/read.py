"""A training file of LLaMA-Factory, by meaning, as our own: its keys, its data sets, and remarks on what differs.

Keys, defaults and meanings are those of the released package (0.9.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lastresort.interop.foreign_keys import ForeignKeys, ImportedTraining, RowSource, output_path
from lastresort.interop.llamafactory.data_sets import NamedRows, read_data_sets
from lastresort.interop.llamafactory.dataset_info import read_info
from lastresort.interop.llamafactory.keys import (
    Stage,
    model_keys,
    note_other_keys,
    objective_of,
    read_stage,
    refuse_other_trainings,
)
from lastresort.interop.llamafactory.rendering import Rendering, rendering_of
from lastresort.interop.llamafactory.rows import written_row
from lastresort.interop.llamafactory.trainer import held_out_share, length_keys, note_evaluation, trainer_keys
from lastresort.types import JsonObject


def read(values: Mapping[str, Any], path: Path) -> ImportedTraining:
    """What the keys of a file say. path: where it stands, for its data sets and for errors.

    Raises TaskError for keys and entries that cannot be honoured, DataError for rows that cannot be read.
    """
    given = ForeignKeys(values, str(path))
    stage = read_stage(given)
    _refuse_untrained(given)
    refuse_other_trainings(given)
    document = model_keys(stage, given, path) | {"objective": objective_of(stage, given)}
    document |= trainer_keys(given, full=document.get("adapter") == "full")
    share, seed = held_out_share(given), document["seed"]
    info, names, held_names = read_info(given, path), given.names("dataset"), given.names("eval_dataset")
    if not names:
        given.refuse("dataset", "nothing", expected="the names of data sets", remedy="Write dataset: NAME.")
    train = read_data_sets(given, info, names, stage, seed)
    held_out = read_data_sets(given, info, held_names, stage, seed)
    note_evaluation(given, bool(share or held_out))
    rendering = rendering_of(given, stage, document["model"], path, [*train, *held_out])
    document |= rendering.document
    document |= length_keys(given, stage, _trained_rows(train, share), document["batch_size"])
    document |= _output(given)
    note_other_keys(given)
    return ImportedTraining(
        framework="llamafactory",
        document=document,
        train=tuple(_source(data_set, stage, rendering) for data_set in train),
        held_out=tuple(_source(data_set, stage, rendering) for data_set in held_out),
        eval_share=share,
        remarks=tuple(given.remarks),
        rendered_by=rendering.by,
    )


def _refuse_untrained(given: ForeignKeys) -> None:
    if "do_train" not in given:
        given.note_trap("do_train", "Without do_train: true LLaMA-Factory trains nothing. Here the file is trained.")
    elif not given.flag("do_train"):
        given.refuse("do_train", "false", expected="true, since this command trains", remedy="Write do_train: true.")


def _trained_rows(train: Sequence[NamedRows], share: float | int | None) -> int:
    total = sum(len(data_set.rows) for data_set in train)
    held = 0 if share is None else share if share >= 1 else round(share * total)
    return max(1, int(total - held))


def _output(given: ForeignKeys) -> JsonObject:
    name = given.text("output_dir")
    return {} if name is None else {"output": str(output_path(name))}


def _source(data_set: NamedRows, stage: Stage, rendering: Rendering) -> RowSource:
    return RowSource(
        data_set.name, lambda: ((row.place, written_row(row, stage, rendering.writing)) for row in data_set.rows)
    )
