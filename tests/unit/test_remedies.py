"""What stops a command says what to do apart from how to go on: a command that goes on in another way changes the second alone."""

import ast
import errno
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

import lastresort
from lastresort.app.runtime import resumable
from lastresort.errors import RESUME, SAME_COMMAND, InfrastructureError, OutOfMemoryError, StoppedError
from lastresort.evals.measure import JobFailure
from lastresort.records.atomic import disk_error
from lastresort.stop import StopRequest

SOURCE = Path(lastresort.__file__).parent
STOPS = {
    "StoppedError",
    "InfrastructureError",
    "DiskError",
    "BudgetError",
    "StopRequestedError",
    "ClusterLostError",
    "ProcessLost",
    "StopRequest",
}  # an OutOfMemoryError says with which settings to go on, and whether that is possible at all
WAYS_ON = ("--resume", "same command", "go on", "run again", "run the command again")


def texts(node: ast.AST, known: dict[str, list[ast.expr]]) -> Iterator[str]:
    """The sentences that an expression can be, a value within one as {}."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
        case ast.IfExp(body=one, orelse=other):
            yield from texts(one, known)
            yield from texts(other, known)
        case ast.Name(id=name):
            for value in known.get(name, []):
                yield from texts(value, {})


def assigned(body: ast.AST, *, nested: bool) -> dict[str, list[ast.expr]]:
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(body) if nested else ast.iter_child_nodes(body):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
    return found


def remedies() -> Iterator[tuple[str, str]]:
    """Every remedy of an error that stops, with its file."""
    for path in sorted(SOURCE.rglob("*.py")):
        source = path.read_text("utf-8")
        if not any(f"{kind}(" in source for kind in STOPS):
            continue
        tree = ast.parse(source)
        functions = [(node, list(stops(node))) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for place, calls in [(tree, list(stops(tree))), *functions]:
            known = assigned(tree, nested=False) | (assigned(place, nested=True) if calls and place is not tree else {})
            for remedy in (keyword.value for call in calls for keyword in call.keywords if keyword.arg == "remedy"):
                for text in texts(remedy, known):
                    yield path.relative_to(SOURCE).as_posix(), text


def stops(body: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(body):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in STOPS:
            yield node


REMEDIES = sorted(set(remedies()))


def test_all_of_them_are_found() -> None:
    files = {file for file, _ in REMEDIES}
    assert {
        "models/api/refusals.py",
        "records/database.py",
        "records/atomic.py",
        "climb/budget.py",
        "scale/crew.py",
    } <= files
    assert len(REMEDIES) >= 25


@pytest.mark.parametrize(("file", "remedy"), REMEDIES, ids=[f"{file}: {remedy[:30]}" for file, remedy in REMEDIES])
def test_no_advice_is_lost_where_a_command_goes_on_in_another_way(file: str, remedy: str) -> None:
    assert not [way for way in WAYS_ON if way in remedy.lower()], f"{file}: the way to go on is the error's `resume`"
    stopped = InfrastructureError("found", where="here", expected="more", remedy=remedy, resume=RESUME)
    assert str(stopped) == f"here: found, expected more. {remedy} {RESUME}"
    for again in (stopped, JobFailure.of(stopped).error(), pickle.loads(pickle.dumps(stopped))):
        assert isinstance(again, StoppedError)
        assert str(again) == str(stopped)
        assert str(again.going_on(SAME_COMMAND)) == f"here: found, expected more. {remedy} {SAME_COMMAND}"


def test_no_layer_below_the_commands_says_how_a_command_goes_on() -> None:
    naming = [
        path for path in SOURCE.rglob("*.py") if "from lastresort.errors import RESUME" in path.read_text("utf-8")
    ]
    assert [path.relative_to(SOURCE).as_posix() for path in naming] == ["app/runtime.py"]


def test_only_work_that_has_begun_goes_on_with_resume(tmp_path: Path) -> None:
    def stopped(error: StoppedError) -> str:
        with pytest.raises(StoppedError) as raised, resumable(tmp_path / "record"):
            raise error
        return str(raised.value)

    full = disk_error(OSError(errno.ENOSPC, "no space"), Path("rows.jsonl"))
    assert stopped(full) == "rows.jsonl: the disk is full. Free some space; nothing finished is lost."
    (tmp_path / "record").touch()
    assert stopped(full) == f"rows.jsonl: the disk is full. Free some space; nothing finished is lost. {RESUME}"
    assert stopped(full.going_on(SAME_COMMAND)).endswith(f"lost. {SAME_COMMAND}")
    assert stopped(OutOfMemoryError("no memory", remedy="Lower it.")) == "no memory. Lower it."


def test_each_kind_of_stop_keeps_its_kind_and_its_advice() -> None:
    money = StopRequest("money", "2 USD are spent", where="limits.usd", remedy="Raise it.").error()
    assert str(money) == "limits.usd: 2 USD are spent. Raise it."
    assert str(money.going_on(SAME_COMMAND)) == f"limits.usd: 2 USD are spent. Raise it. {SAME_COMMAND}"
    assert type(money.going_on(SAME_COMMAND)) is type(money)
    assert str(money.going_on(RESUME)) == f"limits.usd: 2 USD are spent. Raise it. {RESUME}"
    full = disk_error(OSError(errno.ENOSPC, "no space"), Path("rows.jsonl"))
    assert str(full.going_on(SAME_COMMAND)) == (
        f"rows.jsonl: the disk is full. Free some space; nothing finished is lost. {SAME_COMMAND}"
    )
