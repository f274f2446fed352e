"""What other servers need to serve a winner: a new server is a function in a file here, and one row of this table."""

from dataclasses import dataclass, replace
from typing import Literal

from lastresort.errors import InputError

PROXY_PORT = 8100


@dataclass(frozen=True, slots=True)
class HandoffTarget:
    """title: what the server calls itself. path: `module:function`, called with a `Handover`, which returns its launch.

    port: where it listens. weights: the form in which it reads a model: "named folder", where a client asks for it by that name, or
    "none" for a gateway. adapters: which it can serve next to their base, "plain" being those of one rank and scaling. schema: what
    it does with a JSON schema in response_format. choices: the request's own key that limits an answer to a list of texts, None
    where there is none. spacing: whether the schema can also fix the white space, as it was measured. refuses: keys of a request.
    neutral: keys of a request whose defaults there would change the answers. owned_by: what its list of models says of their owner,
    where that is how such a server is known.
    keeps_stop: whether a stop string stays in the answer. image: for a compose file, "" where there is none. image_checked: whether
    its tag stays with the version whose arguments and requests were checked; else it moves with each release.
    """

    title: str
    path: str
    port: int
    weights: Literal["folder", "named folder", "gguf", "none"]
    adapters: Literal["any", "plain", "none"]
    schema: Literal["enforces", "ignores", "passes on"]
    choices: Literal["structured_outputs", "regex", "grammar"] | None
    spacing: bool = False
    refuses: tuple[str, ...] = ()
    neutral: tuple[tuple[str, float], ...] = ()
    owned_by: tuple[str, ...] = ()
    keeps_stop: bool = False
    image: str = ""
    image_checked: bool = False


TARGETS: dict[str, HandoffTarget] = {
    "vllm": HandoffTarget(
        "vLLM", "lastresort.handoff.servers:vllm", 8000, "folder", "any", "enforces", "structured_outputs", spacing=True,
        image="vllm/vllm-openai:v0.33.0", image_checked=True,
    ),
    "sglang": HandoffTarget(
        "SGLang", "lastresort.handoff.servers:sglang", 30000, "folder", "plain", "enforces", "regex", spacing=True,
        image="lmsysorg/sglang:v0.5.23", image_checked=True,
    ),
    "llamacpp": HandoffTarget(
        "llama.cpp", "lastresort.handoff.servers:llamacpp", 8080, "gguf", "none", "enforces", "grammar",
        neutral=(("repeat_penalty", 1), ("top_k", 0), ("min_p", 0)),  # llama-cpp-python's server repeats at 1.1 by default
        owned_by=("llamacpp", "me"),  # its own server, and llama-cpp-python's
        image="ghcr.io/ggml-org/llama.cpp:server",
    ),
    "ollama": HandoffTarget(
        "Ollama", "lastresort.handoff.servers:ollama", 11434, "gguf", "none", "enforces", None, image="ollama/ollama:latest"
    ),
    "litellm": HandoffTarget(
        "LiteLLM", "lastresort.handoff.servers:litellm", 4000, "none", "none", "passes on", None,
        image="ghcr.io/berriai/litellm:main-stable",
    ),
    "transformers": HandoffTarget(
        "transformers serve", "lastresort.handoff.servers:transformers", 8000, "named folder", "none", "ignores", None,
        refuses=("top_k",), keeps_stop=True,
    ),
}  # fmt: skip


def known_target(to: str | None) -> str:
    """The name of a server. Raises InputError where it is missing, or none of the table."""
    from lastresort.spec.values import one_of

    readers = [name for name, target in TARGETS.items() if target.weights == "gguf"]
    return one_of("--to", to, tuple(TARGETS), {"gguf": f"For a GGUF, name {' or '.join(readers)}."})


def target_of(to: str, port: int | None = None) -> HandoffTarget:
    """The server of this name, listening at `port` if one is given. Raises InputError where it cannot be."""
    target = TARGETS[known_target(to)]
    if port is None:
        return target
    if not 1 <= port <= 65535 or port == PROXY_PORT:
        expected = f"a number from 1 to 65535, and not {PROXY_PORT}, which is the proxy's"
        raise InputError(f"found {port}", where="--port", expected=expected, remedy="Choose another.")
    return replace(target, port=port)
