"""A study in the terminal, study.html, which is one file that opens offline, and a picture alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from rich.console import Group, RenderableType
from rich.text import Text

from lastresort.report.charts.arms import SHOWN_PX, ArmsPicture, SeedScores, arms_chart
from lastresort.report.charts.study import StudyLine, StudyPoint, study_chart
from lastresort.report.html import VISIBLE, environment, style
from lastresort.report.study import (
    SIGNS,
    ArmPoint,
    CrossoverDocument,
    CurvePoint,
    MinDataDocument,
    OrpoVsDpoDocument,
    RowsPoint,
    StudyDocument,
    SyntheticDocument,
    TrainedPoint,
)
from lastresort.report.tables import ruled
from lastresort.report.words import study as words
from lastresort.report.words import study_synthetic as own_words
from lastresort.report.words.study import BASE_PROMPT, name_of
from lastresort.report.words.wording import count, interval, percent, price, printable

ALONE = "svg { background: var(--paper); font-family: system-ui, sans-serif; }"
THOUSAND_CALLS = "1k calls"
OF_ARMS_PAGE = ("margin", "tokens out", "steps", "tokens")  # the first only of held-out pairs


@dataclass(frozen=True, slots=True)
class StudyPicture:
    """width_px: at most, None for that of the page."""

    title: str
    svg: Markup
    width_px: int | None = None


@dataclass(frozen=True, slots=True)
class ShownStudy:
    """What is shown of a study besides its answer. rows: of the table, one a point. page_only: columns for which a terminal of 80
    characters has no room.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]
    pictures: tuple[StudyPicture, ...]
    page_only: tuple[str, ...] = ()


def shown(document: StudyDocument) -> ShownStudy:
    match document:
        case CrossoverDocument():
            return _crossover(document)
        case MinDataDocument():
            return _min_data(document)
        case OrpoVsDpoDocument():
            return _orpo_vs_dpo(document)
        case SyntheticDocument():
            return _synthetic(document)


def study_page(document: StudyDocument) -> str:
    context = {"document": document, "shown": shown(document), "style": style("colours", "strips", "report")}
    return environment().get_template("study.html.j2").render(context).translate(VISIBLE)


def study_text(document: StudyDocument) -> RenderableType:
    """The answer, the table, and what else there is to say."""
    found = shown(document)
    here = [name for name in found.header if name not in found.page_only]
    table = ruled(*here, figures={*here} - {"way", "trained on", "gate", ""}, wraps=("gate", ""))
    for row in found.rows:
        table.add_row(*(printable(cell) for name, cell in zip(found.header, row, strict=True) if name in here))
    more = [words.on_the_page(found.page_only)] if found.page_only else []
    said = (Text(printable(text)) for text in (*more, *found.sentences))
    return Group(Text(printable(document.answer), style="bold"), Text(""), table, Text(""), *said)


def standing_alone(picture: StudyPicture) -> str:
    """An SVG file of its own, with the style that the page gives it."""
    sheet = f"<style>{style('colours', 'strips', 'report')}{ALONE}</style>"
    width = "" if picture.width_px is None else f' width="{picture.width_px}"'
    text = str(picture.svg).replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg"{width} ', 1)
    head, _, rest = text.partition(">")
    return f"{head}>{sheet}{rest}\n".translate(VISIBLE)


def _crossover(document: CrossoverDocument) -> ShownStudy:
    """Pictures of the scores, and where the task asks for a form, of well-formed answers."""
    points = document.points
    formed = any(point.format is not None for point in points)
    priced = any(point.usd is not None for point in points)
    header = ("way", "examples", "dev", "95%", *(("format",) * formed), "tokens in", *((THOUSAND_CALLS,) * priced))
    ways, title = list(dict.fromkeys(point.way for point in points)), words.title_of_scores(document.task)
    scored = [StudyLine(name_of(way), _scores_of(document, way), front=way == "sft") for way in ways]
    pictures = [StudyPicture(title, study_chart(scored, title))]
    lines = [StudyLine(name_of(way), _formed(document, way), front=way == "sft") for way in ways]
    if all(line.points for line in lines):
        title = words.title_of_format(document.task)
        pictures.append(StudyPicture(title, study_chart(lines, title)))
    rows = tuple(_of_way(point, header) for point in points)
    return ShownStudy(header, rows, (*document.reasons, *document.notes), tuple(pictures))


def _of_way(point: CurvePoint, named: Sequence[str]) -> tuple[str, ...]:
    found = [name_of(point.way), count(point.n), percent(point.score), interval(point.interval)]
    if "format" in named:
        found.append(_or_dash(point.format))
    found.append(count(point.prompt_tokens))
    if THOUSAND_CALLS in named:
        found.append("" if point.usd is None else price(1000 * point.usd))
    return tuple(found)


def _scores_of(document: CrossoverDocument, way: str) -> tuple[StudyPoint, ...]:
    return tuple(_point(way, one.n, one.score, one.interval) for one in document.points if one.way == way)


def _formed(document: CrossoverDocument, way: str) -> tuple[StudyPoint, ...]:
    return tuple(
        StudyPoint(one.n, one.format, None, f"{way}, {one.n}")
        for one in document.points
        if one.way == way and one.format is not None
    )


def _min_data(document: MinDataDocument) -> ShownStudy:
    base, probed = document.base, any(point.kept is not None for point in document.points)
    header = ("examples", "dev", "95%", "gain", "p", "loss", *(("kept",) * probed), "KL", "")
    first = ("0", percent(base.score), interval(base.interval), "", "", "")
    kept = (_or_dash(base.kept),) if probed else ()
    rows = ((*first, *kept, "", BASE_PROMPT), *(_of_size(point, header) for point in document.points))
    trained = tuple(_point(document.method, one.n, one.score, one.interval) for one in document.points)
    untrained = (_point(BASE_PROMPT, 0, base.score, base.interval),)
    lines = [StudyLine(name_of(document.method), trained, front=True), StudyLine(BASE_PROMPT, untrained)]
    title = words.title_of_scores(document.task)
    said = (document.curve_text, *document.notes, words.LEGEND_OF_MIN_DATA)
    return ShownStudy(header, rows, said, (StudyPicture(title, study_chart(lines, title)),))


def _of_size(point: TrainedPoint, named: Sequence[str]) -> tuple[str, ...]:
    gain = f"{100 * point.difference:+.1f}".replace("-", "−")
    found = [count(point.n), percent(point.score), interval(point.interval), gain, f"{point.p:.2g}"]
    found.append(f"{point.train_loss:.2f}, {point.dev_loss:.2f}")
    if "kept" in named:
        found.append(_or_dash(point.kept))
    said = [*(("beats base",) if point.shown else ()), *(SIGNS[sign] for sign in point.signs)]
    return (*found, "" if point.kl is None else f"{max(0.0, point.kl):.2f}", ", ".join(said))


def _orpo_vs_dpo(document: OrpoVsDpoDocument) -> ShownStudy:
    held = ("prefers chosen", "margin") if document.held_pairs else ()
    gate = ("gate",) if document.gate is not None else ()
    header = ("way", "dev", "95%", *held, "tokens out", "kept", "KL", "steps", "tokens", *gate, "")
    legends = (*((words.LEGEND_OF_HELD,) if held else ()), words.LEGEND_OF_ARMS)
    (base, *ways), difference = document.points, document.difference
    seeds = tuple(SeedScores((one.dpo, one.orpo), words.of_arm_seed(one)) for one in document.by_seed)
    first, second = (name_of(one.way) for one in ways)
    drawn = ArmsPicture((first, second), seeds, base.score, difference.mean, difference.interval)
    label = words.picture_of_arms(document.task, base.score, document.by_seed, difference)
    picture = StudyPicture(words.title_of_arms(document.task), arms_chart(drawn, label), SHOWN_PX)
    rows = tuple(_of_arm(point, header) for point in document.points)
    return ShownStudy(
        header, rows, (*document.reasons, *document.notes, *legends), (picture,), OF_ARMS_PAGE[not held :]
    )


def _of_arm(point: ArmPoint, named: Sequence[str]) -> tuple[str, ...]:
    found = [name_of(point.way), percent(point.score), interval(point.interval)]
    if "prefers chosen" in named:
        margin = "–" if point.margin is None else f"{point.margin:+.2f}".replace("-", "−")
        found += [_or_dash(point.preferred), margin]
    found += [f"{point.answer_tokens:.1f}", _or_dash(point.kept)]
    found.append("" if point.kl is None else f"{max(0.0, point.kl):.2f}")
    work = point.work
    before = f"{count(work.sft_steps)} + " if work is not None and work.sft_steps else ""
    found += ["", ""] if work is None else [f"{before}{count(work.steps)}", count(work.tokens)]
    if "gate" in named:
        found.append("" if point.gate is None else words.of_verdicts(point.gate.verdicts))
    return (*found, ", ".join(SIGNS[sign] for sign in point.signs))


def _synthetic(document: SyntheticDocument) -> ShownStudy:
    header = ("trained on", "rows", "dev", "95%", "minus real", "loss", "steps", "passes", "kept", "")
    minus: dict[str, float] = {one.way: one.mean for one in document.differences}
    rows = tuple(_of_rows(point, minus.get(point.way)) for point in document.points)
    said = (*document.reasons, *document.notes, own_words.LEGEND)
    return ShownStudy(header, rows, said, (_of_sources(document),), ("loss", "steps", "passes"))


def _of_sources(document: SyntheticDocument) -> StudyPicture:
    """All three with each seed, and what both gain over real rows alone."""
    (base, *_), (both, _) = document.points, document.differences
    seeds = tuple(SeedScores((one.synthetic, one.real, one.both), own_words.of_seed(one)) for one in document.by_seed)
    drawn = ArmsPicture(("synthetic", "real", "both"), seeds, base.score, both.mean, both.interval)
    label = own_words.picture(document.task, base.score, document.by_seed, both)
    return StudyPicture(own_words.title(document.task), arms_chart(drawn, label), SHOWN_PX)


def _of_rows(point: RowsPoint, minus_real: float | None) -> tuple[str, ...]:
    found = [point.way, count(point.rows), percent(point.score), interval(point.interval)]
    found.append("" if minus_real is None else words.signed(minus_real))
    one = point.training
    if one is None:
        return (*found, "", "", "", _or_dash(point.kept), "")
    signs = ", ".join(SIGNS[sign] for sign in point.signs)
    loss = f"{one.train_loss:.2f}, {one.dev_loss:.2f}"
    return (*found, loss, count(one.steps), f"{one.passes:.1f}", _or_dash(point.kept), signs)


def _or_dash(share: float | None) -> str:
    return "–" if share is None else percent(share)


def _point(way: str, n: int, score: float, limits: tuple[float, float]) -> StudyPoint:
    return StudyPoint(n, score, limits, words.point_title(way, n, score, *limits))
