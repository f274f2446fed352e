"""Mark answers of a run by hand, one key each: right or wrong, or which of two is better without knowing whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response

from lastresort.app.items import scorer_of
from lastresort.app.marks import (
    ANSWERS,
    PAIRS,
    PREFERENCES,
    Drawing,
    MarkFiles,
    RatingCard,
    preferred,
    row_of,
    same_text,
    with_scorer,
)
from lastresort.records.events.run import TaskRead
from lastresort.records.items import ItemPlace, MeasuredPart
from lastresort.records.measurement import DEV
from lastresort.records.record import Record
from lastresort.report.confusion import labels_of
from lastresort.ui.items import ItemsAddress
from lastresort.ui.site import Here, QueryNumber, QueryText, Site, Text
from lastresort.ui.workspace import NotThere, signature

Seed = Annotated[int, Form()]
Number = Annotated[int, Form(ge=0)]
Against = Annotated[str, Form(alias="with")]
LABELS_AT_ONCE = 12  # more are folded
KEYS = {"right": "r", "wrong": "w", "A": "a", "B": "b", "tie": "t"}


def router() -> APIRouter:
    routes = APIRouter()

    @routes.get("/runs/{name}/rate")
    def rate(
        site: Here,
        request: Request,
        name: str,
        system: QueryText = "",
        against: Annotated[str, Query(alias="with")] = "",
        split: QueryText = "",
        seed: QueryNumber = 0,
        at: QueryNumber = 0,
    ) -> Response:
        with site.workspace.record(name) as record:
            parts = record.parts()
            drawing = _settled(site, name, parts, ItemsAddress(system, against, split), seed)
            if drawing is None:
                return site.draw(request, "rate.html.j2", name=name, drawing=None, drawn=None)
            return _drawn(site, request, "rate.html.j2", record, drawing, at, parts)

    @routes.post("/runs/{name}/rate/mark")
    def mark(
        site: Here,
        request: Request,
        name: str,
        system: Text,
        split: Text,
        seed: Seed,
        number: Number,
        item: Text,
        mark: Text,
        against: Against = "",
    ) -> Response:
        with site.workspace.record(name) as record:
            drawing = _named(name, record.parts(), ItemsAddress(system, against, split), seed)
            card = _card(record, drawing, _order(site, record, drawing), number)
            if card is None or card.found.item.id != item:
                raise NotThere("This item is not in the drawing any more. Reload the page.")
            _files(site, name).add(drawing, row_of(drawing, card, mark))
            return _drawn(site, request, "rate_card.html.j2", record, drawing, number + 1)

    @routes.post("/runs/{name}/rate/undo")
    def undo(
        site: Here,
        request: Request,
        name: str,
        system: Text,
        split: Text,
        seed: Seed,
        number: Number,
        against: Against = "",
    ) -> Response:
        with site.workspace.record(name) as record:
            drawing = _named(name, record.parts(), ItemsAddress(system, against, split), seed)
            undone = _files(site, name).undo(drawing) or {}
            order = _order(site, record, drawing)
            at = next((at for at, place in enumerate(order) if place.id == undone.get("id")), number)
            return _drawn(site, request, "rate_card.html.j2", record, drawing, at)

    return routes


@dataclass(frozen=True, slots=True)
class RatingShown:
    """A card with all around it. marked: how many of this drawing. drawn: how many there are. skipped: how many of them are left
    once there is no next one. skip: the address of the next one, or of the start.
    """

    card: RatingCard | None
    marked: int
    drawn: int
    skipped: int
    skip: str


@dataclass(frozen=True, slots=True)
class RatedTask:
    """What the answers are marked against. instruction: "" where the record does not say. labels: that an answer may be, () where
    it is no label.
    """

    instruction: str
    labels: tuple[str, ...]

    @classmethod
    def of(cls, record: Record) -> RatedTask:
        read = record.last(TaskRead)
        return cls("", ()) if read is None else cls(str(read.task.get("about") or "").strip(), labels_of(read.task))


def _files(site: Site, name: str) -> MarkFiles:
    return MarkFiles(site.workspace.task_folder(site.workspace.state(name).home or name))


def _settled(site: Site, name: str, parts: list[MeasuredPart], address: ItemsAddress, seed: int) -> Drawing | None:
    """Dev where nothing else is named: whoever looks at test items for long has seen the test."""
    if not parts:
        return None
    if not address.system:
        address = replace(address, system=address.settled(parts, site.workspace.state(name).view).system)
    if not address.split:
        splits = [part.split for part in parts if part.system.name == address.system]
        address = replace(address, split=DEV if DEV in splits else next(iter(splits), ""))
    return _named(name, parts, address, seed)


def _named(name: str, parts: list[MeasuredPart], address: ItemsAddress, seed: int) -> Drawing:
    """Raises NotThere for a system or a split that the record does not hold."""
    wanted = address.wanted(parts)
    if wanted.system is None or (address.against and wanted.against is None) or not wanted.split:
        raise NotThere("This run has no such system or split.")
    against = wanted.against.name if wanted.against is not None and wanted.against != wanted.system else ""
    return Drawing(name, wanted.system.name, against, wanted.split, seed)


def _order(site: Site, record: Record, drawing: Drawing) -> list[ItemPlace]:
    """Drawn again only once the record has changed."""
    state = drawing, signature(record.folder)
    wanted = ItemsAddress(drawing.system, drawing.against, drawing.split).wanted
    return site.once("drawings", state, lambda: drawing.order(record.places_of_items(wanted(record.parts()))))


def _card(record: Record, drawing: Drawing, order: list[ItemPlace], number: int) -> RatingCard | None:
    if not 0 <= number < len(order):
        return None
    place = order[number]
    found = record.item(place.measurement, place.position)
    other = None if place.other is None else record.item(place.other.measurement, place.other.position)
    return None if found is None else RatingCard(number, found, other, drawing.swaps(found.item.id))


def _unmarked(
    record: Record, drawing: Drawing, order: list[ItemPlace], at: int, marked: set[object]
) -> Iterator[RatingCard]:
    """Those from `at` on that are not marked yet, and are no ties by themselves."""
    for number in range(at, len(order)):
        if order[number].id not in marked:
            card = _card(record, drawing, order, number)
            if card is not None and not same_text(card):
                yield card


def _drawn(
    site: Site,
    request: Request,
    template: str,
    record: Record,
    drawing: Drawing,
    at: int,
    parts: list[MeasuredPart] | None = None,
) -> Response:
    files, order = _files(site, drawing.run), _order(site, record, drawing)
    if drawing.against:
        files.complete()
    rows = files.marked(drawing)
    marked: set[object] = {row.get("id") for row in rows}
    card = next(_unmarked(record, drawing, order, at, marked), None)
    skipped = 0 if card is not None else sum(1 for _ in _unmarked(record, drawing, order, 0, marked))
    query = {"system": drawing.system, "with": drawing.against, "split": drawing.split, "seed": drawing.seed}
    skip = urlencode({**query, "at": 0 if card is None else card.number + 1})
    folder = files.folder.relative_to(site.workspace.folder)
    return site.draw(
        request,
        template,
        name=drawing.run,
        drawing=drawing,
        drawn=RatingShown(card, len(rows), len(order), skipped, skip),
        agreed=with_scorer(rows, pairs=bool(drawing.against)),
        preferred=preferred(rows) if drawing.against else None,
        scorer=scorer_of(record),
        task=RatedTask.of(record),
        labels_at_once=LABELS_AT_ONCE,
        keys=KEYS,
        systems=list(dict.fromkeys(part.system.name for part in parts or ())),
        splits=list(dict.fromkeys(part.split for part in parts or ())),
        path=folder / (PAIRS if drawing.against else ANSWERS),
        preferences=folder / PREFERENCES,
    )
