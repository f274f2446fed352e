"""A system on disk: system.yaml, with its shots, adapter and knowledge store in the same folder. And hashes of that folder.

The hashes show whether the system that was gated, written and served is the same. They read every byte each time, because size
and date do not prove that nothing changed. The files are read to answer anyway, so the disk cache has them. That leaves about a
second per gigabyte.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from lastresort.errors import DataError
from lastresort.foreign import DOCUMENT, parse_json, read_text, read_yaml
from lastresort.records.atomic import disk_errors, refuse_links_out, write_atomically
from lastresort.systems.system import PromptDesign, Retriever, Shot, System
from lastresort.types import Decoding, Grammar, JsonObject, Message

LOCK = ".updating"


def copy_store(store: Path, target: Path) -> None:
    """Copy the store to `target`, completely or not at all. Does nothing if `target` exists.

    A store's files are replaced and never changed, so a copy on the same disk uses hard links: each candidate of a climb has
    its own store, and a store may be large. Leftovers of a killed copy are removed first.
    Raises InfrastructureError if the disk is full or refuses.
    """
    if target.exists():
        return
    new = target.with_name(f".{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    with disk_errors(target):
        refuse_links_out(store)
        shutil.copytree(store, new, copy_function=_link, ignore=shutil.ignore_patterns(LOCK))
        new.rename(target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copy2(source, target)


SCHEMA = 2  # 1 knew no retriever
FILE, MODEL = "system.yaml", "model"


class TextDumper(yaml.SafeDumper):
    """Escapes the separators of lines beyond ASCII. Some readers of YAML end a line there, and so a comment, a key or a block;
    PyYAML itself reads U+0085 back as a space.
    """


def scalar_of(dumper: yaml.SafeDumper, text: str, style: str | None = None) -> yaml.ScalarNode:
    quoted = any(separator in text for separator in "\x85\u2028\u2029")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else style)


TextDumper.add_representer(str, scalar_of)


def as_yaml(document: Mapping[str, Any], dumper: type[yaml.SafeDumper] = TextDumper) -> str:
    """The content of a file, its keys in this order."""
    text: str = yaml.dump(dict(document), Dumper=dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def save_system(system: System, folder: Path) -> Path:
    """Write the system into a folder from which it can be loaded on its own, except for the base model.

    The adapter and the store are copied. An embedder or reranker in its own folder stays where it is. Returns the path of
    system.yaml, which is written last: if it exists, the system is complete. Raises InfrastructureError if the disk is full or
    refuses.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _copy_parts(system, folder)
    if system.prompt.shots:
        lines = [json.dumps(shot_row(shot), ensure_ascii=False) for shot in system.prompt.shots]
        write_atomically(folder / "shots.jsonl", "\n".join(lines) + "\n")
    path = folder / FILE
    write_atomically(path, as_yaml(as_dict(system)))
    return path


def _copy_parts(system: System, folder: Path) -> None:
    if system.adapter is not None and system.adapter.resolve() != (folder / "adapter").resolve():
        refuse_links_out(system.adapter)
        shutil.copytree(system.adapter, folder / "adapter", dirs_exist_ok=True)
    if system.tuned_from and Path(system.model).resolve() != (folder / MODEL).resolve():
        refuse_links_out(Path(system.model))
        shutil.copytree(system.model, folder / MODEL, dirs_exist_ok=True, copy_function=_link_anew)
    if system.retriever is not None:
        copy_store(system.retriever.store, folder / "store")


def _link_anew(source: str, target: str) -> None:
    """Weights never change, so the same disk need not hold them twice."""
    Path(target).unlink(missing_ok=True)
    _link(source, target)


def load_system(folder: Path) -> System:
    """Read a system. Raises DataError if the folder holds none, or one of an unknown schema."""
    path = folder / FILE
    if not path.is_file():
        raise DataError(
            f"no {FILE} in this folder",
            where=str(folder),
            expected="the winner of a finished run",
            remedy="Name a run that has one.",
        )
    try:
        body = read_yaml(path, raised=DataError)
        if body["schema"] not in range(1, SCHEMA + 1):
            raise DataError(
                f"schema {body['schema']}",
                where=str(path),
                expected=f"schema {SCHEMA} or older",
                remedy="Use the version that wrote it.",
            )
        return _from_dict(body, folder)
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise DataError(
            f"not a readable system ({type(error).__name__}: {error})",
            where=str(path),
            expected="a file written by this program",
            remedy="Write it again by finishing the run: `lastresort climb TASK --resume`.",
        ) from error


def load_measured(folder: Path, sha256: str) -> System:
    """The system in this folder. Raises DataError where what answers is not what was measured, and as `load_system` does."""
    now = artefact_sha256(folder)
    if now != sha256:
        raise DataError(
            "the files of this system are not those that the climb measured",
            where=str(folder),
            expected=f"the artefact {sha256[:16]}, as the record says, not {now[:16]}",
            remedy="Restore them from a copy, or climb again.",
        )
    return load_system(folder)


def as_dict(system: System) -> dict[str, Any]:
    """The content of system.yaml, JSON-able. The shots are in shots.jsonl."""
    prompt, decoding = system.prompt, system.decoding
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "name": system.name,
        "model": MODEL if system.tuned_from else system.model,
        "adapter": "adapter" if system.adapter is not None else None,
        "precision": system.precision,
        "rendering": system.rendering,
        "fingerprint": system.fingerprint,
        "chat_template_kwargs": dict(system.template_kwargs),
        "prompt": {
            "instruction": prompt.instruction,
            "layout": prompt.layout,
            "shots": {"file": "shots.jsonl", "k": prompt.k, "selection": prompt.selection} if prompt.shots else None,
            "reasoning": prompt.reasoning,
        },
        "decoding": {
            "max_new_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "top_k": decoding.top_k,
            "stop": list(decoding.stop),
            "seed": decoding.seed,
            "grammar": None,
        },
    }
    if prompt.written_by != "task":
        body["prompt"]["written_by"] = prompt.written_by
    if decoding.reasoning_effort is not None:
        body["decoding"]["reasoning_effort"] = decoding.reasoning_effort
    if system.tuned_from:
        body["tuned_from"] = system.tuned_from
    if system.trained_rendering:
        body["trained_rendering"] = system.trained_rendering
    if system.retriever is not None:
        body["retriever"] = {**asdict(system.retriever), "store": "store"}
    if decoding.grammar is not None:
        if decoding.grammar.choices is not None:
            body["decoding"]["grammar"] = {"choices": list(decoding.grammar.choices)}
        else:
            body["decoding"]["grammar"] = {"json_schema": decoding.grammar.json_schema}
    return body


def _from_dict(body: dict[str, Any], folder: Path) -> System:
    prompt, decoding = dict(body["prompt"]), dict(body["decoding"])
    shots, grammar = prompt.pop("shots"), decoding.pop("grammar")
    design = PromptDesign(**prompt)
    if shots:
        text = read_text(_inside(folder, shots["file"], "prompt.shots.file"), DOCUMENT, raised=DataError)
        lines = text.split("\n")  # splitlines() also cuts at U+2028
        pool = tuple(_shot(parse_json(line, lenient=True)) for line in lines if line)
        design = replace(design, shots=pool, k=shots["k"], selection=shots["selection"])
    stop = tuple(decoding.pop("stop"))
    choices = tuple(grammar["choices"]) if grammar and "choices" in grammar else None
    schema = grammar.get("json_schema") if grammar else None
    return System(
        name=body["name"],
        model=str(_inside(folder, body["model"], "model").absolute()) if body.get("tuned_from") else body["model"],
        prompt=design,
        decoding=Decoding(**decoding, stop=stop, grammar=Grammar(schema, choices) if grammar else None),
        adapter=_inside(folder, body["adapter"], "adapter") if body["adapter"] else None,
        precision=body["precision"],
        template_kwargs=body["chat_template_kwargs"],
        rendering=body["rendering"],
        fingerprint=body.get("fingerprint", ""),  # systems saved by the first version have none
        retriever=_retriever(body.get("retriever"), folder),
        tuned_from=body.get("tuned_from", ""),
        trained_rendering=body.get("trained_rendering", ""),
    )


def _retriever(body: dict[str, Any] | None, folder: Path) -> Retriever | None:
    if body is None:
        return None
    return Retriever(**{**body, "store": _inside(folder, body["store"], "retriever.store")})


def _inside(folder: Path, name: str, key: str) -> Path:
    """The file or folder of this name. It must be inside the system's folder: anything else was not measured with it."""
    path = folder / name
    if not _leads_below(folder, path):
        raise DataError(
            f'found "{name}"',
            where=f'{folder / FILE}, key "{key}"',
            expected="a name in the folder of the system",
            remedy="Copy it into that folder.",
        )
    refuse_links_out(path)
    return path


def candidate_folder(run: Path, rung: str, name: str) -> Path:
    """Where a run keeps a system that it measured. Raises DataError for a name that leads out of the run."""
    folder, path = run / "candidates", run / "candidates" / rung / name
    if not _leads_below(folder, path):
        raise DataError(
            f'found the system "{rung}/{name}"',
            where=str(run),
            expected="a name in the folder of the run",
            remedy="The run was changed: restore it from a copy, or climb again.",
        )
    return path


def _leads_below(folder: Path, path: Path) -> bool:
    """Whether a path, with its links followed, is below the folder. One with a NUL is nowhere."""
    try:
        return Path(os.path.realpath(folder)) in Path(os.path.realpath(path)).parents
    except ValueError:
        return False


def shot_row(shot: Shot) -> JsonObject:
    return {"input": [turn.as_dict() for turn in shot.input], "output": shot.output}


def _shot(row: dict[str, Any]) -> Shot:
    turns = tuple(
        Message(turn["role"], turn["content"], {k: v for k, v in turn.items() if k not in ("role", "content")})
        for turn in row["input"]
    )
    return Shot(turns, row["output"])


def artefact_sha256(folder: Path) -> str:
    """Hash of everything that answers: system.yaml without the paths of other models, shots, adapter and own weights.

    It is the same for a copy of the folder, and after the folder or the base has moved. With another base or store the system
    has other fingerprints. Raises DataError as `load_system` does.
    """
    system = load_system(folder)
    body = {key: value for key, value in as_dict(system).items() if key not in ("schema", "tuned_from")}
    if system.fingerprint:
        del body["model"]  # the name may mean another model by now, and the weights are in the fingerprint
    parts = [body, [shot_row(shot) for shot in system.prompt.shots], {p.name: folder_sha256(p) for p in _parts(system)}]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def folder_sha256(folder: Path) -> str:
    """Hash over the names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape") + b"\x00")
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parts(system: System) -> Iterator[Path]:
    """Folders of weights that belong to the system. (A store is covered by its content hash.)"""
    if system.adapter is not None:
        yield system.adapter
    if system.tuned_from:
        yield Path(system.model)
