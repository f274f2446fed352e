"""A model that follows a script, for tests and dry runs without weights, network or torch.

Whether an answer is right is drawn from a hash of the last user turn. The draw is the same at every quality level, so a
better prompt only adds right answers, and the same in every process. The last quality level whose conditions hold counts.
If none holds, the answer is right. One call is one prompt.

A script is a JSON object. Every key is optional.

answers       {text of the last user turn: right answer}
answers_from  JSONL files (relative to the script) whose rows give `input` and `output`
rules         [{match: regex on the last user turn, answer: text with \1 …, probability: 1, otherwise: text}], first match wins
default       the right answer to everything else ("")
wrong         [texts] to answer instead of the right answer
quality       [{right: 0..1, min_shots: n, grammar: true, adapter: true, contains: regex on the whole prompt}]; adapter may be
              a regex on the settings of the adapter, too
context_tokens, delay_s (a call), seconds (reported for an answer)
faults        {fail_first: k, fail_at: [n, …], message: text}: those calls raise InfrastructureError, counted from 1
calls         a JSONL file to which every call is appended; the count continues over processes
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config

from lastresort.errors import InfrastructureError, TaskError, TooLongError
from lastresort.foreign import DOCUMENT, ROWS, read_content, read_text
from lastresort.models.protocol import (
    BYTES_PER_TOKEN,
    OnAnswer,
    Prompt,
    SharedTokens,
    estimated_prompt_tokens,
    estimated_tokens,
)
from lastresort.stop import Stop
from lastresort.types import Answer, Decoding

_Count = Annotated[int, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Seconds = Annotated[float, Field(ge=0)]
_STRICT = ConfigDict(extra="forbid", strict=True)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_Answer = Annotated[str, BeforeValidator(_as_text)]


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class ScriptRule:
    match: str
    answer: str
    probability: _Share = 1.0
    otherwise: str = ""


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class ScriptedQuality:
    """right: the share of right answers to prompts that meet every condition that is set."""

    right: _Share
    min_shots: _Count = 0
    grammar: bool = False
    adapter: bool | str = False
    contains: str = ""


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Faults:
    fail_first: _Count = 0
    fail_at: tuple[_Count, ...] = ()
    message: str = "the scripted endpoint is down"


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Script:
    answers: dict[str, _Answer] = field(default_factory=dict)
    answers_from: tuple[str, ...] = ()
    rules: tuple[ScriptRule, ...] = ()
    default: str = ""
    wrong: tuple[_Answer, ...] = ("I do not know.",)
    quality: tuple[ScriptedQuality, ...] = ()
    context_tokens: Annotated[int, Field(ge=1)] | None = None
    delay_s: _Seconds = 0.0
    seconds: _Seconds = 0.0
    faults: Faults = field(default_factory=Faults)
    calls: Path | None = None


def read_script(path: Path) -> Script:
    """Read a script and the answers of its `answers_from`. Raises TaskError if a file is missing or not valid."""
    script = _parsed(path)
    for index, rule in enumerate(script.rules):
        _check_pattern(rule.match, f"rules[{index}].match", path)
        _check_pattern(rule.match, f"rules[{index}].answer", path, replacement=rule.answer)
    for index, level in enumerate(script.quality):
        _check_pattern(level.contains, f"quality[{index}].contains", path)
        _check_pattern(str(level.adapter), f"quality[{index}].adapter", path)
    answers = dict(script.answers)
    for name in script.answers_from:
        answers |= _answers_of(path.parent / name)
    return replace(script, answers=answers, calls=path.parent / script.calls if script.calls is not None else None)


def writes_elsewhere(path: Path, script: Script | None = None) -> bool:
    """Whether a model that follows this script writes to anything but a file next to it."""
    calls = (script or _parsed(path)).calls
    if calls is None:
        return False
    target = (path.parent / calls).resolve()
    return target.parent != path.parent.resolve() or (target.exists() and not target.is_file())


@cache
def _reader() -> TypeAdapter[Script]:
    """Made once: that takes ten times as long as to read a script."""
    return TypeAdapter(Script)


def _parsed(path: Path) -> Script:
    try:
        return _reader().validate_json(read_content(path, DOCUMENT, raised=TaskError))
    except OSError as error:
        raise _unreadable(str(error), path) from error
    except ValidationError as error:
        fault = error.errors()[0]
        if fault["type"] == "json_invalid":
            raise _unreadable(fault["msg"], path) from error
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
        raise TaskError(
            f"not a script ({key}: {fault['msg']})" if key else f"not a script ({fault['msg']})",
            where=str(path),
            expected="the keys and values of models/scripted.py",
            remedy="Correct the key.",
        ) from error


def _unreadable(reason: str, path: Path) -> TaskError:
    return TaskError(
        f"not a readable script ({reason})",
        where=str(path),
        expected="a JSON object",
        remedy="Correct the file or its name.",
    )


def _check_pattern(pattern: str, key: str, path: Path, *, replacement: str = "") -> None:
    try:
        re.compile(pattern)
        re.compile(f"{pattern}|").sub(replacement, "", count=1)  # the empty branch matches, so the groups are looked up
    except (re.error, IndexError) as error:
        raise TaskError(
            f"{key} is not a regular expression, or not an answer to one ({error})",
            where=str(path),
            remedy="Correct the rule.",
        ) from error


def _answers_of(path: Path) -> dict[str, str]:
    try:
        rows = [json.loads(line) for line in read_text(path, ROWS, raised=TaskError).splitlines() if line.strip()]
        return {_as_text(row["input"]): _as_text(row["output"]) for row in rows}
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise TaskError(
            f"cannot serve as answers ({type(error).__name__}: {error})",
            where=str(path),
            expected="JSON lines with input and output",
            remedy="Correct answers_from in the script.",
        ) from error


class ScriptedModel:
    """Answers by a script. adapter: any path switches on the quality levels that ask for an adapter."""

    batch_matters = False
    rendering = rendering_fingerprint = computed_by = ""
    precision = "auto"
    score = None
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

    def shared_tokens(self, prompts: Sequence[Prompt]) -> SharedTokens:
        return SharedTokens.none(len(prompts))

    def check_decoding(self, decoding: Decoding) -> None:
        """A script answers under every decoding."""

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        """One call per prompt, in order. Raises InfrastructureError at calls that fail in the script."""
        answers: list[Answer] = []
        seen: Counter[str] = Counter()
        for index, prompt in enumerate(prompts):
            asked = next((turn.content for turn in reversed(prompt) if turn.role == "user"), "")
            self._check_room(prompt, decoding)
            self._call(prompt, decoding)
            answers.append(self._answer(prompt, asked, decoding, sample=seen[asked]))
            seen[asked] += 1
            if on_answer is not None:
                on_answer(index, answers[-1])
        return answers

    def stream(
        self, prompt: Prompt, decoding: Decoding, *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> Iterator[str]:
        """The answer word by word."""
        [answer] = self.generate([prompt], decoding)
        said = ""
        for word in re.findall(r"\s*\S+|\s+$", answer.text):
            if stop is not None and stop.requested() is not None:
                answer = replace(answer, text=said, completion_tokens=estimated_tokens(said), finish="length")
                break
            said += word
            yield word
        if on_answer is not None:
            on_answer(0, answer)

    def close(self) -> None:
        """It holds nothing."""

    def _check_room(self, prompt: Prompt, decoding: Decoding) -> None:
        room, needed = self._script.context_tokens, self.count_tokens(prompt) + decoding.max_new_tokens
        if room is not None and needed > room:
            raise TooLongError(
                f"a prompt and its answer take {needed} tokens",
                where=self.name,
                expected=f"at most the context of {room}",
                remedy="Shorten it.",
            )

    def _call(self, prompt: Prompt, decoding: Decoding) -> None:
        """Count and log one call, with a hash of its input. Raises if this call fails in the script."""
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
            raise InfrastructureError(f"{faults.message} (call {number})", where=self.name)

    def _answer(self, prompt: Prompt, asked: str, decoding: Decoding, *, sample: int) -> Answer:
        salt = f"{decoding.seed}:{sample}" if decoding.temperature > 0 else ""
        text = _right_answer(self._script, asked, salt)
        if _draw("quality" + salt, asked) >= self._share_right(prompt, decoding):
            text = self._wrong_answer(text, asked, decoding)
        limit, tokens = decoding.max_new_tokens, estimated_tokens(text)
        finish: Literal["stop", "length"] = "stop" if tokens <= limit else "length"
        if finish == "length":
            text = text.encode(errors="surrogatepass")[: BYTES_PER_TOKEN * limit].decode(errors="ignore")
            tokens = limit
        tokens_in = estimated_prompt_tokens(prompt)
        usd = (tokens_in * self._prices[0] + tokens * self._prices[1]) / 1e6
        return Answer(text, tokens_in, tokens, finish, self._script.seconds, usd, paid=usd)

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
        """One of `wrong`, or another choice, as constrained decoding can give nothing else."""
        choices = decoding.grammar.choices if decoding.grammar is not None else None
        others = [text for text in choices or self._script.wrong if text != right]
        return others[int(_hash("wrong", asked), 16) % len(others)] if others else ""


def _adapter_identity(adapter: Path | None) -> str:
    """Hash of the adapter's content, the same for a copy elsewhere. Its name if there is no such folder."""
    if adapter is None or not adapter.is_dir():
        return str(adapter or "")
    from lastresort.models.loading import folder_hash  # loads torch

    return folder_hash(adapter)


def _adapter_settings(adapter: Path | None) -> str:
    path = adapter / "adapter_config.json" if adapter is not None else None
    return read_text(path) if path is not None and path.is_file() else ""


def _right_answer(script: Script, asked: str, salt: str) -> str:
    if asked in script.answers:
        return script.answers[asked]
    for rule in script.rules:
        found = re.search(rule.match, asked)
        if found:
            return found.expand(rule.answer) if _draw(rule.match + salt, asked) < rule.probability else rule.otherwise
    return script.default


def _draw(salt: str, text: str) -> float:
    """Uniform in [0, 1), decided by the arguments alone."""
    return int(_hash(salt, text)[:13], 16) / 16**13


def _hash(salt: str, text: str) -> str:
    return hashlib.sha256(f"{salt}\n{text}".encode(errors="surrogatepass")).hexdigest()


def _lines(path: Path | None) -> int:
    return len(path.read_text(encoding="utf-8").splitlines()) if path is not None and path.exists() else 0
