"""`verify` against `transformers serve`, started for real on the tiny model that won a run."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lastresort.report.verify import VerifyDocument
from lastresort.verify.verify import verify
from processes_support import Program
from verify_support import explaining, won_run

pytestmark = pytest.mark.slow
STARTS_WITHIN_S = 120


@pytest.fixture(scope="module", autouse=True)
def in_float32() -> Iterator[None]:
    """As the server computes, whose weights are saved in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lastresort.models.loading.processor_computes_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return won_run(tmp_path_factory.mktemp("text"))


@contextmanager
def transformers_serve(model: Path, *options: str) -> Iterator[str]:
    """Its address, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["serve", str(model), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port), *options]
    process = Program(*words, code="from transformers.cli.transformers import main\nmain()")
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()


def _wait(url: str, process: Program) -> None:
    end = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.3)
        else:
            return
    process.kill()
    pytest.fail(f"transformers serve did not start: {process.communicate()[1][-2000:]}")


def checked(run: Path, model: Path, *options: str) -> VerifyDocument:
    with transformers_serve(model, *options) as url:
        return verify(run, url, n=24)


def test_the_same_weights_answer_as_measured(run: Path) -> None:
    found = checked(run, run.parent.parent / "model")
    assert (found.identical, found.n, found.worse) == (24, 24, False)


def test_generation_settings_of_the_model_are_found(run: Path, tmp_path: Path) -> None:
    model = copied(run, tmp_path)
    path = model / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "repetition_penalty": 2.0}))
    found = checked(run, model)
    assert explaining(found) == ["SETTINGS"]
    assert found.worse


@pytest.mark.release
def test_another_chat_template_is_found(run: Path, tmp_path: Path) -> None:
    model = copied(run, tmp_path)
    (model / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    )
    found = checked(run, model)
    assert explaining(found) == ["TEMPLATE"]
    assert "text with role names" in next(one.seen for one in found.causes if one.explains)


@pytest.mark.release
def test_a_form_that_it_ignores_is_found(tmp_path: Path) -> None:
    run = won_run(tmp_path, form="schema")
    found = checked(run, tmp_path / "model")
    assert explaining(found) == ["FORM"]


def copied(run: Path, folder: Path) -> Path:
    import shutil

    return Path(shutil.copytree(run.parent.parent / "model", folder / "model"))
