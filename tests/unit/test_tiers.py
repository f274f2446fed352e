"""Every case is fast, slow or left to a release, never two of these. Of a test that is drawn from, some cases stay in its tier."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tiers import SLOW_TIERS, kept_cases

TESTS = Path(__file__).parent.parent
MAKEFILE = TESTS.parent / "Makefile"
SOURCE = """
import pytest

@pytest.mark.sampled(4)
@pytest.mark.parametrize("number", range(8))
def test_many(number): ...

@pytest.mark.sampled(4, each="status")
@pytest.mark.parametrize(("host", "status"), [("a", 200), ("b", 200), ("c", 200), ("d", 400)])
def test_answered_or_refused(host, status): ...

@pytest.mark.sampled(2)
@pytest.mark.parametrize("number", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 9))])
def test_partly_slow(number): ...

NO_DEVICE = pytest.mark.skipif(True, reason="no such device")

@pytest.mark.sampled(2)
@pytest.mark.parametrize("device", ["cpu-0", "cpu-1", *(pytest.param(n, marks=NO_DEVICE) for n in range(2, 9))])
def test_partly_skipped(device): ...

@pytest.mark.parametrize("number", range(3))
def test_unmarked(number): ...

@pytest.mark.slow
@pytest.mark.sampled_slow(3)
@pytest.mark.parametrize("number", range(6))
def test_slow(number): ...

@pytest.mark.sampled_slow(4)
@pytest.mark.sampled(4)
@pytest.mark.parametrize("number", range(16))
def test_both_draws(number): ...

@pytest.mark.sampled_slow(3, each="host")
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("host", ["a", pytest.param("b", marks=pytest.mark.slow)])
def test_slow_of_one_host(host, number): ...

@pytest.mark.release
@pytest.mark.sampled(2)
@pytest.mark.sampled_slow(2)
@pytest.mark.parametrize("number", range(4))
def test_before_a_release(number): ...

@pytest.mark.slow
@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.release)])
def test_partly_before_a_release(number): ...
"""
FAST = {
    "test_many": 2,
    "test_answered_or_refused": 2,
    "test_partly_slow": 1,
    "test_partly_skipped": 1 + 7,
    "test_unmarked": 3,
    "test_both_draws": 4,
    "test_slow_of_one_host": 3,
}
SLOW = {
    "test_many": 6,
    "test_answered_or_refused": 2,
    "test_partly_slow": 8,
    "test_partly_skipped": 1,
    "test_slow": 2,
    "test_both_draws": 3,
    "test_slow_of_one_host": 1,
    "test_partly_before_a_release": 1,
}
RELEASE = {
    "test_slow": 4,
    "test_both_draws": 9,
    "test_slow_of_one_host": 2,
    "test_before_a_release": 4,
    "test_partly_before_a_release": 1,
}


@pytest.mark.parametrize(("n", "every"), [(1, 4), (4, 4), (5, 4), (12, 1), (3000, 16)])
def test_one_case_in_so_many_stays_and_never_none(n: int, every: int) -> None:
    cases = [f"test[{number}]" for number in range(n)]
    fast = kept_cases(cases, every)
    assert fast <= set(cases)
    assert len(fast) == math.ceil(n / every)


def test_the_draw_depends_on_nothing_but_the_names_and_hardly_on_the_other_cases() -> None:
    cases = [f"test[{number}]" for number in range(20)]
    assert kept_cases(cases, 5) == {"test[0]", "test[10]", "test[14]", "test[16]"}
    for more in range(19):
        assert len(kept_cases(cases[:more], 5) - kept_cases(cases[: more + 1], 5)) <= 1


def test_crossed_lists_are_drawn_from_all_over() -> None:
    """Every fourth of 30 by 4 cases would always have the same element of the second list."""
    cases = [f"test[{one}-{other}]" for one in range(30) for other in range(4)]
    assert len(Counter(case[-2] for case in kept_cases(cases, 4))) == 4


def collected(folder: Path, source: str, chosen: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What pytest chooses of this source with -m, by the conftest of these tests."""
    for name in ("conftest.py", "tiers.py"):
        shutil.copy(TESTS / name, folder)
    (folder / "test_source.py").write_text(source, encoding="utf-8")
    markers = "slow\n  sampled\n  sampled_slow\n  release\n"
    (folder / "pytest.ini").write_text(f"[pytest]\nmarkers =\n  {markers}", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "-m", chosen, *options]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    return subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False, timeout=60)


def chosen_by_make(target: str) -> str | None:
    """What the Makefile hands to pytest as -m; None for all."""
    [line] = re.findall(rf"^{target}: .*\n\t.* -m pytest (.*)", MAKEFILE.read_text(encoding="utf-8"), re.MULTILINE)
    found = re.match(r'-m "([^"]+)"', line)
    return None if found is None else found[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_make_runs_what_its_help_names() -> None:
    text = MAKEFILE.read_text(encoding="utf-8")
    named, phony = re.findall(r"^# make (\S+)", text, re.MULTILINE), re.findall(r"^\.PHONY: (.*)", text, re.MULTILINE)
    assert set(named) <= set(" ".join(phony).split())
    command = ["make", "--dry-run", "-C", str(MAKEFILE.parent), *named]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_tiers_share_out_all_cases_and_make_test_all_leaves_none_out(tmp_path: Path) -> None:
    fast_by, slow_by, all_by = (chosen_by_make(target) for target in ("test", "test-slow", "test-all"))
    assert all_by is None
    assert slow_by in SLOW_TIERS, "else files without slow tests are imported"
    fast, slow, release = (
        re.findall(r"::(\S+)$", collected(tmp_path, SOURCE, chosen).stdout, re.MULTILINE)
        for chosen in (str(fast_by), str(slow_by), "release")
    )
    cases = fast + slow + release
    assert len(set(cases)) == len(cases)
    assert [Counter(case.partition("[")[0] for case in tier) for tier in (fast, slow, release)] == [FAST, SLOW, RELEASE]
    assert {case.split("-")[1] for case in fast if "answered" in case} == {"200]", "400]"}
    assert "test_partly_skipped[cpu" in " ".join(fast)


def test_a_file_without_slow_tests_is_not_imported_for_them(tmp_path: Path) -> None:
    source = "raise SystemError('imported')\n"
    for chosen in SLOW_TIERS:
        assert "imported" not in collected(tmp_path, source, chosen).stdout
    assert "imported" in collected(tmp_path, source, "not slow").stdout
    assert "imported" in collected(tmp_path, f"{source}# sampled\n", "slow").stdout
    assert "imported" in collected(tmp_path, f"{source}# release\n", "slow and not release").stdout


def test_the_tests_that_take_minutes_come_first(tmp_path: Path) -> None:
    test = "import pytest\n\n@pytest.mark.slow\ndef test_it(): ...\n"
    for folder in ("exact", "slow", "unit"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        (tmp_path / "tests" / folder / "test_source.py").write_text(test, encoding="utf-8")
    found = collected(tmp_path, test, "slow", "--import-mode=importlib").stdout.splitlines()
    assert [line.partition("::")[0] for line in found if "::" in line] == [
        "tests/slow/test_source.py",
        "test_source.py",
        "tests/exact/test_source.py",
        "tests/unit/test_source.py",
    ]


@pytest.mark.parametrize(
    ("draw", "marks"),
    [
        ("sampled", ["sampled(0)"]),
        ("sampled", ["sampled(4, each='nothing')"]),
        ("sampled_slow", ["slow", "sampled_slow(0)"]),
    ],
)
def test_a_mark_that_cannot_be_read_is_named_with_its_test(draw: str, marks: list[str], tmp_path: Path) -> None:
    decorators = "".join(f"@pytest.mark.{mark}\n" for mark in (*marks, "parametrize('n', [1])"))
    source = f"import pytest\n\n{decorators}def test_it(n): ...\n"
    found = collected(tmp_path, source, "not slow")
    assert found.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"test_source.py::test_it[1]: {draw}(every, each=" in found.stderr
