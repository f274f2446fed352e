"""What fuzzing once found stays mended, and each reader takes the plain input that its fuzzing starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus import limited
from fuzzing import FOUND, PLAIN, read_once

INPUTS = {f"{path.parent.name}/{path.name}": path for path in sorted(FOUND.glob("*/*"))}


@pytest.mark.parametrize("name", INPUTS)
def test_what_was_found_is_one_of_our_errors_or_read(name: str) -> None:
    path: Path = INPUTS[name]
    with limited():
        read_once(path.parent.name, path.read_bytes())


@pytest.mark.parametrize("reader", PLAIN)
def test_bytes_of_every_kind_end_in_a_value_or_one_of_our_errors(reader: str) -> None:
    plain = PLAIN[reader]
    for data in (b"", plain, plain[: len(plain) // 2], plain * 40, plain.replace(b":", b"\xff"), bytes(range(256)) * 4):
        with limited():
            read_once(reader, data)
