"""Nothing that a name holds ends a line in an exported file: no comment, key or block is left by it."""

from __future__ import annotations

import ast
import os
import shutil
from pathlib import Path

import pytest
import yaml

from lastresort.errors import InputError
from lastresort.interop import reading
from lastresort.interop.exporting import TARGETS
from lastresort.interop.exporting.export import export
from lastresort.interop.exporting.job import ExportableTraining, commented
from lastresort.interop.exporting.trained import training_from_file
from lastresort.systems.files import TextDumper
from tiny_model import save_tiny_model
from train_support import training_file

SEPARATORS = {"next line": "\x85", "line separator": "\u2028", "paragraph separator": "\u2029"}
ENDS = {
    **SEPARATORS,
    "line feed": "\n",
    "carriage return": "\r",
    "form feed": "\x0c",
    "vertical tab": "\x0b",
    "file separator": "\x1c",
}
ROWS = ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},)
CONFIGURATIONS = ("*.yaml", "*.py", "*.md")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_model(folder / "model")
    return folder / "model"


def lines_of(text: str) -> list[str]:
    """As the readers that end a line at every separator have it."""
    return text.translate({0x85: "\n", 0x2028: "\n", 0x2029: "\n"}).splitlines()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("to", TARGETS)
def test_a_name_ends_no_line(to: str, end: str, model: Path, tmp_path: Path) -> None:
    evil = f"a{end}injected: true  # {end}injected = True{end}"
    base = shutil.copytree(model, tmp_path / f"base{end}injected: true  # name")
    document = {"model": str(base), "objective": "sft", "chat_template_kwargs": {evil: evil}}
    details = {"gpu": "l4"} if to == "skypilot" else {}
    found = export(ExportableTraining(evil, document, ROWS, (), notes=(evil,)), to, tmp_path / "out", **details)
    for path in [path for pattern in CONFIGURATIONS for path in found.folder.glob(pattern)]:
        text = path.read_text("utf-8")
        assert not any(separator in text for separator in SEPARATORS.values()), path.name
        if path.suffix == ".yaml":
            assert "injected" not in yaml.safe_load(text)
            assert "injected" not in yaml.safe_load("\n".join(lines_of(text)))
        elif path.suffix == ".py":
            names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
            assert "injected" not in names


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_comment_stays_one(end: str) -> None:
    found = commented([f"one{end}two: 3", "", f"- four{end}five"])
    assert all(line.startswith("#") for line in lines_of(found))
    assert [line.split() for line in found.splitlines()] == [
        ["#", "one", "two:", "3"],
        ["#"],
        ["#", "-", "four", "five"],
    ]


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_text_is_read_back_as_it_was(end: str) -> None:
    value = {"key": f"one{end}two: 3{end}", f"a{end}b": [f"{end}"]}
    text = yaml.dump(value, Dumper=TextDumper, allow_unicode=True)
    assert yaml.safe_load(text) == value
    assert not any(separator in text for separator in SEPARATORS.values())


@pytest.mark.parametrize("end", SEPARATORS.values(), ids=SEPARATORS)
def test_an_imported_file_ends_no_line_by_its_name(end: str, tmp_path: Path) -> None:
    path = tmp_path / f"axolotl{end}injected: true{end}.yml"
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n' * 4)
    config = {"base_model": "someone/model", "datasets": [{"path": "rows.jsonl", "type": "alpaca"}], "adapter": "lora"}
    path.write_text(
        yaml.safe_dump({**config, "learning_rate": 1e-4, "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True})
    )
    imported = reading.read(path)
    written = reading.write_imported(imported, tmp_path / "out", path)
    text = written.read_text("utf-8")
    assert not any(line.startswith("injected") for line in lines_of(text))
    assert "injected" not in yaml.safe_load(text)


@pytest.mark.skipif(os.name == "nt", reason="names there are Unicode")
@pytest.mark.parametrize("to", TARGETS)
def test_a_name_that_is_not_utf8_is_one_sentence(to: str, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    details = {"gpu": "l4"} if to == "skypilot" else {}
    for training, out in (
        (ExportableTraining("tiny", {"model": "someone/model", "objective": "sft"}, ROWS, ()), folder),
        (ExportableTraining("tiny", {"model": str(folder), "objective": "sft"}, ROWS, ()), tmp_path / "out"),
        (ExportableTraining(folder.name, {"model": "someone/model", "objective": "sft"}, ROWS, ()), tmp_path / "out"),
    ):
        with pytest.raises(InputError, match="found a file name that is not UTF-8") as refused:
            export(training, to, out, **details)
        str(refused.value).encode()
    assert not (tmp_path / "out").exists()


def test_what_was_added_to_an_export_is_not_lost(tmp_path: Path, model: Path) -> None:
    path = training_file(tmp_path, "sft", model=str(model))
    for _ in range(2):
        found = export(training_from_file(path), "trl", tmp_path / "out")
    (found.folder / "out").mkdir()
    (found.folder / "out" / "adapter.bin").write_text("trained")
    with pytest.raises(InputError, match=r"the folder holds something else \(out\)"):
        export(training_from_file(path), "trl", tmp_path / "out")
    assert (found.folder / "out" / "adapter.bin").read_text() == "trained"
