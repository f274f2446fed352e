"""What was written by `lastresort data convert`, `data mix` and `data pairs`, line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lastresort.report.words.data import length_line
from lastresort.report.words.synthetic import at_price, in_time
from lastresort.report.words.wording import count, counted, listed, percent, yaml_name
from lastresort.spec.paths import relative_name

if TYPE_CHECKING:
    from lastresort.report.data_files import (
        ConvertedFile,
        MixedFile,
        PairedFile,
        PairsForecast,
        SampledAnswers,
        SamplesLeftOut,
        TakenRows,
    )

_DROPPED = {  # several, and none
    "system": ("system prompts", "a system prompt"),
    "turns": ("earlier turns", "earlier turns"),
    "keys": ("further keys of turns", "further keys of turns"),
    "tools": ("lists of tools", "a list of tools"),
    "rejected": ("rejected answers", "a rejected answer"),
}


def convert_lines(found: ConvertedFile) -> list[str]:
    return [
        f"{counted(found.written, 'row')} in {found.path}, from {counted(found.read, 'row')} of {found.source}.",
        *_equal_answers(found.equal_answers),
        *dropped_lines(found.dropped, found.unused),
    ]


def _equal_answers(n: int) -> list[str]:
    return [f"Pairs whose two answers are the same: {count(n)}. A training leaves them out."] if n else []


def dropped_lines(dropped: Mapping[str, int], unused: Sequence[str]) -> list[str]:
    """What rows lost, by the name that --drop gives it, and what there was none of."""
    several = {name: _DROPPED.get(name, (f"the column {name}",))[0] for name in dropped}
    none = [_DROPPED.get(name, ("", f"a column {name}"))[1] for name in unused]
    return [
        *(f"Dropped: {several[name]} in {counted(n, 'row')}." for name, n in dropped.items()),
        *([f"Nothing to drop: no row has {listed(none, 'or')}."] if none else []),
    ]


def mix_lines(found: MixedFile) -> list[str]:
    end = []
    if found.used_up is not None:
        end = [
            f"The mix ends at {count(found.rows)} of {counted(found.wanted, 'row')}, since {found.used_up} is used up. "
            "Add --repeat to take its rows again."
        ]
    return [
        f"{counted(found.rows, 'row')} in {found.path}, in the shape {found.to}.",
        *(_taken_line(source, found.rows) for source in found.sources),
        *end,
        *(
            [f"Rows with the id of an earlier row: {count(found.equal_ids)}. A task takes no id twice: add --drop id."]
            if found.equal_ids
            else []
        ),
        *_equal_answers(found.equal_answers),
        *dropped_lines(found.dropped, found.unused),
    ]


def _taken_line(source: TakenRows, rows: int) -> str:
    again = f", {source.taken / source.has:.2g} times the file" if source.taken > source.has else ""
    twice = [
        *([f"repeats within the file: {count(source.within)}"] if source.within else []),
        *([f"also in an earlier file: {count(source.in_earlier)}"] if source.in_earlier else []),
    ]
    copies = "".join(f"; {one}" for one in twice)
    share = percent(source.taken / rows) if rows else "none"
    return f"  {source.path}: {count(source.taken)} of {counted(source.has, 'row')}{again}, {share} of the mix{copies}"


def samples_question(found: PairsForecast) -> str:
    answers = f"{counted(found.asked, 'answer')} of {found.model} to {counted(found.rows, 'row')}"
    return f"This samples {answers}, {_at_most(found)}. Start it?"


def _at_most(found: PairsForecast) -> str:
    """What it costs and takes, as far as that is known."""
    high = " if each answer is as long as allowed" if found.usd or found.seconds else ""
    return f"{at_price(found.usd)}{in_time(found.seconds)}{high}"


def pairs_forecast_lines(found: PairsForecast) -> list[str]:
    answers = f"{counted(found.asked + found.kept, 'answer')} of {found.model}"
    rows = f"{found.n} to each of {counted(found.rows, 'train row')}"
    if not found.asked:
        return [f"Forecast: no call, since all are kept: {answers}, {rows}."]
    tokens = f"about {count(found.tokens_in)} tokens of prompts and at most {count(found.tokens_out)} of answers without thoughts"
    limit, over = found.limit_usd, list[str]()
    if limit is not None and found.needed_usd is not None and found.needed_usd > limit:
        over = [f"The limit of {limit:g} USD may end it before that: raise it, or give fewer --rows or --n."]
    return [
        f"Forecast: {answers}, {rows}; kept: {count(found.kept)}, to ask for: {count(found.asked)}.",
        f"To ask for: {tokens}, {_at_most(found)}.",
        *over,
    ]


def sampled_line(found: SampledAnswers) -> str:
    cost = "" if found.usd == 0 else f", {at_price(found.usd)}"
    return f"{found.model} gave {found.n} answers to each of {counted(found.rows, 'train row')}{cost}."


def pairs_lines(found: PairedFile) -> list[str]:
    longer = [] if found.longer is None else [length_line(found.longer)]
    left_out = of_left_out(found.left_out)
    named = yaml_name(relative_name(found.path.absolute(), found.task_file.absolute().parent))
    return [
        *([] if found.sampled is None else [sampled_line(found.sampled)]),
        f"{counted(found.pairs, 'pair')} of {counted(found.prompts, 'train row')} in {found.path}.",
        f"Characters on average: {found.chosen_characters:,.0f} chosen, {found.rejected_characters:,.0f} rejected.",
        *longer,
        *_by_form(found),
        *([f"No pair: {left_out}."] if left_out else []),
        f"To train on them, write in {found.task_file.name}: preferences: {named}",
    ]


# Above this, fewer pairs say which well-formed answer is right than a training holds out to measure its margins (a tenth).
FORM_TELLS = 0.9


def _by_form(found: PairedFile) -> list[str]:
    if found.by_form < FORM_TELLS * found.pairs:
        return []
    return [
        f"warning: in {count(found.by_form)} of {counted(found.pairs, 'pair')} the rejected answer lacks the form that the task "
        "asks for, so these pairs teach the form and little else: train SFT on the rows first, and sample that model"
    ]


def of_left_out(left: SamplesLeftOut) -> str:
    """What made no pair, and why; "" where everything did."""
    parts = (
        (left.held_out, "sample", "for items of dev or test"),
        (left.ambiguous, "sample", "for a prompt that several train rows have"),
        (left.unknown, "sample", "for prompts that train does not have"),
        (left.blank, "sample", "without text"),
        (left.all_right, "prompt", "whose samples are all right"),
        (left.all_wrong, "prompt", "whose samples are all wrong"),
        (left.ties, "prompt", "whose samples all score the same"),
        (left.unusable, "prompt", "whose best answers were cut or whose worst are empty"),
        (left.within, "prompt", "whose scores differ by less than the margin"),
        (left.cut, "pair", "with a rejected answer that was cut"),
        (left.alike, "pair", "of nearly the same answers"),
        (left.beyond, "pair", "beyond the most for a prompt"),
        (left.no_room, "row", "whose prompt leaves no room for an answer"),
        (left.conflicting, "row", "whose prompt has another answer in train"),
    )
    return listed(f"{counted(n, unit)} {why}" for n, unit, why in parts if n)
