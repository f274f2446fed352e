"""The folder of a task that is being made: what its pages find in it."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from lastresort.errors import LastresortError
from lastresort.ladder import RUNGS
from lastresort.spec.task import Task
from lastresort.ui import drafts
from lastresort.ui.climb_options import StartForm, kept_options
from lastresort.ui.site import Site
from lastresort.ui.workspace import NotThere


def there(site: Site, name: str) -> Path:
    folder = site.workspace.task_folder(name)
    if not folder.is_dir():
        raise NotThere(f'There is no task "{name}" here.')
    return folder


def data_in(site: Site, name: str) -> Path:
    found = drafts.data_file(there(site, name))
    if found is None:
        raise NotThere(f'There is no task "{name}" here.')
    return found


def uploaded_in(site: Site, name: str) -> Path:
    """The file that somebody gave, also where the task reads a copy without some of its rows."""
    data = data_in(site, name)
    copied = drafts.copies_in(data.parent).get(data.name)
    found = None if copied is None else data.with_name(Path(copied.source).name)
    return data if found is None or not found.is_file() else found


def task_in(site: Site, name: str) -> Task:
    folder = there(site, name)
    return drafts.task_from(drafts.text_of(folder) or "", folder)


def ladder_of(site: Site, name: str) -> tuple[str, ...]:
    """Of the text as it is now; every rung where it has a fault."""
    try:
        return task_in(site, name).ladder
    except LastresortError:
        return tuple(RUNGS)


def start_form(site: Site, name: str) -> StartForm:
    folder, rungs = there(site, name), ladder_of(site, name)
    options = kept_options(folder).within(rungs)
    return StartForm(options, rungs, options.typed(below(site, folder / drafts.DRAFT)))


def state_of(site: Site, name: str) -> object:
    """Changes with what a command would read."""
    folder = there(site, name)
    text = drafts.text_of(folder) or ""
    data = []
    for path in sorted(folder.iterdir()):
        if path.suffix != ".yaml" and not path.name.startswith(
            "."
        ):  # which no command reads: it is still being written
            with suppress(FileNotFoundError):  # a link that leads nowhere, or it was removed a moment ago
                data.append((path.name, path.stat().st_mtime_ns))
    return hashlib.sha256(text.encode()).hexdigest(), tuple(data)


def below(site: Site, path: Path) -> str:
    return path.relative_to(site.workspace.folder).as_posix()
