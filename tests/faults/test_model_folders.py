"""Folders of embedders and rerankers that are damaged or name code: one sentence, and nothing of them runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lastresort.errors import DataError
from lastresort.knowledge.embedder import open_embedder
from lastresort.knowledge.sentence_models import open_reranker
from models_support import save_tiny

CODE = "from pathlib import Path\nPath({ran!r}).touch()\nclass Own:\n    pass\n"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("kept") / "model")


@pytest.fixture
def model(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "model"))


def modules(kind: Any, path: Any = "") -> str:
    return json.dumps([{"idx": 0, "name": "0", "path": path, "type": kind}])


MODULES = {
    "empty": "",
    "no JSON": "{nope",
    "deep": "[" * 5_000 + "]" * 5_000,
    "a number": "5",
    "an object": "{}",
    "numbers": "[1]",
    "a module without a type": '[{"idx": 0, "name": "0", "path": ""}]',
    "a type of the system": modules("os.system"),
    "a type of a process": modules("subprocess.Popen"),
    "code of its own": modules("own.Own"),
    "a type that is a number": modules(5),
    "an unknown type": modules("sentence_transformers.models.Evil"),
    "a path out of here": modules("sentence_transformers.models.Pooling", "../../../../etc"),
    "a path that is a number": modules("sentence_transformers.models.Transformer", 5),
}


@pytest.mark.parametrize("text", MODULES.values(), ids=MODULES)
def test_modules_of_an_embedder(model: Path, tmp_path: Path, text: str) -> None:
    (model / "modules.json").write_text(text)
    (model / "own.py").write_text(CODE.format(ran=str(tmp_path / "ran")))
    with pytest.raises(DataError) as caught:
        open_embedder(model).embed_passages(["a"])
    assert str(model) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{nope", b"[" * 5_000, b"\x80\x02}q\x00.", bytes(4096)])
def test_damaged_files_of_a_reranker(model: Path, name: str, content: bytes) -> None:
    (model / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_reranker(model).scores("a", ["b"])
    assert str(model) in str(caught.value)
    assert "\n" not in str(caught.value)


ADAPTER = json.dumps({"peft_type": "LORA", "r": 4, "target_modules": "(([a-z_.0-9]+)+)+!"})
OPENERS = pytest.mark.parametrize("load", [open_embedder, open_reranker])


def with_adapter(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(ADAPTER)
    return folder


@OPENERS
@pytest.mark.parametrize("settings", ["none", "modules.json", "router_config.json", "config.json"])
def test_an_adapter_that_would_be_loaded_is_refused(load: Callable[[Path], object], settings: str, model: Path) -> None:
    """transformers would load it, and its base from wherever its settings say."""
    with_adapter(model / "0" if settings != "none" else model)
    if settings == "modules.json":
        (model / settings).write_text(modules("sentence_transformers.models.Transformer", "0"))
    elif settings != "none":
        (model / "modules.json").write_text(modules("sentence_transformers.models.Router"))
        (model / settings).write_text(json.dumps({"types": {"0": "sentence_transformers.models.Transformer"}}))
    with pytest.raises(DataError, match=r"holds an adapter \(adapter_config\.json\)"):
        load(model)


@OPENERS
def test_an_adapter_of_a_checkpoint_below_a_model_is_none_of_its(load: Callable[[Path], object], model: Path) -> None:
    with_adapter(model / "checkpoint-10")
    (model / "modules.json").write_text(modules("sentence_transformers.models.Transformer"))
    load(model)


@OPENERS
@pytest.mark.parametrize("path", ["../outside", "link", "within/../../outside", "\0"])
def test_a_module_outside_of_the_folder_is_refused(load: Callable[[Path], object], path: str, model: Path) -> None:
    """No fingerprint covers it, and what it holds is not looked at."""
    (model / "link").symlink_to(with_adapter(model.parent / "outside"))
    (model / "modules.json").write_text(modules("sentence_transformers.models.Transformer", path))
    with pytest.raises(DataError, match="outside of the model's folder") as caught:
        load(model)
    assert str(model) in str(caught.value)
