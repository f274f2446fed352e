"""A form beside the text of a task file or a training file: each field is a key of the file, and the text is the one truth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import FormData

from lastresort.errors import InputError, LastresortError, TaskError
from lastresort.report.words.draft import reason_for
from lastresort.report.words.wording import capital
from lastresort.spec.document import TASK, FileKind, YamlDocument, parse_document, read_value
from lastresort.spec.edit import with_comments, with_key
from lastresort.spec.values import Section, dotted
from lastresort.types import Json
from lastresort.ui.site import Here, SentForm, Site, placed
from lastresort.ui.workspace import NotThere

Control = Literal["text", "long", "value", "choice", "set"]
MOST_TYPED = 60_000  # characters of a text; twenty times what a task needs
Reader = Callable[[YamlDocument], Mapping[str, Json]]


@dataclass(frozen=True, slots=True)
class FormField:
    """key: dotted. control: value for what YAML reads as a number or a word, set for some of the choices in their order.
    short: see `spec.edit.with_key`. group: the heading of the fields that begin with this one, "" where it is one of those before.
    """

    key: str
    label: str
    control: Control = "value"
    choices: tuple[str, ...] = ()
    hint: str = ""
    short: str = ""
    group: str = ""

    @property
    def id(self) -> str:
        return f"field-{self.key.replace('.', '-')}"


@dataclass(frozen=True, slots=True)
class FilledField:
    """A field as the text fills it. usual: the value that the key has without being in the file. elsewhere: the text says what no
    field of this kind holds, so that it is changed there.
    """

    field: FormField
    value: str = ""
    chosen: tuple[str, ...] = ()
    usual: str = ""
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class FilledForm:
    """fault: why the text cannot be used, one sentence. readable: whether fields can change it. wrong: the field that is at fault.
    beside: what is wrong with it, without its place. note: on a text without a fault.
    """

    text: str
    fields: tuple[FilledField, ...]
    fault: str = ""
    readable: bool = True
    wrong: FormField | None = None
    beside: str = ""
    note: str = ""

    def at_fault(self, error: LastresortError, wrong: FormField | None) -> FilledForm:
        """With why it cannot be used, and which of its fields that is about."""
        beside = (
            "" if wrong is None else capital(str(InputError(error.found, expected=error.expected, remedy=error.remedy)))
        )
        return replace(self, fault=str(error), wrong=wrong, beside=beside)

    @property
    def mark(self) -> str:
        return mark_of(self.text)


@dataclass(frozen=True, slots=True)
class EditedFile:
    """A file that a page shows as form and text. path: of the pages of all such files. file: how errors call it. form: of a name
    and a text. keep: the text of a name, with the mark of the one that was changed; raises InputError where another is there.
    says: what else the browser hears of after each change. answers: gives key and value of an answer that somebody typed to a
    question of this name; raises InputError for one that cannot be read.
    """

    path: str
    file: str
    fields: Sequence[FormField]
    kind: FileKind
    form: Callable[[Site, str, str], FilledForm]
    keep: Callable[[Site, str, str, str], None]
    says: tuple[str, ...] = ()
    answers: Callable[[str, str], tuple[str, Json]] | None = None


def editing(edited: EditedFile) -> APIRouter:
    """The routes by which the form changes with the text, and the text with a field."""
    routes = APIRouter()

    @routes.post(f"{edited.path}/{{name}}/text")
    def typed(site: Here, request: Request, name: str, sent: SentForm) -> Response:
        return answer(site, request, name, _sent_text(sent), sent, "form_fields_answered.html.j2")

    @routes.post(f"{edited.path}/{{name}}/field")
    def changed(site: Here, request: Request, name: str, key: str, sent: SentForm) -> Response:
        text, refused = _sent_text(sent), None
        given = [str(value) for value in sent.getlist(key)]
        try:
            text = with_field(edited.fields, text, key, given, edited.file, edited.kind)
        except LastresortError as error:
            refused = error
        is_set = any(one.key == key and one.control == "set" for one in edited.fields)
        if refused and is_set:  # its ticks go back to what the text says
            drawn = answer(site, request, name, text, sent, "form_fields_answered.html.j2", refused, key)
            drawn.headers.update({"hx-retarget": "#beside", "hx-reswap": "outerHTML"})
            return drawn
        return answer(site, request, name, text, sent, "form_changed.html.j2", refused, key)

    @routes.post(f"{edited.path}/{{name}}/answer")
    def answered(
        site: Here, request: Request, name: str, of: Annotated[list[str], Query()], sent: SentForm
    ) -> Response:
        """The text and every field anew: an answer may be the value of a field. of: the questions, of which some may stay
        open.
        """
        if edited.answers is None:
            raise NotThere("There are no questions here.")
        text = _sent_text(sent)
        typed = {one: ", ".join(map(str, sent.getlist(one))) for one in of}
        typed = {one: said for one, said in typed.items() if said.strip()}
        if not typed:
            raise InputError("found no answer", remedy="Answer one of the questions at least.")
        for one, said in typed.items():
            key, value = edited.answers(one, said)
            text = _set(text, key, value, name=edited.file, kind=edited.kind)
        return placed(answer(site, request, name, text, sent, "form_answered.html.j2"), "#text", "outerHTML")

    def answer(
        site: Site,
        request: Request,
        name: str,
        text: str,
        sent: FormData,
        template: str,
        refused: LastresortError | None = None,
        key: str = "",
    ) -> Response:
        """refused: why what the field of `key` says could not be written into the text."""
        form = edited.form(site, name, text)
        events: dict[str, dict[str, str]] = {"kept": {"mark": form.mark}}  # for the next change of this text
        try:
            edited.keep(site, name, text, str(sent.get("seen", "")))
        except InputError as error:
            refused, key, events = error, "", {}
        if refused is not None:
            form = form.at_fault(refused, next((one for one in edited.fields if one.key == key), None))
        drawn = site.draw(request, template, form=form, url=f"{edited.path}/{name}", file=edited.file)
        drawn.headers["hx-trigger"] = json.dumps(events | {event: {} for event in edited.says})
        return drawn

    return routes


def _sent_text(sent: FormData) -> str:
    return plain_lines(str(sent.get("text", "")))


def mark_of(text: str) -> str:
    """Changes with the text: who sends it back has seen this text and no other."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def filled(
    fields: Sequence[FormField], text: str, name: str, kind: FileKind, read: Reader, keys: type[Section]
) -> FilledForm:
    """read: makes the file with every default of a document, and raises LastresortError for one that cannot be used. keys: of the
    file, whose own defaults stand beside a text that has faults.
    """
    try:
        document = parse_document(text, name, kind)
    except TaskError as error:
        return FilledForm(text, tuple(FilledField(one) for one in fields), str(error), readable=False)
    fault = None
    try:
        usual = read(document)
    except LastresortError as error:
        usual, fault = _defaults(keys), error
    form = FilledForm(text, tuple(_filled(one, document.values, usual) for one in fields))
    return form if fault is None else form.at_fault(fault, field_at_fault(fields, fault))


def field_at_fault(fields: Sequence[FormField], error: LastresortError) -> FormField | None:
    """The field of the key that is wrong, of the nearest above it, or the first of those below."""
    key = error.key if isinstance(error, TaskError) else ()
    by_key = {one.key: one for one in fields}
    above = (by_key.get(dotted(key[:end])) for end in range(len(key), 0, -1))
    below = (one for one in fields if key and one.key.startswith(f"{dotted(key)}."))
    return next((one for one in (*above, *below) if one is not None), None)


def _defaults(keys: type[Section]) -> Mapping[str, Json]:
    found = {
        name: one.get_default(call_default_factory=True)
        for name, one in keys.model_fields.items()
        if not one.is_required()
    }
    return {
        name: value.model_dump(mode="json") if isinstance(value, Section) else value for name, value in found.items()
    }


def _filled(field: FormField, values: Mapping[str, Json], usual: Mapping[str, Json]) -> FilledField:
    value, default = _at(values, field), _at(usual, field)
    if field.control == "set":
        found = value if value is not None else default
        if found is not None and not isinstance(found, list | tuple):
            return FilledField(field, elsewhere=True)
        return FilledField(field, chosen=tuple(map(str, found or ())))
    fits = not isinstance(value, Mapping | list | tuple) and (
        field.control != "choice" or value is None or _plain(value) in field.choices
    )
    return FilledField(field, _plain(value) if fits else "", usual=_plain(default), elsewhere=not fits)


def _at(values: Mapping[str, Json], field: FormField) -> Json:
    found: Json = values
    for part in field.key.split("."):
        if not isinstance(found, Mapping):
            return found if part == field.short else None
        found = found.get(part)
    return found


def _plain(value: Json) -> str:
    if value is None or isinstance(value, Mapping | list | tuple):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


def with_field(
    fields: Sequence[FormField], text: str, key: str, given: Sequence[str], name: str, kind: FileKind = TASK
) -> str:
    """The text after a field was changed; an empty one goes, so that its default holds. Raises TaskError."""
    field = next((one for one in fields if one.key == key), None)
    if field is None:
        raise TaskError(f'found no field "{key[:60]}"', where="form", remedy="Reload the page.")
    return _set(text, key, _typed(field, given), short=field.short, name=name, kind=kind)


def _set(text: str, key: str, value: Json, *, name: str, kind: FileKind, short: str = "") -> str:
    """As `with_key`; what a draft said of the value before is said of it no more."""
    changed = with_key(text, key, value, short=short, name=name, kind=kind)
    if changed == text:
        return text
    top = key.partition(".")[0]
    now = parse_document(changed, name, kind).values.get(top) if changed.strip() else None
    text = with_comments(text, top, lambda why: reason_for(top, why, now), name=name, kind=kind)
    return with_key(text, key, value, short=short, name=name, kind=kind)


def _typed(field: FormField, given: Sequence[str]) -> Json:
    if field.control == "set":
        chosen: list[Json] = [choice for choice in field.choices if choice in given]
        if not chosen:
            raise TaskError("found nothing ticked", where=field.label, remedy="Choose at least one.")
        return chosen
    text = plain_lines(given[0] if given else "").strip()
    if not text:
        return None
    if field.control in ("value", "choice"):
        value: Json = read_value(text, field.label)
        return value
    return text


def plain_lines(text: str) -> str:
    """A text that a browser sends, with the ends of lines that files have here. Raises TaskError for one that is too long."""
    if len(text) > MOST_TYPED:
        raise TaskError(
            f"found {len(text):,} characters", where="text", expected=f"at most {MOST_TYPED:,}", remedy="Write less."
        )
    return with_plain_ends(text)


def with_plain_ends(text: str) -> str:
    """Browsers send lines that end in CR LF, and some editors write them. A field shows both as LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
