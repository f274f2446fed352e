"""A system, examples and a scorer -> per-item scores.

Batches are cut from the order of the examples before the first call and never regrouped: in reduced precision an answer can
depend on its batch, and a resumed run must see the same answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from lastresort.errors import CandidateError
from lastresort.evals.scorers import Scorer, format_ok, scores_of
from lastresort.models.protocol import OnAnswer
from lastresort.records.measurement import ItemScore, failure_kind
from lastresort.systems.answerer import Answerer
from lastresort.types import Answer, Example, JsonObject


class Format(Protocol):
    """What an answer must look like to be well-formed, from the task's `output`."""

    @property
    def json_schema(self) -> JsonObject | None: ...
    @property
    def choices(self) -> tuple[str, ...] | None: ...


def measured(
    answerer: Answerer,
    examples: Sequence[Example],
    scorer: Scorer,
    output: Format,
    *,
    batch_size: int,
    refused_is_wrong: bool = False,
    on_answer: OnAnswer | None = None,
) -> Iterator[list[ItemScore]]:
    """Yield the scores batch by batch, in order; the caller may stop early.

    An infrastructure failure is raised, never scored. refused_is_wrong: an item that the model refuses (CandidateError:
    its prompt is too long) scores 0 with finish "refused", as the system would fail on it in use; otherwise it raises.
    on_answer: given every answer as it arrives, also those of a batch that is never scored.
    """
    if refused_is_wrong:
        answerer.model.check_decoding(answerer.system.decoding)  # a system that can answer nothing is not merely wrong
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        try:
            answers: list[Answer | None] = [*answerer.answer([example.input for example in batch], on_answer=on_answer)]
        except CandidateError:
            if not refused_is_wrong:
                raise
            answers = [_one_answer(answerer, example, on_answer) for example in batch]
        answered = [(example, answer) for example, answer in zip(batch, answers, strict=True) if answer is not None]
        scores = iter(scores_of(scorer, [answer.text for _, answer in answered], [example for example, _ in answered]))
        yield [
            _refused(example) if answer is None else _scored(answer, example, next(scores), scorer, output)
            for example, answer in zip(batch, answers, strict=True)
        ]


def _one_answer(answerer: Answerer, example: Example, on_answer: OnAnswer | None) -> Answer | None:
    try:
        return answerer.answer([example.input], on_answer=on_answer)[0]
    except CandidateError:
        return None


def _scored(answer: Answer, example: Example, score: float, scorer: Scorer, output: Format) -> ItemScore:
    return ItemScore(
        id=example.id,
        score=score,
        answer=answer.text,
        expected=example.output,
        input=example.input_text,
        finish=answer.finish,
        format_ok=format_ok(answer.text, json_schema=output.json_schema, choices=output.choices, scorer=scorer.name),
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        seconds=answer.seconds,
        usd=answer.usd,
        passages=answer.passages,
    )


def _refused(example: Example) -> ItemScore:
    return ItemScore(example.id, 0.0, "", example.output, example.input_text, "refused", None, 0, 0, 0.0, 0.0)


def mean_score(items: Sequence[ItemScore]) -> float:
    return sum(item.score for item in items) / len(items) if items else 0.0


def failures(items: Sequence[ItemScore], knowledge: Collection[str] | None = None) -> dict[str, int | None]:
    """Failures by kind: `format` does not parse or validate; `other` is well-formed and wrong.

    knowledge: ids of the items that were wrong closed book and right with the right passage, None where that was not measured; the
    count of this kind is then None.
    """
    kinds = Counter(failure_kind(item, knowledge or ()) for item in items)
    lacking = None if knowledge is None else kinds["knowledge"]
    return {"format": kinds["format"], "knowledge": lacking, "other": kinds["other"]}
