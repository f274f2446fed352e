"""Another framework's training file: recognised by its keys, translated, and written as our own training file with its rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from lastresort.data.formats.rows import compact_json
from lastresort.errors import DataError, InputError, TaskError
from lastresort.foreign import parse_yaml
from lastresort.interop.exporting import TARGETS
from lastresort.interop.exporting.job import commented
from lastresort.interop.foreign_keys import Framework, ImportedTraining, ImportRemark, RowSource
from lastresort.records.atomic import write_atomically
from lastresort.spec.document import YamlDocument, read_text, with_overrides
from lastresort.spec.paths import relative_name
from lastresort.spec.training import TRAINING
from lastresort.systems.files import as_yaml
from lastresort.train.files.run_folder import BEGUN, IMPORTED, run_state
from lastresort.types import JsonObject

TRAINING_FILE = "training.yaml"
READERS: Mapping[Framework, str] = {
    "axolotl": "lastresort.interop.axolotl.read",
    "llamafactory": "lastresort.interop.llamafactory.read",
}

_OWN_KEYS: Mapping[str, frozenset[str]] = {
    "axolotl": frozenset("base_model datasets pretraining_dataset micro_batch_size sequence_len num_epochs".split()),
    "llamafactory": frozenset(
        "model_name_or_path stage dataset dataset_dir template cutoff_len finetuning_type lora_rank lora_target".split()
    ),
    "unsloth": frozenset("model_name max_seq_length target_modules use_gradient_checkpointing".split()),
    "trl": frozenset("model_name_or_path dataset_name use_peft lora_r max_length".split()),
}
"""Keys by which a framework is recognised. Of two with as many, it is the first."""
_OURS = {"model", "data", "objective", "start_from"}
_SCRIPTS = {".py": "a Python script", ".ipynb": "a notebook"}
_IMPORTS = re.compile(r"\b(?:from|import) (\w+)")


def framework_of(path: Path) -> Framework | None:
    """Whose file this is, by its keys; None for one of ours, and for unreadable ones.

    Raises TaskError for a script and for settings of a framework whose files are not read.
    """
    if path.suffix in _SCRIPTS:
        imported = _IMPORTS.findall(read_text(path, TRAINING))
        named = next((f" of {TARGETS[name].title}" for name in ("unsloth", "trl") if name in imported), "")
        raise _not_read(path, f"{_SCRIPTS[path.suffix]}{named}")
    try:
        values = _document(path).values
    except TaskError:
        return None
    return _framework(values, path)


def read(path: Path, overrides: Mapping[str, Any] | None = None, *, strict: bool = False) -> ImportedTraining:
    """A file of another framework. overrides: its own keys, dotted, as --set gives them. strict: refuse ignored keys.

    Raises TaskError for a file that cannot be trained, and with strict for ignored keys.
    """
    document = _document(path)
    values = with_overrides(document, overrides).values if overrides else document.values
    framework = _framework(document.values, path)  # as `framework_of` does, whatever keys are set
    if framework is None:
        raise TaskError("found keys of no known framework", where=str(path), expected=TRAINING.holds)
    imported: ImportedTraining = import_module(READERS[framework]).read(values, path)
    ignored = [remark for remark in imported.remarks if remark.kind == "ignored"]
    if strict and ignored:
        count = sum(len(remark.key.split(", ")) for remark in ignored)
        raise TaskError(
            f"found keys that are ignored ({count}): {' '.join(remark.sentence for remark in ignored)}",
            where=str(path),
            remedy="Remove or correct them, or leave --strict out.",
        )
    return imported


def output_folder(imported: ImportedTraining, path: Path) -> Path:
    """Where the run goes: the file's own output, or else a folder next to the file, named after it."""
    named = imported.document.get("output")
    return Path(str(named)) if named is not None else path.absolute().with_name(f"{path.stem}-out")


def write_imported(imported: ImportedTraining, output: Path, path: Path, *, resume: bool = True) -> Path:
    """Write the rows and a training file below OUTPUT; the same file and data give the same bytes. Returns its path.

    path: the file that was read. resume: whether a run in OUTPUT may be resumed. Raises DataError for rows that cannot be read;
    InputError, with nothing written, where OUTPUT cannot be used or holds a run with other rows.
    """
    run_state(output, resume=resume)
    folder = output / IMPORTED
    train, held = _files(imported.train, "train"), _files(imported.held_out, "eval")
    rows = {name: _lines(source) for name, source in {**train, **held}.items()}
    if (output / BEGUN).is_file():
        _check_same(folder, rows)
    for name, text in rows.items():
        _write(folder / name, text)
    data: JsonObject = {"train": list(train)}
    if held:
        data["eval"] = list(held)
    elif imported.eval_share is not None:
        data["eval"] = imported.eval_share
    remarks = [asdict(remark) for remark in dict.fromkeys(imported.remarks)]
    origin = {"framework": imported.framework, "file": path.name, "remarks": remarks}
    if imported.rendered_by is not None:
        origin["rendered_by"] = imported.rendered_by
    if imported.eval_share is not None:
        origin["eval_key"] = imported.eval_key
    title = commented([f"{TARGETS[imported.framework].title}'s {path.name}, in the words of `lastresort train`."])
    _write(folder / TRAINING_FILE, title + _yaml({**imported.document, "origin": origin}, data, folder))
    return folder / TRAINING_FILE


def _document(path: Path) -> YamlDocument:
    """Read as the frameworks read it: YAML 1.1, with aliases."""
    values = parse_yaml(read_text(path, TRAINING), where=str(path), raised=TaskError)
    if not isinstance(values, dict):
        raise TaskError("found no keys", where=str(path), expected=TRAINING.holds, remedy=TRAINING.least)
    return YamlDocument(str(path), {str(key): value for key, value in values.items()})


def _framework(values: Mapping[str, Any], path: Path) -> Framework | None:
    """Whose own keys are most of the keys here. Raises TaskError where that one's files are not read."""
    own = {name: [key for key in values if key in keys] for name, keys in _OWN_KEYS.items()}
    name = max(own, key=lambda framework: len(own[framework]))
    if not own[name] or _OURS & values.keys():
        return None
    if readable := next((framework for framework in READERS if framework == name), None):
        return readable
    raise _not_read(path, f"settings of {TARGETS[name].title} ({', '.join(own[name])})")


def _not_read(path: Path, found: str) -> TaskError:
    return TaskError(
        f"found {found}",
        where=str(path),
        expected="a training file, or a YAML file of Axolotl or LLaMA-Factory",
        remedy="Files of TRL and Unsloth are written (`lastresort export`), not read: write model, data and your settings into a "
        "training file (docs/train.md).",
    )


def _files(sources: Sequence[RowSource], stem: str) -> dict[str, RowSource]:
    if len(sources) == 1:
        return {f"{stem}.jsonl": sources[0]}
    return {f"{stem}-{number}.jsonl": source for number, source in enumerate(sources, 1)}


def _lines(source: RowSource) -> str:
    lines = [compact_json(row, place) for place, row in source.rows()]
    if not lines:
        raise DataError("found no row", where=source.name, expected="at least one", remedy="Check it.")
    return "\n".join(lines) + "\n"


def _check_same(folder: Path, rows: Mapping[str, str]) -> None:
    for name, text in rows.items():
        if not (folder / name).is_file() or (folder / name).read_bytes() != text.encode():
            raise InputError(
                f"the rows of {name} have changed since this run began",
                where=str(folder),
                expected="the same data",
                remedy="Restore them to resume, or name another output.",
            )


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomically(path, text)


def _yaml(document: Mapping[str, Any], data: Mapping[str, Any], folder: Path) -> str:
    first = {
        key: _seen_from(folder, key, document[key]) for key in ("model", "start_from", "objective") if key in document
    }
    rest = {key: _seen_from(folder, key, value) for key, value in document.items() if key not in first}
    origin = {"origin": rest.pop("origin")}
    return as_yaml({**first, "data": dict(data), **rest, "output": "..", **origin})


def _seen_from(folder: Path, key: str, value: Any) -> Any:
    """Absolute paths as the written file names them."""
    if key in ("model", "start_from") and Path(str(value)).is_absolute():
        return _relative(Path(str(value)), folder)
    if key == "reward":
        return [_reward(term, folder) for term in value]
    return value


def _reward(term: Any, folder: Path) -> Any:
    if not isinstance(term, dict) or "python" not in term:
        return term
    file, _, function = str(term["python"]).rpartition(":")
    if not Path(file).is_absolute():
        return term
    return {**term, "python": f"{relative_name(Path(file), folder)}:{function}"}


def _relative(path: Path, folder: Path) -> str:
    """With a dot in front, so that it is no name on the Hub."""
    name = relative_name(path, folder)
    return name if name.startswith((".", "/")) else f"./{name}"


def remark_lines(remarks: Sequence[ImportRemark]) -> list[str]:
    """Each remark once, as it is printed."""
    return list(dict.fromkeys(f"{remark.kind}: {remark.sentence}" for remark in remarks))
