"""A command in a process of its own that starts at once, and a script or command run by two processes that know of each other, as
torchrun starts them.
"""

from __future__ import annotations

import atexit
import errno
import gc
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Ended = tuple[int, str, str]
"""Exit code, stdout and stderr of a process."""
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
"""What `accelerate launch --use_fsdp --fsdp_version 2` sets; upon the last one transformers loads differently in each process."""


def _of_accelerate(name: str) -> bool:
    """Whether a variable is one that a launcher of this test may have set."""
    return name.startswith(("ACCELERATE_", "FSDP_"))


def _launched(count: int) -> dict[str, str]:
    """What torchrun sets for all of `count` processes, with one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": "1",
    }


@dataclass(frozen=True)
class Sent:
    """A signal to the processes in those places, at the beginning of optimizer step `step` (0-based)."""

    step: int
    places: Collection[int]
    number: signal.Signals = signal.SIGKILL


@dataclass(frozen=True)
class Cut:
    """What happens in the midst of a process's checkpoint after so many steps: it is killed, or the disk is full."""

    steps: int
    by: Literal["kill", "full disk"]
    place: int = 0


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("lastresort.cli.main", "lastresort.app.console", "lastresort.app.start", "lastresort.app.held_out"),
        *("lastresort.train.files.run", "lastresort.rungs.prompting.rung", "lastresort.models.scripted"),
        *("transformers.models.llama.modeling_llama", "peft", "sklearn.feature_extraction.text", "scipy.stats"),
        *("rapidfuzz", "datasketch", "lastresort.ui.site", "uvicorn"),
    ]
)


class Program:
    """`lastresort WORDS` as `subprocess` would start it, but a fork of one process that has imported what takes seconds.

    It has a pid, signals, files and an environment of its own. For what only a new interpreter shows (what it imports, encodings,
    pipes, /proc/PID/environ), start one. cwd: its folder. environment: None for that of the tests. own_session: as a command of
    another terminal. code: what is run in place of the command, with the words as its arguments.
    """

    def __init__(
        self,
        *words: str,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        own_session: bool = False,
        code: str | None = None,
    ) -> None:
        self._texts = [tempfile.NamedTemporaryFile() for _ in range(2)]  # noqa: SIM115  open until they are read
        known = dict(os.environ if environment is None else environment)
        names = [text.name for text in self._texts]
        self._fork = _FORKS.Process(target=_run, args=(words, cwd or Path.cwd(), known, names, own_session, code))
        self._fork.start()
        assert self._fork.pid is not None
        self.pid = self._fork.pid
        _started.add(self)

    @property
    def returncode(self) -> int | None:
        return self._fork.exitcode

    def poll(self) -> int | None:
        return self._fork.exitcode

    def wait(self, timeout: float = 600) -> int:
        self._fork.join(timeout)
        if self._fork.exitcode is None:
            raise subprocess.TimeoutExpired("lastresort", timeout)
        return self._fork.exitcode

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """What it said on stdout and stderr, once it has ended."""
        self.wait(timeout)
        out, err = (Path(text.name).read_text(encoding="utf-8") for text in self._texts)
        return out, err

    def first_line(self, timeout: float = 600) -> str:
        """Of its stdout, as soon as it is there; "" if the command has ended without one."""
        end = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < end:
            if (said := Path(self._texts[0].name).read_text(encoding="utf-8")).count("\n"):
                return said.partition("\n")[0]
            time.sleep(0.02)
        return ""

    def send_signal(self, number: int) -> None:
        if self._fork.exitcode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self._fork.join()


_started = weakref.WeakSet[Program]()


def programs_left() -> list[int]:
    """Those that have not ended, where a test failed."""
    return [program.pid for program in list(_started) if program.poll() is None]


@atexit.register  # called before Python would wait for them
def _end_programs() -> None:
    for program in list(_started):
        program.kill()


def started(code: str, *words: str, count: int = 2) -> list[Program]:
    """The code, with these words as arguments, in each of `count` processes, one thread each."""
    known = {name: value for name, value in os.environ.items() if not _of_accelerate(name)} | _launched(count)
    return [
        Program(*words, code=code, environment={**known, "RANK": str(place), "LOCAL_RANK": str(place)})
        for place in range(count)
    ]


def ended(programs: list[Program], timeout_s: float = 120) -> list[Ended]:
    """Wait for all of them. One that hangs is killed and fails the test."""
    end = time.monotonic() + timeout_s
    try:
        return [(program.wait(end - time.monotonic()), *program.communicate()) for program in programs]
    finally:
        for program in programs:
            program.kill()


def _run(
    words: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    texts: Sequence[str],
    own_session: bool,
    code: str | None,
) -> None:
    if own_session:
        os.setsid()
    _become(["lastresort", *words], environment, texts)
    os.chdir(cwd)
    try:
        if code is not None:
            exec(code, {"__name__": "__main__"})
            return
        from lastresort.cli.main import run

        run()
    finally:
        atexit._run_exitfuncs()  # which an interpreter calls, and the end of a fork does not


def _become(words: list[str], environment: Mapping[str, str], texts: Sequence[str]) -> None:
    """What a new process would have. texts: the files for stdout and stderr."""
    for number, text in enumerate(texts, 1):
        os.dup2(os.open(text, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()  # a climb looks for garbage whenever it lets a model go
    if threads := environment.get("OMP_NUM_THREADS"):  # else as many as torch chose when it was imported
        import torch

        torch.set_num_threads(int(threads))


def commands(
    arguments: Sequence[str],
    folder: Path,
    *,
    count: int = 2,
    sent: Sent | None = None,
    shards: bool = False,
    save_s: float = 0,
    cut: Cut | None = None,
) -> list[Ended]:
    """`lastresort ARGUMENTS` in each of `count` processes, forks of one that has imported what takes longer than a small training.

    folder: for what they say, and a file ended-PLACE that each writes when the command has ended. shards: as accelerate launches
    it. save_s: how much longer the first process takes to save a checkpoint. cut: a checkpoint that does not become whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = _launched(count) | (FSDP if shards else {})
    forks = []
    for place in range(count):
        environment = {**known, "RANK": str(place), "LOCAL_RANK": str(place)} if count > 1 else {"OMP_NUM_THREADS": "1"}
        late_s, own = save_s if place == 0 else 0, cut if cut is not None and cut.place == place else None
        given = (list(arguments), environment, folder, place, sent, late_s, own)
        forks.append(_FORKS.Process(target=_command, args=given))
    try:
        for fork in forks:
            fork.start()
        for fork in forks:
            fork.join(120)
    finally:
        for fork in forks:
            if fork.is_alive():
                fork.kill()
                fork.join()
    said = [[(folder / f"{what}-{place}").read_text() for what in ("out", "err")] for place in range(count)]
    return [(-1 if fork.exitcode is None else fork.exitcode, *texts) for fork, texts in zip(forks, said, strict=True)]  # type: ignore[misc]


def _command(
    arguments: list[str],
    environment: dict[str, str],
    folder: Path,
    place: int,
    sent: Sent | None,
    save_s: float,
    cut: Cut | None,
) -> None:
    for number, what in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{what}-{place}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    for name in filter(_of_accelerate, list(os.environ)):
        del os.environ[name]
    os.environ.update(environment)
    sys.argv = ["lastresort", *arguments]
    import torch

    from lastresort.cli.border import guarded
    from lastresort.cli.main import app
    from lastresort.train.loop.checkpoints import Checkpoints, CheckpointState
    from lastresort.train.loop.loop import Steps

    torch.set_num_threads(1)
    gradients = Steps.gradients
    if sent is not None and place in sent.places:

        def signalled(self: Steps, step: int) -> object:
            if step == sent.step:
                os.kill(os.getpid(), sent.number)
            return gradients(self, step)

        Steps.gradients = signalled  # type: ignore[method-assign, assignment]
    save = Checkpoints.save

    def late(self: Checkpoints, state: CheckpointState) -> None:
        time.sleep(save_s)
        save(self, state)

    Checkpoints.save = late  # type: ignore[method-assign]
    if cut is not None:
        _cut_checkpoint(cut)
    code = guarded(app)
    (folder / f"ended-{place}").touch()
    sys.exit(code)


def _cut_checkpoint(cut: Cut) -> None:
    """One is saved after each step. The weights are written then, and half of the optimizer's state."""
    import safetensors.torch

    from lastresort.train.loop.checkpoints import OPTIMIZER

    save_file, begun = safetensors.torch.save_file, list[str]()

    def saved(tensors: Mapping[str, Any], path: str, **more: Any) -> None:
        save_file(tensors, path, **more)
        begun.extend([path] if Path(path).name.startswith(Path(OPTIMIZER).stem) else [])
        if len(begun) == cut.steps:
            os.truncate(path, Path(path).stat().st_size // 2)
            if cut.by == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    safetensors.torch.save_file = saved  # type: ignore[assignment]


_MEASURED = """
import os, subprocess, sys
with open("stdout", "wb") as out, open("stderr", "wb") as error:
    process = subprocess.Popen(sys.argv[1:], stdout=out, stderr=error)
_, status, used = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024)
"""


def peak_bytes(command: Sequence[str | Path], folder: Path) -> int:
    """Of a command that has to succeed, run in this folder, where its `stdout` and `stderr` are then. A small process starts it,
    since Linux counts the peak of whoever starts a process as that of the process, too.
    """
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *map(str, command)], cwd=folder, capture_output=True, text=True, check=True
    )
    status, peak = map(int, done.stdout.split())
    assert status == 0, (folder / "stderr").read_text(encoding="utf-8")[-3000:]
    return peak
