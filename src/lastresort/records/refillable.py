"""Databases that can always be filled again: a damaged one is moved aside with a warning and never stops anything."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lastresort.errors import DataError
from lastresort.records.atomic import disk_error
from lastresort.records.database import Database, connect

log = logging.getLogger(__name__)


def open_refillable(path: Path, *, application: int, migrations: Sequence[str], what: str) -> Database:
    """Open or start the file; a damaged or foreign one is moved aside first. what: its name in the warning."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return connect(path, application=application, migrations=migrations)
    except DataError as damage:
        move_aside(path, damage, what)
        return connect(path, application=application, migrations=migrations)
    except OSError as error:
        raise disk_error(error, path) from error


def move_aside(path: Path, damage: Exception, what: str) -> None:
    """Rename the file to the next free `<name>.damaged-<n>`."""
    aside = next(
        candidate
        for number in range(1, 1_000_000)
        if not (candidate := path.with_name(f"{path.name}.damaged-{number}")).exists()
    )
    for suffix in ("-wal", "-shm"):  # they belong to the damaged file and would spoil the new one
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.replace(aside)
    log.warning("%s %s; the old file is kept as %s.", damage, what, aside.name)
