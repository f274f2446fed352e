"""Talk to two systems of a run side by side, and keep what they answer as an example or as a preference."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from lastresort.app.kept import EXAMPLES, PAIRS, HeldInputs, append_row, turns_as_input
from lastresort.app.servable import WINNER, Servable, servable
from lastresort.errors import InputError
from lastresort.records.decision import HELD
from lastresort.report.words.wording import rung_in_prose
from lastresort.spec.values import one_of
from lastresort.ui import jobs
from lastresort.ui.serving import IDLE_S, ServingProcess, ServingProcesses
from lastresort.ui.site import Here, QueryNumber, Site, Text, placed
from lastresort.ui.talk import LONGEST, GrowingAnswer, Talk
from lastresort.ui.workspace import signature
from lastresort.ui.yaml_form import with_plain_ends

SomeTexts = Annotated[list[str], Form()]  # fields of one name: at least one
Texts = Annotated[list[str], Form(default_factory=list)]  # any number of them
LOOK_S = 0.05
ALIVE_S = 5.0
LONGER = (64, 256, 1024)  # tokens of an answer, where somebody wants more than were measured
EXAMPLE, PAIR = "example", "preference pair"
NAMES = {"winner": "the winner", "base": "the base model", "prompt": "the best prompt"}


@dataclass(slots=True)
class TalkOfRun:
    """What the page holds of a run: whom one can talk to, the process that answers, and the conversation."""

    found: Servable | None
    process: ServingProcess | None
    talk: Talk

    @property
    def state(self) -> str:
        return "closed" if self.process is None else self.process.state


class Talks(dict[str, Talk]):
    """By run."""


def names_of(found: Servable | None) -> dict[str, str]:
    """What the systems of a run are called, by the name that they answer to."""
    if found is None:
        return NAMES
    others = {one.key: f"{rung_in_prose(one.rung)}: {one.name}" for one in found.others}
    return {**NAMES, **({} if found.is_winner else {"winner": NAMES["prompt"]}), **others}


def router() -> APIRouter:
    routes = APIRouter()

    @routes.get("/runs/{name}/talk")
    def talk(
        site: Here, request: Request, name: str, measurement: QueryNumber | None = None, position: QueryNumber = 0
    ) -> Response:
        """measurement, position: of a recorded item, whose input the message then is to begin with."""
        said = ""
        if measurement is not None:
            with site.workspace.record(name) as record:
                found = record.item(measurement, position)
            said = "" if found is None else found.item.input[:LONGEST]
        return _drawn(site, request, "talk.html.j2", name, said=said)

    @routes.get("/runs/{name}/talk/state")
    def state(site: Here, request: Request, name: str) -> Response:
        return _drawn(site, request, "talk_panel.html.j2", name)

    @routes.post("/runs/{name}/talk/open")
    def start(site: Here, request: Request, name: str, rung: Texts, allow_held: Texts) -> Response:
        """rung: whose systems are opened, too. allow_held: what somebody opens who has read that the gate did not clear it: the
        winner, and rungs, which need not be named again.
        """
        folder = site.workspace.run(name)
        found = servable(folder)
        if found is None:
            raise InputError("this run has no winner and no prompt that was tested", where=name)
        rungs = dict.fromkeys((*rung, *(one for one in allow_held if one != WINNER)))
        _processes(site).open(name, found.with_others(tuple(rungs)), _log(site, name), allowed=allow_held)
        return placed(state(site, request, name), "#talk")

    @routes.post("/runs/{name}/talk/close")
    def close(site: Here, request: Request, name: str) -> Response:
        site.workspace.run(name)
        _processes(site).close(name)
        return placed(state(site, request, name), "#talk")

    @routes.post("/runs/{name}/talk/clear")
    def clear(site: Here, request: Request, name: str) -> Response:
        _talk(site, name).clear()
        return placed(state(site, request, name), "#talk")

    @routes.post("/runs/{name}/talk/say")
    def say(
        site: Here,
        request: Request,
        name: str,
        talk: Text,
        text: Text,
        system: SomeTexts,
        tokens: Text = "",
        alone: Text = "",
    ) -> Response:
        """tokens: the limit of each answer, "" for that of its measurement. alone: to begin a new conversation with it."""
        longest = int(one_of("tokens", tokens, tuple(map(str, LONGER)))) if tokens else None
        process, own = _processes(site).of(name), _same_talk(site, name, talk)
        if process is None or process.state != "open":
            raise InputError("the model is not open", remedy="Open it first.")
        unknown = [one for one in system if one not in process.names]
        if unknown:
            raise InputError(f'found "{unknown[0][:40]}"', expected=f"one of {', '.join(process.names)}")
        ask = process.answer if longest is None else partial(process.answer, longest_tokens=longest)
        number = own.say(text, system[:2], ask, longest, alone=bool(alone))
        how = "innerHTML" if alone else "beforeend"
        return placed(_exchange(site, request, name, own.id, number, begins=bool(alone)), "#exchanges", how)

    @routes.get("/runs/{name}/talk/{talk}/{number}")
    def exchange(site: Here, request: Request, name: str, talk: str, number: int) -> Response:
        return _exchange(site, request, name, talk, number)

    @routes.get("/runs/{name}/talk/{talk}/{number}/{place}/live")
    async def live(site: Here, name: str, talk: str, number: int, place: int) -> EventSourceResponse:
        own = await asyncio.to_thread(_same_talk, site, name, talk)
        return EventSourceResponse(_pieces(own.answer(number, place)), ping=3600)

    @routes.post("/runs/{name}/talk/{talk}/{number}/{place}/stop")
    def stop(site: Here, request: Request, name: str, talk: str, number: int, place: int) -> Response:
        _same_talk(site, name, talk).answer(number, place).leaves = True
        return Response(status_code=204)

    @routes.post("/runs/{name}/talk/{talk}/{number}/{place}/keep")
    def keep(site: Here, request: Request, name: str, talk: str, number: int, place: int, output: Text) -> Response:
        own = _same_talk(site, name, talk)
        turns = own.turns_before(number, own.whole_answer(number, place).system)
        output = with_plain_ends(output).strip()
        if not output:
            raise InputError("found an empty answer", remedy="Write what the right answer is.")
        path = _folder(site, name) / EXAMPLES
        rows = append_row(path, {"input": turns_as_input(turns), "output": output})
        return _said(site, request, path, rows, EXAMPLE, _inputs(site, name).split_of(turns))

    @routes.post("/runs/{name}/talk/{talk}/{number}/prefer")
    def prefer(
        site: Here, request: Request, name: str, talk: str, number: int, better: Annotated[int, Form(ge=0, le=1)]
    ) -> Response:
        own = _same_talk(site, name, talk)
        one, other = (own.whole_answer(number, place) for place in (0, 1))
        turns = own.turns_before(number, one.system)
        if turns != own.turns_before(number, other.system):
            raise InputError(
                "the two systems answered differently earlier in this conversation",
                expected="two answers to the same conversation",
                remedy="Start a new conversation.",
            )
        if not (one.text.strip() and other.text.strip()) or one.text.strip() == other.text.strip():
            raise InputError("the two answers are empty or the same", expected="a better and a worse one")
        chosen, rejected = (one, other) if better == 0 else (other, one)
        path = _folder(site, name) / PAIRS
        row = {"prompt": turns_as_input(turns), "chosen": chosen.text, "rejected": rejected.text}
        return _said(site, request, path, append_row(path, row), PAIR, _inputs(site, name).split_of(turns))

    return routes


def _processes(site: Site) -> ServingProcesses:
    return site.own(ServingProcesses, ServingProcesses, ServingProcesses.close_all)


def _servable(site: Site, name: str) -> Servable | None:
    """Looked at again only once the record has changed: it is read as a whole. Whoever opens a model has it looked at anew."""
    folder = site.workspace.run(name)
    return site.once("servable", (name, signature(folder)), lambda: servable(folder))


def _talk(site: Site, name: str) -> Talk:
    site.workspace.run(name)
    talks = site.own(Talks, Talks)
    found = talks.get(name)
    if found is not None:
        found.read_again()
        return found
    opened = Talk.opened(site.workspace.own_folder("talks") / f"{name}.json")
    return talks.setdefault(name, opened)  # the first of two requests at once: both have to see one conversation


def _same_talk(site: Site, name: str, talk: str) -> Talk:
    """Raises NotThere where the run has another conversation by now."""
    found = _talk(site, name)
    found.check_id(talk)
    return found


def _log(site: Site, name: str) -> Path:
    return site.workspace.runs / jobs.LOGS / f"{name}.talk.log"


def _folder(site: Site, name: str) -> Path:
    """The folder of the run's task in this workspace, where what is kept of a talk is found again."""
    return site.workspace.task_folder(site.workspace.state(name).home or name)


def _drawn(site: Site, request: Request, template: str, name: str, said: str = "") -> Response:
    """said: what a message that has not been sent is to begin with."""
    process = _processes(site).of(name)
    own = TalkOfRun(_servable(site, name), process, _talk(site, name))
    folder = _folder(site, name).relative_to(site.workspace.folder)
    return site.draw(
        request,
        template,
        name=name,
        own=own,
        words=jobs.words_in(_log(site, name)) if own.state == "ended" else (),
        names=names_of(own.found),
        longer=LONGER,
        climbing=[one.name for one in site.workspace.states() if one.state == "running"],
        measured_tokens=0 if process is None or own.found is None else own.found.most_tokens(process.names),
        idle_s=IDLE_S,
        earlier=own.talk.earlier_path.relative_to(site.workspace.folder),
        examples=folder / EXAMPLES,
        pairs=folder / PAIRS,
        held_words=HELD,
        begins=False,
        single=_single(site, name, own.talk),
        said=said,
    )


def _exchange(site: Site, request: Request, name: str, talk: str, number: int, *, begins: bool = False) -> Response:
    """begins: whether it begins a conversation, whose id the form of the next message then gets."""
    own = _same_talk(site, name, talk)
    exchange = own.exchange(number)
    return site.draw(
        request,
        "talk_exchange.html.j2",
        name=name,
        talk=own,
        number=number,
        exchange=exchange,
        begins=begins,
        names=names_of(_servable(site, name)),
        single=_single(site, name, own),
    )


def _single(site: Site, name: str, talk: Talk) -> bool | None:
    """Whether all that was measured were single messages, None where nothing that is shown depends on it."""
    return _inputs(site, name).single if len(talk.exchanges) > 1 else None


def _inputs(site: Site, name: str) -> HeldInputs:
    """Read again only once the record has changed."""

    def read() -> HeldInputs:
        with site.workspace.record(name) as record:
            return HeldInputs.of(record)

    return site.once("held inputs", (name, signature(site.workspace.run(name))), read, most=2)


def _said(site: Site, request: Request, path: Path, rows: int, what: str, held: str) -> Response:
    """held: the split in which the run measured this input, "" where in none."""
    shown = path.relative_to(site.workspace.folder)
    return site.draw(request, "talk_kept.html.j2", path=shown, rows=rows, what=what, held=held, pairs=what == PAIR)


async def _pieces(answer: GrowingAnswer) -> AsyncIterator[ServerSentEvent]:
    """more: what has been added to the text; over: it is whole; here: nothing yet."""
    sent, quiet_s = 0, 0.0
    while True:
        whole, text = bool(answer.finish), answer.text
        if len(text) > sent:
            yield ServerSentEvent(event="more", data=json.dumps(text[sent:]))
            sent, quiet_s = len(text), 0.0
        if whole:
            yield ServerSentEvent(event="over", data="")
            return
        if quiet_s >= ALIVE_S:
            yield ServerSentEvent(event="here", data="")
            quiet_s = 0.0
        await asyncio.sleep(LOOK_S)
        quiet_s += LOOK_S
