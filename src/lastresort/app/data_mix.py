"""Mix files of rows into one: `lastresort data mix`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from lastresort.app.data_convert import AT_ONCE, shape_change, unused_drops
from lastresort.data.conversion.content import RowContent, source_shape
from lastresort.data.conversion.convert import ConversionCounts, ShapeChange, in_new_shape, row_contents
from lastresort.data.conversion.mixing import (
    AllOf,
    MixPlan,
    Portion,
    RepeatCounter,
    RowsOf,
    ShareOf,
    drawn,
    in_mixed_order,
    plan_mix,
)
from lastresort.data.conversion.sinks import IN_CELLS, TABLES, refuse_existing, row_sink
from lastresort.data.conversion.streams import count_rows, stream_rows
from lastresort.data.conversion.writers import own_writer
from lastresort.data.files import file_kind
from lastresort.data.formats.rows import RawRow, kind_of
from lastresort.errors import DataError, InputError
from lastresort.report.words.data_files import MixedFile, TakenRows
from lastresort.report.words.wording import counted
from lastresort.spec.paths import refuse_unwritable
from lastresort.stop import NEVER, NOTHING_KEPT, Stop, check
from lastresort.types import Progress


@dataclass(frozen=True, slots=True)
class MixSource:
    path: Path
    portion: Portion


@dataclass(frozen=True, slots=True)
class MixRequest:
    """The options of `lastresort data mix`, by their names. to: a shape, None for that of the first file."""

    sources: tuple[MixSource, ...]
    out: Path
    to: str | None = None
    rows: int | None = None
    repeat: bool = False
    seed: int = 0
    drop: tuple[str, ...] = ()


def source_of(text: str) -> MixSource:
    """FILE, FILE=0.3, FILE=30% or FILE=500, as the command line has it. Raises InputError for any other number."""
    name, equals, portion = text.rpartition("=")
    if not equals or not _is_number(portion.removesuffix("%").replace(",", "")):
        return MixSource(Path(text), AllOf())
    if portion.isdecimal() and int(portion) > 0:
        return MixSource(Path(name), RowsOf(int(portion)))
    with_commas = "," in portion
    share = 0.0 if with_commas else float(portion[:-1]) / 100 if portion.endswith("%") else float(portion)
    if not 0 < share < 1 or portion.isdecimal():
        raise InputError(
            f'found "{portion}"',
            where=text,
            expected="a share above 0 and below 1, or above 0% and below 100%, or a whole number of rows without commas",
            remedy="For example: FILE=0.3, FILE=30% or FILE=500. For all rows write FILE alone.",
        )
    return MixSource(Path(name), ShareOf(share))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def mix_files(request: MixRequest, progress: Progress, stop: Stop = NEVER) -> MixedFile:
    """Write rows of several files into one, in one shape. Never overwrites a file.

    Each file is read for its first row, to count its rows and to draw from it. Raises InputError for portions that contradict each
    other, DataError naming row and field for rows that cannot be read or that the shape or the file cannot hold.
    """
    if not request.sources:
        raise InputError("found no file to mix", expected="one or more", remedy="Name them.")
    if request.rows is not None and request.rows < 1:
        raise InputError(f"found {request.rows}", where="--rows", expected="at least 1", remedy="Correct it.")
    refuse_unwritable("--out", request.out)
    refuse_existing(request.out)
    progress.stage("counting rows", len(request.sources))
    firsts = [next(stream_rows(source.path)) for source in request.sources]
    own = own_writer(source_shape(firsts[0]).content(firsts[0])) if request.to is None else request.to
    change = shape_change(own, {}, request.drop)
    sizes = []
    for source, first in zip(request.sources, firsts, strict=True):
        halves = source_shape(first).kind == "pairs" and change.writer.kind == "labels"  # two rows of a pair
        sizes.append(count_rows(source.path) * (2 if halves else 1))
        progress.advance()
    portions, names = [one.portion for one in request.sources], [str(one.path) for one in request.sources]
    plan = plan_mix(sizes, portions, request.rows, repeat=request.repeat, names=names)
    columns = _columns(firsts, change, request.out) if file_kind(request.out)[0] in TABLES else ()
    counts, repeats = _write(request, change, columns, sizes, plan, progress, stop)
    taken = tuple(
        TakenRows(source.path, size, count, one.source, found.within, found.in_earlier)
        for source, size, count, one, found in zip(
            request.sources, sizes, plan.taken, counts, repeats.repeats(), strict=True
        )
    )
    dropped = sum((one.dropped for one in counts), start=ConversionCounts().dropped)
    used_up = None if plan.used_up is None else request.sources[plan.used_up].path
    return MixedFile(
        path=request.out,
        to=change.to,
        rows=sum(plan.taken),
        wanted=plan.wanted,
        sources=taken,
        used_up=used_up,
        equal_ids=repeats.equal_ids(),
        equal_answers=sum(one.equal_answers for one in counts),
        dropped=dict(dropped),
        unused=unused_drops(request.drop, dropped),
        seed=request.seed,
    )


def _write(
    request: MixRequest,
    change: ShapeChange,
    columns: Sequence[str],
    sizes: list[int],
    plan: MixPlan,
    progress: Progress,
    stop: Stop,
) -> tuple[list[ConversionCounts], RepeatCounter]:
    counts, repeats = [ConversionCounts() for _ in sizes], RepeatCounter(len(sizes))

    def rows_of(place: int) -> Iterator[tuple[RowContent, bool]]:
        path, left = request.sources[place].path, plan.taken[place]
        dice = Random(f"{request.seed} {place}")
        for row in drawn(
            lambda: row_contents(stream_rows(path), change, counts[place]), sizes[place], plan.taken[place], dice
        ):
            left -= 1
            yield row
        if left:
            raise DataError("the file changed while it was read", where=str(path), remedy="Run the command again.")

    streams = [rows_of(place) for place in range(len(sizes))]
    with row_sink(request.out, columns) as sink:
        progress.stage(f"mixing {counted(len(sizes), 'file')}", sum(plan.taken))
        mixed = in_mixed_order(streams, plan.taken, Random(f"{request.seed} order"))
        for written, (place, (content, is_first)) in enumerate(mixed, start=1):
            row = in_new_shape(content, change, counts[place])
            sink.write(row, content.row.place)
            repeats.add_id(row)
            if is_first:
                repeats.add(place, content)
            if written % AT_ONCE == 0:
                check(stop, resume=NOTHING_KEPT)
                progress.advance(AT_ONCE)
    return counts, repeats


def _columns(firsts: Sequence[RawRow], change: ShapeChange, out: Path) -> tuple[str, ...]:
    """Those that the first rows have in the new shape, so that a table has the same ones whichever row is drawn first."""
    contents = [next(row_contents(iter([first]), change, ConversionCounts())) for first in firsts]
    rows = [in_new_shape(one, change, ConversionCounts()) for one in contents]
    for content, row in zip(contents, rows, strict=True):
        for key, value in row.items():
            # A further column may be text in the rows that are drawn.
            if isinstance(value, list | dict) and key not in IN_CELLS and key not in content.further:
                raise DataError(
                    f'found {kind_of(value)} in column "{key}" of rows in the shape {change.to}',
                    where=str(out),
                    expected="what a table can hold",
                    remedy="Write a .jsonl file, or name another shape with --to.",
                )
    return tuple(dict.fromkeys(key for row in rows for key in row))
