"""Addresses of models, in task files and in runs that somebody shared. None is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from corpus import Case

from climb_support import scripted_task
from lastresort.systems.files import FILE, save_system
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding

ADDRESSES = {
    "https": "https://models.example/v1#m",
    "http": "http://models.example/v1#m",
    "capitals": "HTTPS://MODELS.EXAMPLE/V1#M",
    "an address of the metadata service": "http://169.254.169.254/latest/meta-data#m",
    "an IPv6 address": "https://[2001:db8::1]:8443/v1#m",
    "an IPv4 address in IPv6": "http://[::ffff:127.0.0.1]/v1#m",
    "a zone": "http://[fe80::1%25eth0]/v1#m",
    "an IPv6 address without end": "http://[::1/v1#m",
    "a number": "http://2130706433/v1#m",
    "a hexadecimal number": "http://0x7f.0.0.1/v1#m",
    "an octal number": "http://0177.0.0.1/v1#m",
    "a short number": "http://127.1/v1#m",
    "a host that begins as this machine": "https://localhost.example/v1#m",
    "a host that ends as this machine": "https://mylocalhost/v1#m",
    "a user": "https://me@models.example/v1#m",
    "a user and a password": "https://me:secret@models.example/v1#m",
    "a user that looks like a host": "https://localhost@models.example/v1#m",
    "a backslash": "https://models.example\\@localhost/v1#m",
    "two slashes too many": "https:////models.example/v1#m",
    "one slash": "https:/models.example/v1#m",
    "no slash": "https:models.example/v1#m",
    "no host": "https://#m",
    "a path alone": "https:///v1#m",
    "a port alone": "https://:443/v1#m",
    "port 0": "https://models.example:0/v1#m",
    "port 99999": "https://models.example:99999/v1#m",
    "a negative port": "https://models.example:-1/v1#m",
    "a port of letters": "https://models.example:abc/v1#m",
    "no model": "https://models.example/v1",
    "an empty model": "https://models.example/v1#",
    "two models": "https://models.example/v1#a#b",
    "a model with a path": "https://models.example/v1#../../etc/passwd",
    "a query": "https://models.example/v1?key=abc#m",
    "a long host": f"https://{'a' * 10_000}.example/v1#m",
    "a long model": f"https://models.example/v1#{'m' * 100_000}",
    "many dots": f"https://{'.' * 1000}/v1#m",
    "a dot": "https://./v1#m",
    "a star": "https://*.example/v1#m",
    "an encoded slash": "https://models.example%2f/v1#m",
    "an encoded NUL": "https://models.example%00/v1#m",
    "a NUL": "https://models.example\0/v1#m",
    "a line break": "https://models.example\n/v1#m",
    "a line break and a header": "https://models.example/v1\r\nX-Evil: 1#m",
    "a tab": "https://models.example\t/v1#m",
    "a space": "https://models example/v1#m",
    "an escape": "https://models.example/\x1b[2J\x1b]0;evil\x07v1#m",
    "a right-to-left mark": "https://models.example/\u202e1v#m",
    "letters of another script": "https://mоdels.example/v1#m",
    "wide letters": "https://ｍodels.example/v1#m",
    "a wide slash": "https://models.example\uff0fevil/v1#m",
    "an emoji": "https://😀.example/v1#m",
    "an empty label": "https://models..example/v1#m",
    "a sharp s": "https://straße.example/v1#m",
    "openai without a name": "openai:",
    "openai with spaces": "openai:a b",
    "openai with a line break": "openai:a\nb",
    "openai with a path": "openai:../../v1/files",
    "openai with a long name": f"openai:{'m' * 100_000}",
}  # fmt: skip
OTHER_SCHEMES = {
    f"the scheme {scheme.partition(':')[0]}": f"{scheme}models.example/v1#m"
    for scheme in ("ftp://", "file://", "ws://", "gopher://", "unix://", "javascript:", "data:", "//", "httpss://")
}
EVERY = ADDRESSES | OTHER_SCHEMES


def in_a_task(**keys: Any) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        path = scripted_task(folder, quality=[{"right": 0.97}])
        body = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump(body | keys, allow_unicode=True), encoding="utf-8")
        return ["climb", "task.yaml", "--dry-run"]

    return make


def in_a_run(address: str, **more: Any) -> Callable[[Path], list[str]]:
    """What is said to it would be sent there."""

    def make(folder: Path) -> list[str]:
        save_system(System("zero-shot", "embedded", PromptDesign("Be brief."), Decoding(8)), folder / "run")
        path = folder / "run" / FILE
        body = yaml.safe_load(path.read_text()) | {"model": address} | more
        path.write_text(json.dumps(body), encoding="utf-8")
        return ["chat", "run", "--once", "hello"]

    return make


CASES: dict[str, Case] = {
    **{f"a task on {name}": Case(in_a_task(model=address), "either") for name, address in EVERY.items()},
    **{f"a judge on {name}": Case(in_a_task(score={"judge": address}), "either") for name, address in EVERY.items()},
    **{f"a run on {name}": Case(in_a_run(address)) for name, address in EVERY.items()},
    **{
        f"a run on an endpoint with {key}": Case(in_a_run(ADDRESSES["https"], **{key: value}))
        for key, value in {
            "adapter": "adapter", "chat_template_kwargs": {"enable_thinking": False}, "fingerprint": "0" * 64, "rendering": "x",
            "precision": "evil",
        }.items()
    },
}  # fmt: skip
