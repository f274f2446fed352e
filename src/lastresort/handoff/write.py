"""A winner -> a folder that another server runs: the model, how it is started, what a client sends, and a README."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

from lastresort.errors import DiskError, InputError
from lastresort.foreign import printable, read_json
from lastresort.handoff import PROXY_PORT, HandoffTarget, target_of
from lastresort.handoff.request import (
    CLIENT,
    CURL,
    INPUT,
    PROXY_MODEL,
    REQUEST,
    constant_request,
    constant_turns,
    proxied_request,
    request_files,
)
from lastresort.handoff.servers import ADAPTER, COMPOSE, MODEL, START, Handover, Launch, launch_files
from lastresort.handoff.source import LocalWeights, Winner, about, settled_name
from lastresort.handoff.weights import (
    adapter_rank,
    copied_bytes,
    copy_adapter,
    link_model,
    refuse_adapter,
    settle_rendering,
    written_bytes,
)
from lastresort.hardware.plan.fit import gib
from lastresort.records.atomic import check_new_folder, disk_errors, new_folder, replace_folder, write_atomically
from lastresort.records.decision import HELD
from lastresort.report.words.training import merge_warning
from lastresort.report.words.wording import sentence
from lastresort.systems.files import save_system
from lastresort.systems.system import System
from lastresort.train.adapters.gguf import check_exportable, export_gguf
from lastresort.train.adapters.merge import merge_adapter
from lastresort.types import SILENT, Progress

MARK, SYSTEM = "handoff.json", "system"
TASK = "TASK"
_MOVED = f"The task file is not where the run says. Put its path in place of {TASK} to verify."
ROOM_TOKENS, MOST_TOKENS = 8192, 32768  # of a context that a server sets aside where the model allows more


@dataclass(frozen=True, slots=True)
class HandoffCommands:
    """What is typed to use a hand-over, in this order. proxy: looks passages or shots up, None where the prompt is constant.
    verify: compares what clients ask with the run, None where no run measured the winner.
    """

    start: str
    proxy: str | None
    ask: str
    verify: str | None


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A folder that was written. folder: as it was named, so that the commands with it work from there. title: of the server.
    model: what it calls the winner at `url`. client_url, client_model: what clients ask, which is the proxy where there is one.
    run: what measured the winner, None for a saved system. task_moved: whether its task file is not where it says.
    held: whether the gate holds it. form: who enforces the form of the
    answers, "" where they have none. notes: what is not as it was measured, or is still to be done.
    """

    to: str
    title: str
    folder: Path
    files: tuple[str, ...]
    model: str
    url: str
    needs: str
    client_url: str
    client_model: str
    run: Path | None
    task_moved: bool
    held: bool
    form: str
    notes: tuple[str, ...]

    @property
    def is_proxied(self) -> bool:
        return self.client_url != self.url

    def commands(self, run: Path | str | None = None, folder: Path | str = ".") -> HandoffCommands:
        """run: as it is typed, None for the one known here. folder: this one, from where they are typed."""
        run, held = run or self.run, ["--allow-held"] if self.held else []
        start, client, request, system = (str(Path(folder) / name) for name in (START, CLIENT, REQUEST, SYSTEM))
        port = str(urlsplit(self.client_url).port)
        proxy = ["lastresort", "serve", system, "--upstream", self.url, "--model", self.model, "--port", port, *held]
        verify = ["lastresort", "verify", str(run), self.client_url]
        verify += (
            [] if self.is_proxied else ["--request", request]
        )  # a proxy gets the inputs alone, and verify knows it
        verify += ["--task", TASK] if self.task_moved else []
        return HandoffCommands(
            start=shlex.join(["sh", start]),
            proxy=shlex.join(proxy) if self.is_proxied else None,
            ask=shlex.join(["python", client, "your input"]),
            verify=None if run is None else shlex.join([*verify, *held]),
        )


def write_handoff(
    winner: Winner,
    to: str,
    out: Path,
    *,
    merged: bool = False,
    name: str | None = None,
    port: int | None = None,
    progress: Progress = SILENT,
) -> HandedOver:
    """Write what the server needs into `out`, which is replaced if a hand-over wrote all that it holds.

    merged: base and adapter as one model; servers that cannot serve an adapter get that anyway. name: None for the run's. port:
    where the server listens, None for its usual one.
    Raises InputError for a server that cannot serve this winner, DataError for a model that cannot be merged or written, DiskError
    where the disk has no room for its weights.
    """
    target = target_of(to, port)
    final = out.absolute()
    settled = settled_name(name, winner)
    _refuse(winner, target, final, merged=merged)
    check_new_folder(final, own=_written_before(final))
    _refuse_small_disk(winner, target, final, merged=merged)
    with new_folder(final) as working:
        job, notes = _with_model(Handover(winner, target, settled, working), progress, merged=merged)
        module, function = target.path.split(":")
        launch: Launch = getattr(import_module(module), function)(job)
        found = _handed_over(to, job, launch, out, notes)
        for file, text in _texts(job, launch, found).items():
            write_atomically(working / file, text)
        if not winner.system.has_constant_prompt:
            save_system(_proxied(winner.system, target, launch.model), working / SYSTEM)
        found = replace(found, files=tuple(sorted([MARK, *(path.name for path in working.iterdir())])))
        mark = {"to": to, "model": found.model, "files": found.files}
        write_atomically(working / MARK, json.dumps(mark) + "\n")
        working.chmod(0o755)
        replace_folder(working, final)
    return found


def _refuse(winner: Winner, target: HandoffTarget, out: Path, *, merged: bool) -> None:
    """Raises InputError for what cannot be, before anything is written."""
    if printable(out) != str(out):
        raise InputError("found a file name that is not UTF-8", where=printable(out), remedy="Rename the folder.")
    if winner.saved.absolute() in (out, *out.parents):
        raise InputError(
            "the folder is part of the winner, whose files must stay as they are",
            where=str(out),
            expected="another folder",
            remedy="Name one with --out.",
        )
    if winner.weights is None and target.weights != "none":
        raise InputError(
            f"the winner is a prompt over an endpoint ({winner.system.model}), so that {target.title} would have nothing to load",
            where=str(winner.saved),
            expected="--to litellm, which passes requests on to the endpoint",
            remedy="Name that, or run `lastresort serve`.",
        )
    adapter = winner.system.adapter
    if merged and (adapter is None or target.weights == "none"):
        found = (
            "--merged, but the winner has no adapter"
            if adapter is None
            else f"--merged, but {target.title} loads no model"
        )
        raise InputError(found, where=str(winner.saved), remedy="Leave it out.")
    if adapter is not None and not _is_merged(winner, target, merged=merged):
        refuse_adapter(adapter, target.title, plain=target.adapters == "plain")
    if target.weights == "gguf" and winner.weights is not None:
        check_exportable(winner.weights.folder, _kind(winner.weights))


def _refuse_small_disk(winner: Winner, target: HandoffTarget, out: Path, *, merged: bool) -> None:
    """Raises DiskError where the weights alone need more than is free. Links need nothing."""
    weights = winner.weights
    if weights is None or target.weights == "none":
        return
    disk = next(folder for folder in out.parents if folder.exists())
    is_merged = _is_merged(winner, target, merged=merged)
    needed = 0 if is_merged else copied_bytes(weights.folder, disk)
    needed += (is_merged + (target.weights == "gguf")) * written_bytes(weights)
    free = shutil.disk_usage(disk).free
    if needed > free:
        raise DiskError(
            f"the weights need {gib(needed)}, and {gib(free)} are free",
            where=str(out),
            remedy="Free some space, or name a folder on another disk with --out.",
        )


def _is_merged(winner: Winner, target: HandoffTarget, *, merged: bool) -> bool:
    """Whether base and adapter become one model."""
    return winner.system.adapter is not None and (merged or target.adapters == "none")


def _written_before(folder: Path) -> list[str]:
    """Names of what an earlier hand-over wrote there."""
    if not (folder / MARK).is_file():
        return []
    mark = read_json(folder / MARK)
    files = mark.get("files") if isinstance(mark, dict) else None
    return list(map(str, files)) if isinstance(files, list) else []


def _kind(weights: LocalWeights) -> str:
    return {"bfloat16": "bf16", "float32": "f32"}[weights.dtype]


def _with_model(job: Handover, progress: Progress, *, merged: bool) -> tuple[Handover, list[str]]:
    """The model in the folder, with notes."""
    winner, target, weights = job.winner, job.target, job.winner.weights
    if weights is None or target.weights == "none":
        return job, []
    adapter, notes = winner.system.adapter, list[str]()
    folder = job.folder / (job.name if target.weights == "named folder" else MODEL)
    apart = adapter is not None and not _is_merged(winner, target, merged=merged)
    if adapter is None or apart:
        link_model(weights.folder, folder)
    else:
        made = merge_adapter(weights.folder, adapter, folder, dtype=weights.dtype, progress=progress)
        warning = merge_warning(made)
        notes += [] if warning is None else [warning]
    settle_rendering(weights, folder, winner.system.decoding)
    if apart and adapter is not None:
        copy_adapter(adapter, job.folder / ADAPTER)
        job = replace(job, rank=adapter_rank(adapter))
    if target.weights == "gguf":
        progress.stage("writing the GGUF", None)
        written = export_gguf(folder, job.folder / "gguf", name=job.name, dtype=_kind(weights))
        with disk_errors(job.folder):
            written.path.rename(job.folder / written.path.name)
            shutil.rmtree(job.folder / "gguf")
            shutil.rmtree(folder)
        job = replace(job, gguf=written.path.name)
    return replace(job, context_tokens=_context_tokens(winner, weights)), notes


def _context_tokens(winner: Winner, weights: LocalWeights) -> int:
    """Of a server that sets memory aside for it: enough for the prompt that every request holds, its answer and a long input."""
    wanted = MOST_TOKENS
    if winner.system.has_constant_prompt:
        wanted = ROOM_TOKENS + weights.tokens_of(constant_turns(winner)) + winner.system.decoding.max_new_tokens
    return min(wanted, weights.context_tokens or wanted)


def _proxied(system: System, target: HandoffTarget, model: str) -> System:
    """The system over the server that is handed over: its prompt, shots and store are its own, its weights are there."""
    over = system.answered_by(f"http://127.0.0.1:{target.port}/v1#{model}")
    return replace(over, tuned_from="", precision="auto", template_kwargs={})


def _handed_over(to: str, job: Handover, launch: Launch, out: Path, notes: list[str]) -> HandedOver:
    target, winner = job.target, job.winner
    constant, task_moved = winner.system.has_constant_prompt, winner.task_moved
    url = f"http://127.0.0.1:{target.port}/v1"
    return HandedOver(
        to=to,
        title=target.title,
        folder=out,
        files=(),
        model=launch.model,
        url=url,
        needs=launch.needs,
        client_url=url if constant else f"http://127.0.0.1:{PROXY_PORT}/v1",
        client_model=launch.model if constant else PROXY_MODEL,
        run=winner.measured_in,
        task_moved=task_moved,
        held=winner.status.held,
        form=_form(job),
        notes=(
            *launch.notes,
            *notes,
            *([sentence(HELD)] if winner.status.held else []),
            *winner.status.notes,
            *([_MOVED] if task_moved else []),
        ),
    )


def _form(job: Handover) -> str:
    """Who enforces the form that was enforced when the answers were measured."""
    grammar, target, endpoint = job.winner.system.decoding.grammar, job.target, job.winner.endpoint
    if grammar is None:
        return ""
    if endpoint is not None:
        return f"Requests carry response_format, as they did when they were measured, and {endpoint.host} enforces it."
    if grammar.choices is not None and not job.winner.system.has_constant_prompt:
        return (
            "The choices were measured as bare text. The proxy sends them inside an object (response_format), so answers may "
            "differ."
        )
    if grammar.choices is not None:
        if target.choices is None:
            return f"Nothing limits the answers to the measured choices: {target.title} has no option for it, so they may differ."
        return f"{target.title} limits the answers to the measured choices ({target.choices} in the request)."
    if target.schema == "ignores":
        return f"Nothing enforces the measured schema: {target.title} accepts response_format and ignores it."
    if target.schema == "passes on":
        return (
            "The server behind LiteLLM enforces the measured schema if it can: vLLM, SGLang, llama.cpp and Ollama do, "
            "transformers serve does not."
        )
    spaced = "" if target.spacing and job.winner.system.has_constant_prompt else ", but its white space may differ"
    return f"{target.title} enforces the measured schema (response_format){spaced}."


def _texts(job: Handover, launch: Launch, found: HandedOver) -> Mapping[str, str]:
    files = launch_files(launch, job.target)
    request = constant_request(job.winner, job.target, launch.model) if not found.is_proxied else proxied_request()
    return {
        **files,
        **request_files(request, found.client_url, launch.model),
        "README.md": _readme(found, about(job.winner), COMPOSE in files),
    }


def _readme(found: HandedOver, about_winner: Sequence[str], composed: bool) -> str:
    typed = found.commands(None if found.run is None else os.path.relpath(found.run, found.folder))
    composing = ", or `docker compose up`" if composed else ""
    asked = f'- Ask it: `{typed.ask}`, or replace "{INPUT}" in {REQUEST} and run `sh {CURL}`.'
    lines = [
        f"# {found.model} on {found.title}",
        *(f"\n{text}" for text in about_winner),
        *([""] if about_winner else []),
    ]
    lines.append(f"- Start {found.title} ({found.needs}): `{typed.start}`{composing}.")
    if typed.proxy is not None:
        lines.append(f"- The prompt depends on the input, and a proxy builds it. Start it as well: `{typed.proxy}`.")
        asked = asked.replace("Ask it", "Ask the proxy")
    differs = " ".join(filter(None, [found.form, *found.notes]))
    lines += [asked, f"- {differs or 'The chat template, the precision and the decoding are as in the run.'}"]
    if typed.verify is not None:
        checked = "it answers" if typed.proxy is None else "the proxy and the server behind it answer"
        lines.append(f"- Check that {checked} as measured: `{typed.verify}`.")
    return "\n".join(lines) + "\n"
