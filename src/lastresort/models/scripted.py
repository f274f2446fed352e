"""A model that follows a script: for tests and dry runs, without weights, network or torch.

The script is described in models/script.py. A call is one prompt asked. Of the quality levels whose conditions hold the
last one counts; without any the answer is right. Whether an item is answered rightly is a draw from the hash of its last
user turn: the same at every level, so that a better prompt only ever adds right answers, and the same in every process.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from lastresort.errors import CandidateError, InfrastructureError
from lastresort.models.estimate import BYTES_PER_TOKEN, estimated_prompt_tokens, estimated_tokens
from lastresort.models.protocol import OnAnswer, Prompt
from lastresort.models.script import Script
from lastresort.models.weights import folder_hash
from lastresort.types import Answer, Decoding


class ScriptedModel:
    """Answers by a script. adapter: whatever is given here switches on the quality levels that ask for an adapter."""

    batch_matters = False
    rendering = ""
    batch_size = 16

    def __init__(
        self,
        script: Script,
        *,
        name: str = "scripted",
        adapter: Path | None = None,
        prompt_price: float = 0.0,
        output_price: float = 0.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.name, self._script, self._adapter = name, script, adapter
        self._prices, self._sleep = (prompt_price, output_price), sleep
        self._settings = _adapter_settings(adapter)
        self._lock = threading.Lock()
        self.calls = _lines(script.calls)
        what = [script.answers, script.rules, script.default, script.wrong, script.quality, _adapter_identity(adapter)]
        self.fingerprint = hashlib.sha256(repr(what).encode()).hexdigest()

    @property
    def context_tokens(self) -> int | None:
        return self._script.context_tokens

    def count_tokens(self, prompt: Prompt) -> int:
        return estimated_prompt_tokens(prompt)

    def check_decoding(self, decoding: Decoding) -> None:
        """A script answers under every decoding."""

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        """One call a prompt, in order. Raises InfrastructureError at the calls that the script lets fail."""
        answers: list[Answer] = []
        seen: Counter[str] = Counter()
        for index, prompt in enumerate(prompts):
            asked = _last_user_text(prompt)
            self._check_room(prompt, decoding)
            self._call(prompt, decoding)
            answers.append(self._answer(prompt, asked, decoding, sample=seen[asked]))
            seen[asked] += 1
            if on_answer is not None:
                on_answer(index, answers[-1])
        return answers

    def _check_room(self, prompt: Prompt, decoding: Decoding) -> None:
        room, needed = self._script.context_tokens, self.count_tokens(prompt) + decoding.max_new_tokens
        if room is not None and needed > room:
            raise CandidateError(
                f"a prompt and its answer take {needed} tokens",
                where=self.name,
                expected=f"at most the context of {room}",
                remedy="Shorten it.",
            )

    def _call(self, prompt: Prompt, decoding: Decoding) -> None:
        """Count and log one call, with a hash of all that was asked; raise if it is one that fails."""
        with self._lock:
            self.calls += 1
            number, faults = self.calls, self._script.faults
            fails = number <= faults.fail_first or number in faults.fail_at
            if self._script.calls is not None:
                row = {"call": number, "key": _hash(repr(decoding), repr(prompt)), "failed": fails}
                with self._script.calls.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(row) + "\n")
        if self._script.delay_s:
            self._sleep(self._script.delay_s)
        if fails:
            raise InfrastructureError(
                f"{faults.message} (call {number})", where=self.name, remedy="Run again with --resume."
            )

    def _answer(self, prompt: Prompt, asked: str, decoding: Decoding, *, sample: int) -> Answer:
        salt = f"{decoding.seed}:{sample}" if decoding.temperature > 0 else ""
        text = _right_answer(self._script, asked, salt)
        if _draw("quality" + salt, asked) >= self._share_right(prompt, decoding):
            text = self._wrong_answer(text, asked, decoding)
        limit = decoding.max_new_tokens
        tokens, finish = estimated_tokens(text), "stop"
        if tokens > limit:
            text, tokens, finish = (
                text.encode(errors="surrogatepass")[: BYTES_PER_TOKEN * limit].decode(errors="ignore"),
                limit,
                "length",
            )
        tokens_in = estimated_prompt_tokens(prompt)
        usd = (tokens_in * self._prices[0] + tokens * self._prices[1]) / 1e6
        ended: Literal["stop", "length"] = "stop" if finish == "stop" else "length"
        return Answer(text, tokens_in, tokens, ended, self._script.seconds, usd, paid=usd)

    def _share_right(self, prompt: Prompt, decoding: Decoding) -> float:
        shots = sum(message.role == "assistant" for message in prompt)
        whole = "\n".join(message.content for message in prompt)
        share = 1.0
        for level in self._script.quality:
            if (
                shots >= level.min_shots
                and (decoding.grammar is not None or not level.grammar)
                and self._has(level.adapter)
                and re.search(level.contains, whole)
            ):
                share = level.right
        return share

    def _has(self, adapter: bool | str) -> bool:
        if not adapter:
            return True
        return self._adapter is not None and (adapter is True or re.search(str(adapter), self._settings) is not None)

    def _wrong_answer(self, right: str, asked: str, decoding: Decoding) -> str:
        """One of `wrong`; under choices one of the others, as constrained decoding could not say anything else."""
        choices = decoding.grammar.choices if decoding.grammar is not None else None
        others = [text for text in choices or self._script.wrong if text != right]
        return others[int(_hash("wrong", asked), 16) % len(others)] if others else ""


def _adapter_identity(adapter: Path | None) -> str:
    """What the adapter holds, so that a copy of it elsewhere is the same; its name where there is no such folder."""
    return folder_hash(adapter) if adapter is not None and adapter.is_dir() else str(adapter or "")


def _adapter_settings(adapter: Path | None) -> str:
    path = adapter / "adapter_config.json" if adapter is not None else None
    return path.read_text(encoding="utf-8") if path is not None and path.is_file() else ""


def _right_answer(script: Script, asked: str, salt: str) -> str:
    if asked in script.answers:
        return script.answers[asked]
    for rule in script.rules:
        found = re.search(rule.match, asked)
        if found:
            return found.expand(rule.answer) if _draw(rule.match + salt, asked) < rule.probability else rule.otherwise
    return script.default


def _last_user_text(prompt: Prompt) -> str:
    return next((message.content for message in reversed(prompt) if message.role == "user"), "")


def _draw(salt: str, text: str) -> float:
    """Uniform in [0, 1), decided by the arguments alone."""
    return int(_hash(salt, text)[:13], 16) / 16**13


def _hash(salt: str, text: str) -> str:
    return hashlib.sha256(f"{salt}\n{text}".encode(errors="surrogatepass")).hexdigest()


def _lines(path: Path | None) -> int:
    return len(path.read_text(encoding="utf-8").splitlines()) if path is not None and path.exists() else 0
