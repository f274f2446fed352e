"""`report.html` of a run: one file that opens offline, drawn from the folder alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastresort.records.atomic import write_atomically
from lastresort.records.record import Record
from lastresort.report import (
    break_even,
    comparison,
    drift,
    dumbbell_chart,
    failure_modes,
    findings,
    gate_chart,
    gate_summary,
    judge,
    ladder_chart,
    repairs,
    retrieval,
    wording,
)
from lastresort.report.cost_chart import cost_chart
from lastresort.report.decision import read_decision
from lastresort.report.differences import clipped, side_by_side
from lastresort.report.early_warnings import early_warnings
from lastresort.report.gate import in_limits, in_points
from lastresort.report.labelled import labelled
from lastresort.report.loss_chart import drawn_figure, loss_chart, went_furthest
from lastresort.report.story import RungStory, Story, gather
from lastresort.report.tradeoff_chart import tradeoff_chart

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

FILE_NAME = "report.html"
LONGEST_INPUT = 700

# No character that HTML forbids or that could reorder the text around it reaches the page: control characters and
# bidirectional overrides become visible signs, halves of surrogate pairs the replacement character.
_VISIBLE = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(
        [*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)], 0xFFFD
    ),
}


def write_report(folder: Path) -> Path:
    """Draw `report.html` from record.sqlite and decision.json of a run.

    Raises DataError if one of them is missing or damaged, InfrastructureError if the disk refuses.
    """
    decision = read_decision(folder)
    with Record.open(folder, read_only=True) as record:
        story = gather(record, decision)
    path = folder / FILE_NAME
    write_atomically(path, page(story, folder.name))
    return path


def page(story: Story, run: str) -> str:
    """The whole page. run: name of the run's folder, for the line that says how to draw it again."""
    scale = ladder_chart.axis_of(story.decision)
    text = _template().render(
        story=story,
        decision=story.decision,
        run=run,
        scale=scale,
        unit=wording.unit_of(story.decision),
        style=_style(),
        ladder_finding=findings.of_ladder(story.decision),
        cost_finding=findings.of_cost(story.total, _costs(story)),
        reason_of=partial(_reason, rungs=[rung.name for rung in story.rungs]),
        data_rows=labelled(story.data),
        task_text=_yaml(story.task),
    )
    return text.translate(_VISIBLE)


def _costs(story: Story) -> dict[str, dict[str, float]]:
    rungs = {rung.name: rung.entry["cost"] for rung in story.rungs if rung.entry is not None and rung.entry["applies"]}
    gate = {"gate": story.decision["gate"]["spent"]} if story.decision["gate"] else {}
    gate |= {"the first gate": story.decision["first_gate"]["spent"]} if story.decision["first_gate"] else {}
    compared = {f"{comparison.NAME} ({entry['way']})": entry["cost"] for entry in story.decision["compare"]}
    judged = {judge.NAME: story.decision["judge"]["cost"]} if story.decision["judge"] else {}
    return {**rungs, **judged, **gate, **compared}


def _training(rung: RungStory) -> dict[str, Any] | None:
    """What the training part of a rung shows: title, chart, and the remark on shared beginnings."""
    if not rung.trained:
        return None
    curves = {run.candidate: run.curve for run in rung.trained}
    title = findings.of_training(curves, rung.entry["chosen"] if rung.entry else None)
    return {
        "title": title,
        "chart": loss_chart(curves, title),
        "figure": drawn_figure(curves),
        "furthest": went_furthest(curves),
        "sharing": findings.of_sharing([run.body for run in rung.trained]),
    }


def _examples_title(rung: RungStory) -> str:
    assert rung.entry is not None
    return findings.of_failures(rung.entry["failures"], rung.wrong, rung.dev_n, graded=rung.graded)


def _drift_title(rung: RungStory) -> str:
    """What became of the length of the chosen candidate's answers."""
    chosen = rung.entry["chosen"] if rung.entry else None
    found = next((one for one in rung.drifts if one["candidate"] == chosen), rung.drifts[0])
    return drift.title(found["length"])


def _input(text: str) -> str:
    return clipped(text, LONGEST_INPUT)


def _reason(text: str, rungs: Sequence[str]) -> Markup:
    """A reason, with the rung that it begins with in bold."""
    from markupsafe import Markup, escape

    name, colon, rest = text.partition(":")
    if colon and name in rungs:
        return Markup("<b>{}</b>: {}").format(name, wording.stopped(rest))
    return escape(wording.stopped(text))


def _yaml(task: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(task, sort_keys=False, allow_unicode=True, width=110) if task else ""


def _style() -> Markup:
    from markupsafe import Markup

    return Markup(files("lastresort.report").joinpath("templates/report.css").read_text("utf-8"))


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lastresort.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    words = (
        "percent round_percent count counted duration short_duration money interval verdict of_units what_would_decide how_decided "
        "sentence stopped points"
    )
    environment.filters.update({name: getattr(wording, name) for name in words.split()})
    environment.filters |= {"labelled": labelled, "in_points": in_points, "in_limits": in_limits}
    environment.globals.update(
        chart=ladder_chart,
        break_even=break_even,
        comparison=comparison,
        cost_chart=cost_chart,
        dumbbells=dumbbell_chart,
        modes=failure_modes,
        gate_chart=gate_chart,
        gate_summary=gate_summary,
        judge_finding=judge.finding,
        judge_rows=judge.rows,
        retrieval_finding=retrieval.finding,
        retrieval_rows=retrieval.rows,
        judge_name=judge.NAME,
        repairs=repairs,
        tradeoff_chart=tradeoff_chart,
        training_of=_training,
        drift_title=_drift_title,
        early_warnings=early_warnings,
        examples_title=_examples_title,
        side_by_side=side_by_side,
        shown_input=_input,
    )
    return environment.get_template("report.html.j2")
