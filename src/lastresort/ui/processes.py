"""Processes of lastresort that the page starts: what each gets of its environment, where its words go, and with what it ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, BinaryIO, Literal

from lastresort.errors import InputError
from lastresort.keys import CODE_NEEDS, KEYS, PASSED, Host, keys_by_host, passed_names
from lastresort.models.endpoint import parse_endpoint
from lastresort.records.document import JsonDocument
from lastresort.spec.training import TRACKERS


class PrintedError(JsonDocument):
    """What `app.terminal.print_error` gives a page."""

    error: str


_SECRET = re.compile(
    r"secret|password|passwd|passphrase|credential|tokens?(?![a-z])|(?<![a-z])(api)?(auth|keys?|pass|pat|pwd)(?![a-z])",
    re.IGNORECASE,
)
_PREFIXES = tuple(
    "LC_ LASTRESORT_ PYTHON HF_ HUGGINGFACE_ TRANSFORMERS_ TOKENIZERS_ TORCH PYTORCH_ CUDA_ NVIDIA_ NCCL_ TRITON_ ROCM_ ROCR_ HIP_ "
    "HSA_ OMP_ GOMP_ KMP_ MKL_ OPENBLAS_ LD_ DYLD_ XDG_ CONDA_ BNB_ CUBLAS_ CUDNN_ ACCELERATE_ RAYON_ VECLIB_ NUMEXPR_ "
    "NUMBA_".split()
)
_NEEDED = CODE_NEEDS | frozenset(
    # to load a base model through a proxy, also one that is not open to all, and to compile for a card
    "HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY CURL_CA_BUNDLE HF_TOKEN HF_TOKEN_PATH HUGGING_FACE_HUB_TOKEN "
    "CC CXX CPATH LIBRARY_PATH NETRC".split()
) | {PASSED}  # fmt: skip
_OF_OPENAI = {"OPENAI_ORG_ID", "OPENAI_PROJECT_ID"}
_NO_LINK = os.O_NOFOLLOW if os.name == "posix" else 0
# Ends when its standard input does, so with the page however that ends, and gives what it starts none of it.
BOUND = """
import os, signal, sys, threading
page = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
def watch():
    os.read(page, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
from lastresort.cli.main import run
run()
"""


def start_process(
    arguments: Sequence[str],
    *,
    folder: Path,
    out: IO[bytes] | int,
    faults: IO[bytes] | int,
    bound: bool,
    reaches: Sequence[str] = (),
    more: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `lastresort` with these arguments in this folder.

    bound: whether it ends with the page, whose standard input it never reads. reaches: what keys it gets, see
    `environment`. more: variables of its own.
    """
    return subprocess.Popen(
        # -P: the folder may be somebody else's, and no module of it is ours
        [sys.executable, "-P", *(("-c", BOUND) if bound else ("-m", "lastresort")), *arguments],
        cwd=folder,
        env={**environment(os.environ, reaches), **(more or {})},
        stdin=subprocess.PIPE if bound else subprocess.DEVNULL,
        stdout=out,
        stderr=faults,
        start_new_session=True,
    )


def environment(own: Mapping[str, str], reaches: Iterable[str] = ()) -> dict[str, str]:
    """What a process gets of the page's own environment: what it needs to compute, the keys of what it reaches, and what
    LASTRESORT_PASS_ENV names.

    reaches: endpoints and trackers, by name. Raises TaskError for a name that is neither, InputError where LASTRESORT_API_KEYS
    cannot be read.
    """
    passed, hosts, trackers = set(passed_names(own)), list[Host](), list[str]()
    for name in reaches:
        if name in TRACKERS:
            trackers.append(f"{name.upper()}_")
            continue
        endpoint = parse_endpoint(name)
        hosts.append(endpoint.host)
        passed |= {endpoint.key_name, *(_OF_OPENAI if endpoint.is_openai else ())}
    found = {k: v for k, v in own.items() if k in passed or k.startswith(tuple(trackers)) or _is_needed(k)}
    keys = (
        [(of, key) for of, key in keys_by_host(own).items() if any(of.covers(host) for host in hosts)] if hosts else []
    )
    return {**found, **({KEYS: ",".join(f"{of}={key}" for of, key in keys)} if keys else {})}


def _is_needed(name: str) -> bool:
    return name.upper() in _NEEDED or (name.startswith(_PREFIXES) and not _SECRET.search(name))


def link_to(log: Path) -> Path | None:
    """A link that stands in the way of a log: a workspace may be somebody else's."""
    return next((one for one in (*reversed(log.parents[:3]), log) if one.is_symlink()), None)  # runs, .lastresort, jobs


def open_log(path: Path, mode: Literal["ab", "wb"]) -> BinaryIO:
    """A log to write. Raises InputError where a link stands in its way."""
    link = link_to(path)
    if link is not None:
        raise InputError("found a link", where=str(link), expected="what lastresort made", remedy="Remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    how = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if mode == "ab" else os.O_TRUNC)
    try:
        return os.fdopen(os.open(path, how | _NO_LINK, 0o600), mode)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", where=str(path)) from error
