"""The page killed with SIGKILL: the run that it started goes on, whatever else it started ends, and the next page opens."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from climb_support import comparable, scripted_task
from lastresort.app.climb import climb
from lastresort.app.kept import rows_in
from lastresort.app.marks import PREFERENCES, Drawing, MarkFiles
from lastresort.records.atomic import is_held
from lastresort.spec.task import load_task
from ui_support import MET, finished_run, page_of, served_page, slow_task, until


def asked(address: str, body: bytes | None = None, **headers: str) -> str:
    with urlopen(Request(address, body, headers), timeout=60) as answer:
        found: str = answer.read().decode()
        return found


def children(process: int) -> dict[int, str]:
    """The processes that it started, by their command lines."""
    found = {}
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        for pid in map(int, listed.read_text().split()):
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def has_ended(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_run_goes_on_and_nothing_else_does(tmp_path: Path) -> None:
    finished_run(tmp_path)
    task = scripted_task(
        tmp_path / "tasks" / "slow",
        quality=MET,
        task={"task": "slow", "about": "Which team is it?", "ladder": ["prompting"]},
    )
    undisturbed = climb(load_task(task), tmp_path / "elsewhere" / "slow-1").decision.as_json()
    script = task.parent / "script.json"
    script.write_text(json.dumps(json.loads(script.read_text()) | {"delay_s": 0.015}))
    run = tmp_path / "runs" / "slow-1"
    with served_page(tmp_path) as (link, page):
        found = re.search(r'"x-csrf": "([^"]+)"', asked(link))
        assert found is not None
        own = {"x-csrf": found[1], "hx-request": "true"}
        asked(f"{link}runs/routing-1/talk/open", b"", **own)
        asked(f"{link}new/slow/start", b"", **own)
        until(lambda: is_held(run), "the run is at work")
        started = children(page.pid)
        (at_work,) = (pid for pid, words in started.items() if " climb " in words)
        (talking,) = (pid for pid, words in started.items() if " serve " in words)
        os.kill(page.pid, signal.SIGKILL)
        page.communicate(timeout=60)
        until(lambda: has_ended(talking), "the model that the page opened has ended")
        assert not has_ended(at_work)
    with served_page(tmp_path) as (link, _):
        asked(f"{link}runs/slow-1")
        until(lambda: has_ended(at_work), "the run has ended")
        assert "finished" in asked(f"{link}runs/slow-1")
    assert comparable(json.loads((run / "decision.json").read_text("utf-8"))) == comparable(undisturbed)
    assert not is_held(run)
    assert not list(tmp_path.rglob("*.new"))


STARTS_A_JOB = """
import os, sys
from pathlib import Path
from lastresort.ui import jobs
folder = Path.cwd()
print(jobs.start(jobs.Command(tuple(sys.argv[1:]), folder, folder / "runs/.lastresort/jobs/a.log")).pid, flush=True)
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize(
    "number", [None, *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGTERM, signal.SIGKILL))]
)
def test_the_folder_of_a_job_that_outlives_its_page_goes_when_the_job_ends(
    number: signal.Signals | None, tmp_path: Path
) -> None:
    """None: it ends by itself."""
    temporary, run = tmp_path / "tmp", tmp_path / "runs" / "a"
    temporary.mkdir()
    words = ["climb", str(slow_task(tmp_path, delay_s=0.5)), "--run", str(run)] if number else ["--version"]
    started = subprocess.run(
        [sys.executable, "-c", STARTS_A_JOB, *words],
        cwd=tmp_path, env={**os.environ, "TMPDIR": str(temporary)}, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    job = int(started.stdout)
    if number:
        until(lambda: is_held(run), "the run is at work")
        assert list(temporary.iterdir())
        os.kill(job, number)
    until(lambda: has_ended(job), "the job has ended")
    until(lambda: not list(temporary.iterdir()), "nothing of it is left")


@pytest.mark.parametrize("of", ["another process", "nobody"])
def test_the_end_of_a_process_leaves_a_folder_that_is_not_its_own(of: str, tmp_path: Path) -> None:
    """A process of lastresort that a job starts has the job's folder for its temporary files."""
    own = tmp_path / "lastresort-job-1"
    own.mkdir()
    if of != "nobody":
        (own / "pid").write_text(str(os.getpid()))
    script = "import sys\nfrom lastresort.cli.main import run\nsys.argv = ['lastresort', '--version']\nrun()"
    told = subprocess.run(  # which waits for the process that watches it, too
        [sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(own)}, capture_output=True, check=True
    )
    assert told.stdout.startswith(b"lastresort")
    assert own.is_dir()


KILLED_BETWEEN = """
import os, signal, sys
from pathlib import Path
from lastresort.app import marks
write = marks.write_rows
def write_or_die(path, rows):
    if path.name == marks.PREFERENCES:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, rows)
marks.write_rows = write_or_die
row = {"input": "Which?", "a": "one", "b": "two", "label": "b", "run": "other", "id": "2"}
marks.MarkFiles(Path(sys.argv[1])).add(marks.Drawing("other", "prompting/few-shot-3", "prompting/zero-shot", "dev", 0), row)
"""


@pytest.mark.sampled(2)
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("by", ["the next page", "the next look at a page that lives"])
def test_a_mark_that_was_killed_before_it_was_a_preference_becomes_one(by: str, tmp_path: Path) -> None:
    finished_run(tmp_path)
    drawing = Drawing("routing-1", "prompting/few-shot-3", "prompting/zero-shot", "dev", 0)
    files = MarkFiles(tmp_path / "tasks" / "routing")
    files.add(drawing, {"input": "Which?", "a": "one", "b": "two", "label": "a", "run": "other", "id": "1"})
    killed = subprocess.run([sys.executable, "-c", KILLED_BETWEEN, str(files.folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    if by == "the next page":
        with served_page(tmp_path):
            pass
    else:
        look = {"system": drawing.system, "with": drawing.against, "split": drawing.split}
        assert page_of(tmp_path)[1].get("/runs/routing-1/rate", params=look).status_code == 200
    assert [row["chosen"] for row in rows_in(files.folder / PREFERENCES)] == ["one", "two"]
    assert [row["label"] for row in rows_in(files.path(drawing))] == ["a", "b"]
    assert not list(tmp_path.rglob("*.new"))


@pytest.mark.sampled(2)
@pytest.mark.skipif(os.name != "posix", reason="FIFOs")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_of_marks_keeps_no_page_from_starting(make: Callable[[Path], None], tmp_path: Path) -> None:
    """A workspace may be somebody else's."""
    (tmp_path / "tasks" / "routing").mkdir(parents=True)
    make(tmp_path / "tasks" / "routing" / "rated_pairs.jsonl")
    with served_page(tmp_path) as (link, _):
        assert asked(link)


def test_preferences_that_somebody_corrected_since_the_last_mark_stay(tmp_path: Path) -> None:
    finished_run(tmp_path)
    drawing = Drawing("routing-1", "prompting/few-shot-3", "prompting/zero-shot", "dev", 0)
    files = MarkFiles(tmp_path / "tasks" / "routing")
    files.add(drawing, {"input": "Which?", "a": "one", "b": "two", "label": "a", "run": "other", "id": "1"})
    corrected = '{"prompt": "Which?", "chosen": "One.", "rejected": "two"}\n'
    (files.folder / PREFERENCES).write_text(corrected)
    files.complete()
    assert (files.folder / PREFERENCES).read_text() == corrected
