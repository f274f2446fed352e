"""What `lastresort data convert`, `data mix` and `data pairs` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lastresort.report.words import data_files as words
from lastresort.types import JsonObject


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

    def as_dict(self) -> dict[str, Any]:
        """As `lastresort data convert --json` prints it."""
        return {**asdict(self), "path": str(self.path), "unused": list(self.unused)}

    def lines(self) -> list[str]:
        return words.convert_lines(self)


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

    def as_dict(self) -> dict[str, Any]:
        """As `lastresort data mix --json` prints it."""
        sources = [{**asdict(source), "path": str(source.path)} for source in self.sources]
        used_up = None if self.used_up is None else str(self.used_up)
        return {
            **asdict(self),
            "path": str(self.path),
            "sources": sources,
            "used_up": used_up,
            "unused": list(self.unused),
        }

    def lines(self) -> list[str]:
        return words.mix_lines(self)


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
        return words.of_left_out(self)


@dataclass(frozen=True, slots=True)
class SampledAnswers:
    """n: answers of the model to each of so many rows. usd: of all, whenever they were given; None where a price is unknown."""

    model: str
    rows: int
    n: int
    usd: float | None


@dataclass(frozen=True, slots=True)
class PairsForecast:
    """What sampling a model would take: n answers to each of so many rows, of which some are kept and the others are asked for.
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
        return words.pairs_forecast_lines(self)


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

    def as_dict(self) -> dict[str, Any]:
        """As `lastresort data pairs --json` prints it."""
        return {**asdict(self), "path": str(self.path), "task_file": str(self.task_file)}

    def lines(self) -> list[str]:
        return words.pairs_lines(self)
