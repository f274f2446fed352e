"""Memory, time and money of a training as sliders move. What torch has to be asked for is computed in a process of its own."""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from lastresort.app.plan import (
    METHODS,
    OPTIMIZERS,
    PLANNED,
    PRECISIONS,
    REPLAY_LOSSES,
    SAMPLERS,
    TARGETS,
    PlanRequest,
    known_names,
    make_plan,
    needs_torch,
)
from lastresort.errors import InputError, LastresortError
from lastresort.hardware.plan.document import PlanDocument
from lastresort.hardware.plan.fit import gib
from lastresort.hardware.plan.setup import SHARINGS
from lastresort.report.charts.plan import without_style
from lastresort.report.plan import answer, batch_lines, cheapest, foot, offered, setup_line
from lastresort.report.words.wording import capital
from lastresort.ui.children import MOST_KEPT, children_of
from lastresort.ui.site import Here, Site, is_part

LONGEST_TYPED = 200
MODEL = "llama-3.1-8b"  # where none is named


@dataclass(frozen=True, slots=True)
class PlanField:
    """name: of `PlanRequest` and of the option. most: the right end of its slider, None without one; steps are factors of the
    fourth root of 2. usual: what it holds where the address does not say.
    """

    name: str
    label: str
    usual: str
    choices: tuple[str, ...] = ()
    least: int = 1
    most: int | None = None

    @property
    def option(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def slider(self) -> tuple[int, int]:
        """In quarters of a doubling."""
        assert self.most is not None
        return round(4 * math.log2(self.least)), round(4 * math.log2(self.most))

    def at(self, value: str) -> int:
        """Where the slider stands."""
        least, most = self.slider
        try:
            return min(most, max(least, round(4 * math.log2(float(value)))))
        except (ValueError, OverflowError):
            return least


FIELDS = (
    PlanField("model", "Model", MODEL),
    PlanField("gpu", "GPU", ""),
    PlanField("method", "Method", "auto", METHODS),
    PlanField("objective", "Objective", "sft", PLANNED),
    PlanField("tokens", "Longest row in tokens", "1024", least=64, most=32_768),
    PlanField("rows", "Training rows", "1000", least=16, most=1_048_576),
    PlanField("epochs", "Epochs", "3", least=1, most=16),
    PlanField("batch", "Batch size per device", "1", least=1, most=64),
    PlanField("r", "LoRA rank", "16", least=1, most=256),
    PlanField("answer_tokens", "Longest answer in tokens", "256", least=16, most=8_192),
    PlanField("shared_tokens", "Shared prefix in tokens", "0"),
    PlanField("target", "Adapted layers", "attention", TARGETS),
    PlanField("optimizer", "Optimizer", "adamw", OPTIMIZERS),
    PlanField("precision", "Precision", "auto", PRECISIONS),
    PlanField("checkpointing", "Checkpointing", "on", ("on", "off")),
    PlanField("sharing", "Several GPUs share by", "fsdp", SHARINGS),
    PlanField("sampler", "GRPO samples in", "engine", SAMPLERS),
    PlanField("replay_loss", "Loss of replay rows", "likelihood", REPLAY_LOSSES),
    PlanField("price", "USD per hour of the GPU", ""),
)
_WHOLE = ("tokens", "rows", "batch", "r", "answer_tokens", "shared_tokens")


@dataclass(frozen=True, slots=True)
class ShownPlan:
    """found: None while it is computed, or where the form cannot be used: `fault` says why."""

    command: str
    found: PlanDocument | None = None
    picture: Markup | None = None
    fault: str = ""


def router() -> APIRouter:
    routes = APIRouter()

    @routes.get("/plan")
    def plan(site: Here, request: Request) -> Response:
        values = values_of(request.query_params)
        shown = _shown(site, values, begin=site.may_begin(request))
        part = "plan_part.html.j2" if is_part(request) else "plan.html.j2"
        words = {
            "answer": answer,
            "setup": setup_line,
            "batch": batch_lines,
            "foot": foot,
            "offered": offered,
            "cheapest": lambda found: capital(cheapest(found)),
        }
        return site.draw(
            request, part, shown=shown, fields=FIELDS, values=values, known=known_names(), words=words, gib=gib,
            address=str(request.url.include_query_params()).partition("?")[2],
        )  # fmt: skip

    return routes


def values_of(query: Mapping[str, str]) -> dict[str, str]:
    """By field: what the address says, else what is usual."""
    return {field.name: query.get(field.name, field.usual).strip()[:LONGEST_TYPED] for field in FIELDS}


def request_of(values: Mapping[str, str]) -> PlanRequest:
    """Raises InputError for what is no number."""
    whole = {name: _whole(name, values[name]) for name in _WHOLE if name != "rows" or values[name]}
    return PlanRequest(
        values["model"] or MODEL,
        method=values["method"],
        objective=values["objective"],
        gpu=values["gpu"] or None,
        sharing=values["sharing"],
        epochs=_number("epochs", values["epochs"]),
        checkpointing=values["checkpointing"] != "off",
        target=values["target"],
        optimizer=values["optimizer"],
        precision=values["precision"],
        sampler=values["sampler"],
        replay_loss=values["replay_loss"],
        price=(values["price"],) if values["price"] else (),
        tokens=whole["tokens"],
        rows=whole.get("rows"),
        batch=whole["batch"],
        r=whole["r"],
        answer_tokens=whole["answer_tokens"],
        shared_tokens=whole["shared_tokens"],
    )


def command_of(values: Mapping[str, str]) -> tuple[str, ...]:
    """The command that says the same, without what is usual."""
    words = ["plan", "--model", values["model"] or MODEL]
    for field in FIELDS[1:]:
        value = values[field.name]
        if field.name == "checkpointing":
            words += ["--no-checkpointing"] if value == "off" else []
        elif value and (value != field.usual or field.name == "rows"):
            words.append(f"{field.option}={value}")
    return tuple(words)


def _shown(site: Site, values: Mapping[str, str], *, begin: bool) -> ShownPlan:
    command = shlex.join(["lastresort", *command_of(values)])
    try:
        request = request_of(values)
        if needs_torch(request):
            return _elsewhere(site, values, command, begin=begin)
        found = make_plan(request)
    except LastresortError as error:
        return ShownPlan(command, fault=by_labels(str(error)))
    return ShownPlan(command, found.document, without_style(found.picture))


def _elsewhere(site: Site, values: Mapping[str, str], command: str, *, begin: bool) -> ShownPlan:
    """This machine's speed is measured, and its GPU asked, by torch."""
    words = command_of(values)
    name = hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]  # each question has a picture of its own
    path = site.workspace.own_folder("plans") / f"{name}.svg"
    if begin:
        path.parent.mkdir(parents=True, exist_ok=True)
        _forget_old(path.parent)
    printed = children_of(site).printed("plan", words, [*words, "--picture", str(path), "--json"], begin=begin)
    if printed is None or printed.fault:
        return ShownPlan(command, fault="" if printed is None else by_labels(printed.fault))
    return ShownPlan(command, PlanDocument.model_validate_json(printed.text), without_style(path.read_text("utf-8")))


def by_labels(text: str) -> str:
    """A sentence of the command with the fields in the place of its options."""
    labels = {field.option: field.label for field in FIELDS}
    return re.sub(r"--[a-z][a-z-]*", lambda found: labels.get(found[0], found[0]), text)


def _forget_old(folder: Path) -> None:
    """More stay than there are answers that are remembered."""
    pictures = sorted(folder.glob("*.svg"), key=lambda path: path.stat().st_mtime)
    for path in pictures[: -2 * MOST_KEPT]:
        path.unlink(missing_ok=True)


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _no_number(name, text, "a whole number") from None


def _number(name: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0.001 <= found <= 1e6:
        raise _no_number(name, text, "a number above 0")
    return found


def _no_number(name: str, text: str, expected: str) -> InputError:
    label = next(field.label for field in FIELDS if field.name == name)
    return InputError(f'found "{text[:40]}"', where=label, expected=expected, remedy="Correct it.")
