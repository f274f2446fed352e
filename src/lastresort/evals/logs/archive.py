"""Members of a zip that somebody else made, as JSON: nothing is unpacked to the disk, and no more is read than was agreed to.

Inspect compresses with Zstandard, which Python's own zip knows from 3.14 on; pyarrow, which is here anyway, reads it.
"""

from __future__ import annotations

import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lastresort.errors import DataError

ZSTANDARD = 93
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 1
# What zipfile and its decompressors raise at damaged, encrypted (RuntimeError) and unknown (NotImplementedError) members.
_CORRUPT = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Limits:
    """Members of an archive, bytes of one when unpacked, and of all that are read."""

    members: int = 500_000
    member_bytes: int = 512 * 1024**2
    all_bytes: int = 16 * 1024**3


class Archive:
    """An open zip. Raises DataError for whatever is not as it should be."""

    def __init__(self, path: Path, opened: zipfile.ZipFile, limits: Limits) -> None:
        self.path, self._zip, self._limits, self._read = path, opened, limits, 0
        if len(opened.NameToInfo) > limits.members:
            raise self._refused(f"{len(opened.NameToInfo):,} members", f"at most {limits.members:,}")
        for name in opened.NameToInfo:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
                raise self._refused(f"a member called {name!r}", "names that stay inside the archive")

    @property
    def names(self) -> list[str]:
        """Of the members; of several by one name only the last counts."""
        return list(self._zip.NameToInfo)

    def json(self, name: str) -> Any:
        body = self._bytes(self._zip.NameToInfo[name])
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._refused(f"{name}, which is not JSON ({error})", "JSON") from error

    def _bytes(self, member: zipfile.ZipInfo) -> bytes:
        """Not more than the limit is unpacked, whatever the archive says of its size."""
        room = min(self._limits.member_bytes, self._limits.all_bytes - self._read)
        if member.file_size > room:
            raise self._too_large(member, room)
        room = member.file_size  # more than it says of itself is no more trusted than too much
        try:
            body = self._zstandard(member, room) if member.compress_type == ZSTANDARD else self._plain(member, room)
        except _CORRUPT as error:
            raise self._refused(f"{member.filename}, which cannot be unpacked ({error})", "a whole archive") from error
        if len(body) > room:
            raise self._too_large(member, room)
        self._read += len(body)
        return body

    def _plain(self, member: zipfile.ZipInfo, room: int) -> bytes:
        with self._zip.open(member) as stream:
            return stream.read(room + 1)

    def _zstandard(self, member: zipfile.ZipInfo, room: int) -> bytes:
        import pyarrow

        packed = pyarrow.BufferReader(self._packed(member))
        with pyarrow.CompressedInputStream(packed, "zstd") as stream:
            body = bytes(stream.read(room + 1))
        if len(body) <= room and zlib.crc32(body) != member.CRC:
            raise zipfile.BadZipFile("bad CRC-32")
        return body

    def _packed(self, member: zipfile.ZipInfo) -> bytes:
        """The member's bytes as they lie in the file."""
        if member.flag_bits & _ENCRYPTED:
            raise zipfile.BadZipFile("encrypted")
        if member.compress_size > self._limits.member_bytes:
            raise zipfile.BadZipFile(f"{member.compress_size:,} bytes packed")
        with self.path.open("rb") as file:
            file.seek(member.header_offset)
            header = file.read(_LOCAL_HEADER.size)
            if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
                raise zipfile.BadZipFile("no member where the archive says that there is one")
            *_, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
            file.seek(name_bytes + extra_bytes, 1)
            return file.read(member.compress_size)

    def _too_large(self, member: zipfile.ZipInfo, room: int) -> DataError:
        return self._refused(f"{member.filename}, which is larger than {room:,} bytes", "a log of a sensible size")

    def _refused(self, found: str, expected: str) -> DataError:
        return DataError(
            f"found {found}", where=str(self.path), expected=expected, remedy="Make the log again, or name another."
        )


@contextmanager
def archive(path: Path, limits: Limits | None = None) -> Iterator[Archive]:
    """Raises DataError where the file is no zip."""
    try:
        opened = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(
            f"cannot be opened ({error})",
            where=str(path),
            expected="a log of Inspect, which is a zip",
            remedy="Name a whole log.",
        ) from error
    with opened:
        yield Archive(path, opened, limits or Limits())
