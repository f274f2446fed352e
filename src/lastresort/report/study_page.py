"""study.html: the pictures, the table and the sentences of a study in one file that opens offline; and a picture alone."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from lastresort.report.charts.study import StudyLine, StudyPoint, study_chart
from lastresort.report.html import VISIBLE, environment, style
from lastresort.report.study import CrossoverDocument, OrpoVsDpoDocument, StudyDocument, cells, header, sentences
from lastresort.report.words.study import BASE_PROMPT, arm_title, name_of, point_title, title_of_format, title_of_scores

ALONE = "svg { background: var(--paper); font-family: system-ui, sans-serif; }"


@dataclass(frozen=True, slots=True)
class StudyPicture:
    title: str
    svg: Markup


def study_page(document: StudyDocument) -> str:
    context = {
        "document": document,
        "style": style("colours", "strips", "report"),
        "pictures": pictures(document),
        "header": header(document),
        "rows": cells(document),
        "sentences": sentences(document),
    }
    return environment().get_template("study.html.j2").render(context).translate(VISIBLE)


def pictures(document: StudyDocument) -> list[StudyPicture]:
    """Of the scores, and where the task asks for a form, of well-formed answers."""
    if isinstance(document, OrpoVsDpoDocument):
        return [_of_arms(document)]
    title = title_of_scores(document.task)
    if not isinstance(document, CrossoverDocument):
        trained = tuple(_point(document.method, one.n, one.score, one.interval) for one in document.points)
        base = (_point(BASE_PROMPT, 0, document.base.score, document.base.interval),)
        lines = [StudyLine(name_of(document.method), trained, front=True), StudyLine(BASE_PROMPT, base)]
        return [StudyPicture(title, study_chart(lines, title))]
    ways = list(dict.fromkeys(point.way for point in document.points))
    scored = [StudyLine(name_of(way), _scores_of(document, way), front=way == "sft") for way in ways]
    found = [StudyPicture(title, study_chart(scored, title))]
    formed = [StudyLine(name_of(way), _formed(document, way), front=way == "sft") for way in ways]
    if all(line.points for line in formed):
        title = title_of_format(document.task)
        found.append(StudyPicture(title, study_chart(formed, title)))
    return found


def _of_arms(document: OrpoVsDpoDocument) -> StudyPicture:
    lines = []
    for one in document.points:
        title = arm_title(one.way, one.score, *one.interval)
        point = StudyPoint(document.pairs if one.work else 0, one.score, one.interval, title)
        lines.append(StudyLine(name_of(one.way), (point,), front=one.way == "orpo"))
    title = title_of_scores(document.task, "pairs")
    return StudyPicture(title, study_chart(lines, title, of="pairs"))


def standing_alone(picture: StudyPicture) -> str:
    """An SVG file of its own, with the style that the page gives it."""
    sheet = f"<style>{style('colours', 'strips', 'report')}{ALONE}</style>"
    text = str(picture.svg).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    head, _, rest = text.partition(">")
    return f"{head}>{sheet}{rest}\n".translate(VISIBLE)


def _scores_of(document: CrossoverDocument, way: str) -> tuple[StudyPoint, ...]:
    return tuple(_point(way, one.n, one.score, one.interval) for one in document.points if one.way == way)


def _formed(document: CrossoverDocument, way: str) -> tuple[StudyPoint, ...]:
    return tuple(
        StudyPoint(one.n, one.format, None, f"{way}, {one.n}")
        for one in document.points
        if one.way == way and one.format is not None
    )


def _point(way: str, n: int, score: float, interval: tuple[float, float]) -> StudyPoint:
    return StudyPoint(n, score, interval, point_title(way, n, score, *interval))
