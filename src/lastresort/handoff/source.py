"""The winner that is handed over: checked, and with what its model's folder says of rendering and precision."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lastresort.data.chat_template import ChatTemplate, accepted_turns, rendered_text, template_of
from lastresort.data.rendering import stop_token_ids
from lastresort.errors import ContractError, DataError, InputError
from lastresort.models.endpoint import Endpoint, parse_endpoint
from lastresort.models.local import LocalModel
from lastresort.models.protocol import is_endpoint
from lastresort.records.decision import FILE_NAME as DECISION
from lastresort.records.decision import RunView
from lastresort.records.events.run import ClimbDecided
from lastresort.records.record import FILE_NAME as RECORD
from lastresort.records.record import Record
from lastresort.records.view import task_file_of
from lastresort.report.markdown import plain, summary
from lastresort.report.words.wording import capital
from lastresort.systems.files import FILE
from lastresort.systems.running import WinnerStatus, checked_system, decision_on_disk, open_answerer, winner_status
from lastresort.systems.system import System
from lastresort.types import Message

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
TALKS = (
    (Message("user", "What is 12 x 7?"),),
    (Message("system", "Answer in one word."), Message("user", "Is it día?\n")),
    (
        Message("system", "Answer in one word."),
        Message("user", "Is it {{ late }}?"),
        Message("assistant", "No."),
        Message("user", "Why?"),
    ),
)


@dataclass(frozen=True, slots=True)
class LocalWeights:
    """The model of a winner, as it was measured: its adapter apart.

    folder: of the base, or of a model that was fully trained. dtype: in which it computed. template: Jinja that renders without any
    arguments. context_tokens: None if unknown. stop_ids: the tokens that end an answer.
    """

    folder: Path
    tokenizer: Any
    dtype: str
    template: str
    context_tokens: int | None
    stop_ids: tuple[int, ...]

    def accepted(self, turns: tuple[Message, ...]) -> tuple[Message, ...]:
        """The turns as this model's template takes them: without a system turn where it has none."""
        return accepted_turns(self.tokenizer, ChatTemplate("model", self.template), turns)

    def tokens_of(self, turns: tuple[Message, ...]) -> int:
        text = rendered_text(self.tokenizer, ChatTemplate("model", self.template), turns, prompt=True)
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])


@dataclass(frozen=True, slots=True)
class Winner:
    """A system that may be handed over. saved: its folder. run: the folder that it was named by, or the run around it.

    weights: None for a prompt over an endpoint, whose address `endpoint` then is. status: what its run says of it.
    """

    system: System
    saved: Path
    run: Path
    weights: LocalWeights | None
    endpoint: Endpoint | None
    status: WinnerStatus

    @property
    def measured_in(self) -> Path | None:
        """The run that measured it. None for a saved system, which nothing can be compared with."""
        return self.run if (self.run / DECISION).is_file() else None

    @property
    def task_moved(self) -> bool:
        """Whether the task file is not where the run that measured it says."""
        if self.measured_in is None:
            return False
        try:
            with Record.open(self.measured_in, read_only=True, checked=False) as record:
                return not task_file_of(record, self.measured_in).is_file()
        except DataError:  # of a run that nothing is verified with, which `verify` says
            return False

    def handoff_folder(self, to: str) -> Path:
        """Where a hand-over goes unless its user says: into the run, or next to a saved system, whose files stay as they are."""
        if self.run != self.saved:
            return self.run / f"handoff-{to}"
        saved = self.saved.absolute()
        return saved.parent / f"{saved.name}-handoff-{to}"


def open_winner(run: Path, *, allow_held: bool = False) -> Winner:
    """The winner of a run, or a saved system, with everything checked that is checked before it answers.

    Raises InputError if the gate holds it or nothing can serve it, DataError if it is not what was measured, and the errors of
    opening its model.
    """
    system, saved = checked_system(run, allow_held=allow_held)
    around = run if saved != run else run.absolute().parent if run.absolute().name == "winner" else run
    if system.model.startswith("scripted:"):
        raise InputError(
            "the model of this winner is a script, which no server runs",
            where=str(saved / FILE),
            expected="a model with weights, or an endpoint",
            remedy="Hand over another run.",
        )
    status = winner_status(saved)
    if is_endpoint(system.model):
        return Winner(system, saved, around, None, parse_endpoint(system.model), status)
    answerer = open_answerer(system, saved)
    try:
        model = answerer.model
        if not isinstance(model, LocalModel):
            raise ContractError("a model without weights", where=model.name)
        return Winner(system, saved, around, _weights(model, system), None, status)
    finally:
        answerer.close()


def about(winner: Winner) -> list[str]:
    """What its run says of it. Nothing of a saved system, or by a decision that cannot be read, such as one of another version."""
    run = winner.measured_in
    if run is None:
        return []
    try:
        decision, decided_at = RunView.model_validate_json(decision_on_disk(run) or b""), None
        if (run / RECORD).exists():
            with Record.open(run, read_only=True, checked=False) as record:  # as it was to open the winner
                decided_at = record.written_at(ClimbDecided)
    except (DataError, ValidationError):
        return []
    base = winner.system.tuned_from or (winner.system.model if winner.system.adapter is not None else "")
    of_run = [
        f"run {run.resolve().name}",
        "" if decided_at is None else f"decided on {decided_at:%Y-%m-%d}",
        f"base model {base}" if base else "",
        f"system {winner.system.name}",
    ]
    return [*summary(decision), plain(capital(", ".join(filter(None, of_run)))) + "."]


def _weights(model: LocalModel, system: System) -> LocalWeights:
    loaded = model.loaded
    return LocalWeights(
        folder=loaded.folder,
        tokenizer=loaded.tokenizer,
        dtype="bfloat16" if model.precision == "bfloat16" else "float32",
        template=standalone_template(loaded.tokenizer, system, str(loaded.folder)),
        context_tokens=loaded.context_tokens,
        stop_ids=stop_token_ids(loaded.tokenizer, template_kwargs=system.template_kwargs),
    )


def standalone_template(tokenizer: Any, system: System, where: str) -> str:
    """The chat template with its arguments written into it, so that a server renders alike without being told of them.

    Raises DataError where it would not.
    """
    template = template_of(tokenizer, system.template_kwargs)
    text = "".join(f"{{% set {name} = {_literal(value)} %}}" for name, value in template.arguments.items())
    alone = ChatTemplate("model", text + template.text)
    if all(_alike(tokenizer, template, alone, talk) for talk in TALKS):
        return alone.text
    raise DataError(
        f"the chat template renders otherwise once its arguments ({', '.join(template.arguments)}) are part of it",
        where=where,
        expected="a template that reads them as variables",
        remedy="Serve it with `lastresort serve`, which passes them.",
    )


def _alike(tokenizer: Any, template: ChatTemplate, alone: ChatTemplate, talk: tuple[Message, ...]) -> bool:
    found = [_rendered(tokenizer, one, talk) for one in (template, alone)]
    return found[0] == found[1]


def _rendered(tokenizer: Any, template: ChatTemplate, talk: tuple[Message, ...]) -> str | None:
    try:
        return rendered_text(tokenizer, template, accepted_turns(tokenizer, template, talk), prompt=True)
    except DataError:  # a template may refuse some turns; then the other one must, too
        return None


def _literal(value: object) -> str:
    """A value of JSON as Jinja writes it."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case str():
            return _quoted(value)
        case list() | tuple():
            return f"[{', '.join(map(_literal, value))}]"
        case dict():
            return f"{{{', '.join(f'{_quoted(str(key))}: {_literal(inner)}' for key, inner in value.items())}}}"
        case _:
            return repr(value)


def _quoted(text: str) -> str:
    escaped = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"}
    return f'"{"".join(escaped.get(letter, letter) for letter in text)}"'


def settled_name(name: str | None, winner: Winner) -> str:
    """The name that the model is served under: the one given, or the run's folder's.

    Raises InputError for one that is no name everywhere it is written: in a shell, a path, YAML and a URL.
    """
    if name is None:
        own = re.sub(r"[^A-Za-z0-9_-]+", "-", winner.run.resolve().name).strip("-_")[:63]
        return own if NAME.fullmatch(own) else "winner"
    if not NAME.fullmatch(name):
        raise InputError(
            f'found "{name}"',
            where="--name",
            expected="letters, digits, - and _, at most 63, the first a letter or digit",
            remedy="Choose such a name.",
        )
    return name
