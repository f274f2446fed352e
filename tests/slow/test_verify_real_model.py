"""`verify` with the embedded model for real: a sound server of it passes, and of spoiled ones each is caught and named. Minutes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from verify_support import Fault, explaining, server_of, verified, won_run

pytestmark = pytest.mark.slow
ABOUT = "Read the words and answer with one short sentence about a support ticket that they describe."


@pytest.fixture(scope="module", autouse=True)
def in_float32() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lastresort.models.loading.processor_computes_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shorter: dict[str, Any] = {"split": {"dev": 8, "test": 20}, "decode": {"max_new_tokens": 10}}
    return won_run(tmp_path_factory.mktemp("real"), model="embedded", about=ABOUT, **shorter)


def test_a_sound_server_passes(run: Path) -> None:
    found = verified(run, server_of(run), n=12)
    assert (found.identical, found.n, found.worse) == (12, 12, False)


FAULTS: dict[Fault, str] = {
    "no system": "SYSTEM_PROMPT",
    "template": "TEMPLATE",
    "doubled start": "DOUBLED_START",
    "samples": "SETTINGS",
    "penalty": "SETTINGS",
    "cut": "ENDED_EARLY",
    "bfloat16": "PRECISION",
    "four bits": "PRECISION",
}


@pytest.mark.release  # with the tiny model, one of each cause is caught in CI (test_verify.py)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_spoiled_server_is_caught_and_its_cause_named(run: Path, fault: Fault) -> None:
    found = verified(run, server_of(run, fault), n=12)
    for one in found.causes:
        print(one.cause, one.explains, one.seen)
    assert explaining(found) == [FAULTS[fault]]
    assert found.worse or fault == "bfloat16"
