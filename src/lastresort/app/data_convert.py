"""Write a file of rows in another shape: `lastresort data convert`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lastresort.data.conversion.convert import ConversionCounts, ShapeChange, in_new_shape, row_contents
from lastresort.data.conversion.sinks import refuse_existing, row_sink
from lastresort.data.conversion.streams import at_most_rows, stream_rows
from lastresort.data.conversion.writers import WRITERS
from lastresort.data.files import stem_of
from lastresort.errors import InputError
from lastresort.report.words.data_files import ConvertedFile
from lastresort.spec.paths import refuse_unwritable
from lastresort.spec.values import one_of
from lastresort.stop import NEVER, NOTHING_KEPT, Stop, check
from lastresort.types import Progress

AT_ONCE = 1000  # rows between two looks at progress and stop


def convert_file(
    file: Path,
    to: str,
    progress: Progress,
    stop: Stop = NEVER,
    *,
    out: Path | None = None,
    columns: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
) -> ConvertedFile:
    """Write the rows of a file in another shape, each row at a time. Never overwrites a file.

    columns: our name of a column -> the file's. Raises InputError for options that cannot be used, DataError naming row and field
    for what the new shape or file cannot hold.
    """
    change = shape_change(to, columns or {}, drop)
    out = out or file.with_name(f"{stem_of(file)}-{to}.jsonl")
    refuse_unwritable("--out", out)
    refuse_existing(out)
    counts, most = ConversionCounts(), at_most_rows(file)
    with row_sink(out) as sink:
        progress.stage(f"converting {file.name}", most)
        shown = 0
        for content in row_contents(stream_rows(file), change, counts):
            sink.write(in_new_shape(content, change, counts), content.row.place)
            if counts.read == shown + AT_ONCE:
                check(stop, resume=NOTHING_KEPT)
                progress.advance(AT_ONCE)
                shown = counts.read
    return ConvertedFile(
        path=out,
        source=counts.source,
        to=to,
        read=counts.read,
        written=counts.written,
        equal_answers=counts.equal_answers,
        dropped=dict(+counts.dropped),
        unused=unused_drops(drop, counts.dropped),
    )


def shape_change(to: str, columns: Mapping[str, str], drop: Sequence[str]) -> ShapeChange:
    """Raises InputError for a shape that is not known, and for a column that is to be read and to be left out."""
    one_of("--to", to, tuple(WRITERS))
    both = next((name for name in drop if name in columns.values() and name not in columns), None)
    if both is not None:
        raise InputError(
            f'found the column "{both}" in --columns and in --drop',
            expected="one of the two",
            remedy="Leave it out of --drop: under its old name it is left out anyway.",
        )
    return ShapeChange(to, frozenset(drop), dict(columns))


def unused_drops(drop: Sequence[str], dropped: Mapping[str, int]) -> tuple[str, ...]:
    """What of --drop no row had."""
    return tuple(name for name in dict.fromkeys(drop) if not dropped.get(name))
