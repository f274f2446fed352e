"""Every case is fast or slow and never both, and of a test that is marked `sampled` some are fast, whatever its cases are."""

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

from tiers import fast_cases

TESTS = Path(__file__).parent.parent
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
"""


@pytest.mark.parametrize(("n", "every"), [(1, 4), (4, 4), (5, 4), (12, 1), (3000, 16)])
def test_one_case_in_so_many_stays_and_never_none(n: int, every: int) -> None:
    cases = [f"test[{number}]" for number in range(n)]
    fast = fast_cases(cases, every)
    assert fast <= set(cases)
    assert len(fast) == math.ceil(n / every)


def test_the_draw_depends_on_nothing_but_the_names_and_hardly_on_the_other_cases() -> None:
    cases = [f"test[{number}]" for number in range(20)]
    assert fast_cases(cases, 5) == {"test[0]", "test[10]", "test[14]", "test[16]"}
    for more in range(19):
        assert len(fast_cases(cases[:more], 5) - fast_cases(cases[: more + 1], 5)) <= 1


def test_crossed_lists_are_drawn_from_all_over() -> None:
    """Every fourth of 30 by 4 cases would always have the same element of the second list."""
    cases = [f"test[{one}-{other}]" for one in range(30) for other in range(4)]
    assert len(Counter(case[-2] for case in fast_cases(cases, 4))) == 4


def collected(folder: Path, source: str, chosen: str) -> subprocess.CompletedProcess[str]:
    """What pytest chooses of this source with -m, by the conftest of these tests."""
    for name in ("conftest.py", "tiers.py"):
        shutil.copy(TESTS / name, folder)
    (folder / "test_source.py").write_text(source, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  slow\n  sampled\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "-m", chosen]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    return subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False, timeout=60)


def test_make_test_and_make_test_slow_share_out_all_cases(tmp_path: Path) -> None:
    fast, slow = (
        re.findall(r"::(\S+)$", collected(tmp_path, SOURCE, chosen).stdout, re.MULTILINE)
        for chosen in ("not slow", "slow")
    )
    assert not set(fast) & set(slow)
    assert Counter(case.partition("[")[0] for case in fast + slow) == {
        "test_many": 8,
        "test_answered_or_refused": 4,
        "test_partly_slow": 9,
        "test_partly_skipped": 9,
        "test_unmarked": 3,
    }
    assert Counter(case.partition("[")[0] for case in fast) == {
        "test_many": 2,
        "test_answered_or_refused": 2,
        "test_partly_slow": 1,
        "test_partly_skipped": 1 + 7,
        "test_unmarked": 3,
    }
    assert {case.split("-")[1] for case in fast if "answered" in case} == {"200]", "400]"}
    assert "test_partly_skipped[cpu" in " ".join(fast)


def test_a_file_without_slow_tests_is_not_imported_for_them(tmp_path: Path) -> None:
    source = "raise SystemError('imported')\n"
    assert "imported" not in collected(tmp_path, source, "slow").stdout
    assert "imported" in collected(tmp_path, source, "not slow").stdout
    assert "imported" in collected(tmp_path, f"{source}# sampled\n", "slow").stdout


@pytest.mark.parametrize("wrong", ["0", "4, each='nothing'"])
def test_a_mark_that_cannot_be_read_is_named_with_its_test(wrong: str, tmp_path: Path) -> None:
    source = (
        f"import pytest\n\n@pytest.mark.sampled({wrong})\n@pytest.mark.parametrize('n', [1])\ndef test_it(n): ...\n"
    )
    found = collected(tmp_path, source, "not slow")
    assert found.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_source.py::test_it[1]: sampled(every, each=" in found.stderr
