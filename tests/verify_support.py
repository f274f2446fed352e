"""Runs that a tiny model has won, and servers of it in the OpenAI dialect that answer as measured or with a fault."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal

import yaml

from lastresort.app.climb import climb
from lastresort.data.chat_template import ChatTemplate, token_ids
from lastresort.models.calls import RetryPolicy
from lastresort.models.local import LocalModel, load_local
from lastresort.models.open import open_model
from lastresort.models.protocol import Prompt
from lastresort.report.verify import VerifyDocument
from lastresort.rungs.prompting.prompts import grammar_of, instruction
from lastresort.spec.task import load_task
from lastresort.systems.answerer import Answerer
from lastresort.systems.running import load_winner, open_answerer
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Grammar, Message
from lastresort.verify.causes.prompts import TEMPLATES
from lastresort.verify.verify import verify
from loopback import LoopbackServer
from models_support import save_tiny

Fault = Literal[
    "",
    "no system",
    "template",
    "doubled start",
    "samples",
    "penalty",
    "no schema",
    "cut",
    "rounded",
    "bfloat16",
    "four bits",
    "rude",
]
SCHEMA = {
    "type": "object",
    "properties": {"team": {"enum": ["billing", "tech", "shop"]}, "n": {"enum": [1, 2, 3, 4]}},
    "required": ["team", "n"],
    "additionalProperties": False,
}
Form = Literal["text", "schema", "choices"]
CHOICES = ["billing", "tech", "shop", "late"]
OUTPUTS: dict[Form, dict[str, Any]] = {
    "text": {},
    "schema": {"output": {"schema": "schema.json"}},
    "choices": {"output": {"choices": CHOICES}},
}
SCORES: dict[Form, str] = {"text": "exact", "schema": "json_exact", "choices": "choice"}
WRONG: dict[Form, str] = {"text": "wrong", "schema": '{"team": "shop", "n": 4}', "choices": "late"}
PATIENCE = RetryPolicy(attempts=2, first_wait_s=0.01)
WORDS = "late lost parcel ticket route user billing tech shop van lamp bill note help door card".split()


def inputs(n: int) -> list[str]:
    """Short and all different, since the tiny model has little context."""
    return [f"{WORDS[i % 16]} {WORDS[(i * 7 + i // 16) % 16]} {i}" for i in range(n)]


def won_run(folder: Path, *, form: Form = "text", model: str = "./model", right: int = 10, **keys: Any) -> Path:
    """A run that the zero-shot prompt has won, since its answers are the examples; one of `right` is wrong. model: by default a
    tiny one of its own. keys: of the task file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if model == "./model":
        save_tiny(folder / "model")
    schema = form == "schema"
    if schema:
        (folder / "schema.json").write_text(json.dumps(SCHEMA))
    body: dict[str, Any] = {
        "task": "routing",
        "about": "route it",
        "model": model,
        "ladder": ["prompting"],
        "examples": "rows.jsonl",
        "split": {"dev": 20, "test": 40},
        "score": SCORES[form],
        "bar": 0.5,
        "decode": {"max_new_tokens": 24 if schema else 8},
    }
    body |= OUTPUTS[form] | keys
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(body, sort_keys=False))
    (folder / "rows.jsonl").write_text(json.dumps({"input": "a", "output": WRONG[form]}) + "\n")
    task = load_task(path)
    decoding = Decoding(body["decode"]["max_new_tokens"], grammar=grammar_of(task))
    opened = open_model(model, base_folder=folder)
    texts = inputs(sum(body["split"].values()) + 10)
    system = System("own", model, PromptDesign(instruction(task)), decoding)
    answers = Answerer(system, opened).answer([(Message("user", text),) for text in texts])
    opened.close()
    wrong = WRONG[form]
    rows = [
        {"input": text, "output": answer.text if i % right and answer.text else wrong}
        for i, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return climb(load_task(path), folder / "runs" / "routing-1", gate="none").run


@dataclass
class Spoiled:
    """The winner's model behind HTTP. fault: what is wrong with it. owner: as its list of models says. whole: puts the winner's
    prompt around each input, in place of system turns. lost: inputs that it never answers. counts: whether it counts tokens. more:
    prompt tokens that it counts too many. names: of its models. unsteady: inputs to which it answers otherwise each time. hurried:
    those to which it does so the first time only.
    """

    winner: System
    model: LocalModel
    fault: Fault = ""
    owner: str = "somebody"
    whole: bool = False
    lost: tuple[str, ...] = ()
    counts: bool = True
    more: int = 0
    names: tuple[str, ...] = ("tiny",)
    unsteady: tuple[str, ...] = ()
    hurried: list[str] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    drawn: int = 0

    @cached_property
    def served(self) -> LocalModel:
        """Opened once, as a server does: what it prepares for a form of answers takes longer than an answer."""
        return LocalModel(self.model.loaded, name="served", render=self._render())

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.requests.append(request)
            answer, counted = self._answer(request)
        message = {"role": "assistant", "content": answer.text}
        usage = {"prompt_tokens": counted + self.more, "completion_tokens": answer.completion_tokens}
        choice = {"index": 0, "message": message, "finish_reason": answer.finish}
        return {"model": request["model"], "choices": [choice]} | ({"usage": usage} if self.counts else {})

    def _answer(self, request: dict[str, Any]) -> tuple[Any, int]:
        prompt = tuple(Message(turn["role"], turn["content"]) for turn in request["messages"])
        decoding = self._decoding(request)
        if self.whole:
            prompt = tuple(turn for turn in prompt if turn.role != "system")
            prompt = Answerer(replace(self.winner, fingerprint=""), self.model).prompt(prompt)
        if self.fault == "no system":
            prompt = tuple(turn for turn in prompt if turn.role != "system")
        model = self.served
        if self.fault == "penalty" and request.get("repetition_penalty") != 1.0:
            return self._penalised(model._rendered(prompt), decoding), model.count_tokens(prompt)
        return model.generate([prompt], decoding)[0], model.count_tokens(prompt)

    def _decoding(self, request: dict[str, Any]) -> Decoding:
        length = request.get("max_tokens") or 16
        form = request.get("response_format")
        grammar = None if form is None else Grammar(json_schema=form["json_schema"]["schema"])
        asked = request["messages"][-1]["content"]
        first = [text for text in self.hurried if text in asked]
        self.hurried = [text for text in self.hurried if text not in first]
        if self.fault == "samples":
            return Decoding(length, temperature=1.5, seed=request.get("seed", 0), grammar=grammar)
        if first or any(text in asked for text in self.unsteady):
            self.drawn += 1
            return Decoding(length, temperature=1.5, seed=self.drawn, grammar=grammar)
        if self.fault == "cut":
            length = min(length, 4)
        temperature = request.get("temperature", 1.0)
        if self.fault == "no schema":
            grammar = None
        return Decoding(length, temperature=temperature, seed=request.get("seed", 0), grammar=grammar)

    def _render(self) -> Callable[[Prompt], list[int]] | None:
        tokenizer = self.model.loaded.tokenizer
        if self.fault == "doubled start":
            return lambda prompt: [tokenizer.bos_token_id, *self.model._rendered(prompt)]
        if self.fault == "template":
            chat = ChatTemplate("other", TEMPLATES["Alpaca"])
            return lambda prompt: token_ids(tokenizer, chat, prompt, prompt=True)
        return None

    def _penalised(self, ids: list[int], decoding: Decoding) -> Any:
        import torch

        from lastresort.types import Answer

        loaded = self.model.loaded
        out = loaded.model.generate(
            torch.tensor([ids]), do_sample=False, repetition_penalty=2.0, max_new_tokens=decoding.max_new_tokens
        )
        new = out[0, len(ids) :]
        ended = int(new[-1]) == loaded.tokenizer.eos_token_id
        text = loaded.tokenizer.decode(new, skip_special_tokens=True)
        return Answer(text, len(ids), len(new), "stop" if ended else "length")


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        spoiled = self.server.spoiled
        lines = [{"id": name, "object": "model", "owned_by": spoiled.owner} for name in spoiled.names]
        self._send(200, {"object": "list", "data": lines})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        spoiled = self.server.spoiled
        if any(text in request["messages"][-1]["content"] for text in spoiled.lost):
            self._send(500, {"error": {"message": "out of order"}})
            return
        if spoiled.fault == "rude":
            self._send(400, {"error": {"message": "maximum context length is 3 tokens"}})
            return
        self._send(200, spoiled.reply(request))

    def _send(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class _Server(LoopbackServer):
    def __init__(self, spoiled: Spoiled) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spoiled = spoiled

    def handle_error(self, *_: object) -> None:
        """A client that hung up is no fault of a test."""


@contextmanager
def serving(spoiled: Spoiled) -> Iterator[str]:
    """The server's address."""
    server = _Server(spoiled)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@cache
def _opened(run: Path) -> tuple[System, LocalModel]:
    """The winner and its model, which no server changes."""
    winner = load_winner(run / "winner")
    model = open_answerer(winner, run / "winner").model
    assert isinstance(model, LocalModel)
    return winner, model


def server_of(run: Path, fault: Fault = "", **how: Any) -> Spoiled:
    """Of the winner, from its weights."""
    winner, model = _opened(run)
    if fault == "bfloat16":
        model = LocalModel(load_local(model.loaded.folder, precision="bfloat16"), name="bfloat16")
    if fault == "rounded":
        model = LocalModel(replace(model.loaded, model=rounded(model.loaded.model)), name="rounded")
    if fault == "four bits":
        model = LocalModel(replace(model.loaded, model=in_four_bits(model.loaded.model)), name="four bits")
    return Spoiled(winner, model, fault, **how)


def rounded(model: Any, levels: int = 511) -> Any:
    """The same weights in steps, as a quantised model has them."""
    import torch

    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            step = parameter.abs().max() / levels
            parameter.copy_((parameter / step).round() * step)
    return other


def in_four_bits(model: Any, block: int = 16) -> Any:
    """The same weights between the smallest and the largest of each block in 15 steps, as one kind of quantised files has them."""
    import torch

    other = copy.deepcopy(model)
    for name, module in other.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            blocks = module.weight.data.reshape(-1, block)
            low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
            step = (high - low) / 15
            module.weight.data = (((blocks - low) / step).round() * step + low).reshape(module.weight.shape)
    return other


def verified(run: Path, spoiled: Spoiled, **question: Any) -> VerifyDocument:
    with serving(spoiled) as url:
        return verify(run, url, patience=PATIENCE, first=PATIENCE, **question)


def explaining(document: VerifyDocument) -> list[str]:
    return [one.cause for one in document.causes if one.explains]
