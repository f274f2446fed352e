"""What all tests share: support modules beside them are importable, few threads, no hub, no waiting for the disk, a cache of
their own.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiers import SLOW_TIERS, may_have_slow_tests, share_out

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

gc.set_threshold(20_000, 20, 10)  # what a test makes is soon let go: looking for garbage every 700 objects finds none
_frozen = {"file": "", "modules": 0}
WATCHED_TOKENS = "lastresort.train.watch.kept.ANSWER_TOKENS"
MANY_MODULES = 200  # about what one large library brings


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What collecting makes is kept: looking through it for garbage, a dozen times over, takes a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The slow tiers do not import files that have nothing for them, which are more than half."""
    if config.getoption("markexpr") not in SLOW_TIERS or collection_path.suffix != ".py":
        return None
    return None if may_have_slow_tests(collection_path) else True


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _skip_without_gpu([item for item in items if item.get_closest_marker("cuda")])
    share_out(items)


def _skip_without_gpu(items: list[pytest.Item]) -> None:
    from lastresort.hardware.memory import has_gpu

    if items and not has_gpu():
        for item in items:
            item.add_marker(pytest.mark.skipif(True, reason="no CUDA device on this machine"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Freeze what outlives a file's tests: a climb collects garbage whenever it lets a model go.

    With all libraries in memory one collection looks through half a million objects, which takes 0.3 seconds.
    """
    file, modules = item.nodeid.partition("::")[0], len(sys.modules)
    if file != _frozen["file"] or modules > _frozen["modules"] + MANY_MODULES:
        gc.collect()
        gc.freeze()
        _frozen.update(file=file, modules=modules)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests never write to the user's cache. Models already converted there are linked, which saves seconds and 0.5 GB."""
    from lastresort.embedded import cache_folder

    folder = tmp_path_factory.mktemp("cache")
    (folder / "models").mkdir()
    for model in (cache_folder() / "models").glob("[!.]*"):
        (folder / "models" / model.name).symlink_to(model.absolute(), target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASTRESORT_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def nothing_kept_by_other_tests(cache_of_the_tests: Path) -> Iterator[None]:
    """A base that answered in one test answers again in the next: small models of different tests are often the same."""
    _forget_base_answers(cache_of_the_tests)
    yield
    _forget_base_answers(cache_of_the_tests)


def _forget_base_answers(cache: Path) -> None:
    for file in cache.glob("base_answers*"):
        file.unlink()


@pytest.fixture(scope="session", autouse=True)
def disk_is_not_waited_for() -> Iterator[None]:
    """Tests kill processes, never the machine: what is written need not reach the disk. A climb commits hundreds of times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        patch.setattr("lastresort.records.database.SYNCHRONOUS", "OFF")
        yield


@pytest.fixture(scope="session", autouse=True)
def early_warnings_read_short_answers() -> Iterator[None]:
    """What tiny models say at random means no more at length: whole answers took longer than the trainings that they watched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WATCHED_TOKENS, 6)
        yield


@pytest.fixture(scope="module")
def whole_answers_are_read() -> Iterator[None]:
    """For tests of these figures, and those that compare them with what another process found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WATCHED_TOKENS, 32)
        yield


@pytest.fixture(scope="session", autouse=True)
def machine_is_not_timed() -> Iterator[None]:
    """Each new shape of a tiny model would be timed for a second, and a climb would show it in the first test alone."""

    def seconds(config: Any, layers: int, *rest: Any) -> tuple[float, float, float, float]:
        return 1e-3 * layers, 3e-4 * layers, 1e-4 * layers, 4e-5 * layers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lastresort.climb.rates._timed", seconds)
        patch.setattr("lastresort.climb.rates._load", lambda: 0.0)  # what else runs here must not show in what is said
        yield


@pytest.fixture(scope="session", autouse=True)
def commands_are_made_once() -> Iterator[None]:
    """typer makes all commands again for every call of one, which takes 19 ms. A process of a user calls one."""
    from typer.main import get_command

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.main.get_command", cache(get_command))
        yield


@pytest.fixture(scope="session", autouse=True)
def processes_of_the_tests_compile_nothing() -> Iterator[None]:
    """Importing PEFT imports bitsandbytes, which prepares kernels that a test's process never runs: a second for each process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHDYNAMO_DISABLE", "1")
        yield


@pytest.fixture(scope="session")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A climb that retrieval wins. Its run stays as it is; others may lie beside it."""
    from lastresort.app.climb import climb
    from lastresort.spec.task import load_task
    from retrieval_support import handbook_task

    folder = tmp_path_factory.mktemp("handbook")
    path = handbook_task(folder / "task", task={"knowledge_changes": "weekly", "retrain_every": "monthly"})
    return climb(load_task(path), folder / "runs" / "handbook-1")


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what torch.compile makes."""
    monkeypatch.delenv("TORCHDYNAMO_DISABLE")
