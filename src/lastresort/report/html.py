"""`report.html` of a run: one file that opens offline, drawn from the run's folder alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml
from markupsafe import Markup, escape

from lastresort.errors import InfrastructureError
from lastresort.records.atomic import write_atomically
from lastresort.records.decision import RunView
from lastresort.records.document import Statement
from lastresort.records.record import Record
from lastresort.records.record_file import REPORT
from lastresort.report import comparison, confusion, failure_modes, repairs
from lastresort.report import gate as gate_summary
from lastresort.report.charts import gate as gate_chart
from lastresort.report.charts import ladder as ladder_chart
from lastresort.report.charts.cost import cost_chart
from lastresort.report.charts.early_warnings import early_chart, most_followed
from lastresort.report.charts.loss import drawn_figure, is_smoothed, loss_chart, went_furthest
from lastresort.report.charts.tradeoff import distance_chart, tradeoff_chart
from lastresort.report.decision import read_view, restore_decision, view_in
from lastresort.report.differences import changed, clipped, side_by_side
from lastresort.report.story import RungStory, Story, gather, spent_on_repairs
from lastresort.report.words import break_even, data, judge, titles, training, untuned, verdicts, wording
from lastresort.report.words.candidates import about_candidate
from lastresort.report.words.next_step import next_step, not_redrawn, set_to_stop
from lastresort.report.words.rungs import of_selection, of_selection_bias
from lastresort.report.words.titles import below_headline, headline
from lastresort.report.words.wording import count, in_limits, in_points
from lastresort.train.watch.kept import measured, summary, warning

if TYPE_CHECKING:
    from jinja2 import Environment


def labelled(body: Mapping[str, str | int]) -> list[tuple[str, str]]:
    """Each key in words, with its figure as text; keys without one are left out."""
    return [(key.replace("_", " "), _figure(value)) for key, value in body.items() if value != ""]


def _figure(value: str | int) -> str:
    return count(value) if isinstance(value, int) else value


@dataclass(frozen=True, slots=True)
class EarlyWarningsPanel:
    """alarms: (run, sentence) of every run that is alarmingly far from its base."""

    title: str
    chart: Markup | None
    alarms: tuple[tuple[str, str], ...]


def early_warnings(rung: RungStory) -> EarlyWarningsPanel | None:
    """None where no run was compared with its base."""
    curves = {run.candidate: run.curve for run in rung.trained}
    looked = {name: curve for name, curve in curves.items() if measured(curve)}
    followed = most_followed(looked)
    if followed is None:
        return None
    alarms = tuple((name, found) for name, curve in looked.items() if (found := warning(curve)) is not None)
    title = f"{followed}, {summary(looked[followed])}"
    return EarlyWarningsPanel(title, early_chart(curves, title), alarms)


FILE_NAME = REPORT
LONGEST_INPUT = 700

# No character that HTML forbids or that could reorder the text around it reaches the page: control characters and
# bidirectional overrides become visible signs, halves of surrogate pairs the replacement character.
VISIBLE = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(
        [*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)], 0xFFFD
    ),
}


def write_report(folder: Path) -> Path:
    """Draw `report.html` from the record of a run, and restore its decision.json where that is missing or an earlier one.

    Raises DataError if there is no record, or it is damaged or was changed, InfrastructureError if the disk refuses.
    """
    draw_report(folder)
    return folder / FILE_NAME


def draw_report(folder: Path) -> RunView:
    """As `write_report`. Returns what the report shows."""
    with Record.open(folder, read_only=True) as record:
        decision = view_in(record)
        story = gather(record, decision)
        if decision.decided:
            restore_decision(record, decision)
    write_atomically(folder / FILE_NAME, page(story))
    return decision


def redrawn(folder: Path) -> tuple[RunView, str]:
    """As `draw_report`, with what to say where the disk takes no page, as that of a folder that can only be read; else ""."""
    try:
        return draw_report(folder), ""
    except InfrastructureError as error:
        return read_view(folder), not_redrawn(FILE_NAME, error)


def page(story: Story) -> str:
    """The whole page."""
    context = _context(story) | {"style": style("colours", "strips", "report")}
    return environment().get_template("report.html.j2").render(context).translate(VISIBLE)


def body(story: Story) -> str:
    """What the page holds below its head, for a page that brings the style sheets."""
    return environment().get_template("body.html.j2").render(_context(story)).translate(VISIBLE)


def _context(story: Story) -> dict[str, object]:
    scale, stopped = ladder_chart.axis_of(story.decision), set_to_stop(story.decision)
    written = yaml.safe_dump(story.task, sort_keys=False, allow_unicode=True, width=110)
    return {
        "story": story,
        "decision": story.decision,
        "scale": scale,
        "unit": verdicts.unit_of(story.decision),
        "provisional": verdicts.provisional(
            verdicts.unit_of(story.decision),
            collects=story.task.get("on_undecided") == "collect",
            met=story.decision.verdict == "MET",
            won=bool(story.decision.provisional),
            until=None if stopped is None else stopped.at,
            judged=verdicts.last_judged(story.decision),
        ),
        "headline": headline(story.decision),
        "below_headline": below_headline(story.decision),
        "next_step": next_step(story.decision, story.resume.text, story.resume.stand_ins),
        "band": verdicts.of_band(story.errors, story.labels_errors),
        "quote_the_band": verdicts.QUOTE_THE_BAND,
        "reused": story.decision.test_reuse is not None and story.decision.test_reuse.used > 0,
        "ladder_finding": titles.of_ladder(story.decision),
        "cost_finding": titles.of_cost(story.total, _seconds(story), story.ran_s, over=story.decision.decided),
        "took_line": titles.took_line(story.total, story.ran_s, over=story.decision.decided),
        "reason_of": _reason,
        "test_left_out": "" if story.data is None else data.test_left_out(story.data),
        "data_rows": [] if story.data is None else data.rows(story.data),
        "task_text": written if story.task else "",
    }


def _seconds(story: Story) -> dict[str, float]:
    """What each part of the climb took."""
    decision = story.decision
    found = {rung.name: rung.cost.seconds for rung in decision.rungs if not rung.cost.is_zero}
    if decision.judge is not None:
        found[judge.NAME] = decision.judge.cost.seconds
    for name, gate in (("gate", decision.gate), ("the first gate", decision.first_gate)):
        if gate is not None:
            found[name] = gate.spent.seconds
    if decision.repairs:
        found["the repairs"] = sum(spent.seconds for spent in spent_on_repairs(decision))
    return found | {f"{comparison.NAME} ({way.way})": way.cost.seconds for way in decision.compare}


@dataclass(frozen=True, slots=True)
class TrainingPanel:
    """smoothed: whether a line of the chart is. furthest: the run that went furthest. sharing:
    what shared prefixes saved, "" where that was not recorded."""

    title: str
    chart: Markup | None
    figure: Literal["loss", "reward"]
    smoothed: bool
    furthest: str | None
    sharing: str


def _training(rung: RungStory) -> TrainingPanel | None:
    if not rung.trained:
        return None
    curves = {run.candidate: run.curve for run in rung.trained}
    title = titles.of_training(curves, rung.entry.chosen if rung.entry else None)
    sharing = titles.of_sharing([run.reached for run in rung.trained])
    return TrainingPanel(
        title, loss_chart(curves, title), drawn_figure(curves), is_smoothed(curves), went_furthest(curves), sharing
    )


def _examples_title(rung: RungStory) -> str:
    assert rung.entry is not None
    return titles.of_failures(rung.entry.failures, rung.wrong, rung.dev_n, graded=rung.graded)


def _drift_title(rung: RungStory) -> str:
    """How the length of the chosen candidate's answers changed."""
    chosen = rung.entry.chosen if rung.entry else None
    found = next((one for one in rung.drifts if one.candidate == chosen), rung.drifts[0])
    return training.title(found.length)


def _reason(reason: Statement) -> Markup:
    """A reason, after the rung that it is about in bold."""
    text = code(reason.text)
    return text if reason.rung is None else Markup("<b>{}</b>: {}").format(reason.rung, text)


def code(text: str) -> Markup:
    """A sentence, with what is in backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def style(*names: str) -> Markup:
    """The style sheets of these names: colours and strips, which a notebook shows too, and the page's own."""
    folder = files("lastresort.report").joinpath("templates")
    return Markup("").join(Markup(folder.joinpath(f"{name}.css").read_text("utf-8")) for name in names)


@cache
def environment(package: str = "lastresort.report") -> Environment:
    """The templates of a package, with the words and charts of the report, whose templates they can include."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, "lastresort.report"))]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    numbers = "percent round_percent count counted duration short_duration money interval verdict sentence stopped points state_of"
    tests = "of_units what_would_decide of_judge how_decided how_far of_parts of_all_answered shown_beyond_band shared_by evidence"
    environment.filters.update({name: getattr(wording, name) for name in numbers.split()})
    environment.filters.update({name: getattr(verdicts, name) for name in tests.split()})
    environment.filters |= {
        "code": code,
        "about_candidate": about_candidate,
        "of_selection": of_selection,
        "of_selection_bias": of_selection_bias,
        "labelled": labelled,
        "in_points": in_points,
        "in_limits": in_limits,
    }
    environment.globals.update(
        chart=ladder_chart,
        break_even=break_even,
        comparison=comparison,
        confusion=confusion,
        cost_chart=cost_chart,
        modes=failure_modes,
        gate_chart=gate_chart,
        gate_summary=gate_summary,
        judge_finding=judge.finding,
        judge_rows=judge.rows,
        retrieval_finding=untuned.retrieval_finding,
        retrieval_rows=untuned.retrieval_rows,
        judge_name=judge.NAME,
        repairs=repairs,
        tradeoff_chart=tradeoff_chart,
        distance_chart=distance_chart,
        changed=changed,
        optimised_title=untuned.optimised_title,
        optimised_scores=untuned.optimised_scores,
        weighing_title=titles.of_weighing,
        training_of=_training,
        drift_title=_drift_title,
        early_warnings=early_warnings,
        examples_title=_examples_title,
        side_by_side=side_by_side,
        shown_input=partial(clipped, longest=LONGEST_INPUT),
    )
    return environment
