"""A training file of LLaMA-Factory, by meaning, as our own: its keys, its data sets, and remarks on what differs.

Keys, defaults and meanings are those of the released package (0.9.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lastresort.interop.given import ForeignKeys, new_place
from lastresort.interop.imported import ImportedTraining, RowSource
from lastresort.interop.llamafactory.course import course_of, held_out_share, length_of, name_evaluation
from lastresort.interop.llamafactory.data_sets import NamedRows, read_data_sets
from lastresort.interop.llamafactory.dataset_info import read_info
from lastresort.interop.llamafactory.method import method_of
from lastresort.interop.llamafactory.rendering import Rendering, rendering_of
from lastresort.interop.llamafactory.rows import written_row
from lastresort.interop.llamafactory.stage import Stage, objective_of, read_stage
from lastresort.interop.llamafactory.unheard import name_the_rest, refuse_other_trainings
from lastresort.types import JsonObject


def read(values: Mapping[str, Any], path: Path) -> ImportedTraining:
    """What the keys of a file say. path: where it stands, for its data sets and for errors.

    Raises TaskError for keys and entries that cannot be honoured, DataError for rows that cannot be read.
    """
    given = ForeignKeys(values, str(path))
    stage = read_stage(given)
    _refuse_untrained(given)
    refuse_other_trainings(given)
    document = method_of(stage, given, path) | {"objective": objective_of(stage, given)}
    document |= course_of(given, full=document.get("adapter") == "full")
    share, seed = held_out_share(given), document["seed"]
    info, names, held_names = read_info(given, path), given.names("dataset"), given.names("eval_dataset")
    if not names:
        given.refuse("dataset", "nothing", expected="the names of data sets", remedy="Write dataset: NAME.")
    train = read_data_sets(given, info, names, stage, seed)
    held_out = read_data_sets(given, info, held_names, stage, seed)
    name_evaluation(given, bool(share or held_out))
    rendering = rendering_of(given, stage, document["model"], path, [*train, *held_out])
    document |= rendering.document
    document |= length_of(given, stage, _trained_rows(train, share), document["batch_size"])
    document |= _output(given)
    name_the_rest(given)
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
        given.remark(
            "do_train", "trap", "Without do_train: true LLaMA-Factory trains nothing; here the file is trained."
        )
    elif not given.flag("do_train"):
        given.refuse("do_train", "false", expected="true, since this command trains", remedy="Write do_train: true.")


def _trained_rows(train: Sequence[NamedRows], share: float | int | None) -> int:
    total = sum(len(data_set.rows) for data_set in train)
    held = 0 if share is None else share if share >= 1 else round(share * total)
    return max(1, int(total - held))


def _output(given: ForeignKeys) -> JsonObject:
    name = given.text("output_dir")
    return {} if name is None else {"output": str(new_place(name))}


def _source(data_set: NamedRows, stage: Stage, rendering: Rendering) -> RowSource:
    return RowSource(
        data_set.name, lambda: ((row.place, written_row(row, stage, rendering.writing)) for row in data_set.rows)
    )
