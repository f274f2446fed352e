"""Pairs of a system's own answers to the prompts of train, ranked by the task's scorer; made once a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from lastresort.data.preferences import PreferenceRow
from lastresort.evals.measure import mean_so_far
from lastresort.evals.scorers import scores_of
from lastresort.records.events import RankedAnswer, RankedPair, SamplesPaired
from lastresort.rungs.rung import Workbench
from lastresort.stop import check
from lastresort.synthesis import Sample, pairs_from_samples
from lastresort.systems.system import System
from lastresort.types import Answer, Example, Message

MOST_PROMPTS = 500
TEMPERATURE = 1.0


@dataclass(frozen=True, slots=True)
class SampledPreferences:
    """summary: what became of the prompts, in words."""

    preferences: tuple[PreferenceRow, ...]
    summary: str


def own_pairs(bench: Workbench, rung: str, start: System) -> SampledPreferences:
    """Sample `preference.samples` answers of the system to each prompt, at temperature 1, and pair them by their scores."""
    known = bench.record.last(SamplesPaired, rung)
    if known is None:
        known = _made(bench, rung, start)
        bench.record.append(known)
    return SampledPreferences(noted_pairs(known, bench.train), known.counts.summary())


def noted_pairs(known: SamplesPaired, train: Sequence[Example]) -> tuple[PreferenceRow, ...]:
    """train: the examples that it speaks of."""
    prompts = {example.id: example for example in train}
    return tuple(_preferred(prompts[pair.example], pair) for pair in known.pairs)


def _made(bench: Workbench, rung: str, start: System) -> SamplesPaired:
    asked = _with_room(bench, start)
    bench.progress.stage(f"{rung}: samples of {start.name}", len(asked) * bench.task.preference.samples)
    size = bench.models.open(start).batch_size
    samples: list[list[Sample]] = []
    answers: list[Answer] = []
    so_far: list[float] = []
    for first in range(0, len(asked), size):
        batch = asked[first : first + size]
        own: list[list[Sample]] = [[] for _ in batch]
        for number in range(bench.task.preference.samples):
            check(bench.stop)
            found = _answers(bench, start, batch, number)
            scores = scores_of(bench.scorer, [answer.text for answer in found], batch)
            for place, answer, score in zip(own, found, scores, strict=True):
                place.append(Sample(answer.text, score, answer.finish == "stop"))
            answers += found
            so_far += scores
            bench.progress.advance(len(batch), note=mean_so_far(so_far))
        samples += own
    paired = pairs_from_samples(samples)
    pairs = tuple(
        RankedPair(
            example=asked[pair.prompt].id,
            chosen=RankedAnswer(**asdict(pair.chosen)),
            rejected=RankedAnswer(**asdict(pair.rejected)),
        )
        for pair in paired.pairs
    )
    return SamplesPaired(
        rung=rung,
        pairs=pairs,
        counts=paired.counts,
        tokens_in=sum(answer.prompt_tokens for answer in answers),
        tokens_out=sum(answer.completion_tokens for answer in answers),
        seconds=sum(answer.seconds for answer in answers),
    )


def _answers(bench: Workbench, start: System, batch: Sequence[Example], number: int) -> list[Answer]:
    """The answers of this number to each example; the number is in the seed."""
    seed = start.decoding.seed + 1 + number
    sampling = replace(start, decoding=replace(start.decoding, temperature=TEMPERATURE, seed=seed))
    return bench.answerer(sampling).answer([example.input for example in batch])


def _with_room(bench: Workbench, start: System) -> list[Example]:
    """The first MOST_PROMPTS examples of train whose prompt leaves room for an answer."""
    answerer = bench.answerer(start)
    limit = answerer.model.context_tokens
    if limit is None:
        return list(bench.train[:MOST_PROMPTS])
    most = limit - start.decoding.max_new_tokens
    fits = [e for e in bench.train if answerer.model.count_tokens(answerer.prompt(e.input)) <= most]
    return fits[:MOST_PROMPTS]


def _preferred(example: Example, pair: RankedPair) -> PreferenceRow:
    return PreferenceRow(
        example.input,
        tuple((Message("assistant", side.text),) for side in (pair.chosen, pair.rejected)),
        f"{example.source}, row {example.row}",
        ends=(pair.chosen.whole, pair.rejected.whole),
    )
