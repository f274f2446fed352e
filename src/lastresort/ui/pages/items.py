"""The items of a run: a page of answers at a time, two systems side by side, and one answer with all that is recorded of it.

Whether answers are what their run recorded is checked in the background, as that takes a while; pages that show some follow it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from tempfile import TemporaryFile
from typing import IO, Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from lastresort.app.items import HeldOutExamples, RemadePrompt, remade_prompt, rendered_tokens, score_reason
from lastresort.records.events.after_test import GateRun
from lastresort.records.events.run import TaskRead
from lastresort.records.items import CHANGES, KINDS, ItemCounts, ItemsWanted, MeasuredPart, RecordedItem, excerpt
from lastresort.records.measurement import failure_kind
from lastresort.records.record import Record
from lastresort.records.rung_view import facts_in
from lastresort.report import confusion
from lastresort.report.confusion import Confusion
from lastresort.report.differences import side_by_side
from lastresort.report.story import answered_beyond
from lastresort.report.words.verdicts import of_all_answered
from lastresort.ui.items import (
    A_PAGE,
    ALL,
    CUT,
    GATE_CHANGES,
    KIND_WORDS,
    ItemsAddress,
    change_of,
    gate_items,
    narrowed,
    rows_of,
    rows_to_keep,
    splits_of_both,
    those_wanted,
)
from lastresort.ui.site import LARGEST, Here, QueryNumber, QueryText, Site, is_part
from lastresort.ui.workspace import NotThere, Workspace, mark_of, signature

MOST_COUNTED = 64  # choices whose counts are kept
MOST_SYSTEMS = 60  # whose answers to an item are listed
BLOCK = 1 << 18  # bytes of a download
FEW_LABELS = 10  # whose table is open from the start
Place = Annotated[int, Path(ge=0, le=LARGEST)]
OptionalPlace = Annotated[int | None, Query(ge=0, le=LARGEST)]


def _address(
    system: QueryText = "",
    against: Annotated[str, Query(alias="with")] = "",
    split: QueryText = "",
    kind: QueryText = "",
    change: QueryText = "",
    text: QueryText = "",
    n: QueryNumber = 0,
    expected: QueryText = "",
    answered: QueryText = "",
) -> ItemsAddress:
    return ItemsAddress(system, against, split, kind, change, text, n, expected, answered)


GivenAddress = Annotated[ItemsAddress, Depends(_address)]


def router() -> APIRouter:
    routes = APIRouter()
    routes.include_router(_checked())

    @routes.get("/runs/{name}/items")
    def items(site: Here, request: Request, name: str, given: GivenAddress) -> Response:
        with site.workspace.record(name) as record:
            parts, address, wanted = _asked(site, name, record, given)
            labels = _labels(record, wanted)
            confused = _confused(site, name, record, wanted, labels) if address.is_of_labels else None
            wanted = narrowed(wanted, confused, address)
            rows = rows_of(record, wanted, address.number) if parts else ()
            counts = _counts(site, name, record, wanted)
            elsewhere = {} if counts.every else _in_common(site, name, record, wanted)
            gated = record.last(GateRun) is not None
            verdict = _verdict(site, name, record, wanted)
            compared = [one for one in (wanted.system, wanted.against) if one is not None]
            facts = {one.name: facts_in(record, one.rung, one.candidate) for one in compared}
        return site.draw(
            request,
            "items_found.html.j2" if is_part(request) else "items.html.j2",
            name=name,
            address=address,
            wanted=wanted,
            systems=list(dict.fromkeys(part.system.name for part in parts)),
            splits=list(dict.fromkeys(part.split for part in parts)),
            rows=rows,
            counts=counts,
            elsewhere=elsewhere,
            gated=gated,
            verdict=verdict,
            facts=facts,
            confused=confused,
            is_open=len(labels) <= FEW_LABELS or confused is not None,
            room=confusion.blank(labels) if labels else None,
            kinds=KINDS,
            changes=CHANGES,
            kind_words=KIND_WORDS,
            every_system=ALL,
            a_page=A_PAGE,
            cut=CUT,
        )

    @routes.get("/runs/{name}/items.jsonl")
    def rows(site: Here, name: str, given: GivenAddress) -> Response:
        """The whole list as JSON Lines, in a file that is written first: a browser may read it slowly."""
        with site.workspace.record(name) as record:
            _, address, wanted = _asked(site, name, record, given)
            if address.is_of_labels:
                wanted = narrowed(wanted, _confused(site, name, record, wanted, _labels(record, wanted)), address)
            file = TemporaryFile()  # noqa: SIM115 - the response closes it
            for row in rows_to_keep(record, wanted):
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
        file.seek(0)
        kept = {"content-disposition": f'attachment; filename="{name}-items.jsonl"'}
        return StreamingResponse(_blocks(file), media_type="application/x-ndjson", headers=kept)

    @routes.get("/runs/{name}/items/labels")
    def labels(site: Here, request: Request, name: str, given: GivenAddress) -> Response:
        """The table of expected and answered labels, which takes longer than a page of items: all of them are counted."""
        with site.workspace.record(name) as record:
            _, address, wanted = _asked(site, name, record, given)
            known = _labels(record, wanted)
            confused = _confused(site, name, record, wanted, known)
        return site.draw(
            request,
            "items_labels_part.html.j2" if is_part(request) else "items_labels.html.j2",
            name=name,
            address=address,
            confused=confused,
            is_open=len(known) <= FEW_LABELS or not is_part(request),
        )

    @routes.get("/runs/{name}/items/gate")
    def gate(
        site: Here,
        request: Request,
        name: str,
        measure: QueryText = "",
        change: QueryText = "",
        text: QueryText = "",
        n: QueryNumber = 0,
    ) -> Response:
        with site.workspace.record(name) as record:
            newest = {event.key: event.gate for event in record.all(GateRun)}
        every = gate_items(list(newest.values()))
        found = those_wanted(every, measure=measure, change=change, text=text)
        return site.draw(
            request,
            "items_gate.html.j2",
            name=name,
            gates=list(newest.values()),
            measures=list(dict.fromkeys(one.measure.name for one in every)),
            changes=GATE_CHANGES,
            chosen={"measure": measure, "change": change, "text": text},
            found=found[n : n + A_PAGE],
            total=len(found),
            number=n,
            a_page=A_PAGE,
        )

    @routes.get("/runs/{name}/items/{measurement}/{position}")
    def item(
        site: Here,
        request: Request,
        name: str,
        measurement: Place,
        position: Place,
        address: GivenAddress,
    ) -> Response:
        with site.workspace.record(name) as record:
            found = _found(record, measurement, position)
            lacking = record.lacking_knowledge or frozenset()
            short = partial(excerpt, longest=CUT)
            others = [one for one in record.answers_to(found.item.id, short) if one.system != found.system]
            wanted = address.wanted(record.parts())
            if address.is_of_labels:
                wanted = narrowed(wanted, _confused(site, name, record, wanted, _labels(record, wanted)), address)
            around = _around(record, wanted, address) if "n" in request.query_params else {}
            compared = wanted.system if found.system == wanted.against else wanted.against
            other = next((one for one in others if one.system == compared), None)
            why = score_reason(record, found)
            read = record.last(TaskRead)
            facts = facts_in(record, found.system.rung, found.system.candidate)
            beside = None if other is None else _found(record, other.measurement, other.position)
        return site.draw(
            request,
            "item.html.j2",
            name=name,
            found=found,
            item=found.item,
            kind=failure_kind(found.item, lacking),
            why=why,
            facts=facts,
            sides=side_by_side(found.item.expected, found.item.answer, None if read is None else read.json_schema),
            unmarked=side_by_side(found.item.expected, found.item.expected).expected,
            beside=beside,
            beside_kind=None if beside is None else failure_kind(beside.item, lacking),
            beside_sides=None if beside is None else side_by_side(found.item.answer, beside.item.answer),
            change=None if beside is None else change_of(beside.item, found.item),
            others=others[:MOST_SYSTEMS],
            more_others=max(0, len(others) - MOST_SYSTEMS),
            address=address,
            around=around,
        )

    @routes.get("/runs/{name}/items/{measurement}/{position}/prompt")
    def prompt(
        site: Here,
        request: Request,
        name: str,
        measurement: Place,
        position: Place,
        beside: OptionalPlace = None,
        beside_position: OptionalPlace = None,
    ) -> Response:
        """beside, beside_position: of another system's answer to the item, from whose prompt what differs is marked."""
        with site.workspace.record(name) as record:
            found = _found(record, measurement, position)
            asked = found.item.finish != "refused"
            made = remade_prompt(record, found, site.workspace.folder, _examples(site))
            other = None if beside is None else _found(record, beside, beside_position or 0)
            of_other = None if other is None else remade_prompt(record, other, site.workspace.folder, _examples(site))
        own = () if made is None or of_other is None else _own_turns(made, of_other)
        return site.draw(
            request,
            "item_prompt.html.j2",
            name=name,
            found=found,
            made=made,
            asked=asked,
            own=own,
            compared="" if other is None or of_other is None else other.system.name,
        )

    @routes.get("/runs/{name}/items/{measurement}/{position}/tokens")
    def tokens(site: Here, request: Request, name: str, measurement: Place, position: Place) -> Response:
        with site.workspace.record(name) as record:
            found = _found(record, measurement, position)
            made = remade_prompt(record, found, site.workspace.folder, _examples(site))
        read = None if made is None else rendered_tokens(made, found.item.answer)
        return site.draw(request, "item_tokens.html.j2", found=found, made=made, read=read)

    return routes


def _examples(site: Site) -> HeldOutExamples:
    return site.own(HeldOutExamples, HeldOutExamples)


def _asked(
    site: Site, name: str, record: Record, given: ItemsAddress
) -> tuple[Sequence[MeasuredPart], ItemsAddress, ItemsWanted]:
    """What the record has, the address with what it leaves open filled in, and the items that it names."""
    parts = record.parts()
    address = given.settled(parts, site.workspace.state(name).view)
    return parts, address, address.wanted(parts)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while block := file.read(BLOCK):
            yield block


def _own_turns(prompt: RemadePrompt, other: RemadePrompt) -> tuple[int, ...]:
    """The places of those turns that the other prompt does not hold, wherever it holds them. The answer to one is another turn too,
    also where the other prompt has the same words elsewhere.
    """
    held, own = {(turn.role, turn.content) for turn in other.turns}, list[int]()
    for at, turn in enumerate(prompt.turns):
        answers_own = turn.role == "assistant" and own[-1:] == [at - 1] and prompt.turns[at - 1].role == "user"
        if answers_own or (turn.role, turn.content) not in held:
            own.append(at)
    return tuple(own)


def _found(record: Record, measurement: Place, position: Place) -> RecordedItem:
    found = record.item(measurement, position)
    if found is None:
        raise NotThere("This run has no such item.")
    return found


def _counts(site: Site, name: str, record: Record, wanted: ItemsWanted) -> ItemCounts:
    """Counted again only once the record has changed: whoever turns pages counts the same."""
    state = name, signature(record.folder), wanted
    return site.once("item counts", state, lambda: record.count_items(wanted), MOST_COUNTED)


def _labels(record: Record, wanted: ItemsWanted) -> tuple[str, ...]:
    """Those of the task, none where the answers of several systems are wanted: they are not counted together."""
    read = record.last(TaskRead)
    return () if read is None or wanted.system is None else confusion.labels_of(read.task)


def _confused(site: Site, name: str, record: Record, wanted: ItemsWanted, labels: Sequence[str]) -> Confusion | None:
    """Whatever result or change is chosen; the other choices narrow it. None where the answers are no labels."""
    if not labels:
        return None
    every = replace(wanted, kind=None, change=None)
    state = name, signature(record.folder), every
    return site.once("confusions", state, lambda: confusion.recorded(record, every, labels), MOST_COUNTED)


def _verdict(site: Site, name: str, record: Record, wanted: ItemsWanted) -> str:
    """Where the list of a tested system has more items than its verdict rests on: both scores, else ""."""
    view = site.workspace.state(name).view
    if view is None or wanted.system is None or wanted.split not in ("", "test"):
        return ""
    system = wanted.system
    rung = next((one for one in view.rungs if (one.name, one.chosen) == (system.rung, system.candidate)), None)
    found = None if rung is None else answered_beyond(record, rung)
    return (
        "" if rung is None or rung.test is None or found is None else of_all_answered(rung.test, found.n, found.score)
    )


def _in_common(site: Site, name: str, record: Record, wanted: ItemsWanted) -> dict[str, int]:
    """By split how many items two systems have in common, to choose one where the chosen split has none."""
    parts = record.parts() if wanted.against is not None else []
    counts = {
        split: _counts(site, name, record, replace(wanted, split=split, kind=None, change=None)).every
        for split in splits_of_both(parts, wanted)
    }
    return {split: count for split, count in counts.items() if count}


def _around(record: Record, wanted: ItemsWanted, address: ItemsAddress) -> dict[str, str]:
    """Addresses of the items before and after this one in the list that it was opened from."""
    first = max(0, address.number - 1)
    near = record.page_of_items(wanted, first, 3, partial(excerpt, longest=0))
    found = {}
    for at, (one, _) in enumerate(near, first):
        if at in (address.number - 1, address.number + 1):
            side = "before" if at < address.number else "after"
            found[side] = f"{one.measurement}/{one.position}?{address.query(number=at)}"
    return found


Runs = Annotated[list[str], Query(default_factory=list)]


def _checked() -> APIRouter:
    routes = APIRouter()

    @routes.get("/answers")
    def answers(site: Here, request: Request, of: Runs) -> Response:
        """The line that a page of these runs shows and follows. Where one was changed, the page loads again, and says so."""
        mark = answers_mark(site.workspace, of)
        if any(site.workspace.state(name).fault for name in of):
            return Response(headers={"hx-refresh": "true"})
        failed = any(map(site.workspace.could_not_check, of))
        checked = all(map(site.workspace.is_checked, of))
        return site.draw(request, "answers.html.j2", runs=of, mark=mark, checked=checked, failed=failed)

    @routes.get("/answers/mark")
    def marked(site: Here, of: Runs) -> Response:
        return PlainTextResponse(answers_mark(site.workspace, of))

    return routes


def answers_mark(workspace: Workspace, runs: list[str]) -> str:
    """Changes once the answers are checked. Begins with "running" until then, so that pages look again within seconds."""
    seen = [(workspace.state(name).fault, workspace.could_not_check(name)) for name in runs]
    return mark_of(seen, works=not all(map(workspace.is_checked, runs)))
