"""The environment of a process that is started for a person: what it gets of ours, and where it writes what nobody needs later."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lastresort.keys import CODE_NEEDS, KEYS, PASSED, Host, keys_by_host, passed_names

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
CACHES = (  # of libraries
    "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "NUMBA_CACHE_DIR",
    "HF_MODULES_CACHE", "HF_DATASETS_CACHE",
)  # fmt: skip


def environment(own: Mapping[str, str], reaches: Iterable[str] = ()) -> dict[str, str]:
    """What a process gets of the environment of the one that starts it: what it needs to compute, the keys of what it reaches, and
    what LASTRESORT_PASS_ENV names.

    reaches: endpoints and trackers, by name. Raises TaskError for a name that is neither, InputError where LASTRESORT_API_KEYS
    cannot be read.
    """
    from lastresort.models.endpoint import parse_endpoint
    from lastresort.spec.training import TRACKERS

    passed_keys, hosts, trackers = set(passed_names(own)), list[Host](), list[str]()
    for name in reaches:
        if name in TRACKERS:
            trackers.append(f"{name.upper()}_")
            continue
        endpoint = parse_endpoint(name)
        hosts.append(endpoint.host)
        passed_keys |= {endpoint.key_name, *(_OF_OPENAI if endpoint.is_openai else ())}
    variables = {k: v for k, v in own.items() if k in passed_keys or k.startswith(tuple(trackers)) or _is_needed(k)}
    keys = (
        [(of, key) for of, key in keys_by_host(own).items() if any(of.covers(host) for host in hosts)] if hosts else []
    )
    return {**variables, **({KEYS: ",".join(f"{of}={key}" for of, key in keys)} if keys else {})}


def _is_needed(name: str) -> bool:
    return name.upper() in _NEEDED or (name.startswith(_PREFIXES) and not _SECRET.search(name))


def places_of(own: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables by which a job writes what nobody needs later into a folder of its own.

    It lies where temporary files do, and not below the run: sockets are made there, whose paths have at most 103 bytes. What is
    costly to get again stays shared on purpose: the models of the hub, and in lastresort's own cache converted models, hashes,
    speeds of this machine and the answers of base models. Those are keyed by all that decides them and written whole, as are the
    responses that the runs of a workspace share: two jobs can use them at once, and a climb that is repeated pays for no call
    twice.
    """
    from lastresort.embedded import cache_folder

    caches = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    shared = {"LASTRESORT_CACHE": cache_folder(), "HF_HOME": environment.get("HF_HOME") or caches / "huggingface"}
    moved = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), own) | {"XDG_CACHE_HOME": own / "cache"}
    # Whoever names one of these keeps it.
    moved |= {name: own / "cache" / name.lower() for name in CACHES if name not in environment}
    return {name: str(path) for name, path in (shared | moved).items()}
