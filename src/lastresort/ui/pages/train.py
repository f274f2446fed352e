"""A training apart from a climb: its file as form and as text, started, followed, stopped, resumed, exported."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import Popen
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, File, Request, Response, UploadFile
from fastapi.responses import PlainTextResponse, RedirectResponse
from markupsafe import Markup

from lastresort.app.consent import consent_for
from lastresort.app.held_out import HeldOutRows, UnreadTask, files_that_hold_out, held_out_rows, refuse_held_out
from lastresort.app.plan import plan_options
from lastresort.app.train import draft_training, training_from
from lastresort.app.watch import TrainingNow, training_now, trainings_below
from lastresort.errors import LastresortError
from lastresort.foreign import read_text
from lastresort.interop.exporting import TARGETS
from lastresort.report.charts.early_warnings import early_chart
from lastresort.report.charts.loss import drawn_figure, loss_chart
from lastresort.report.words.training import training_lines
from lastresort.spec.document import YamlDocument, parse_document
from lastresort.spec.training import TRAINING, TrainingKeys
from lastresort.spec.values import one_of
from lastresort.train.settings import TrainingFile
from lastresort.types import Json
from lastresort.ui import drafts, jobs, trainings
from lastresort.ui.children import children_of
from lastresort.ui.drafts import TRAINING_DRAFT as DRAFT
from lastresort.ui.findings import files_state
from lastresort.ui.site import Here, Site, Text, go_to, placed
from lastresort.ui.trainings import FIELDS, FILE, STEM
from lastresort.ui.workspace import NotThere
from lastresort.ui.yaml_form import EditedFile, FilledForm, editing, filled, plain_lines, with_plain_ends

EVERY_S, STEPS_A_S = 2, 2500  # how often a training at work is looked at: the longer it is, the less often
FIGURES = {
    "loss": "loss",
    "reward": "reward",
    "eval_loss": "held out",
    "learning_rate": "learning rate",
    "kl_general": "KL",
}


@dataclass(frozen=True, slots=True)
class ShownTraining:
    """words: the last that its process printed. figures: of the last step, by what they are called. lines: of a finished one."""

    seen: TrainingNow
    words: tuple[str, ...]
    charts: list[tuple[str, Markup]]
    figures: list[tuple[str, float]]
    lines: list[str]
    command: str


class BegunTrainings(dict[tuple[str, str], Popen[bytes]]):
    """By folder and file."""


def router() -> APIRouter:
    routes = APIRouter()
    routes.include_router(_making())
    routes.include_router(_running())
    return routes


def _making() -> APIRouter:
    routes = APIRouter()
    routes.include_router(editing(EditedFile(
        "/train", FILE, FIELDS, TRAINING,
        form=lambda site, name, text: form_of(text, _text(site, name)[0]),
        keep=lambda site, name, text, seen: drafts.keep_text(_text(site, name)[0], text, DRAFT, seen=seen),
    )))  # fmt: skip

    @routes.get("/train")
    def train(site: Here, request: Request) -> Response:
        made = {
            name: trainings.stems_in(site.workspace.task_folder(name)) for name in trainings.names_in(site.workspace)
        }
        below = [(seen, figures_of(seen)) for seen in trainings_below(site.workspace.folder)]
        return site.draw(request, "train.html.j2", made=made, data=trainings.data_in(site.workspace), below=below)

    @routes.post("/train/upload")
    def upload(site: Here, file: Annotated[UploadFile, File()], name: Text = "") -> Response:
        path = drafts.keep_upload(site.workspace, file.filename or "", name, file.file)
        try:
            drafts.keep_text(path.parent, draft_training(path), DRAFT)
        except LastresortError as error:
            path.unlink(missing_ok=True)
            path.parent.rmdir()
            raise drafts.by_its_name(error, path) from error
        return go_to(f"/train/{path.parent.name}")

    @routes.post("/train/on")
    def on(site: Here, data: Text) -> Response:
        if data not in trainings.data_in(site.workspace):
            raise NotThere("There is no such file of rows here.")
        path = site.workspace.tasks / data
        if drafts.text_of(path.parent, DRAFT, STEM) is None:
            drafts.keep_text(path.parent, draft_training(path, trainings.task_of_rows(path.parent)), DRAFT)
        return go_to(f"/train/{path.parent.name}")

    @routes.get("/train/{name}")
    def editor(site: Here, request: Request, name: str) -> Response:
        folder, text = _text(site, name)
        return site.draw(
            request, "train_file.html.j2", name=name, form=form_of(text, folder), url=f"/train/{name}", file=FILE,
            stems=trainings.stems_in(folder), held_out=_held_out(site, text, folder),
        )  # fmt: skip

    @routes.get("/train/{name}/plan")
    def plan(site: Here, name: str) -> Response:
        folder, text = _text(site, name)
        file = _of_text(text, folder)
        asked = site.once(
            "plan of training", (text, files_state(file.data.train)), lambda: plan_options(file, site.workspace.folder)
        )
        return RedirectResponse(f"/plan?{urlencode(asked)}", 303)

    return routes


def _running() -> APIRouter:
    routes = APIRouter()

    def loads(site: Site, name: str, path: Path) -> bool:
        """A process that still reads its data and its model holds no folder yet."""
        process = _begun(site).get((name, path.stem))
        return process is not None and process.poll() is None

    def look(site: Site, name: str, path: Path) -> TrainingNow:
        seen = training_now(path)
        return replace(seen, state="running") if seen.state != "running" and loads(site, name, path) else seen

    def log_of(site: Site, name: str, path: Path) -> Path:
        return site.workspace.runs / jobs.LOGS / f"{_log(name, path)}.log"

    def begin(site: Site, name: str, path: Path, reaches: Sequence[str], *options: str) -> None:
        words, log = ("train", path.relative_to(site.workspace.folder).as_posix(), *options), log_of(site, name, path)
        log.unlink(missing_ok=True)  # what an earlier process said is over
        job = jobs.Command(words, site.workspace.folder, log)
        _begun(site)[name, path.stem] = jobs.start(job, reaches)

    def mark_now(site: Site, name: str, path: Path) -> str:
        return trainings.mark(path, log_of(site, name, path), loads=loads(site, name, path))

    def drawn(site: Site, request: Request, template: str, name: str, path: Path, *, text: str = "") -> Response:
        mark = mark_now(site, name, path)  # before it is read: what changes meanwhile is drawn again
        seen, below = look(site, name, path), site.workspace.folder
        output = seen.output.relative_to(below) if seen.output.is_relative_to(below) else Path(seen.output.name)
        shown = ShownTraining(
            seen,
            words=jobs.last_words(site.workspace.runs, site.workspace.runs / _log(name, path)),
            charts=charts_of(seen),
            figures=figures_of(seen),
            lines=[] if seen.record is None else training_lines(seen.record, _objective(seen), output),
            command=_command(site, path),
        )
        return site.draw(
            request,
            template,
            name=name,
            stem=path.stem,
            every_s=max(EVERY_S, len(seen.curve) // STEPS_A_S),
            shown=shown,
            seen=seen,
            mark=mark,
            text=text,
            targets=TARGETS,
        )

    @routes.get("/train/{name}/confirm")
    def confirm(site: Here, request: Request, name: str, stem: str = "") -> Response:
        consent = consent_for(_file(site, name, stem))
        return site.draw(request, "train_confirm.html.j2", name=name, stem=stem, consent=consent)

    @routes.post("/train/{name}/start")
    def start(site: Here, name: str, yes: Text = "", text: Text = "", seen: Text = "") -> Response:
        text = plain_lines(text)
        folder, there = _text(site, name)
        if text:  # typed a moment ago, and not sent yet
            drafts.keep_text(folder, text, DRAFT, seen=seen)
        text = text or there
        file = _of_text(text, folder)
        consent = consent_for(file)
        if consent.needed and yes != consent.mark:
            return go_to(f"/train/{name}/confirm")
        refuse_held_out(file, trainings.task_next_to(folder))
        path = drafts.settled(folder, text, STEM)
        if look(site, name, path).state == "new":
            begin(site, name, path, consent.reaches)
        return go_to(f"/train/{name}/{path.stem}")

    @routes.get("/train/{name}/{stem}")
    def training(site: Here, request: Request, name: str, stem: str) -> Response:
        path = trainings.file_in(site.workspace, name, stem)
        return drawn(site, request, "training.html.j2", name, path, text=with_plain_ends(read_text(path)))

    @routes.get("/train/{name}/{stem}/mark")
    def mark(site: Here, name: str, stem: str) -> Response:
        return PlainTextResponse(mark_now(site, name, trainings.file_in(site.workspace, name, stem)))

    @routes.get("/train/{name}/{stem}/now")
    def panel(site: Here, request: Request, name: str, stem: str) -> Response:
        return drawn(site, request, "training_now.html.j2", name, trainings.file_in(site.workspace, name, stem))

    @routes.post("/train/{name}/{stem}/stop")
    def stop(site: Here, request: Request, name: str, stem: str) -> Response:
        path = trainings.file_in(site.workspace, name, stem)
        seen, process = training_now(path), _begun(site).get((name, stem))
        if seen.state == "running":
            jobs.ask_to_stop(seen.output)
        elif process is not None and process.poll() is None:
            process.terminate()
        return placed(drawn(site, request, "training_now.html.j2", name, path), "#now")

    @routes.post("/train/{name}/{stem}/resume")
    def resume(site: Here, name: str, stem: str, yes: Text = "") -> Response:
        path = trainings.file_in(site.workspace, name, stem)
        seen, file = look(site, name, path), _file(site, name, stem)
        consent = consent_for(file)
        if seen.state in ("stopped", "new"):
            if consent.needed and yes != consent.mark:
                return go_to(f"/train/{name}/confirm?stem={stem}")
            refuse_held_out(file, trainings.task_next_to(path.parent))
            jobs.withdraw_stop(seen.output)
            begin(site, name, path, consent.reaches, *(("--resume",) if seen.state == "stopped" else ()))
        return go_to(f"/train/{name}/{stem}")  # also from the page itself: so that the browser follows it

    @routes.post("/train/{name}/{stem}/export")
    def export(site: Here, request: Request, name: str, stem: str, to: Text, base: Text = "") -> Response:
        return _exported(site, request, name, stem, to, base, begin=True)

    @routes.get("/train/{name}/{stem}/export")
    def exported(site: Here, request: Request, name: str, stem: str, to: str, base: str = "") -> Response:
        return _exported(site, request, name, stem, to, base, begin=False)

    def _exported(site: Site, request: Request, name: str, stem: str, to: str, base: str, *, begin: bool) -> Response:
        path = trainings.file_in(site.workspace, name, stem)
        seen = look(site, name, path)
        source = seen.output if seen.state == "finished" else path
        words = [
            "export",
            source.relative_to(site.workspace.folder).as_posix(),
            "--to",
            one_of("to", to, tuple(TARGETS)),
        ]
        words += [f"--base={base}"] if base else []
        state = (*words, path.stat().st_mtime_ns, seen.state)
        question, children = ("export", name, stem), children_of(site)
        if not begin and not children.knows(question, state):
            raise NotThere("This export was not started.")
        printed = children.printed(question, state, words)
        return site.draw(request, "training_export.html.j2", name=name, stem=stem, to=to, base=base, printed=printed)

    return routes


def _begun(site: Site) -> BegunTrainings:
    return site.own(BegunTrainings, BegunTrainings)


def form_of(text: str, folder: Path) -> FilledForm:
    """The form beside the text, with what is wrong with it."""

    def read(document: YamlDocument) -> Mapping[str, Json]:
        return training_from(document, folder / FILE).resolved

    return filled(FIELDS, text, FILE, TRAINING, read, TrainingKeys)


def figures_of(seen: TrainingNow) -> list[tuple[str, float]]:
    """Of its last step, by what they are called."""
    return [(label, seen.figures[key]) for key, label in FIGURES.items() if key in seen.figures]


def charts_of(seen: TrainingNow) -> list[tuple[str, Markup]]:
    """Captions and pictures of what was logged so far."""
    # The chart's name for the loss on what is held out is that of a climb's dev.
    drawn = [{"dev_loss" if key == "eval_loss" else key: value for key, value in line.items()} for line in seen.curve]
    curves = {seen.stem: drawn}
    title = f"{drawn_figure(curves).capitalize()} by step; dots: what is held out"
    found = [
        (title, loss_chart(curves, title)),
        ("How far it moved from its base", early_chart(curves, "KL and perplexity by step")),
    ]
    return [(caption, picture) for caption, picture in found if picture is not None]


def _objective(seen: TrainingNow) -> str:
    found = seen.record.file.get("objective", "sft") if seen.record is not None else "sft"
    return found if isinstance(found, str) else next(iter(found))


def _log(name: str, path: Path) -> str:
    return f"train.{name}.{path.stem}"


def _command(site: Site, path: Path) -> str:
    return shlex.join(["lastresort", "train", path.relative_to(site.workspace.folder).as_posix()])


def _text(site: Site, name: str) -> tuple[Path, str]:
    """The folder of a training, and its text."""
    folder = site.workspace.task_folder(name)
    text = drafts.text_of(folder, DRAFT, STEM)
    if text is None:
        raise NotThere(f'There is no training "{name}" here.')
    return folder, text


def _held_out(site: Site, text: str, folder: Path) -> list[HeldOutRows | UnreadTask]:
    """What it reads of the items that tasks next to it hold out; [] while the text cannot be read."""
    try:
        file = _of_text(text, folder)
        keys = (
            file.need,
            file.pairs_as_labels,
            file.trained_turns,
            tuple(file.columns.items()),
        )  # on which its rows depend
        state = folder, keys, files_state((*file.data.train, *files_that_hold_out(file)))
        return site.once("held out", state, lambda: held_out_rows(file))
    except LastresortError:
        return []


def _file(site: Site, name: str, stem: str) -> TrainingFile:
    """A training that was started, or, without a stem, the one that is being made."""
    if stem:
        path = trainings.file_in(site.workspace, name, stem)
        return training_from(parse_document(read_text(path), path.name, TRAINING), path)
    folder, text = _text(site, name)
    return _of_text(text, folder)


def _of_text(text: str, folder: Path) -> TrainingFile:
    return training_from(parse_document(text, FILE, TRAINING), folder / FILE)
