"""Kill commands at random moments, fill their disk, and compare what they end with: the figures of docs/log.md.

    python -m scripts.survival --kills 100                        each of climb, endpoint, train, gate and study
    python -m scripts.survival --what climb train --full-disks 20 also with disks that run full
    python -m scripts.survival_page --kills 100                   the page, while its run goes on

A command is started, killed with SIGKILL after a random time, and started again to resume, until it ends. Then the next round
begins in a fresh folder, until so many kills have been made. What it ends with must be equal to the digit to what an undisturbed
one ends with. No file may be left over, no process may outlive its parent, and at most the calls under way at a kill may be
repeated. Disks are small tmpfs in a user namespace of this script's own (Linux).
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from climb_support import TEAMS, comparable, scripted_task  # noqa: E402
from models_support import save_adapter, save_tiny  # noqa: E402
from train_support import training_file  # noqa: E402

QUALITY = [{"right": 0.3}, {"right": 0.97, "min_shots": 5}]
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Scenario:
    """prepare: fills an empty folder. command: below it; the first start, or one that resumes. result: what it ended with.

    calls: keys of all calls that were asked for there, where that is known. begin: before each round.
    """

    name: str
    prepare: Callable[[Path], None]
    command: Callable[[Path, bool], list[str]]
    result: Callable[[Path], Any]
    calls: Callable[[Path], list[str]] = lambda folder: []
    begin: Callable[[], None] = lambda: None


def lastresort(*words: str) -> list[str]:
    return [sys.executable, "-m", "lastresort", *words]


def climbing(
    name: str,
    prepare: Callable[[Path], None],
    calls: Callable[[Path], list[str]],
    begin: Callable[[], None] = lambda: None,
) -> Scenario:
    def command(folder: Path, resume: bool) -> list[str]:
        return lastresort(
            "climb", "task/task.yaml", "--run", "runs/r", "--json", *["--resume"] * (resume and begun(folder))
        )

    def begun(folder: Path) -> bool:
        return (folder / "runs/r/record.sqlite").exists()

    def result(folder: Path) -> Any:
        return comparable(json.loads((folder / "runs/r/decision.json").read_text("utf-8")))

    return Scenario(name, prepare, command, result, calls, begin)


def scripted_calls(folder: Path) -> list[str]:
    path = folder / "task" / "calls.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [json.dumps(json.loads(line)["key"]) for line in lines if line.endswith("}")]


def _prepare_climb(folder: Path) -> None:
    scripted_task(folder / "task", quality=QUALITY, script={"delay_s": 0.004})


class _Answering(BaseHTTPRequestHandler):
    """A server that is paid by the call: the team that a rule of thumb names, right in most cases."""

    asked: list[str] = []  # noqa: RUF012 - one list for all requests
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        key = json.dumps(body, sort_keys=True)
        with self.lock:
            self.asked.append(key)
        time.sleep(0.01)
        last = body["messages"][-1]["content"]
        answer = TEAMS[int(hashlib.sha256(last.encode()).hexdigest(), 16) % len(TEAMS)]
        if "response_format" in body:
            answer = json.dumps({"answer": answer})
        message = {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop", "index": 0}
        usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
        data = json.dumps({"model": body["model"], "choices": [message], "usage": usage}).encode()
        with suppress(OSError):  # whoever asked was killed
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def endpoint_scenario() -> Scenario:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def prepare(folder: Path) -> None:
        model = f"http://127.0.0.1:{server.server_port}/v1#paid"
        scripted_task(folder / "task", quality=QUALITY, task={"model": model, "ladder": ["prompting"]})

    return climbing("endpoint", prepare, lambda folder: list(_Answering.asked), _Answering.asked.clear)


def train_scenario() -> Scenario:
    def prepare(folder: Path) -> None:
        training_file(folder, "sft", epochs=20, checkpoint_every_s=0)

    def command(folder: Path, resume: bool) -> list[str]:
        return lastresort("train", "train.yaml", *["--resume"] * (resume and (folder / "out").exists()))

    def result(folder: Path) -> Any:
        found = sorted((folder / "out").rglob("*.safetensors"))
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    return Scenario("train", prepare, command, result)


def gate_scenario() -> Scenario:
    def prepare(folder: Path) -> None:
        base = save_tiny(folder / "task" / "base")
        save_adapter(base, folder / "task" / "tuned")
        scripted_task(folder / "task", quality=QUALITY, task={"model": "base"})

    def command(folder: Path, resume: bool) -> list[str]:
        return lastresort("gate", "task/task.yaml", "--tuned", "task/tuned", "--quick", "--json")

    def result(folder: Path) -> Any:
        found = json.loads(next(iter((folder / "gates").glob("*/gate.json"))).read_text("utf-8"))
        return {key: found[key] for key in ("verdict", "target", "suites")}

    return Scenario("gate", prepare, command, result)


def study_scenario() -> Scenario:
    def prepare(folder: Path) -> None:
        save_tiny(folder / "model")

    def command(folder: Path, resume: bool) -> list[str]:
        words = "--tasks harbour --recipes today --seeds 2 --gate none --few".split()
        return [sys.executable, "-m", "scripts.forgetting", "--out", "study", "--model", str(folder / "model"), *words]

    def result(folder: Path) -> Any:
        rows = [json.loads(line) for line in (folder / "study" / "rows.jsonl").read_text("utf-8").splitlines()]
        return [{key: value for key, value in row.items() if not key.endswith("_s")} for row in rows]

    return Scenario("study", prepare, command, result)


@dataclass(slots=True)
class Seen:
    """What the rounds of one scenario showed."""

    kills: int = 0
    rounds: int = 0
    differ: int = 0
    failed: int = 0
    repeated: int = 0
    most_repeated: int = 0
    orphans: int = 0
    left_over: int = 0
    full: int = 0


class Survival:
    def __init__(self, scenario: Scenario, dice: random.Random, say: Callable[[str], None] = print) -> None:
        self.scenario, self.dice, self.say, self.seen = scenario, dice, say, Seen()
        self._kept = tempfile.TemporaryDirectory()  # removed with this object
        self.template = Path(self._kept.name) / "template"
        self.template.mkdir()
        with redirect_stderr(StringIO()):
            scenario.prepare(self.template)
        with tempfile.TemporaryDirectory() as name:
            folder = self.fresh(Path(name))
            began = time.monotonic()
            done = self.start(folder, resume=False)
            _, error = done.communicate()
            assert done.returncode in (0, 1), f"{scenario.name}: {error.decode()[-2000:]}"
            self.seconds = time.monotonic() - began
            self.expected, self.files = scenario.result(folder), names(folder)
            self.n_calls = len(scenario.calls(folder))
            self.size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    def fresh(self, parent: Path) -> Path:
        """The prepared folder again, below another."""
        self.scenario.begin()
        return Path(shutil.copytree(self.template, parent / "round"))

    def start(self, folder: Path, *, resume: bool) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "LASTRESORT_CACHE": str(folder.parent / "cache"),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        return subprocess.Popen(
            self.scenario.command(folder, resume),
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def killed(self, kills: int) -> None:
        while self.seen.kills < kills:
            with tempfile.TemporaryDirectory() as name:
                self._round(self.fresh(Path(name)), kills)
            self.say(f"{self.scenario.name}: {self.seen.kills} of {kills} kills, {self.seen}")

    def _round(self, folder: Path, kills: int) -> None:
        self.seen.rounds += 1
        here = 0
        while True:
            process = self.start(folder, resume=here > 0)
            limit = self.dice.uniform(0.1, 0.9) * self.seconds if self.seen.kills < kills and here < 12 else None
            began = time.monotonic()
            try:
                _, error = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                self.seen.kills += 1
                here += 1
                self.seen.orphans += orphans(process.pid)
                continue
            if process.returncode not in (0, 1):
                self.seen.failed += 1
                self.say(f"{self.scenario.name}: exit {process.returncode} after {here} kills: {error.decode()[-800:]}")
                return
            self.seconds = min(self.seconds, time.monotonic() - began) if here == 0 else self.seconds
            break
        self._compare(folder, here)

    def _compare(self, folder: Path, kills: int) -> None:
        found = self.scenario.result(folder)
        if found != self.expected:
            self.seen.differ += 1
            self.say(f"{self.scenario.name}: differs: {json.dumps(found)[:400]}")
        left = names(folder) - self.files
        if left:
            self.seen.left_over += 1
            self.say(f"{self.scenario.name}: left over: {sorted(left)[:5]}")
        asked = self.scenario.calls(folder)
        repeated = len(asked) - len(set(asked))
        self.seen.repeated += repeated
        self.seen.most_repeated = max(self.seen.most_repeated, -(-repeated // kills) if kills else repeated)

    def filled(self, disks: int) -> None:
        """Disks too small by a random amount: one sentence and exit code 4, and with room again it goes on to the same end."""
        for number in range(disks):
            with tempfile.TemporaryDirectory() as name:
                disk = Path(name) / "disk"
                disk.mkdir()
                begun = sum(path.stat().st_size for path in self.template.rglob("*") if path.is_file())
                mount(disk, f"size={int(begun + self.dice.uniform(0.05, 0.95) * (self.size - begun)) + 2**16}")
                try:
                    self._fill(self.fresh(disk), disk, number)
                finally:
                    subprocess.run(["umount", str(disk)], check=True)

    def _fill(self, folder: Path, disk: Path, number: int) -> None:
        process = self.start(folder, resume=False)
        _, error = process.communicate()
        words = error.decode()
        if process.returncode in (0, 1):
            return
        self.seen.full += 1
        if process.returncode != 4 or "Traceback" in words:
            self.seen.failed += 1
            self.say(f"{self.scenario.name}: disk {number}: exit {process.returncode}: {words[-800:]}")
        mount(disk, f"remount,size={4 * self.size + 2**24}")
        again = self.start(folder, resume=True)
        _, error = again.communicate()
        if again.returncode not in (0, 1):
            self.seen.failed += 1
            self.say(f"{self.scenario.name}: disk {number} resumed: exit {again.returncode}: {error.decode()[-800:]}")
            return
        self._compare(folder, 1)


def mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def orphans(session: int, patience_s: float = 5) -> int:
    """Processes that a killed command left and that live on. This process is the reaper of its descendants' children."""
    deadline = time.monotonic() + patience_s
    while True:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        living = Path(f"/proc/self/task/{os.getpid()}/children").read_text("utf-8").split()
        if not living or time.monotonic() > deadline:
            for pid in living:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            return len(living)
        time.sleep(0.05)


SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "climb": lambda: climbing("climb", _prepare_climb, scripted_calls),
    "endpoint": endpoint_scenario,
    "train": train_scenario,
    "gate": gate_scenario,
    "study": study_scenario,
}
HEAD = "| what | kills | rounds | differ | failed | calls repeated (most a kill) | orphans | files left | full disks |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--what", nargs="+", choices=tuple(SCENARIOS), default=tuple(SCENARIOS))
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--full-disks", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    if asked.full_disks and os.environ.get("IN_NAMESPACE") != "1":
        if shutil.which("unshare") is None:
            parser.error("--full-disks needs Linux with unshare")
        os.environ["IN_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "-rm", sys.executable, "-m", "scripts.survival", *sys.argv[1:]])
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    print(HEAD, "|---|--:|--:|--:|--:|--:|--:|--:|--:|", sep="\n", flush=True)
    for name in asked.what:
        survival = Survival(SCENARIOS[name](), random.Random(asked.seed), lambda text: print(text, file=sys.stderr))
        survival.killed(asked.kills)
        survival.filled(asked.full_disks)
        seen = survival.seen
        print(
            f"| {name} | {seen.kills} | {seen.rounds} | {seen.differ} | {seen.failed} | {seen.repeated} "
            f"({seen.most_repeated}) | {seen.orphans} | {seen.left_over} | {seen.full} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
