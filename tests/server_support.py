"""A server on loopback as vLLM is one: it answers chats, tells tokens when asked, and loads adapters from folders while it runs.

Its answers are sampled by a plain loop over the model's own forward, from the base or from the adapter that is asked for.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from random import Random
from typing import Any

from loopback import LoopbackServer

BASE = "tiny-base"
Trouble = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    server: FakeVllm

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.seen.append((self.path, body))
            trouble = server.troubles.pop(0) if server.troubles else None
            if trouble is not None:
                trouble(self)
            elif self.path == "/v1/chat/completions":
                self.send(*server.chat(body))
            elif self.path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter") and server.loads_adapters:
                self.send(*(server.load(body) if "unload" not in self.path else server.unload(body)))
            else:
                self.send(404, {"detail": "Not Found"})

    def send(self, status: int, body: Any) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class FakeVllm(LoopbackServer):
    """base: the folder of its model. seen: every request, (path, body). troubles: what happens to the next requests instead.

    tells_tokens, tells_reason: whether it knows return_token_ids, and why an answer ended. beyond: tokens that it tells after
    the one that completed a stop string, as speculative decoding does. alphabet: the characters that it draws, beside the
    end; any token by default.
    """

    def __init__(self, base: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        from transformers import AutoTokenizer

        self.base, self.tokenizer = base, AutoTokenizer.from_pretrained(base)
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.troubles: list[Trouble | None] = []
        self.loads_adapters = self.tells_tokens = self.tells_reason = True
        self.beyond, self.largest_rank, self.template, self.alphabet = 0, 16, None, ""
        self.loaded: dict[str, Any] = {}
        self.lock = threading.Lock()
        self._models: dict[str | None, Any] = {}

    @property
    def name(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1#{BASE}"

    def chats(self) -> list[dict[str, Any]]:
        return [body for path, body in self.seen if path.endswith("completions")]

    def commands(self) -> list[tuple[str, str]]:
        return [(path.split("/")[2].split("_")[0], body["lora_name"]) for path, body in self.seen if "lora" in path]

    def forget(self) -> None:
        """As if it were started anew."""
        self.loaded.clear()

    def load(self, body: dict[str, Any]) -> tuple[int, Any]:
        name, path = body["lora_name"], Path(body["lora_path"])
        if name in self.loaded:
            return 400, _error(f"The lora adapter '{name}' has already been loaded.")
        if not (path / "adapter_model.safetensors").is_file():
            return 404, _error(f"Loading lora {name} failed: No adapter found for {path}")
        rank = json.loads((path / "adapter_config.json").read_text())["r"]
        if rank > self.largest_rank:
            return 500, _error(f"LoRA rank {rank} is greater than max_lora_rank {self.largest_rank}.")
        self.loaded[name] = self._opened(path)
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.loaded.pop(body["lora_name"], None) is None:
            return 404, _error(f"The lora adapter '{body['lora_name']}' cannot be found.")
        return 200, "Success"

    def chat(self, body: dict[str, Any]) -> tuple[int, Any]:
        if "return_token_ids" in body and not self.tells_tokens:
            return 400, _error("Unrecognized request argument supplied: return_token_ids")
        if body["model"] == BASE:
            model = self._models.setdefault(None, None) or self._opened(None)
            self._models[None] = model
        elif body["model"] in self.loaded:
            model = self.loaded[body["model"]]
        else:
            return 404, _error(f"The model `{body['model']}` does not exist.")
        template = {} if self.template is None else {"chat_template": self.template}
        prompt = self.tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, **template)[
            "input_ids"
        ]
        return 200, self._answer(model, prompt, body)

    def _answer(self, model: Any, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        ids, logps = self._sampled(model, prompt, body)
        end, stops = self.tokenizer.eos_token_id, body.get("stop", [])
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        stop = next((stop for stop in stops if stop in text), None)
        choice: dict[str, Any] = {
            "message": {"role": "assistant", "content": text if stop is None else text[: text.index(stop)]},
            "finish_reason": "stop" if stop is not None or ids[-1] == end else "length",
        }
        if self.tells_reason:
            choice["stop_reason"] = stop
        reply: dict[str, Any] = {"choices": [choice]}
        if body.get("return_token_ids"):
            choice["token_ids"], reply["prompt_token_ids"] = ids, prompt
        if body.get("logprobs"):
            choice["logprobs"] = {
                "content": [{"token": str(token), "logprob": p} for token, p in zip(ids, logps, strict=True)]
            }
        return reply

    def _sampled(self, model: Any, prompt: list[int], body: dict[str, Any]) -> tuple[list[int], list[float]]:
        import torch

        random, ids, logps = Random(body["seed"]), list(prompt), []
        left = None
        letters = self.tokenizer(self.alphabet, add_special_tokens=False)["input_ids"]
        drawn = [*letters, self.tokenizer.eos_token_id] if letters else list(range(len(self.tokenizer)))
        with torch.no_grad():
            for _ in range(body["max_tokens"]):
                raw = model(torch.tensor([ids])).logits[0, -1].double()
                weights = torch.softmax(raw / body["temperature"], 0).tolist()
                token = random.choices(drawn, [weights[token] for token in drawn])[0]
                ids.append(token)
                logps.append(float(torch.log_softmax(raw, 0)[token]))
                left = None if left is None else left - 1
                text = self.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
                if left is None and any(stop in text for stop in body.get("stop", [])):
                    left = self.beyond
                if token == self.tokenizer.eos_token_id or left == 0:
                    break
        return ids[len(prompt) :], logps

    def _opened(self, adapter: Path | None) -> Any:
        from lastresort.models.loading import load_local

        return load_local(self.base, precision="float32", adapter=adapter).model

    def handle_error(self, *_: object) -> None:
        """A client that hung up is what several tests are about."""


@contextmanager
def serving(base: Path) -> Iterator[FakeVllm]:
    server = FakeVllm(base)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hang_up(handler: Handler) -> None:
    handler.connection.close()


def status(code: int, message: str = "no") -> Trouble:
    return lambda handler: handler.send(code, _error(message))


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "t", "param": None, "code": None}}
