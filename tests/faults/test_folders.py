"""A command writes into folders that are new or its own. No copy follows a link out of its folder, no name leads out of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from lastresort.errors import DataError, InfrastructureError, InputError, LastresortError, LateError, TaskError
from lastresort.records.atomic import (
    check_new_folder,
    is_held,
    new_file,
    new_folder,
    refuse_links_out,
    replace_folder,
    write_atomically,
)
from lastresort.systems.files import candidate_folder, load_system, save_system
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding
from lastresort.ui.drafts import data_file, names_in
from lastresort.ui.workspace import Workspace


def filled(folder: Path) -> Path:
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    return folder


OCCUPIED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a file of somebody": (lambda place: filled(place / "a"), r"holds something else \(mine.txt\)"),
    "a file": (lambda place: filled(place / "a") / "mine.txt", "found a file"),
    "a link": (lambda place: linked(place / "link", filled(place / "a")), "found a link"),
    "a link that leads nowhere": (lambda place: linked(place / "link", place / "nowhere"), "found a link"),
    "no name": (lambda place: Path(), 'found ".", expected the name'),
    "the folder above": (lambda place: Path(".."), 'found "..", expected the name'),
    "the root": (lambda place: Path("/"), 'found "/", expected the name'),
}


def linked(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


@pytest.mark.parametrize("what", OCCUPIED)
def test_a_folder_that_is_not_ones_own_is_refused(what: str, tmp_path: Path) -> None:
    make, sentence = OCCUPIED[what]
    with pytest.raises(InputError, match=sentence):
        check_new_folder(make(tmp_path))


def test_a_new_an_empty_and_an_own_folder_may_be_written(tmp_path: Path) -> None:
    check_new_folder(tmp_path / "new" / "below")
    check_new_folder(tmp_path)
    check_new_folder(filled(tmp_path / "own"), own=("mine.txt",))
    with pytest.raises(InputError, match="or what the same command wrote"):
        check_new_folder(tmp_path / "own", own=("others.txt",))


def secret(place: Path) -> Path:
    (place / "secret.txt").write_text("a key")
    return place / "secret.txt"


LINKS: dict[str, Callable[[Path, Path], object]] = {
    "to a file": lambda folder, secret: (folder / "notes").symlink_to(secret),
    "to a file by a way around": lambda folder, secret: (folder / "notes").symlink_to("../secret.txt"),
    "to a folder": lambda folder, secret: (folder / "more").symlink_to(secret.parent),
    "to the root": lambda folder, secret: (folder / "more").symlink_to("/"),
    "to a device": lambda folder, secret: (folder / "notes").symlink_to("/dev/zero"),
    "to what is not there": lambda folder, secret: (folder / "notes").symlink_to("/nowhere/at/all"),
    "below": lambda folder, secret: ((folder / "deep").mkdir(), (folder / "deep" / "notes").symlink_to(secret)),
    "over another link": lambda folder, secret: (
        (folder / "a").symlink_to("b"),
        (folder / "b").symlink_to(secret),
    ),
}


@pytest.mark.parametrize("how", LINKS)
def test_a_link_out_of_a_folder_is_refused(how: str, tmp_path: Path) -> None:
    folder = filled(tmp_path / "adapter")
    LINKS[how](folder, secret(tmp_path))
    with pytest.raises(InputError, match="found a link to"):
        refuse_links_out(folder)


def test_a_fifo_is_not_copied(tmp_path: Path) -> None:
    os.mkfifo(filled(tmp_path / "adapter") / "pipe")
    with pytest.raises(InputError, match="found something that is not a file"):
        refuse_links_out(tmp_path / "adapter")


def test_links_within_a_folder_and_to_the_blobs_of_a_hubs_cache_are_followed(tmp_path: Path) -> None:
    folder = filled(tmp_path / "adapter")
    (folder / "again.txt").symlink_to("mine.txt")
    refuse_links_out(folder)
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "1f", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "9c").write_text("weights")
    (snapshot / "model.safetensors").symlink_to("../../blobs/9c")
    refuse_links_out(snapshot)
    (snapshot / "notes").symlink_to(secret(tmp_path))
    with pytest.raises(InputError, match="found a link"):
        refuse_links_out(snapshot)


def system(adapter: Path) -> System:
    return System("a", "someone/model", PromptDesign("Say."), Decoding(8), adapter=adapter)


@pytest.mark.parametrize("how", LINKS)
def test_no_system_is_saved_or_loaded_with_a_link_out_of_its_adapter(how: str, tmp_path: Path) -> None:
    adapter = filled(tmp_path / "adapter")
    saved = tmp_path / "saved"
    save_system(system(adapter), saved)
    load_system(saved)
    LINKS[how](adapter, secret(tmp_path))
    with pytest.raises(InputError, match="found a link to"):
        save_system(system(adapter), tmp_path / "other")
    LINKS[how](saved / "adapter", secret(tmp_path))
    with pytest.raises(InputError, match="found a link to"):
        load_system(saved)


OUT = ("..", "../..", "../../../etc", "/etc", "a/../../..", "", ".", "a\0b", "../sft/../../x")


@pytest.mark.parametrize("name", OUT)
@pytest.mark.parametrize("place", ["rung", "name"])
def test_no_candidate_leads_out_of_the_run(name: str, place: str, tmp_path: Path) -> None:
    rung, system = (name, "..") if place == "rung" else ("..", name)
    if place == "name" and name in ("", "."):
        rung = "."
    with pytest.raises(DataError, match="found the system"):
        candidate_folder(tmp_path, rung, system)


def test_a_candidate_that_is_a_link_out_of_the_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run" / "candidates" / "sft").mkdir(parents=True)
    assert candidate_folder(tmp_path / "run", "sft", "lr-1e-4") == tmp_path / "run" / "candidates" / "sft" / "lr-1e-4"
    (tmp_path / "run" / "candidates" / "sft" / "lr-1e-4").symlink_to(filled(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match="found the system"):
        candidate_folder(tmp_path / "run", "sft", "lr-1e-4")


@pytest.mark.parametrize("key", ["adapter", "tuned_from", "prompt.shots.file", "retriever.store"])
@pytest.mark.parametrize("name", ["../elsewhere", "/etc", "link", "."])
def test_what_a_system_names_is_in_its_folder(key: str, name: str, tmp_path: Path) -> None:
    import yaml

    path = save_system(System("a", "someone/model", PromptDesign("Say."), Decoding(8)), tmp_path / "saved")
    filled(tmp_path / "elsewhere")
    (path.parent / "link").symlink_to(tmp_path / "elsewhere")
    body = yaml.safe_load(path.read_text())
    match key:
        case "adapter":
            body["adapter"] = name
        case "tuned_from":
            body |= {"model": name, "tuned_from": "someone/model"}
        case "prompt.shots.file":
            body["prompt"]["shots"] = {"file": name, "k": 1, "selection": "fixed"}
        case _:
            body["retriever"] = {"store": name, "k": 1}
    path.write_text(yaml.safe_dump(body))
    with pytest.raises(DataError, match="expected a name in the folder of the system"):
        load_system(path.parent)


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    other = secret(tmp_path)
    (tmp_path / "decision.json").symlink_to(other)
    write_atomically(tmp_path / "decision.json", "{}")
    assert (other.read_text(), (tmp_path / "decision.json").is_symlink()) == ("a key", False)


@pytest.mark.parametrize("what", ["a link", "a file with content", "a folder", "a FIFO", "a link that leads nowhere"])
def test_whether_somebody_holds_a_folder_is_seen_without_touching_what_is_in_its_locks_place(
    what: str, tmp_path: Path
) -> None:
    other, lock = secret(tmp_path), tmp_path / "lock"
    match what:
        case "a link":
            lock.symlink_to(other)
        case "a file with content":
            lock.write_text("mine")
        case "a folder":
            lock.mkdir()
        case "a FIFO":
            os.mkfifo(lock)
        case _:
            lock.symlink_to(tmp_path / "nowhere")
    assert not is_held(tmp_path)
    assert other.read_text() == "a key"
    assert not (tmp_path / "nowhere").exists()
    assert not lock.is_file() or lock.is_symlink() or lock.read_text() == "mine"


UPLOADING = """
import io, os, signal, sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from lastresort.ui.drafts import keep_upload
from lastresort.ui.workspace import Workspace
class Upload(io.BytesIO):
    def read(self, size=-1):
        if self.tell():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(2**16)
keep_upload(Workspace(Path(sys.argv[1])), "cases.csv", "", Upload(b"text,team\\n" + b"a,b\\n" * 2**16))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_page_killed_while_it_takes_an_upload_leaves_no_half_of_it(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", UPLOADING, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    folder, workspace = tmp_path / "tasks" / "cases", Workspace(tmp_path)
    (left,) = folder.iterdir()
    assert left.read_text().startswith("text,team")
    assert data_file(folder) is None
    assert names_in(workspace) == []
    mine = folder / f".other.csv.{os.getpid()}.1f.new"
    mine.write_text("still coming")
    before = folder / f".before.csv.{os.getpid()}.1f.new"
    before.write_text("of a process that had the same number")
    os.utime(before, (0, 0))
    workspace.remove_left_over()
    assert list(folder.iterdir()) == [mine]


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_never_takes_the_place_of_another(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one comes in between, and on a disk without hard links."""

    def refuse(*_: object) -> None:
        raise PermissionError

    if not links:
        monkeypatch.setattr("os.link", refuse)

    def write(path: Path, between: Callable[[], object] = lambda: None) -> None:
        with new_file(path) as file:
            file.write(b"mine")
            assert not path.exists()
            between()

    path, other = tmp_path / "cases.csv", tmp_path / "other.csv"
    write(path)
    for there, between in ((path, lambda: None), (other, lambda: other.write_text("theirs"))):
        with pytest.raises(FileExistsError):
            write(there, between)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "cut.csv", lambda: 1 / 0)
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"cases.csv": "mine", "other.csv": "theirs"}


def test_of_two_that_write_one_new_file_the_first_to_end_is_whole_and_the_other_hears_of_it(tmp_path: Path) -> None:
    """Two tabs send a file of one name."""
    path, first, second = tmp_path / "cases.csv", ExitStack(), ExitStack()
    first.enter_context(new_file(path)).write(b"first")
    file = second.enter_context(new_file(path))
    first.close()
    assert path.read_bytes() == b"first"
    file.write(b"second")
    with pytest.raises(FileExistsError):
        second.close()
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"cases.csv": b"first"}


def test_threads_that_write_one_file_at_once_all_succeed_and_leave_one_of_their_contents(tmp_path: Path) -> None:
    path = tmp_path / "cases.train.jsonl"
    contents = [letter * 100_000 for letter in "abcd"]

    def write(content: str) -> None:
        for _ in range(6):
            write_atomically(path, content)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, contents))  # raises what a thread raised
    assert path.read_text() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_export_left_goes_with_the_next(tmp_path: Path) -> None:
    """It may hold a copy of a model."""
    code = (
        "import os, signal, sys; from pathlib import Path; from lastresort.records.atomic import new_folder\n"
        "with new_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'inner').mkdir(); (folder / 'inner' / 'weights').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    final = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", code, str(final)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    with new_folder(final) as working:
        assert list(tmp_path.iterdir()) == [working] != [left]
        (working / "weights").write_text("whole")
        replace_folder(working, final)
    with pytest.raises(ZeroDivisionError), new_folder(final):
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (final / "weights").read_text() == "whole"


@pytest.mark.parametrize("error", [InfrastructureError, DataError, InputError])
def test_what_is_wrong_inside_a_new_folder_is_named_where_it_would_lie(
    error: type[LastresortError], tmp_path: Path
) -> None:
    with pytest.raises(error) as raised, new_folder(tmp_path / "out") as outer, new_folder(outer / "model") as inner:
        raise error("no room", where=str(inner / "a.bin"), expected="some", remedy="Make some.")
    assert str(raised.value) == f"{tmp_path / 'out' / 'model' / 'a.bin'}: no room, expected some. Make some."


def test_an_error_about_another_place_keeps_what_its_kind_adds() -> None:
    task, stop = TaskError("one", where="a", key=("sft", "r")), InfrastructureError("two", where="a", resume="Go on.")
    late = LateError("three", where="a")
    late.waited_s = 7.0
    assert (str(task.elsewhere("b")), task.elsewhere("b").key) == ("b: one.", ("sft", "r"))
    assert str(stop.elsewhere("b")) == "b: two. Go on."
    assert (late.elsewhere("b").where, late.elsewhere("b").waited_s) == ("b", 7.0)


def test_what_a_killed_process_left_of_a_file_goes_when_it_is_written_again(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    left = tmp_path / f".a[1].json.{ended.pid}.1f.new"
    others = [
        tmp_path / f".a[1].json.{os.getppid()}.1f.new",
        tmp_path / f".b.json.{ended.pid}.1f.new",
        tmp_path / ".a[1].json.x.1f.new",
    ]
    for file in (left, *others):
        file.write_text("half")
    write_atomically(tmp_path / "a[1].json", "whole")
    assert not left.exists()
    assert all(file.read_text() == "half" for file in others)
