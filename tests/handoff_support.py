"""Winners on the tiny model, as they are handed over."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from lastresort.handoff.source import open_winner
from lastresort.handoff.write import HandedOver, write_handoff
from lastresort.systems.files import folder_sha256, save_system
from lastresort.systems.system import PromptDesign, Shot, System
from lastresort.types import Decoding, Message
from loopback import LoopbackServer

NASTY = 'Say "hi" to $HOME, `id` and $(id).\n"""quoted""" \'too\' \\n {{ x }} {% y %} %s \u2028 \x85 é 東 🙂 <|im_end|>'
SHOTS = tuple(Shot((Message("user", f"question {i} {NASTY}"),), f"answer {i} {NASTY}") for i in range(3))


def system(base: Path | str, **changes: Any) -> System:
    """A prompt with its shots on this model."""
    plain = System("few-shot", str(base), PromptDesign(NASTY, shots=SHOTS, k=2), Decoding(8), precision="float32")
    return replace(plain, **changes)


def run_of(folder: Path, winner: System, *, held: bool = False, kind: str = "prompt") -> Path:
    """A run whose decision names this winner."""
    save_system(winner, folder / "winner")
    found = {"kind": kind, "path": "winner", "held": held, "sha256": folder_sha256(folder / "winner")}
    (folder / "decision.json").write_text(json.dumps({"winner": found}), encoding="utf-8")
    return folder


def handed(run: Path, to: str, **options: Any) -> HandedOver:
    return write_handoff(open_winner(run), to, run / f"handoff-{to}", **options)


def started_with(found: HandedOver) -> list[str]:
    """The words of the command that starts the server."""
    script = (found.folder / "start.sh").read_text(encoding="utf-8").replace("\\\n", "")
    return shlex.split(script[script.index("\nexec ") + 6 :])


def flags(words: list[str]) -> dict[str, str]:
    """Options with their values, "" for those without."""
    following = [*words[1:], "--"]
    return {
        word: "" if value.startswith("--") else value
        for word, value in zip(words, following, strict=True)
        if word.startswith("--")
    }


@contextmanager
def listening(answer: str = "fine") -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server's address, and the requests that it got."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            message = {"role": "assistant", "content": answer}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
            body, form = json.dumps(reply).encode(), "application/json"
            if got[-1].get("stream"):
                part = {"index": 0, "delta": message, "finish_reason": "stop"}
                chunk = {**reply, "object": "chat.completion.chunk", "choices": [part]}
                body, form = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode(), "text/event-stream"
            self.send_response(200)
            self.send_header("Content-Type", form)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = LoopbackServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
