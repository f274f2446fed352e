"""What the page of a new task says of its data, and when it looks again."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lastresort.climb.workspace import LEDGER, SHARED
from lastresort.ui import children
from lastresort.ui.children import children_of
from ui_support import htmx_page_of, until

CSV = "review,sentiment\n" + "".join(f"number {i},{'pos' if i % 2 else 'neg'}\n" for i in range(200))
REPORT = {"ok": True, "counts": {"train": 100, "dev": 40, "test": 60}, "labels": {}, "tokens": {}, "findings": []}
OLDER = "An earlier result."


@dataclass(frozen=True, slots=True)
class Commands:
    """Stands in for `lastresort`: notes its number, waits while there is `hold`, and prints a report or a fault."""

    page: TestClient
    folder: Path

    @property
    def hold(self) -> Path:
        return self.folder / "hold"

    def begun(self) -> int:
        path = self.folder / "begun"
        return len(path.read_text().splitlines()) if path.is_file() else 0

    def alive(self) -> int:
        """How many of those that have begun are at work."""
        numbers = (self.folder / "begun").read_text().split()
        return sum(str(self.folder / "command").encode() in _read(Path("/proc", one, "cmdline")) for one in numbers)

    def data(self) -> str:
        return self.page.get("/new/reviews/data").text

    def change(self, key: str, value: str) -> None:
        """As if it was typed; what is wrong with a text is kept with it."""
        text = self.text.replace(self._line(key), f"{key}: {value}")
        self.page.post("/new/reviews/text", data={"text": text})

    @property
    def text(self) -> str:
        return (self.folder / "ws/tasks/reviews/draft.yaml").read_text()

    def _line(self, key: str) -> str:
        found = re.search(rf"^{key}: .*$", self.text, re.MULTILINE)
        assert found is not None, self.text
        return found[0]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    script = tmp_path / "command"
    script.write_text(
        f"#!/bin/sh\nfor file; do case $file in *.yaml) break;; esac; done\n"
        f'grep -q broken "$file" && {{ echo "$(basename $file): found broken" >&2; exit 2; }}\n'
        f"echo $$ >> {tmp_path}/begun\nwhile [ -e {tmp_path}/hold ]; do sleep 0.05; done\n"
        f"echo '{json.dumps(REPORT)}'\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    (tmp_path / "ws").mkdir()
    site, page = htmx_page_of(tmp_path / "ws")
    page.post("/new/upload", files={"file": ("reviews.csv", io.BytesIO(CSV.encode()))}, data={"name": "reviews"})
    yield Commands(page, tmp_path)
    children_of(site).close()


def test_a_check_is_kept_while_only_that_changes_which_it_does_not_read(commands: Commands) -> None:
    until(lambda: "No problems found" in commands.data(), "it is checked")
    commands.change("bar", "0.71  # another one")
    shown = commands.data()
    assert ("No problems found" in shown, OLDER in shown, commands.begun()) == (True, False, 1)
    commands.change("about", "Say whether a review is good.")  # by which lengths are counted
    assert OLDER in commands.data()
    until(lambda: OLDER not in commands.data(), "it is checked again")
    assert commands.begun() == 2
    rows = commands.folder / "ws/tasks/reviews/reviews.csv"
    rows.write_text(rows.read_text() + "one more,pos\n")
    assert OLDER in commands.data()


def test_the_data_is_checked_again_where_the_model_has_changed(commands: Commands) -> None:
    """Its tokenizer and its context decide which examples are too long."""
    model = commands.folder / "ws/tasks/reviews/m"
    model.mkdir()
    (model / "config.json").write_text('{"max_position_embeddings": 2048}')
    commands.change("model", "./m")
    until(lambda: "No problems found" in commands.data() and OLDER not in commands.data(), "it is checked")
    before = commands.begun()
    (model / "config.json").write_text('{"max_position_embeddings": 16}')
    assert OLDER in commands.data()
    assert OLDER not in _ended(commands)
    assert commands.begun() == before + 1


def test_a_button_checks_the_data_again(commands: Commands) -> None:
    assert "data?again=true" in until(
        lambda: "No problems found" in (said := commands.data()) and said, "it is checked"
    )
    commands.page.get("/new/reviews/data?again=true")
    until(lambda: commands.begun() == 2, "it is checked again")


def test_a_bar_that_the_test_set_is_too_small_for_is_not_called_checked(commands: Commands) -> None:
    until(lambda: "No problems found" in commands.data(), "it is checked")
    commands.hold.touch()
    commands.change("bar", "0.999")
    shown = commands.data()
    assert ("Correct the task first." in shown, "No problems found" in shown) == (True, False)
    assert commands.begun() == 1, "a check could only say again what is said beside the form"


def test_a_command_that_has_said_nothing_yet_is_timed_alone(commands: Commands) -> None:
    commands.hold.touch()
    shown = until(lambda: 'class="took"' in (said := commands.data()) and said, "it is at work")
    assert '<p class="legend"><span class="took"' in shown
    commands.hold.unlink()


def test_other_test_items_of_earlier_runs_ask_for_another_check(commands: Commands) -> None:
    until(lambda: "No problems found" in commands.data(), "it is checked")
    ledger = commands.folder / "ws/runs" / SHARED / LEDGER
    ledger.parent.mkdir(parents=True)
    ledger.write_bytes(b"another run has ended")
    assert OLDER in commands.data()


def test_an_edit_while_the_data_is_checked_leaves_one_check(commands: Commands) -> None:
    until(lambda: "No problems found" in commands.data(), "it is checked")
    commands.hold.touch()
    for about in ("One.", "Two.", "Three."):
        before = commands.begun()
        commands.change("about", about)
        shown = commands.data()
        assert OLDER in shown
        assert "No problems found" in shown, "what is known stays"
        assert "Checking the data." in shown
        until(lambda before=before: commands.begun() > before, "it begins")
        assert commands.alive() == 1
    commands.hold.unlink()
    until(lambda: OLDER not in commands.data(), "it ends")


def test_a_check_reads_the_text_that_it_is_of(commands: Commands) -> None:
    """Somebody types on while it starts: what is wrong with that text is not kept for this one."""
    commands.change("about", "Sort it.")
    good = commands.text
    slow = commands.folder / "command"
    slow.write_text(slow.read_text().replace("#!/bin/sh\n", "#!/bin/sh\nsleep 0.5\n"))
    commands.data()
    commands.page.post("/new/reviews/text", data={"text": f"{good}broken: true\n"})
    assert "Correct the task first." in commands.data()
    until(lambda: commands.begun() and not commands.alive(), "it has ended")
    commands.page.post("/new/reviews/text", data={"text": good})
    shown = until(lambda: "Checking the data." not in (said := commands.data()) and said, "it has ended")
    assert "No problems found" in shown
    assert commands.begun() == 1


@pytest.mark.slow
def test_a_killed_check_that_starts_again_reads_its_own_text(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile another text was checked, of which this one has nothing."""
    monkeypatch.setattr(children, "KILLED_S", 0.0)
    script, dies = commands.folder / "command", commands.folder / "dies"
    script.write_text(script.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n[ -e {dies} ] && kill -9 $$\n"))
    dies.touch()
    good = commands.text
    until(lambda: "was killed" in commands.data(), "it is killed")
    commands.change("about", "broken")
    dies.unlink()
    until(lambda: "found broken" in commands.data(), "the other text is checked")
    commands.page.post("/new/reviews/text", data={"text": good})
    shown = until(lambda: "was killed" not in (said := _ended(commands)) and said, "it is checked again")
    assert ("No problems found" in shown, "found broken" in shown) == (True, False)


def _ended(commands: Commands) -> str:
    """What is said once nothing is being checked."""
    return str(until(lambda: "Checking the data." not in (said := commands.data()) and said, "it has ended"))
