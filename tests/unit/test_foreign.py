"""Files that others wrote: what is opened, and where reading ends."""

from __future__ import annotations

import gzip
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lastresort import foreign
from lastresort.errors import DataError
from lastresort.foreign import (
    MiB,
    everything_below,
    gunzipped,
    holds,
    parse_json,
    parse_yaml,
    read_content,
    read_json,
    read_text,
    read_yaml,
)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def linked(folder: Path, target: str) -> Path:
    (folder / "link").symlink_to(target)
    return folder / "link"


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a FIFO that nobody writes to": (fifo, "not a file"),
    "a device without an end": (lambda f: Path("/dev/zero"), "not a file"),
    "a link to a device": (lambda f: linked(f, "/dev/zero"), "not a file"),
    "the memory of a process": (lambda f: Path("/proc/self/mem"), "operating system"),
    "the environment by a link": (lambda f: linked(f, "/proc/self/environ"), "operating system"),
    "a link to itself": (lambda f: linked(f, "link"), "link"),
    "too large": (lambda f: written(f / "a", bytes(2 * MiB)), "2 MiB"),
    "a name that is not UTF-8": (lambda f: written(Path(os.fsdecode(os.fsencode(f) + b"/\xff")), b"{}"), "not UTF-8"),
    "a name with NUL": (lambda f: f / "a\0b", "cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_only_a_regular_file_of_a_bounded_size_is_read(case: str, tmp_path: Path) -> None:
    make, words = REFUSED[case]
    with pytest.raises(DataError, match=words):
        read_content(make(tmp_path), MiB, raised=DataError)


def test_a_file_at_its_limit_is_read(tmp_path: Path) -> None:
    assert read_content(written(tmp_path / "a", bytes(MiB)), MiB) == bytes(MiB)


def test_what_is_missing_or_a_folder_is_left_to_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_content(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        read_content(tmp_path)


def test_gzip_of_several_members_is_read_and_a_bomb_is_not() -> None:
    packed = gzip.compress(b"a" * 3 * MiB) + gzip.compress(b"b") + b"\0\0"
    assert gunzipped(packed, 4 * MiB, where="a.gz") == b"a" * 3 * MiB + b"b"
    with pytest.raises(DataError, match=r"a\.gz: found \d+ MiB or more when unpacked, expected at most 2 MiB"):
        gunzipped(packed, 2 * MiB, where="a.gz", raised=DataError)
    for broken in (packed[:100], b"\x1f\x8b" + bytes(20), packed + b"words"):
        with pytest.raises(DataError, match="broken gzip"):
            gunzipped(broken, 4 * MiB, where="a.gz", raised=DataError)


def test_gzip_that_unpacks_to_a_thousand_times_its_size_is_refused_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_FREELY", MiB)
    with pytest.raises(DataError, match=r"found \d+ MiB or more when unpacked, expected at most 1 MiB"):
        gunzipped(gzip.compress(bytes(3 * MiB)), foreign.ROWS, where="a.gz", raised=DataError)
    assert len(gunzipped(gzip.compress(os.urandom(3 * MiB)), foreign.ROWS, where="a.gz")) == 3 * MiB


def test_everything_below_a_folder_is_found_however_deep_and_no_link_is_followed(tmp_path: Path) -> None:
    for name in ("b/c/d.md", "a.md", ".hidden/e.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a")
    (tmp_path / "b" / "up").symlink_to("..")
    found = [path.relative_to(tmp_path).as_posix() for path in everything_below(tmp_path)]
    assert found == [".hidden", "a.md", "b", "b/c", "b/c/d.md", "b/up"]
    assert tmp_path / ".hidden" / "e.md" in everything_below(tmp_path, hidden=True)
    deep = tmp_path / "deep"
    deep.mkdir()
    for _ in range(300):
        deep = deep / "d"
        deep.mkdir()
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 60)
    try:
        assert sum(1 for _ in everything_below(tmp_path / "deep")) == 300
    finally:
        sys.setrecursionlimit(before)


def test_numbers_may_stay_as_they_are_written() -> None:
    assert parse_json('{"a": [1, 2.50, 1e5]}', number=str) == {"a": ["1", "2.50", "1e5"]}


def test_a_file_of_many_empty_members_is_read_in_time() -> None:
    packed = gzip.compress(b"") * 100_000 + gzip.compress(b"a")
    assert gunzipped(packed, MiB, where="a.gz") == b"a"


def test_the_place_of_a_fault_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a, line 2: found the byte 0xff"):
        read_text(written(tmp_path / "a", b"one\n\xff"), raised=DataError)
    with pytest.raises(DataError, match=r"a, line 2, column 1: found invalid JSON"):
        read_json(written(tmp_path / "a", b'{"a": 1,\n}'), raised=DataError)
    with pytest.raises(DataError, match=r"a, line 2, column 5: found text that is not YAML"):
        read_yaml(written(tmp_path / "a", b"a: 1\nb: [}"), raised=DataError)


LAUGHS = "a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(LAUGHS, id="laughs"),
        pytest.param("a: &a [*a]", id="an alias within its anchor"),
        pytest.param("[" * 120 + "]" * 120, id="120 levels"),
        pytest.param("[" * 5000, id="5,000 open brackets"),
        pytest.param("a: 2024-13-41", id="a month of 13"),
        pytest.param("a: 1" + "0" * 5000, id="5,000 digits"),
        pytest.param("a: 0x" + "f" * 5000, id="5,000 hexadecimal digits"),
        pytest.param("{[a]: 1}", id="a list as a key"),
        pytest.param("a: !!python/object/apply:os.system [ls]", id="a tag that runs code"),
        pytest.param("a: !!binary ä", id="binary that is none"),
        pytest.param("a: \x07", id="a control character"),
        pytest.param("a: 1\n---\nb: 2", id="two documents"),
        pytest.param("<<: 1", id="a merge with a number"),
    ],
)
def test_yaml_ends_within_its_limits(source: str) -> None:
    with pytest.raises(DataError, match=r"^a[:,]"):
        parse_yaml(source, where="a", raised=DataError)


def test_aliases_and_dates_of_others_are_read() -> None:
    assert parse_yaml("a: &x [1]\nb: *x", where="a") == {"a": [1], "b": [1]}
    assert parse_yaml("a: &a\n", where="a") == {"a": None}
    assert parse_yaml("", where="a") is None


def test_values_of_yaml_are_counted_while_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows the last value that is allowed is not read: here, it is no YAML."""
    monkeypatch.setattr(foreign, "MOST_NODES", 1_000)
    assert parse_yaml("- 1\n" * 999, where="a.yaml") == [1] * 999
    for more in ("- 1\n" * 100 + "]", "- [\n" * 90):
        with pytest.raises(DataError, match=r"a\.yaml, line 1,?00\d: found more than 1,000 values"):
            parse_yaml("- 1\n" * 999 + more, where="a.yaml", raised=DataError)


def test_a_file_holds_a_text_only_where_all_of_it_is_that(tmp_path: Path) -> None:
    """Whatever else lies there is no error, since its place is not taken."""
    assert holds(written(tmp_path / "a", "größe\n".encode()), "größe\n")
    for other in (b"gr\xf6\xdfe\n\xff", "größe\n\n".encode(), b"", b"\xff" * 8):
        assert not holds(written(tmp_path / "b", other), "größe\n")
    assert not holds(linked(tmp_path, "a"), "größe\n")
    assert not holds(fifo(tmp_path), "")
    assert not holds(tmp_path / "missing", "")
