"""Files and folders are replaced whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from lastresort.errors import InfrastructureError
from lastresort.records.atomic import replace_folder, settle_folder, write_atomically


def test_text_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "decision.json"
    write_atomically(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    write_atomically(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert list(path.parent.iterdir()) == [path]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_the_old_file_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "decision.json"
    path.write_text("old")

    def full(_handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InfrastructureError, match=r"decision\.json: the disk is full\. Free some space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InfrastructureError, match=r"report\.html: could not be written \(Is a directory\)"):
        write_atomically(tmp_path / "report.html", "x")


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


def test_a_folder_that_is_a_file_is_named_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(InfrastructureError) as caught:
        write_atomically(tmp_path / "cache" / "hashes" / "entry", "x")
    assert str(tmp_path / "cache") in str(caught.value)
    assert (tmp_path / "cache").read_text() == ""


def test_replace_folder(tmp_path: Path) -> None:
    final = tmp_path / "runs" / "winner"
    for content in ("first", "second"):
        replace_folder(folder(tmp_path / "made", content), final)
        assert (final / "file").read_text() == content
    assert [path.name for path in final.parent.iterdir()] == ["winner"]


def test_a_replacement_killed_between_its_renames_gives_the_old_folder_back(tmp_path: Path) -> None:
    final = folder(tmp_path / "winner", "old")
    final.rename(tmp_path / ".winner.old")
    settle_folder(final)
    assert (final / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["winner"]


def test_a_replacement_killed_before_its_cleaning_keeps_the_new_folder(tmp_path: Path) -> None:
    final = folder(tmp_path / "winner", "new")
    folder(tmp_path / ".winner.old", "old")
    settle_folder(final)
    assert (final / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["winner"]


def test_a_failed_replacement_puts_nothing_half_way(tmp_path: Path) -> None:
    final = folder(tmp_path / "winner", "old")
    with pytest.raises(InfrastructureError):
        replace_folder(tmp_path / "missing", final)
    settle_folder(final)
    assert (final / "file").read_text() == "old"


def test_half_a_surrogate_pair_is_written_as_json_and_yaml_escape_it(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.json", json.dumps({"file": "\\\udcff é"}, ensure_ascii=False))
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{"file": "\\\\\\udcff é"}'
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"file": "\\\udcff é"}


def test_no_key_of_the_environment_is_written_with_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports, decisions and exports are shared."""
    monkeypatch.setenv("LASTRESORT_API_KEY", "sk-a-key-that-must-not-be-seen")
    write_atomically(tmp_path / "report.md", "it is sk-a-key-that-must-not-be-seen\n")
    assert (tmp_path / "report.md").read_text() == "it is ***\n"
