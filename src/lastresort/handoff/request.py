"""What a client must send so that a server answers as it was measured, as a ready request in JSON, Python and curl.

The turns around the input, the decoding and the output's form. A server that does not keep to the form gets none: a request that
is ignored looks like one that is kept.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pprint import pformat
from typing import Any

from lastresort.handoff import HandoffTarget
from lastresort.handoff.source import Winner
from lastresort.models.api.requests import RequestBuilder, response_format, split_parameters
from lastresort.models.endpoint import Endpoint
from lastresort.systems.compose import ANSWER_MARK, compose
from lastresort.types import Grammar, JsonObject, Message

INPUT = "Write your input here."
REQUEST, CLIENT, CURL = "request.json", "client.py", "request.sh"
PROXY_MODEL = "winner"  # what `lastresort serve` calls whatever it serves, and the only name that it takes
# llguidance reads this key, and other libraries pass over it: one line, at most one space after a comma and a colon.
SPACING: JsonObject = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
_REGEX_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$])")


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """body: the request of INPUT. before: its turns up to the last, which is `prefix`, the input and `suffix`. steps: lines of
    Python that make the answer of the reply's `text`.
    """

    body: JsonObject
    before: tuple[JsonObject, ...]
    prefix: str
    suffix: str
    steps: tuple[str, ...] = ()


def constant_request(winner: Winner, target: HandoffTarget, model: str) -> ClientRequest:
    """The request of a winner with a constant prompt. model: what the server calls it."""
    turns = constant_turns(winner)
    system, decoding = winner.system, winner.system.decoding
    endpoint = winner.endpoint or Endpoint(f"http://127.0.0.1:{target.port}/v1", model, "")
    kwargs = dict(system.template_kwargs) if winner.endpoint is not None else {}  # else the template holds them
    builder = RequestBuilder(endpoint, name=model, template_kwargs=kwargs, timeout_s=0)
    built = builder.build(turns, replace(decoding, grammar=None), decoding.seed)
    extra = built.pop("extra_body", {})
    built.pop("timeout", None)
    body: JsonObject = {**built, **dict(target.neutral), **extra, "model": model}
    body |= _form(decoding.grammar, target, measured_there=winner.endpoint is not None)
    for key in target.refuses:  # it is part of the generation settings in the model's folder
        body.pop(key, None)
    prefix, _, suffix = turns[-1].content.rpartition(INPUT)
    before = tuple(turn.as_dict() for turn in turns[:-1])
    return ClientRequest(body, before, prefix, suffix, _steps(winner, target))


def constant_turns(winner: Winner) -> tuple[Message, ...]:
    """The turns of the request with INPUT, as the model's template takes them."""
    design = winner.system.prompt
    turns = compose(design, (Message("user", INPUT),), design.shots[: design.k])
    return turns if winner.weights is None else winner.weights.accepted(turns)


def proxied_request() -> ClientRequest:
    """The request to `lastresort serve`, which composes the prompt and knows the decoding itself."""
    return ClientRequest({"model": PROXY_MODEL, "messages": [{"role": "user", "content": INPUT}]}, (), "", "")


def _form(grammar: Grammar | None, target: HandoffTarget, *, measured_there: bool) -> JsonObject:
    """The keys that limit the answer's form. measured_there: an endpoint was measured with response_format itself."""
    if grammar is None:
        return {}
    if measured_there:
        return {"response_format": response_format(grammar)}
    if grammar.choices is not None:
        return _choices(grammar.choices, target)
    if target.schema == "ignores":
        return {}
    schema = {**(grammar.json_schema or {}), "x-guidance": SPACING} if target.spacing else grammar.json_schema
    return {"response_format": response_format(Grammar(json_schema=schema))}


def _choices(choices: tuple[str, ...], target: HandoffTarget) -> JsonObject:
    match target.choices:
        case "structured_outputs":
            return {"structured_outputs": {"choice": list(choices)}}
        case "regex":
            return {"regex": f"({'|'.join(map(_regex, choices))})"}
        case "grammar":
            return {"grammar": f"root ::= {' | '.join(map(_gbnf, choices))}"}
        case None:
            return {}


def _regex(text: str) -> str:
    return _REGEX_SPECIAL.sub(r"\\\1", text)


def _gbnf(text: str) -> str:
    """A literal of llama.cpp's grammars."""
    escaped = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return f'"{"".join(escaped.get(letter, letter) for letter in text)}"'


def _steps(winner: Winner, target: HandoffTarget) -> tuple[str, ...]:
    steps = []
    decoding = winner.system.decoding
    if decoding.stop and target.keeps_stop:
        steps.append(
            f"text = min((text.split(end)[0] for end in {decoding.stop!r}), key=len)  # it keeps the stop string"
        )
    if winner.endpoint is not None and decoding.grammar is not None and decoding.grammar.choices is not None:
        steps.append('text = json.loads(text)["answer"]')
    if winner.system.prompt.reasoning:
        steps.append(f"text = re.split({ANSWER_MARK.pattern!r}, text, flags=re.IGNORECASE)[-1]")
    return tuple(steps)


def request_files(request: ClientRequest, url: str, title: str) -> dict[str, str]:
    """The request as files. url: the default address."""
    return {
        REQUEST: json.dumps(request.body, ensure_ascii=False, indent=1) + "\n",
        CLIENT: _client(request, url, title),
        CURL: _curl(url),
    }


_CLIENT = '''"""Asks {title} as it was measured: python client.py "your input". Needs the package openai."""

{imports}

from openai import OpenAI

URL = os.environ.get("BASE_URL", {url!r})
BEFORE = {before}
PREFIX, SUFFIX = {prefix!r}, {suffix!r}
SETTINGS = {settings}


def ask(text: str) -> str:
    client = OpenAI(base_url=URL, api_key=os.environ.get("API_KEY", "none"))
    turns = [*BEFORE, {{"role": "user", "content": PREFIX + text + SUFFIX}}]
    reply = client.chat.completions.create(messages=turns, **SETTINGS)
    text = reply.choices[0].message.content or ""
{steps}    return text.strip()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit('usage: python client.py "your input"')
    print(ask(sys.argv[1]))
'''


def _client(request: ClientRequest, url: str, title: str) -> str:
    model = {"model": request.body["model"]}
    own, extra = split_parameters(
        {key: value for key, value in request.body.items() if key not in ("model", "messages")}
    )
    steps = "".join(f"    {step}\n" for step in request.steps)
    used = [name for name in ("json", "re") if f" {name}." in steps]
    return _CLIENT.format(
        title=title,
        imports="\n".join(f"import {name}" for name in sorted(["os", "sys", *used])),
        url=url,
        before=_python(list(request.before)),
        prefix=request.prefix,
        suffix=request.suffix,
        settings=_python(model | own | ({"extra_body": extra} if extra else {})),
        steps=steps,
    )


def _python(value: Any) -> str:
    return pformat(value, width=110, sort_dicts=False)


def _curl(url: str) -> str:
    return f"""#!/bin/sh
# Sends {REQUEST} as it is. Write your input into its last turn first.
[ $# -eq 0 ] || {{ echo "usage: write your input into {REQUEST}, then run: sh {CURL}" >&2; exit 2; }}
cd "$(dirname "$0")" || exit 1
exec curl --silent --show-error --fail-with-body "${{BASE_URL:-{url}}}/chat/completions" \\
  --header "Content-Type: application/json" --header "Authorization: Bearer ${{API_KEY:-none}}" \\
  --data-binary @{REQUEST}
"""
