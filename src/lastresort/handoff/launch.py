"""How a server is started: the values that its file returns, and start.sh and docker-compose.yaml made of them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lastresort.handoff import HandoffTarget
from lastresort.handoff.source import Winner
from lastresort.systems.files import as_yaml
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

    texts: further files. lines: of start.sh, before the commands. image: for a compose file, "" where there is none; entrypoint,
    arguments: there, in the folder. gpu: whether it wants one. environment: of the container.
    """

    commands: tuple[tuple[str, ...], ...]
    model: str
    needs: str
    texts: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    image: str = ""
    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    gpu: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def launch_files(launch: Launch, target: HandoffTarget) -> dict[str, str]:
    files = {START: start_script(launch, target), **launch.texts}
    if launch.image:
        files[COMPOSE] = _compose(launch, target.port)
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


def _compose(launch: Launch, port: int) -> str:
    service: JsonObject = {
        "image": launch.image,
        **({"entrypoint": [_literal(word) for word in launch.entrypoint]} if launch.entrypoint else {}),
        "command": [_literal(word) for word in launch.arguments],
        "working_dir": "/handoff",
        "volumes": ["./:/handoff:ro"],
        "ports": [f"127.0.0.1:{port}:{port}"],
    }
    if launch.environment:
        service["environment"] = dict(launch.environment)
        service["extra_hosts"] = ["host.docker.internal:host-gateway"]
    if launch.gpu:
        service["ipc"] = "host"
        device: JsonObject = {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    return as_yaml({"services": {"server": service}})


def _literal(word: str) -> str:
    """Compose puts variables in place of what follows a dollar sign."""
    return word.replace("$", "$$")
