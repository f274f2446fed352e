"""What `lastresort data convert`, `data mix` and `data pairs` wrote, as values and line by line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lastresort.report.words.data import length_line
from lastresort.report.words.synthetic import at_price, in_time
from lastresort.report.words.wording import count, counted, listed, percent, yaml_name
from lastresort.spec.paths import relative_name
from lastresort.types import JsonObject

_DROPPED = {  # several, and none
    "system": ("system prompts", "a system prompt"),
    "turns": ("earlier turns", "earlier turns"),
    "keys": ("further keys of turns", "further keys of turns"),
    "tools": ("lists of tools", "a list of tools"),
    "rejected": ("rejected answers", "a rejected answer"),
}


def _lost(file: ConvertedFile | MixedFile) -> list[str]:
    """Pairs that no training takes, what rows lost, by the name that --drop gives it, and what there was none of."""
    several = {name: _DROPPED.get(name, (f"the column {name}",))[0] for name in file.dropped}
    none = [_DROPPED.get(name, ("", f"a column {name}"))[1] for name in file.unused]
    equal = f"Pairs whose two answers are the same: {count(file.equal_answers)}. Training leaves them out."
    return [
        *([equal] if file.equal_answers else []),
        *(f"Dropped: {several[name]} in {counted(n, 'row')}." for name, n in file.dropped.items()),
        *([f"Nothing to drop: no row has {listed(none, 'or')}."] if none else []),
    ]


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """read, written: rows; a pair can become two. source: the shape that was read, in words. equal_answers: written pairs whose two
    answers are the same. dropped: rows that lost a part or a column, by its name. unused: names of --drop that no row has.
    """

    path: Path
    source: str
    to: str
    read: int
    written: int
    equal_answers: int
    dropped: Mapping[str, int]
    unused: tuple[str, ...]

    def as_dict(self) -> JsonObject:
        """As `lastresort data convert --json` prints it."""
        return {**asdict(self), "path": str(self.path), "unused": list(self.unused)}

    def lines(self) -> list[str]:
        return [
            f"{counted(self.written, 'row')} in {self.path}, from {counted(self.read, 'row')} of {self.source}.",
            *_lost(self),
        ]


@dataclass(frozen=True, slots=True)
class TakenRows:
    """What a mix took of a file. has: rows of the file, in the shape of the mix. taken: more than it has where rows were repeated.
    source: its shape, in words. within: taken rows that repeat others of the file. in_earlier: different ones that an earlier file
    gave too. Rows that --repeat took again count in neither.
    """

    path: Path
    has: int
    taken: int
    source: str
    within: int
    in_earlier: int

    def line_of(self, rows: int) -> str:
        again = f", {self.taken / self.has:.2g} times the file" if self.taken > self.has else ""
        copies = f"; repeats within the file: {count(self.within)}" if self.within else ""
        copies += f"; also in an earlier file: {count(self.in_earlier)}" if self.in_earlier else ""
        share = percent(self.taken / rows) if rows else "none"
        return f"  {self.path}: {count(self.taken)} of {counted(self.has, 'row')}{again}, {share} of the mix{copies}"


@dataclass(frozen=True, slots=True)
class MixedFile:
    """rows: of the mix. wanted: how many it would have had. used_up: the file whose end ended it before, None where none did.
    equal_ids: rows with the id of an earlier row of the mix. equal_answers: pairs of the mix whose two answers are the same.
    dropped: rows that lost a part or a column, by its name. unused: names of --drop that no row has.
    """

    path: Path
    to: str
    rows: int
    wanted: int
    sources: tuple[TakenRows, ...]
    used_up: Path | None
    equal_ids: int
    equal_answers: int
    dropped: Mapping[str, int]
    unused: tuple[str, ...]
    seed: int

    def as_dict(self) -> JsonObject:
        """As `lastresort data mix --json` prints it."""
        sources = [{**asdict(source), "path": str(source.path)} for source in self.sources]
        used_up = None if self.used_up is None else str(self.used_up)
        written = {"path": str(self.path), "sources": sources, "used_up": used_up, "unused": list(self.unused)}
        return {**asdict(self), **written}

    def lines(self) -> list[str]:
        end = (
            f"The mix ends at {count(self.rows)} of {counted(self.wanted, 'row')}, since {self.used_up} is used up. "
            "Add --repeat to take its rows again."
        )
        ids = (
            f"Rows with the id of an earlier row: {count(self.equal_ids)}. A task refuses duplicate ids: add --drop id."
        )
        return [
            f"{counted(self.rows, 'row')} in {self.path}, in the shape {self.to}.",
            *(source.line_of(self.rows) for source in self.sources),
            *([end] if self.used_up is not None else []),
            *([ids] if self.equal_ids else []),
            *_lost(self),
        ]


@dataclass(frozen=True, slots=True)
class SamplesLeftOut:
    """What made no pair. held_out, ambiguous, unknown, blank: samples for items of dev or test, or near copies of them; for prompts
    that several rows of train have; for prompts that the task does not have; and samples without text. all_right, all_wrong,
    ties: prompts whose samples all score 1, 0, or the same in between. unusable: prompts whose best answers were cut or whose worst
    are empty. within: prompts whose scores differ by less than the margin. cut: pairs of an answer that was cut. alike: pairs of
    nearly the same answers. beyond: pairs beyond the most for a prompt. no_room: rows whose prompt leaves no room for an answer.
    conflicting: rows whose prompt has another answer in train.
    """

    held_out: int = 0
    ambiguous: int = 0
    unknown: int = 0
    blank: int = 0
    all_right: int = 0
    all_wrong: int = 0
    ties: int = 0
    unusable: int = 0
    within: int = 0
    cut: int = 0
    alike: int = 0
    beyond: int = 0
    no_room: int = 0
    conflicting: int = 0

    @property
    def sentence(self) -> str:
        """What made no pair, and why; "" where everything did."""
        parts = (
            (self.held_out, "sample", "for items of dev or test"),
            (self.ambiguous, "sample", "for a prompt that several training rows have"),
            (self.unknown, "sample", "for prompts that train does not have"),
            (self.blank, "sample", "without text"),
            (self.all_right, "prompt", "whose samples are all right"),
            (self.all_wrong, "prompt", "whose samples are all wrong"),
            (self.ties, "prompt", "whose samples all score the same"),
            (self.unusable, "prompt", "whose best answers were cut or whose worst are empty"),
            (self.within, "prompt", "whose scores differ by less than the margin"),
            (self.cut, "pair", "with a rejected answer that was cut"),
            (self.alike, "pair", "of nearly the same answers"),
            (self.beyond, "pair", "beyond the most for a prompt"),
            (self.no_room, "row", "whose prompt leaves no room for an answer"),
            (self.conflicting, "row", "whose prompt has another answer in train"),
        )
        return listed(f"{counted(n, unit)} {why}" for n, unit, why in parts if n)


@dataclass(frozen=True, slots=True)
class SampledAnswers:
    """n: answers of the model to each of so many rows. usd: of all, whenever they were given; None where a price is unknown."""

    model: str
    rows: int
    n: int
    usd: float | None

    @property
    def line(self) -> str:
        cost = "" if self.usd == 0 else f", {at_price(self.usd)}"
        return f"{self.model} gave {self.n} answers to each of {counted(self.rows, 'training row')}{cost}."


@dataclass(frozen=True, slots=True)
class PairsForecast:
    """What sampling a model would take: n answers to each of `rows` rows, some kept from before, the others still to be asked for.
    tokens_in, tokens_out, usd, seconds: of those that are asked for, each as long as allowed, without thoughts. needed_usd: the
    limit under which all are sure to be asked for; None where none is. Both are None where a price is unknown, seconds where the
    model's speed is. limit_usd: what all answers may cost, those kept among them, None for no limit.
    """

    model: str
    rows: int
    n: int
    asked: int
    kept: int
    tokens_in: int
    tokens_out: int
    usd: float | None
    needed_usd: float | None
    limit_usd: float | None
    seconds: float | None

    def as_dict(self) -> JsonObject:
        """As `lastresort data pairs --dry-run --json` prints it."""
        return asdict(self)

    def lines(self) -> list[str]:
        answers = f"{counted(self.asked + self.kept, 'answer')} of {self.model}"
        rows = f"{self.n} to each of {counted(self.rows, 'training row')}"
        if not self.asked:
            return [f"Forecast: no call, since all are kept: {answers}, {rows}."]
        tokens = f"about {count(self.tokens_in)} tokens of prompts and at most {count(self.tokens_out)} of answers without thinking"
        limit, over = self.limit_usd, list[str]()
        if limit is not None and self.needed_usd is not None and self.needed_usd > limit:
            over = [f"The limit of {limit:g} USD may end it before that: raise it, or give fewer --rows or --n."]
        return [
            f"Forecast: {answers}, {rows}; kept: {count(self.kept)}, to sample: {count(self.asked)}.",
            f"To sample: {tokens}, {self._at_most()}.",
            *over,
        ]

    def question(self) -> str:
        answers = f"{counted(self.asked, 'answer')} of {self.model} to {counted(self.rows, 'row')}"
        return f"This samples {answers}, {self._at_most()}. Start it?"

    def _at_most(self) -> str:
        """What it costs and takes, as far as that is known."""
        high = " if each answer has the maximum length" if self.usd or self.seconds else ""
        return f"{at_price(self.usd)}{in_time(self.seconds)}{high}"


# Above this, fewer pairs say which well-formed answer is right than a training holds out to measure its margins (a tenth).
FORM_TELLS = 0.9


@dataclass(frozen=True, slots=True)
class PairedFile:
    """pairs: of `prompts` rows of train. chosen_characters, rejected_characters: on average. longer: how often the chosen answer is
    the longer one, among pairs that differ in length; None where none does. by_form: pairs of which the rejected answer alone lacks
    the form that the task asks for. sampled: None where a file or a run has the samples.
    """

    path: Path
    task_file: Path
    shape: str
    pairs: int
    prompts: int
    chosen_characters: float
    rejected_characters: float
    longer: float | None
    left_out: SamplesLeftOut
    by_form: int = 0
    sampled: SampledAnswers | None = None

    def as_dict(self) -> JsonObject:
        """As `lastresort data pairs --json` prints it."""
        return {**asdict(self), "path": str(self.path), "task_file": str(self.task_file)}

    def lines(self) -> list[str]:
        longer = [] if self.longer is None else [length_line(self.longer)]
        left_out = self.left_out.sentence
        named = yaml_name(relative_name(self.path.absolute(), self.task_file.absolute().parent))
        return [
            *([] if self.sampled is None else [self.sampled.line]),
            f"{counted(self.pairs, 'pair')} of {counted(self.prompts, 'training row')} in {self.path}.",
            f"Characters on average: {self.chosen_characters:,.0f} chosen, {self.rejected_characters:,.0f} rejected.",
            *longer,
            *self._form_warning(),
            *([f"No pair: {left_out}."] if left_out else []),
            f"To train on them, write in {self.task_file.name}: preferences: {named}",
        ]

    def _form_warning(self) -> list[str]:
        if self.by_form < FORM_TELLS * self.pairs:
            return []
        return [
            f"warning: in {count(self.by_form)} of {counted(self.pairs, 'pair')} the rejected answer lacks the form that the task "
            "asks for, so these pairs teach the form and little else: train SFT on the rows first, and sample that model"
        ]
