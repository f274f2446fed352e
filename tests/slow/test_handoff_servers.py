"""What is handed over answers as it was measured: llama.cpp, transformers serve and LiteLLM, really started and asked.

llama.cpp is looked for as `llama-server` on the path, and as the package llama-cpp-python in an environment: that of `make peers`,
or the python that LASTRESORT_LLAMACPP names. LiteLLM's proxy is looked for there, or where LASTRESORT_LITELLM names its python.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import lastresort as lr
from handoff_support import handed, listening, run_of, started_with
from lastresort.embedded import embedded_folder
from lastresort.handoff.source import open_winner
from lastresort.handoff.write import HandedOver
from lastresort.systems.running import open_system
from lastresort.systems.system import PromptDesign, Shot, System
from lastresort.types import Decoding, Grammar, Message
from models_support import save_adapter
from verify_support import explaining, won_run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
READY_S = 240.0
ABOUT = "Read the words and answer with one short sentence about a support ticket that they describe."
KEY = "sk-0123456789abcdef0123456789abcdef0123456789abcdef"
INPUTS = (
    "Where is my invoice of March? I paid it twice.",
    'The app closes when I open the map.\nIt says: "error 17".',
    "Please name three colours.",
    "Was kostet ein Paket nach Österreich?",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the embedded model, which changes what it says, with a prompt and a shot."""
    folder = tmp_path_factory.mktemp("runs")
    adapter = save_adapter(embedded_folder(), folder / "adapter", spread=0.11)
    shots = (Shot((Message("user", "My parcel is late."),), "team: delivery"),)
    winner = System(
        "sft", "embedded", PromptDesign('Route the ticket to a "team".', "sections", shots, k=1), Decoding(24),
        adapter=adapter, precision="float32",
    )  # fmt: skip
    return run_of(folder / "tickets", replace(winner), kind="adapter")


@pytest.fixture(scope="module")
def answered(run: Path) -> list[str]:
    """As the adapter was measured."""
    return measured(run)


def measured(run: Path) -> list[str]:
    running = open_system(run)
    try:
        return [answer.text for answer in running.answer([(Message("user", text),) for text in INPUTS])]
    finally:
        running.close()


def python_of(name: str) -> Path:
    """The python of an environment that has this server; skips where there is none."""
    for python in (os.environ.get(f"LASTRESORT_{name.upper()}"), ROOT / ".peers" / name / "bin" / "python"):
        if python and Path(python).is_file():
            return Path(python)
    pytest.skip(f"{name} is not installed: `python scripts/peer_environments.py .peers {name}` installs it")


def test_the_adapter_changes_the_answers(run: Path, answered: list[str]) -> None:
    """Without it the comparisons below would show less."""
    base = run_of(run.parent / "base", replace(open_winner(run).system, adapter=None))
    assert all(mine != own for mine, own in zip(answered, measured(base), strict=True))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def started(command: Sequence[str], folder: Path, port: int, log: Path) -> Iterator[str]:
    """The address of a server once it answers; it is ended afterwards."""
    with log.open("w") as out:
        server = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=out, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
    url = f"http://127.0.0.1:{port}/v1"
    try:
        end = time.monotonic() + READY_S
        while not _answers(f"{url}/models"):
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _answers(url: str) -> bool:
    try:
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {os.environ.get('API_KEY', 'none')}"})
        with urllib.request.urlopen(asked, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def answers(found: HandedOver, url: str) -> list[str]:
    """By the client that was handed over."""
    texts = []
    for text in INPUTS:
        done = subprocess.run(
            [sys.executable, str(found.folder / "client.py"), text],
            env={**os.environ, "BASE_URL": url}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout.removesuffix("\n"))
    return texts


def test_transformers_serve_gives_the_measured_answers(run: Path, answered: list[str], tmp_path: Path) -> None:
    found = handed(run, "transformers")
    port = free_port()
    program = Path(sys.executable).with_name("transformers")
    words = [str(program), *started_with(found)[1:-1], str(port)]
    with started(words, found.folder, port, tmp_path / "log") as url:
        assert answers(found, url) == answered


@pytest.fixture(scope="module")  # so that a machine without it measures nothing before it skips
def llama_cpp_path() -> str:
    """A PATH on which start.sh finds llama.cpp; skips where neither llama-server nor the package is there."""
    known = os.environ["PATH"]
    return known if shutil.which("llama-server") else f"{python_of('llamacpp').parent}{os.pathsep}{known}"


@contextmanager
def llama_cpp(run: Path, path: str, log: Path) -> Iterator[tuple[HandedOver, str]]:
    """What was handed over and its address, once start.sh serves it."""
    port = free_port()
    found = handed(run, "llamacpp", port=port)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path)
        with started(["sh", str(found.folder / "start.sh")], found.folder.parent, port, log) as url:
            yield found, url


def test_llama_cpp_gives_the_measured_answers_from_the_gguf(
    llama_cpp_path: str, run: Path, answered: list[str], tmp_path: Path
) -> None:
    with llama_cpp(run, llama_cpp_path, tmp_path / "log") as (found, url):
        assert answers(found, url) == answered


@pytest.mark.release
def test_verify_finds_llama_cpp_as_measured_and_names_what_its_own_settings_change(
    llama_cpp_path: str, run: Path, tmp_path: Path
) -> None:
    """Items of a climb that the merged model won. Without the parameters of the request, llama-cpp-python penalises repetition."""
    tuned = handed(run, "transformers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lastresort.models.loading.processor_computes_bfloat16", lambda: False)
        won = won_run(
            tmp_path / "won", model=str(tuned.folder / tuned.model), about=ABOUT,
            split={"dev": 8, "test": 20}, decode={"max_new_tokens": 24},
        )  # fmt: skip
        with llama_cpp(won, llama_cpp_path, tmp_path / "log") as (found, url):
            request = found.folder / "request.json"
            asked = lr.verify(won, url, n=8, request=request).document
            assert (asked.identical, asked.n, asked.worse) == (8, 8, False)
            if shutil.which("llama-server"):  # which start.sh starts without penalties
                return
            plain = lr.verify(won, url, n=8).document
    assert plain.identical < 8
    assert explaining(plain) == ["SETTINGS"]


def test_litellm_passes_on_what_the_client_sends(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled = replace(
        open_winner(run).system, decoding=Decoding(24, 0.5, 0.9, 20, ("\n",), Grammar({"type": "object"}), 3)
    )
    program = python_of("litellm").with_name("litellm")
    found = handed(run_of(tmp_path / "tickets", sampled, kind="adapter"), "litellm")
    port = free_port()
    words = [str(program), *started_with(found)[1:-1], str(port)]
    with listening("fine") as (upstream, got):
        for name, value in (("UPSTREAM_URL", upstream), ("LITELLM_MASTER_KEY", KEY), ("API_KEY", KEY)):
            monkeypatch.setenv(name, value)
        with started(words, found.folder, port, tmp_path / "log") as url:
            assert answers(found, url) == ["fine"] * len(INPUTS)
    sent = json.loads((found.folder / "request.json").read_text(encoding="utf-8"))
    for body, text in zip(got, INPUTS, strict=True):
        assert body["messages"].pop()["content"] == f"<input>\n{text}\n</input>"
        assert body == {**sent, "messages": sent["messages"][:-1]}
