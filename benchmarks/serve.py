"""`lastresort serve` against `transformers serve`, with the same weights in one run: `python -m benchmarks.serve`.

Clients share a system prompt of about 300 tokens, each asks one question after another and reads its answer as a stream. Per
number of clients: requests a second, the median time to the first token and between tokens. transformers runs with and without
its continuous batching, and each figure is set against the better of the two.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.material import WORDS, embedded
from lastresort.systems.files import save_system
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding

PROMPT_WORDS, QUESTION_WORDS, NEW_TOKENS, CLIENTS = 290, 15, 32, (1, 8, 32)
STARTED_S, ANSWERED_S = 180, 600
ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Measured:
    """seconds: of the whole. first_s, gaps_s: of every answer. texts: by question."""

    seconds: float = 0.0
    first_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    failed: int = 0

    @property
    def requests_per_s(self) -> float:
        return len(self.texts) / self.seconds

    def line(self, what: str, clients: int) -> str:
        first, gap = (1000 * statistics.median(found) for found in (self.first_s, self.gaps_s))
        failed = f", {self.failed} failed" if self.failed else ""
        return f"| {what} | {clients} | {self.requests_per_s:.2f}{failed} | {first:.0f} | {gap:.0f} |"


def words(draw: random.Random, n: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(n))


def save(folder: Path, precision: str, instruction: str) -> tuple[Path, Path]:
    """The weights as transformers loads them, and a system of ours that answers with them."""
    loaded = embedded(precision)
    model = folder / "weights"
    loaded.model.save_pretrained(model)
    loaded.tokenizer.save_pretrained(model)
    decoding = Decoding(max_new_tokens=NEW_TOKENS)
    system = System("served", str(model), PromptDesign(instruction), decoding, precision=precision)
    save_system(system, folder / "system")
    return model, folder / "system"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], port: int, log: Path) -> Iterator[str]:
    """The server's address, once it answers. Ended with the block."""
    environment = {**os.environ, "GOMP_SPINCOUNT": "2000", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src")}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        try:
            deadline = time.monotonic() + STARTED_S
            while True:
                with suppress(httpx.HTTPError):
                    if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                        break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{' '.join(command)} did not start:\n{log.read_text(errors='replace')[-3000:]}")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()


async def answer(client: httpx.AsyncClient, body: dict[str, object], number: int, measured: Measured) -> None:
    began = last = time.perf_counter()
    text, seen = "", 0
    async with client.stream("POST", "/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            event = json.loads(line[6:])
            if "error" in event:  # it is the last event of an answer that failed
                raise httpx.HTTPError(str(event["error"]))
            choices = event.get("choices") or [{}]
            piece = (choices[0].get("delta") or {}).get("content") or ""
            if not piece:
                continue
            now = time.perf_counter()
            (measured.gaps_s if seen else measured.first_s).append(now - last if seen else now - began)
            last, seen, text = now, seen + 1, text + piece
    measured.texts[number] = text


async def load(url: str, bodies: Sequence[dict[str, object]], clients: int) -> Measured:
    """All bodies, asked by so many clients at once."""
    waiting, measured = list(enumerate(bodies)), Measured()
    waiting.reverse()

    async def one() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=ANSWERED_S) as client:
            while waiting:
                number, body = waiting.pop()
                try:
                    await answer(client, body, number, measured)
                except httpx.HTTPError:
                    measured.failed += 1

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    measured.seconds = time.perf_counter() - began
    return measured


def measure(url: str, model: str, system: str | None, requests: int) -> dict[int, Measured]:
    """system: what a client puts first, None where the server does that itself."""
    draw, found = random.Random(1), dict[int, Measured]()
    head = [] if system is None else [{"role": "system", "content": system}]
    for clients in CLIENTS:
        questions = [words(draw, QUESTION_WORDS) for _ in range(requests if clients > 1 else max(16, requests // 4))]
        bodies: list[dict[str, object]] = [
            {
                "model": model,
                "messages": [*head, {"role": "user", "content": question}],
                "max_tokens": NEW_TOKENS,
                "temperature": 0,
                "stream": True,
            }
            for question in questions
        ]
        asyncio.run(load(url, bodies[:1], 1))  # what is compiled or cached at the first request
        found[clients] = asyncio.run(load(url, bodies, clients))
        print(found[clients].line(url, clients), file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument(
        "--requests", type=int, default=32, help="At each number of clients; a quarter for one client, 16 at least."
    )
    asked = parser.parse_args()
    instruction = words(random.Random(0), PROMPT_WORDS)
    measured: dict[str, dict[int, Measured]] = {}
    with tempfile.TemporaryDirectory() as name:
        model, system = save(Path(name), asked.precision, instruction)
        ours, theirs = "lastresort serve", "transformers serve"
        port, log = free_port(), Path(name) / "log"
        command = [sys.executable, "-m", "lastresort", "serve", str(system), "--port", str(port)]
        with serving(command, port, log) as url:
            model_name = httpx.get(f"{url}/models").json()["data"][0]["id"]
            measured[ours] = measure(url, model_name, None, asked.requests)
        for label, options in ((theirs, []), (f"{theirs} --continuous-batching", ["--continuous-batching"])):
            port = free_port()
            binary = str(Path(sys.executable).parent / "transformers")
            dtype = ["--dtype", asked.precision, "--device", "cpu", "--port", str(port)]
            with serving([binary, "serve", str(model), *dtype, *options], port, log) as url:
                measured[label] = measure(url, str(model), instruction, asked.requests)
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("torch", "transformers"))
    print(f"{os.cpu_count()} cores, {platform.machine()}, {versions}; {asked.precision}, {NEW_TOKENS} new tokens.\n")
    print("| server | clients | requests/s | first token, ms | between tokens, ms |", "|---|--:|--:|--:|--:|", sep="\n")
    for label, rows in measured.items():
        for clients, row in rows.items():
            print(row.line(label, clients))
    for clients in CLIENTS:
        fastest = max(rows[clients].requests_per_s for label, rows in measured.items() if label != ours)
        same = sum(measured[ours][clients].texts.get(i) == text for i, text in measured[theirs][clients].texts.items())
        print(
            f"| **ratio** | {clients} | **{measured[ours][clients].requests_per_s / fastest:.2f} x** | "
            f"{same} of {len(measured[theirs][clients].texts)} the same text | |"
        )


if __name__ == "__main__":
    main()
