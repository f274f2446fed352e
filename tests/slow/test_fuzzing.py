"""A little fuzzing of each reader; more is done by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZING = Path(__file__).parents[1] / "hostile" / "fuzzing.py"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="atheris is for Linux")
def test_readers_survive_two_seconds_of_fuzzing_each() -> None:
    done = subprocess.run(
        [sys.executable, str(FUZZING), "all", "--seconds", "2"],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-500:]
