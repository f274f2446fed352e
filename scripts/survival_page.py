"""Kill the page at random moments while a run that it started goes on and things are written: the figures of docs/log.md.

    python -m scripts.survival_page --kills 100

A page starts a climb, opens a model, and gets uploads, texts of a draft, messages and kept examples without end, until it is killed
with SIGKILL. Then the climb must reach the decision to the digit that it reaches undisturbed, the page's other processes must end,
every file must be one that was sent as a whole, all that the page took must be there, and no lock may be held. It may refuse
nothing. The next page on the same folder must show all of it, say so of an answer that was cut, and is the next to be killed; after
a few of them the folder is a fresh one. A page lives up to three times as long as an undisturbed one needs for its first upload.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from scripts.survival import PR_SET_CHILD_SUBREAPER, QUALITY, ROOT, lastresort, names

from climb_support import comparable, rows, scripted_task  # isort: skip
from lastresort.app.kept import rows_in  # isort: skip
from lastresort.records.atomic import LockHeld, is_held, locked  # isort: skip
from lastresort.ui.talk import KeptTalk  # isort: skip

CLIMBS, KILLS_A_CLIMB = 3, 3  # of a folder; each climb asks its own question, so that none finds another's answers
TALK = "/runs/spoken-1/talk"
SHOWN = ("/", "/new", "/train", "/new/draft", "/runs/spoken-1", TALK)
UPLOAD = "text,team\n" + "".join(
    f'"{row["input"]}",{row["output"]}\n' for row in rows(200)
)  # all different: repeated ones are refused
PATIENCE_S = 120.0
DELAY_S = 0.03  # of a call: a climb goes on while several pages come and go
UPLOADS = 3  # as long as that many first uploads take, at most, from the first request to the kill
TAKEN = ("upload", "draft", "talk", "keep")


@dataclass(slots=True)
class PageSeen:
    """What the kills showed. lost: what the page had said that it took. taken: how often it did, by what. under_way: kills by what
    had been sent and not answered then.
    """

    kills: int = 0
    runs: int = 0
    differ: int = 0
    failed: int = 0
    torn: int = 0
    lost: int = 0
    refused: int = 0
    orphans: int = 0
    locks: int = 0
    left_over: int = 0
    cut_answers: int = 0
    taken: Counter[str] = field(default_factory=Counter)
    under_way: dict[str, int] = field(default_factory=dict)


class Enough(Exception):
    """Nothing more is sent."""


class LivePage:
    """A page at work on a folder, and what a browser would send it."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.sending: set[str] = set()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "LASTRESORT_CACHE": str(cache),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        self.process = subprocess.Popen(
            lastresort("ui", ".", "--port", "0"),
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        link = self.process.stdout.readline().decode().strip()
        if not link.startswith("http"):
            raise AssertionError(self.process.communicate()[1].decode()[-800:])
        self.client = httpx.Client(base_url=link, timeout=60, trust_env=False)
        found = re.search(r'"x-csrf": "([^"]+)"', self.client.get("/").text)
        assert found is not None
        self.client.headers.update({"x-csrf": found[1], "hx-request": "true"})

    @contextmanager
    def under_way(self, what: str) -> Any:
        """Stays noted where the page is killed before it answers."""
        self.sending.add(what)
        yield
        self.sending.discard(what)

    def shows(self, path: str) -> str:
        plain = {"hx-request": "", "x-csrf": ""}  # as an address that is typed, which starts nothing
        answer = self.client.get(path, follow_redirects=True, headers=plain)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[-300:]}"
        return answer.text

    def open_model(self) -> None:
        if "Open the model" in self.client.get(f"{TALK}/state").text:
            self.client.post(f"{TALK}/open")
        time.sleep(0.2)

    def repeated(self, action: Callable[[int], None]) -> threading.Thread:
        """The action with 0, 1, 2 and so on, until the page is gone."""

        def act() -> None:
            number = 0
            with suppress(httpx.HTTPError, Enough):
                while True:
                    action(number)
                    number += 1

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        return thread


@dataclass(slots=True)
class Sent:
    """What went to the pages of a folder, as it must be found there. drafts: in order. taken: by what it is, what a page has
    answered without a refusal, which must be there from then on. refused: what it said instead.
    """

    drafts: list[str]
    said: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    taken: dict[str, set[str]] = field(default_factory=lambda: {what: set() for what in TAKEN})
    refused: list[str] = field(default_factory=list)

    def answered(self, what: str, text: str, answer: httpx.Response) -> None:
        if answer.is_success:
            self.taken[what].add(text)
        else:
            self.refused.append(f"{what}: {answer.status_code} {answer.text[-300:]}")


def is_climb(words: bytes) -> bool:
    return b" climb " in words


def task_folder(folder: Path, name: str, about: str) -> Path:
    made: Path = scripted_task(
        folder / "tasks" / name,
        quality=QUALITY,
        script={"delay_s": DELAY_S},
        task={"task": name, "about": about, "ladder": ["prompting"]},
    )
    return made


def prepare(folder: Path) -> None:
    """A finished run to talk to, a draft, and tasks to climb."""
    folder.mkdir(parents=True)
    path = task_folder(folder, "spoken", "Say the team.")
    done = subprocess.run(
        lastresort("climb", str(path), "--run", "runs/spoken-1", "--json"), cwd=folder, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-800:]
    for name in ("draft", *(f"slow{number}" for number in range(CLIMBS))):
        task_folder(folder, name, f"Which team is it, {name}?")
    (folder / "tasks/draft/task.yaml").rename(folder / "tasks/draft/draft.yaml")


def start_climb(page: LivePage, name: str) -> None:
    with page.under_way("start"):
        page.client.post(f"/new/{name}/start")
    raise Enough


def writes(page: LivePage, sent: Sent, mark: str) -> list[threading.Thread]:
    """Everything that a page writes, all at once."""
    draft = (page.folder / "tasks/draft/draft.yaml").read_text("utf-8").partition("# ")[0]

    def upload(number: int) -> None:
        name = f"up-{mark}-{number}"
        with page.under_way("upload"):
            answer = page.client.post("/new/upload", files={"file": (f"{name}.csv", UPLOAD.encode())})
            sent.answered("upload", f"{name}.csv", answer)

    def edit(number: int) -> None:
        text = f"{draft}# {mark} {number}{' more' * 5000}\n"
        sent.drafts.append(text)
        with page.under_way("draft"):
            sent.answered("draft", text, page.client.post("/new/draft/text", data={"text": text}))

    def talk(number: int) -> None:
        shown = page.client.get(f"{TALK}/state").text
        found = re.search(r'name="talk" value="(\w+)"', shown)
        if found is None:  # still opening
            page.open_model()
            return
        text = f"{mark} {number} {rows()[number % 260]['input']}"
        sent.said.add(text)
        with page.under_way("talk"):
            said = page.client.post(f"{TALK}/say", data={"talk": found[1], "text": text, "system": ["winner", "base"]})
            sent.answered("talk", text, said)
            numbered = re.search(r'id="exchange-(\d+)"', said.text)
            at = f"{TALK}/{found[1]}/{numbered[1] if numbered else 0}"
            while numbered and "data-grows" in page.client.get(at).text:
                pass
        sent.kept.add(f"{mark} {number}")
        with page.under_way("keep"):
            answer = page.client.post(f"{at}/0/keep", data={"output": f"{mark} {number}"})
            sent.answered("keep", f"{mark} {number}", answer)

    def look(number: int) -> None:
        """A process of its own checks the data as they are by then."""
        with page.under_way("check"):
            page.client.get("/new/draft/data")
        time.sleep(1)

    return [page.repeated(one) for one in (upload, edit, talk, look)]


class PageSurvival:
    def __init__(self, dice: random.Random, say: Callable[[str], None]) -> None:
        self.dice, self.say, self.seen = dice, say, PageSeen()
        self._kept = tempfile.TemporaryDirectory()  # removed with this object
        self.template = Path(self._kept.name) / "template"
        prepare(self.template)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(shutil.copytree(self.template, Path(name) / "round"))
            self.expected = {one: self._undisturbed(folder, one) for one in (f"slow{n}" for n in range(CLIMBS))}
            self.longest_s = UPLOADS * self._first_upload_s(folder)

    def _undisturbed(self, folder: Path, name: str) -> Any:
        script = folder / "tasks" / name / "script.json"
        script.write_text(json.dumps(json.loads(script.read_text("utf-8")) | {"delay_s": 0}))
        command = lastresort("climb", f"tasks/{name}/task.yaml", "--run", f"runs/{name}-1", "--json")
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()[-800:]
        return comparable(json.loads(done.stdout))

    def _first_upload_s(self, folder: Path) -> float:
        page = LivePage(folder, folder.parent / "cache")
        began = time.monotonic()
        answer = page.client.post("/new/upload", files={"file": ("first.csv", UPLOAD.encode())})
        assert answer.is_success, answer.text[-300:]
        seconds = time.monotonic() - began
        page.client.close()
        page.process.send_signal(signal.SIGTERM)
        page.process.communicate(timeout=PATIENCE_S)
        return seconds

    def killed(self, kills: int) -> None:
        while self.seen.kills < kills:
            with tempfile.TemporaryDirectory() as name:
                os.environ["TMPDIR"] = str(Path(name) / "tmp")
                (Path(name) / "tmp").mkdir()
                self._round(Path(shutil.copytree(self.template, Path(name) / "round")), kills)
            self.say(f"{self.seen}")

    def _round(self, folder: Path, kills: int) -> None:
        sent = Sent([(folder / "tasks/draft/draft.yaml").read_text("utf-8")])
        page = LivePage(folder, folder.parent / "cache")
        for number in range(CLIMBS):
            name = f"slow{number}"
            for turn in range(KILLS_A_CLIMB):
                if self.seen.kills < kills:
                    self._kill(page, sent, name, f"{name}.{turn}", talks=turn == 1)
                    page = self._opened(folder)
            self._ended(folder, name)
        for what, taken in sent.taken.items():
            self.seen.taken[what] += len(taken)
        page.client.close()
        page.process.send_signal(signal.SIGTERM)
        page.process.communicate(timeout=PATIENCE_S)
        self.seen.orphans += self._left_living(lambda words: True)
        self._tidy(folder, r"\.new$|\.old/|-wal$|-shm$|-journal$")
        self._tidy(folder.parent / "tmp", "")

    def _kill(self, page: LivePage, sent: Sent, name: str, mark: str, *, talks: bool) -> None:
        """talks: the model is open before the rest begins; it may take longer than the page has."""
        deadline = time.monotonic() + PATIENCE_S
        while talks and time.monotonic() < deadline and 'name="talk"' not in page.client.get(f"{TALK}/state").text:
            page.open_model()
        threads = writes(page, sent, mark)
        if not list((page.folder / "runs").glob(f"{name}-*/record.sqlite")) and not living(is_climb):
            threads.append(page.repeated(lambda _: start_climb(page, name)))
        time.sleep(self.dice.uniform(0.05, self.longest_s))
        under_way = set(page.sending)
        page.process.send_signal(signal.SIGKILL)
        page.process.communicate()
        if living(is_climb):
            under_way.add("run")
        for thread in threads:
            thread.join(PATIENCE_S)
        page.client.close()
        self.seen.kills += 1
        for what in under_way:
            self.seen.under_way[what] = self.seen.under_way.get(what, 0) + 1
        self.seen.orphans += self._left_living(lambda words: not is_climb(words))
        self._whole(page.folder, sent, mark)

    def _ended(self, folder: Path, name: str) -> None:
        """The run goes on without its page to its decision, and ends."""
        self.seen.orphans += self._left_living(is_climb, PATIENCE_S)
        for path in (folder / "runs").glob(f"{name}-*/record.sqlite"):
            self.seen.runs += 1
            decision = path.with_name("decision.json")
            if not decision.exists():
                self._fault("failed", f"{path.parent.name} did not reach its decision")
            elif comparable(json.loads(decision.read_text("utf-8"))) != self.expected[name]:
                self._fault("differ", f"{name}: {decision.read_text('utf-8')[:400]}")
            if is_held(path.parent):
                self._fault("locks", f"{path.parent.name} is held")

    def _whole(self, folder: Path, sent: Sent, mark: str) -> None:
        """Every file is one that was sent, and parses; what a page took is there; no lock is held."""
        for said in sent.refused:
            self._fault("refused", said)
        sent.refused.clear()
        draft = (folder / "tasks/draft/draft.yaml").read_text("utf-8")
        if draft not in sent.drafts:
            self._fault("torn", "draft.yaml")
        elif sent.taken["draft"].intersection(sent.drafts[sent.drafts.index(draft) + 1 :]):
            self._fault("lost", "draft.yaml is older than one that was taken")
        self._there("upload", sent, {path.name for path in (folder / "tasks").glob("up-*/up-*.csv")})
        for path in (folder / "tasks").glob("up-*/up-*.csv"):
            if path.read_text("utf-8") != UPLOAD:
                self._fault("torn", f"{path.name}, {path.stat().st_size} bytes")
        talk = folder / "runs/.lastresort/talks/spoken-1.json"
        exchanges = KeptTalk.model_validate_json(talk.read_text("utf-8")).exchanges if talk.exists() else ()
        said_there = {one.said for one in exchanges}
        if not said_there <= sent.said:
            self._fault("torn", talk.name)
        self._there("talk", sent, said_there)
        newest = [one for each in exchanges if each.said.startswith(mark) for one in each.answers]
        self.seen.cut_answers += sum(not one.finish for one in newest)
        kept = {str(row["output"]) for row in rows_in(folder / "tasks/spoken/kept.jsonl")}
        if not kept <= sent.kept:
            self._fault("torn", "kept.jsonl")
        self._there("keep", sent, kept)
        for lock in folder.rglob("*.lock"):
            try:
                with locked(lock):
                    pass
            except LockHeld:
                self._fault("locks", str(lock))

    def _there(self, what: str, sent: Sent, found: set[str]) -> None:
        missing = sorted(sent.taken[what] - found)
        if missing:
            self._fault(
                "lost", f"{what}: {len(missing)} of {len(sent.taken[what])} that were taken, such as {missing[0][:80]}"
            )

    def _opened(self, folder: Path) -> LivePage:
        """The next page on the folder, which shows all that is there, and has tidied up."""
        page = LivePage(folder, folder.parent / "cache")
        drafts = [path.parent.name for path in (folder / "tasks").glob("up-*/up-*.csv")]
        ran = [path.parent.name for path in (folder / "runs").glob("*/record.sqlite")]
        for path in (*SHOWN, *(f"/new/{name}" for name in drafts), *(f"/runs/{name}" for name in ran)):
            try:
                shown = page.shows(path)
            except (AssertionError, httpx.HTTPError) as error:
                self._fault("failed", f"{path}: {error}")
            else:
                if path == TALK and "data-grows" in shown:
                    self._fault("failed", "an answer that was cut is shown as one that still comes")
        self._tidy(folder, r"^(tasks|runs/\.lastresort)/.*\.new$")
        return page

    def _tidy(self, folder: Path, unfinished: str) -> None:
        """unfinished: names of files that may not be there."""
        left = sorted(name for name in names(folder) if re.search(unfinished, name))
        if left:
            self._fault("left_over", ", ".join(left[:5]))

    def _fault(self, what: str, text: str) -> None:
        setattr(self.seen, what, getattr(self.seen, what) + 1)
        self.say(f"{what}: {text}")

    def _left_living(self, counts: Callable[[bytes], bool], patience_s: float = 15) -> int:
        """How many processes do not end by themselves; they are ended then. counts: by their command line."""
        deadline = time.monotonic() + patience_s
        while (found := living(counts)) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid, words in found.items():
            self.say(f"lives on: {words.decode(errors='replace')[-120:]}")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(found)


def living(counts: Callable[[bytes], bool]) -> dict[int, bytes]:
    """The command lines of processes that a page left, which this process inherits and reaps; never of a page itself."""
    found = {}
    for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text("utf-8").split():
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
            if b"lastresort ui" in words:
                continue
            if words:
                if counts(words):
                    found[int(pid)] = words
            else:  # it has ended
                os.waitpid(int(pid), os.WNOHANG)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    survival = PageSurvival(random.Random(asked.seed), lambda text: print(text, file=sys.stderr, flush=True))
    survival.killed(asked.kills)
    print(survival.seen)


if __name__ == "__main__":
    main()
