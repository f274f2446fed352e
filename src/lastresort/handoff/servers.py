"""How each server is started, with the flags that keep the model's own settings out; start.sh and docker-compose.yaml of it.

vLLM and SGLang load base and adapter or merged weights, llama.cpp and Ollama one GGUF in the precision that the run computed in,
transformers serve merged weights in a folder that is named as the model. LiteLLM is a gateway in front of the endpoint that was
measured, or of a server that another hand-over starts.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lastresort.data.chat_template import ChatTemplate
from lastresort.errors import InputError
from lastresort.handoff import TARGETS, HandoffTarget
from lastresort.handoff.source import Winner
from lastresort.handoff.weights import RANKS, TEMPLATE
from lastresort.keys import KEY
from lastresort.systems.files import as_yaml
from lastresort.train.adapters.gguf import modelfile
from lastresort.types import JsonObject

START, COMPOSE = "start.sh", "docker-compose.yaml"
MODEL, ADAPTER = "model", "adapter"


@dataclass(frozen=True, slots=True)
class Handover:
    """What a server's file is called with. name: that the model is served under. context_tokens: that prompt and answer get; 0
    where the model does not say. rank: of the adapter that is served next to its base, None where there is none.
    gguf: name of the file, "" where there is none.
    """

    winner: Winner
    target: HandoffTarget
    name: str
    folder: Path
    context_tokens: int = 0
    rank: int | None = None
    gguf: str = ""

    @property
    def dtype(self) -> str:
        return self.winner.weights.dtype if self.winner.weights is not None else "auto"


@dataclass(frozen=True, slots=True)
class Launch:
    """commands: what start.sh runs in the folder, the last in its place. model: what a client asks for. needs: how it is installed.

    texts: further files. lines: of start.sh, before the commands. entrypoint, arguments: of the image, in the folder. gpu: whether
    it wants one. environment: of the container.
    """

    commands: tuple[tuple[str, ...], ...]
    model: str
    needs: str
    texts: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    gpu: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def launch_files(launch: Launch, target: HandoffTarget) -> dict[str, str]:
    files = {START: start_script(launch, target), **launch.texts}
    if target.image:
        files[COMPOSE] = _compose(launch, target)
    return files


def start_script(launch: Launch, target: HandoffTarget) -> str:
    *first, last = [wrapped(command) for command in launch.commands]
    lines = [
        "#!/bin/sh",
        f"# Serves {launch.model} with {target.title} on http://127.0.0.1:{target.port}/v1.",
        'cd "$(dirname "$0")" || exit 1',
        *launch.lines,
        *(f"{command} || exit 1" for command in first),
        f"exec {last}",
    ]
    return "\n".join(lines) + "\n"


def wrapped(command: Sequence[str]) -> str:
    """One option a line."""
    lines = [""]
    for word in command:
        if word.startswith("--") and lines[-1].strip():
            lines.append("")
        lines[-1] += f" {shlex.quote(word)}"
    return " \\\n ".join(line.strip() if number == 0 else line for number, line in enumerate(lines))


def _compose(launch: Launch, target: HandoffTarget) -> str:
    service: JsonObject = {
        "image": target.image,
        **({"entrypoint": [_literal(word) for word in launch.entrypoint]} if launch.entrypoint else {}),
        "command": [_literal(word) for word in launch.arguments],
        "working_dir": "/handoff",
        "volumes": ["./:/handoff:ro"],
        "ports": [f"127.0.0.1:{target.port}:{target.port}"],
    }
    if launch.environment:
        service["environment"] = dict(launch.environment)
        service["extra_hosts"] = ["host.docker.internal:host-gateway"]
    if launch.gpu:
        service["ipc"] = "host"
        device: JsonObject = {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    return f"# {_CHECKED if target.image_checked else _MOVES}\n{as_yaml({'services': {'server': service}})}"


_CHECKED = (
    "The image is of the version whose arguments and requests were checked. Check another with `lastresort verify`."
)
_MOVES = "The tag of the image moves with each release. Name the one that you checked with `lastresort verify`."


def _literal(word: str) -> str:
    """Compose puts variables in place of what follows a dollar sign."""
    return word.replace("$", "$$")


MODELFILE = "Modelfile"
GGML_F32 = "0"  # as llama.cpp numbers its types
CONFIG, UPSTREAM, MASTER = "config.yaml", "UPSTREAM_URL", "LITELLM_MASTER_KEY"


def vllm(job: Handover) -> Launch:
    base = f"{job.name}-base"
    flags = ["--chat-template", f"{MODEL}/{TEMPLATE}", "--generation-config", "vllm", "--dtype", job.dtype]
    if job.rank is None:
        flags += ["--served-model-name", job.name]
    else:
        flags += [
            "--enable-lora",
            "--lora-modules",
            f"{job.name}={ADAPTER}",
            "--max-lora-rank",
            str(_allowed(job.rank)),
        ]
        flags += ["--served-model-name", base]
    if job.winner.system.decoding.grammar is not None:
        flags += ["--structured-outputs-config", json.dumps({"backend": "guidance"})]
    address = ["--port", str(job.target.port)]
    return Launch(
        commands=(("vllm", "serve", MODEL, *flags, "--host", "127.0.0.1", *address),),
        model=job.name,
        needs="needs `pip install vllm`",
        entrypoint=("vllm", "serve"),
        arguments=(MODEL, *flags, "--host", "0.0.0.0", *address),
        gpu=True,
    )


def _allowed(rank: int) -> int:
    allowed = next((known for known in RANKS if known >= rank), None)
    if allowed is None:
        raise InputError(
            f"the adapter has rank {rank}",
            where="vLLM",
            expected=f"at most {RANKS[-1]}",
            remedy="Add --merged, which writes base and adapter as one model.",
        )
    return allowed


def sglang(job: Handover) -> Launch:
    """It takes the template from the model's folder. An adapter is asked for as BASE:NAME."""
    served = job.name if job.rank is None else f"{job.name}-base"
    flags = [
        "--model-path",
        MODEL,
        "--served-model-name",
        served,
        "--sampling-defaults",
        "openai",
        "--dtype",
        job.dtype,
    ]
    if job.rank is not None:
        flags += ["--enable-lora", "--lora-paths", f"{job.name}={ADAPTER}", "--max-lora-rank", str(job.rank)]
    if job.winner.system.decoding.grammar is not None:
        flags += ["--grammar-backend", "llguidance"]
    address = ["--port", str(job.target.port)]
    module = ("python3", "-m", "sglang.launch_server")
    return Launch(
        commands=((*module, *flags, "--host", "127.0.0.1", *address),),
        model=job.name if job.rank is None else f"{served}:{job.name}",
        needs="needs `pip install sglang`",
        entrypoint=module,
        arguments=(*flags, "--host", "0.0.0.0", *address),
        gpu=True,
    )


def llamacpp(job: Handover) -> Launch:
    decoding, weights = job.winner.system.decoding, job.winner.weights
    assert weights is not None
    sampling = {
        "--temp": f"{decoding.temperature:g}",
        "--top-k": str(decoding.top_k),
        "--top-p": f"{decoding.top_p:g}",
        "--min-p": "0",
        "--repeat-penalty": "1",
    }
    flags = ["--model", job.gguf, "--alias", job.name, "--jinja", "--chat-template-file", TEMPLATE]
    flags += ["--ctx-size", str(job.context_tokens)]
    if job.dtype == "float32":  # keys and values in 16 bits, the default, move the logits by a hundredth
        flags += ["--cache-type-k", "f32", "--cache-type-v", "f32"]
    flags += [word for pair in sampling.items() for word in pair]
    port = ("--port", str(job.target.port))
    here = ("--host", "127.0.0.1", *port)
    return Launch(
        commands=(("llama-server", *flags, *here),),
        model=job.name,
        needs='needs llama-server, a part of llama.cpp, or `pip install "llama-cpp-python[server]"`',
        lines=(f"command -v llama-server > /dev/null || exec {wrapped(_llama_cpp_python(job, here))}",),
        texts={TEMPLATE: weights.template},
        arguments=(*flags, "--host", "0.0.0.0", *port),
    )


def _llama_cpp_python(job: Handover, here: tuple[str, ...]) -> list[str]:
    """llama.cpp by its Python package. The template is that of the GGUF, and requests carry the sampling."""
    words = ["python3", "-m", "llama_cpp.server", "--model", job.gguf, "--model_alias", job.name]
    words += ["--n_ctx", str(job.context_tokens)]
    if job.dtype == "float32":
        words += ["--type_k", GGML_F32, "--type_v", GGML_F32]
    return [*words, *here]


def ollama(job: Handover) -> Launch:
    decoding, weights = job.winner.system.decoding, job.winner.weights
    assert weights is not None
    parameters = [
        f"temperature {decoding.temperature:g}",
        f"top_k {decoding.top_k}",
        f"top_p {decoding.top_p:g}",
        "min_p 0",
        "repeat_penalty 1",
        f"num_ctx {job.context_tokens}",
    ]
    text = modelfile(job.gguf, weights.tokenizer, ChatTemplate("model", weights.template), parameters)
    create = ("ollama", "create", job.name, "-f", MODELFILE)
    usual, port = TARGETS["ollama"].port, job.target.port
    listening = "" if port == usual else f"OLLAMA_HOST=127.0.0.1:{port}"
    served = f"ollama serve & until ollama list; do sleep 1; done; {' '.join(create)} && wait"
    return Launch(
        commands=(create, ("ollama", "show", job.name)),
        model=job.name,
        needs=f"while `{f'{listening} ollama serve'.strip()}` runs",
        texts={MODELFILE: text},
        lines=(f"export {listening}",) if listening else (),
        entrypoint=("/bin/sh", "-c"),
        arguments=(served,),
        environment={"OLLAMA_HOST": f"0.0.0.0:{port}"} if listening else {},
        notes=() if "TEMPLATE" in text else (_GUESSED,),
    )


_GUESSED = (
    "Ollama renders with a template in Go. None was written, since none that is known here gives the same text as the model's own: "
    "Ollama chooses one by itself, and `lastresort verify` shows whether the answers are the same."
)


def transformers(job: Handover) -> Launch:
    flags = ("--dtype", job.dtype, "--host", "127.0.0.1", "--port", str(job.target.port))
    return Launch(
        commands=(("transformers", "serve", job.name, *flags),),
        model=job.name,
        needs='needs `pip install "transformers[serving]"`',
    )


def litellm(job: Handover) -> Launch:
    endpoint = job.winner.endpoint
    parameters: JsonObject
    if endpoint is None:
        parameters = {"model": f"openai/{job.name}", "api_base": f"os.environ/{UPSTREAM}", "api_key": "none"}
        lines = [f'export {UPSTREAM}="${{{UPSTREAM}:-http://127.0.0.1:8000/v1}}"']
        environment = {UPSTREAM: f"${{{UPSTREAM}:-http://host.docker.internal:8000/v1}}"}
        notes = [
            f"LiteLLM passes requests on to the server at {UPSTREAM}, which holds the weights: hand them over to one first, with "
            f"--name {job.name}.",
        ]
    else:
        key = endpoint.key_name or KEY
        parameters = {"model": f"openai/{endpoint.model}", "api_base": endpoint.url, "api_key": f"os.environ/{key}"}
        lines, environment = [], {key: f"${{{key}:-}}"}
        notes = [f"The key of {endpoint.host} is read from {key}, where it needs one."]
    whose = "API_KEY of the clients" if job.winner.system.has_constant_prompt else f"{KEY} of the proxy"
    lines.append(f': "${{{MASTER}:?Set it to a new key, and {whose} to the same}}"')
    environment[MASTER] = f"${{{MASTER}:?}}"
    notes.append(
        f"It starts only with a key of its own in {MASTER}, which clients send: the files here take it from API_KEY."
        if job.winner.system.has_constant_prompt
        else f"It starts only with a key of its own in {MASTER}, which the proxy sends if {KEY} holds the same."
    )
    document: JsonObject = {
        "model_list": [{"model_name": job.name, "litellm_params": parameters}],
        "general_settings": {"master_key": f"os.environ/{MASTER}"},
    }
    flags, port = ("--config", CONFIG), ("--port", str(job.target.port))
    return Launch(
        commands=(("litellm", *flags, "--host", "127.0.0.1", *port),),
        model=job.name,
        needs='needs `pip install "litellm[proxy]"`',
        texts={CONFIG: as_yaml(document)},
        lines=tuple(lines),
        arguments=(*flags, *port),
        environment=environment,
        notes=tuple(notes),
    )
