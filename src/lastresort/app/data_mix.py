"""Mix files of rows into one: `lastresort data mix`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from lastresort.app.data_convert import AT_ONCE, shape_change, unused_drops
from lastresort.app.gate import refuse_unwritable
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
from lastresort.data.conversion.sinks import refuse_existing, row_sink
from lastresort.data.conversion.streams import count_rows, stream_rows
from lastresort.data.conversion.writers import own_writer
from lastresort.errors import DataError, InputError
from lastresort.report.data_files import MixedFile, TakenRows
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
    """FILE, FILE=0.3, FILE=30% or FILE=500, as the command line has it. Raises InputError for a portion that is none."""
    name, equals, portion = text.rpartition("=")
    if not equals or not _is_number(portion.removesuffix("%")):
        return MixSource(Path(text), AllOf())
    if portion.isdecimal() and int(portion) > 0:
        return MixSource(Path(name), RowsOf(int(portion)))
    share = float(portion[:-1]) / 100 if portion.endswith("%") else float(portion)
    if not 0 < share < 1 or portion.isdecimal():
        raise InputError(
            f'found "{portion}"',
            where=text,
            expected="a share between 0 and 1 (or 0% and 100%), or a number of rows",
            remedy="For example: FILE=0.3 or FILE=500.",
        )
    return MixSource(Path(name), ShareOf(share))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def mix_files(request: MixRequest, progress: Progress, stop: Stop = NEVER) -> MixedFile:
    """Write rows of several files into one, in one shape. Never over a file that is there.

    Each file is read twice, to count and to draw. Raises InputError for portions that cannot be had, DataError naming row and field
    for rows that cannot be read or that the shape or the file cannot hold.
    """
    if not request.sources:
        raise InputError("found no file to mix", expected="one or more", remedy="Name them.")
    if request.rows is not None and request.rows < 1:
        raise InputError(f"found {request.rows}", where="--rows", expected="at least 1", remedy="Correct it.")
    refuse_unwritable("--out", request.out)
    refuse_existing(request.out)
    progress.stage("counting rows", len(request.sources))
    change = shape_change(request.to or _own_shape(request.sources[0].path), {}, request.drop)
    sizes = []
    for source in request.sources:
        sizes.append(_size(source.path, change))
        progress.advance()
    plan = plan_mix(sizes, [source.portion for source in request.sources], request.rows, repeat=request.repeat)
    counts, repeats = _write(request, change, sizes, plan, progress, stop)
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
        dropped=dict(dropped),
        unused=unused_drops(request.drop, dropped),
        seed=request.seed,
    )


def _own_shape(path: Path) -> str:
    first = next(stream_rows(path))
    return own_writer(source_shape(first).content(first))


def _size(path: Path, change: ShapeChange) -> int:
    """Rows that a file gives, in the new shape."""
    source = source_shape(next(stream_rows(path)))
    return count_rows(path) * (2 if source.kind == "pairs" and change.writer.kind == "labels" else 1)


def _write(
    request: MixRequest, change: ShapeChange, sizes: list[int], plan: MixPlan, progress: Progress, stop: Stop
) -> tuple[list[ConversionCounts], RepeatCounter]:
    counts, repeats = [ConversionCounts() for _ in sizes], RepeatCounter(len(sizes))

    def rows_of(place: int) -> Iterator[tuple[RowContent, bool]]:
        path = request.sources[place].path
        dice = Random(f"{request.seed} {place}")
        return drawn(lambda: row_contents(path, change, counts[place]), sizes[place], plan.taken[place], dice)

    streams = [rows_of(place) for place in range(len(sizes))]
    with row_sink(request.out) as sink:
        progress.stage(f"writing {request.out.name}", sum(plan.taken))
        written = 0
        try:
            for place, (content, is_first) in in_mixed_order(streams, plan.taken, Random(f"{request.seed} order")):
                sink.write(in_new_shape(content, change, counts[place]), content.row.place)
                if is_first:
                    repeats.add(place, content)
                written += 1
                if written % AT_ONCE == 0:
                    check(stop, remedy=NOTHING_KEPT)
                    progress.advance(AT_ONCE)
        except RuntimeError as error:  # a file has become shorter
            if not isinstance(error.__cause__, StopIteration):
                raise
            raise DataError(
                "a file changed while it was read", where=str(request.out), remedy="Run the command again."
            ) from error
    return counts, repeats
