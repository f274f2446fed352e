"""Read the documents of a file or a folder: everything readable below it, nothing outside it. What is skipped is reported."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lastresort.errors import DataError
from lastresort.foreign import DOCUMENT, everything_below, read_content
from lastresort.knowledge.document import Document
from lastresort.knowledge.formats import READERS
from lastresort.types import SILENT, Progress

_KNOWN = ", ".join(READERS)


@dataclass(frozen=True, slots=True)
class SkippedPath:
    """A file or folder that was not read. path: below the folder, as ids are written."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class FolderContents:
    """The content of a folder. documents: sorted by id."""

    documents: tuple[Document, ...]
    skipped: tuple[SkippedPath, ...]


def read_documents(path: Path, *, progress: Progress = SILENT) -> FolderContents:
    """The documents of a file, or of a folder and its subfolders.

    Hidden files, unknown file types, files without text and links within the folder are skipped and reported.
    Raises DataError for a missing path, a link that leads out of the folder, or an unreadable file, and if there is no document.
    """
    if not path.exists():
        raise DataError("no such file or folder", where=str(path), remedy="Check the path.")
    if path.is_file():
        kind = _check_kind(path)
        files, skipped = [(path, path.name)], list[SkippedPath]()
        progress.stage(f"reading {kind}", 1)
    else:
        files, skipped = _files_below(path)
        progress.stage("reading documents", len(files))
    documents = []
    for file, name in files:
        document = READERS[file.suffix.lower()](_content(file), document_id(name), str(file))
        progress.advance(1)
        if any(block.start < block.end for block in document.blocks):
            documents.append(document)
        else:
            skipped.append(SkippedPath(document_id(name), "holds no text"))
    if not documents:
        listed = "; ".join(f"{skip.path} ({skip.reason})" for skip in skipped[:5])
        raise DataError(
            f"found no document{f', skipped {len(skipped)}: {listed}' if skipped else ''}",
            where=str(path),
            expected=f"at least one file of {_KNOWN}",
            remedy="Check the path.",
        )
    return FolderContents(tuple(sorted(documents, key=lambda d: d.id)), tuple(sorted(skipped, key=lambda s: s.path)))


def is_document(knowledge: Path, path: Path) -> bool:
    """Whether read_documents would read this file from `knowledge`, judged by its path and type."""
    root, file = Path(os.path.realpath(knowledge)), Path(os.path.realpath(path))
    if file != root and root not in file.parents:
        return False
    return file.suffix.lower() in READERS and not any(part.startswith(".") for part in file.relative_to(root).parts)


def _files_below(folder: Path) -> tuple[list[tuple[Path, str]], list[SkippedPath]]:
    """The files to read, each with its path below the folder, and those to skip."""
    root = folder.resolve()
    files: list[tuple[Path, str]] = []
    skipped: list[SkippedPath] = []
    try:
        for path in everything_below(folder):
            name = path.relative_to(folder).as_posix()
            reason = _reason_to_skip(path, root)
            if reason:
                skipped.append(SkippedPath(document_id(name), reason))
            elif not path.is_dir():
                files.append((path, name))
    except OSError as error:
        raise DataError(
            f"the folder cannot be read ({error.strerror})", where=str(error.filename or folder), remedy="Check it."
        ) from error
    return files, skipped


def _reason_to_skip(path: Path, root: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink():
        return _check_link(path, root)
    if path.is_dir():
        return ""
    if not path.is_file():
        return "not a plain file"
    return "" if path.suffix.lower() in READERS else f'no document of a known kind ("{path.suffix}")'


def _check_link(path: Path, root: Path) -> str:
    """Links are never followed. A target inside the folder is read anyway, and one outside was not named by the user."""
    target = Path(os.path.realpath(path))  # resolve() raises where links lead to each other
    if target != root and root not in target.parents:
        raise DataError(
            "found a link that leads out of the folder",
            where=str(path),
            expected="files that lie in the folder",
            remedy="Copy the file into it, or remove the link.",
        )
    return "a link" if target.exists() else "a link to nothing"


def _check_kind(path: Path) -> str:
    kind = path.suffix.lower()
    if kind not in READERS:
        raise DataError(
            f'found the suffix "{path.suffix}"',
            where=str(path),
            expected=_KNOWN,
            remedy="Correct the suffix if it is wrong, or convert the file.",
        )
    return kind


def _content(path: Path) -> bytes:
    try:
        return read_content(path, DOCUMENT, raised=DataError)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError("the file is gone", where=str(path), remedy="Check it.") from error


def document_id(name: str) -> str:
    """The name with # escaped, which separates a document from its section, and with bytes that are not UTF-8 escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace").replace("#", "%23")
