"""A model that brings Python code of its own: the code never runs, nobody is asked about it, and one sentence says so."""

from __future__ import annotations

import ast
import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lastresort
from lastresort.embedded import converted
from lastresort.errors import InputError
from lastresort.gate.sides import _layer_sizes
from lastresort.knowledge.embedder import open_embedder
from lastresort.knowledge.sentence_models import open_reranker
from lastresort.models.loading import load_local
from lastresort.models.tokenizer import read_rendering_fingerprint, read_tokenizer
from lastresort.train.adapters.folder import layer_names, linear_shapes
from lastresort.train.adapters.gguf import check_exportable
from models_support import save_tiny, write_tiny_gguf

SOURCE = Path(lastresort.__file__).parent
LOADERS = {"from_pretrained", "from_config", "SentenceTransformer", "CrossEncoder", "load_dataset"}
CODE = """from pathlib import Path
Path({ran!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Questions on standard input, each of which is answered with yes."""
    questions: list[str] = []

    def yes(question: object = "") -> str:
        questions.append(str(question))
        return "y"

    monkeypatch.setattr(builtins, "input", yes)
    monkeypatch.setenv("LASTRESORT_CACHE", str(tmp_path / "cache"))
    return questions


def bring_code(folder: Path, ran: Path, *, needed: bool = True) -> Path:
    """Have a folder's config and tokenizer name code of its own. ran: the file that the code makes when it runs. needed: False
    for a model of a kind that transformers knows too."""
    (folder / "own.py").write_text(CODE.format(ran=str(ran)))
    named = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel", "AutoModel": "own.OwnModel"}
    tokenizer = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}
    written: dict[str, dict[str, Any]] = {"config.json": {"auto_map": named}}
    if needed:
        written = {"config.json": {"auto_map": named, "model_type": "own"}, "tokenizer_config.json": tokenizer}
    for name, changes in written.items():
        path = folder / name
        present = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(present | changes))
    return folder


def embed(folder: Path) -> object:
    return open_embedder(folder).embed_passages(["a"])


def rerank(folder: Path) -> object:
    return open_reranker(folder).scores("a", ["b"])


@pytest.mark.parametrize(
    "load",
    [
        load_local,
        read_tokenizer,
        lambda folder: read_rendering_fingerprint(folder, {}),
        check_exportable,
        linear_shapes,
        lambda folder: layer_names(folder, "attention"),
        _layer_sizes,
        embed,
        rerank,
    ],
    ids="load tokenizer rendering export shapes names sizes embedder reranker".split(),
)
def test_code_of_a_model_never_runs_and_nobody_is_asked(
    load: Callable[[Path], Any], asked: list[str], tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    folder = bring_code(save_tiny(tmp_path / "model"), ran)
    with pytest.raises(InputError, match="asks to run Python code that comes with the model") as caught:
        load(folder)
    assert "no code of a model is run" in str(caught.value)
    assert str(folder) in str(caught.value)
    assert asked == []
    assert not ran.exists()


def test_code_beside_a_gguf_never_runs_and_nobody_is_asked(asked: list[str], tmp_path: Path) -> None:
    ran, gguf = tmp_path / "ran", tmp_path / "model" / "tiny.gguf"
    gguf.parent.mkdir()
    write_tiny_gguf(gguf)
    bring_code(gguf.parent, ran)
    with pytest.raises(InputError, match="no code of a model is run"):
        converted(gguf)
    assert asked == []
    assert not ran.exists()


def test_a_model_that_transformers_knows_without_its_code_is_loaded_so(asked: list[str], tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    folder = bring_code(save_tiny(tmp_path / "model"), ran, needed=False)
    assert type(load_local(folder).model).__module__.startswith("transformers.")
    assert asked == []
    assert not ran.exists()


@pytest.mark.slow
def test_every_loading_call_says_that_no_code_is_run() -> None:
    found = [
        (f"{path.relative_to(SOURCE)}:{call.lineno}", call)
        for path in sorted(SOURCE.rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and _called(call.func) in LOADERS and _owner(call.func) != "PeftModel"
    ]
    assert len(found) > 10
    assert [place for place, call in found if not _says_so(call)] == []


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _owner(function: ast.expr) -> str:
    """PEFT's own loading takes no such argument: it reads an adapter's weights and settings."""
    return getattr(function.value, "id", "") if isinstance(function, ast.Attribute) else ""


def _says_so(call: ast.Call) -> bool:
    return any(
        argument.arg == "trust_remote_code"
        and isinstance(argument.value, ast.Constant)
        and argument.value.value is False
        for argument in call.keywords
    )
