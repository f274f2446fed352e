"""Making synthetic rows: plan a batch of requests, ask, filter, ask again without the answers, and write down what is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Literal

from lastresort.data.duplicates import input_hash
from lastresort.data.held_passages import passage_hash
from lastresort.data.read import content_hash
from lastresort.keys import without_keys
from lastresort.knowledge.chunks import Chunk
from lastresort.models.protocol import Model, Prompt, sample_indices
from lastresort.stop import Stop, check
from lastresort.synthesis.filters import FILTERS, FilterName, ProposedRow, SeenRows, dropped_by, is_refusal
from lastresort.synthesis.journal import (
    FilteredRow,
    Journal,
    RequestBatch,
    RowOrigin,
    SyntheticRow,
    Tally,
)
from lastresort.synthesis.kinds import KINDS, Draw, RowRequest, Turns
from lastresort.synthesis.prompts import (
    LONGEST_REPLY,
    PER_REQUEST,
    VERSION,
    read_reply_rows,
    reply_schema,
    request_turns,
)
from lastresort.synthesis.recipe import Limit, Recipe, SpendingLimits, limit_reached, most_calls
from lastresort.types import Answer, Decoding, Example, Grammar, Message, Progress, SeedPassage

BATCH = 8  # requests
NO_YIELD = 24  # requests in a row, of one session, of which nothing is kept
LEAST_YIELD = 0.2  # of the proposed rows, to plan with

Ending = Literal["rows", "no_yield"] | Limit


@dataclass(frozen=True, slots=True)
class RowsKept:
    """So far."""

    rows: int
    proposed: int
    usd: float


@dataclass(frozen=True, slots=True)
class RequestsAnswered:
    """Of a batch."""

    answered: int
    requests: int


MakingNote = RowsKept | RequestsAnswered  # `report.words.synthetic` writes the words of each
InWords = Callable[[MakingNote], str]
Expect = Callable[[Sequence[Prompt], Decoding], None]
"""Learns of a call before the teacher gets it, so that others can begin to answer it."""


@dataclass(frozen=True, slots=True)
class _RequestGroup:
    """Requests that the teacher gets together, in a call for each form of reply. seed: of its replies, and of the answers
    with which it checks their rows.
    """

    requests: tuple[RowRequest, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class _Teacher:
    """Its calls, each of which is counted in the journal. stop: checked before each."""

    model: Model
    journal: Journal
    stop: Stop
    expect: Expect

    def answers(self, prompts: Sequence[Prompt], decoding: Decoding, *, is_check: bool) -> list[Answer]:
        check(self.stop)
        hashes = _prompt_hashes(prompts, decoding)
        return self.model.generate(
            prompts,
            decoding,
            lambda index, answer: self.journal.record_answer(hashes[index], answer, is_check=is_check),
        )


def _prompt_hashes(prompts: Sequence[Prompt], decoding: Decoding) -> list[str]:
    return [
        content_hash(prompt, f"{decoding.seed}:{sample}")
        for prompt, sample in zip(prompts, sample_indices(prompts), strict=True)
    ]


def make_rows(
    recipe: Recipe,
    known: SeenRows,
    journal: Journal,
    limits: SpendingLimits,
    progress: Progress,
    in_words: InWords,
    stop: Stop,
    teacher: Model,
    expect: Expect = lambda prompts, decoding: None,
) -> Ending:
    """Make rows until there are n, or a limit is reached, or nothing usable comes any more. Returns which.

    known: with the rows of the journal. stop: checked between calls.
    Raises InfrastructureError where the teacher cannot be reached: the same call goes on.
    """
    found = journal.tally
    turns = Turns(recipe.seeds, found.shown)
    without_rows = (
        0  # requests since this session's last row; in an earlier session another model may have had the name
    )
    progress.stage("synthetic rows", recipe.n, min(recipe.n, len(found.rows)))
    while len(found.rows) < recipe.n:
        check(stop)
        if without_rows >= NO_YIELD:
            return "no_yield"
        requests, limit = planned_batch(recipe, known, found, turns, limits)
        if limit is not None and not requests:
            return limit
        asked = _Teacher(teacher, journal, stop, expect)
        batch = _batch(recipe, known, asked, requests, progress, in_words)
        journal.append(batch)
        without_rows = 0 if batch.rows else without_rows + batch.requests
        progress.advance(len(batch.rows), in_words(RowsKept(len(found.rows), found.proposed, found.usd)))
    return "rows"


def recall(known: SeenRows, made: Tally) -> None:
    """Compare new rows with those that were made, and with those whose answer the teacher did not give again."""
    for row in made.rows:
        known.remember(row.turns[-1].content)
        known.labels[row.output] += 1
    for dropped in made.dropped:
        if dropped.by == "agreement":
            known.remember(dropped.input)


def planned_batch(
    recipe: Recipe, known: SeenRows, found: Tally, turns: Turns, limits: SpendingLimits
) -> tuple[list[RowRequest], Limit | None]:
    """The next requests, and the limit that one more could exceed. They follow from the batches so far, so that a batch that was
    interrupted is planned again as it was.
    """
    share = max(LEAST_YIELD, len(found.rows) / found.proposed) if found.proposed else 1.0
    wanted = math.ceil(max(1, recipe.n - len(found.rows)) / (PER_REQUEST * share))
    most = 1 if limits.needs_a_price(found) else BATCH
    by_label, for_label = recipe.seeds.by_label, [name for name in recipe.kinds if KINDS[name].needs_labels]
    missing: dict[str | None, int] = {label: known.missing(label) for label in known.wanted} or {
        None: recipe.n - len(found.rows)
    }
    requests: list[RowRequest] = []
    for one in range(found.requests, found.requests + min(most, wanted)):
        random = Random(f"synthetic:{recipe.seed}:{one}")
        label = _most_missing(missing, random)
        kinds = recipe.kinds if label is None or by_label[label] else for_label
        request = KINDS[kinds[one % len(kinds)]].request(Draw(recipe.seeds, turns, random, label))
        beyond = PER_REQUEST if label is None else 1  # a label has a quota, and rows beyond it are left out
        request = replace(request, n=min(PER_REQUEST, missing[label]) if missing[label] > 0 else beyond)
        missing[label] -= request.n
        more = [*requests, request]
        if (limit := limit_reached(limits, recipe, more, found, _counted_calls(recipe, more, found))) is not None:
            return requests, limit
        turns.count(request)
        requests.append(request)
    return requests, None


def _counted_calls(recipe: Recipe, requests: Sequence[RowRequest], found: Tally) -> int:
    """How many calls of these requests were counted before their batch was interrupted: at most all that may follow from those
    whose reply was.
    """
    most = sum(
        most_calls(recipe, group.requests[place])
        for group in (_groups(recipe, requests, found) if found.under_way else ())
        for places, prompts, decoding in _request_calls(recipe, group)
        for place, prompt_hash in zip(places, _prompt_hashes(prompts, decoding), strict=True)
        if prompt_hash in found.under_way
    )
    return min(len(found.under_way), most)


def _most_missing(missing: Mapping[str | None, int], random: Random) -> str | None:
    most = max(missing.values())
    return random.choice([label for label, n in missing.items() if n == most])


def _batch(
    recipe: Recipe,
    known: SeenRows,
    teacher: _Teacher,
    requests: Sequence[RowRequest],
    progress: Progress,
    in_words: InWords,
) -> RequestBatch:
    before, dropped = teacher.journal.tally, list[FilteredRow]()
    groups = _groups(recipe, requests, before)
    for group in groups:
        for _, prompts, decoding in _request_calls(recipe, group):
            teacher.expect(prompts, decoding)
    passed: list[list[ProposedRow]] = []  # of each group
    for group in groups:
        passed.append(_passed(recipe, known, teacher, group, dropped))
        if checks := _check_call(recipe, passed[-1], group.seed):
            teacher.expect(*checks)
        if len(groups) > 1:
            progress.advance(0, in_words(RequestsAnswered(len(passed), len(groups))))
    kept = []
    for group, rows in zip(groups, passed, strict=True):
        for one in _asked_again(recipe, teacher, rows, group.seed):
            if FILTERS["agreement"](one, known):
                known.let_go(one)
                dropped.append(_dropped(one, "agreement"))
            else:
                kept.append(one)
    room = max(0, recipe.n - len(before.rows))
    for one in kept[room:]:
        known.let_go(one)
    return RequestBatch(
        number=before.batches,
        requests=len(requests),
        rows=tuple(_row(one, recipe) for one in kept[:room]),
        dropped=tuple(dropped),
        shown=tuple(request.turn for request in requests),
        surplus=len(kept[room:]),
    )


def _passed(
    recipe: Recipe, known: SeenRows, teacher: _Teacher, group: _RequestGroup, dropped: list[FilteredRow]
) -> list[ProposedRow]:
    """The rows of a group that pass all filters but the last. The others go to `dropped`."""
    passed = []
    for request, reply in zip(group.requests, _replies(recipe, teacher, group), strict=True):
        for one in _proposed_rows(recipe, request, reply, dropped):
            by = dropped_by(one, known)
            if by is None:
                known.hold(one)
                passed.append(one)
            else:
                dropped.append(_dropped(one, by))
    return passed


def _groups(recipe: Recipe, requests: Sequence[RowRequest], before: Tally) -> list[_RequestGroup]:
    """An endpoint gets all at once. A local model, which takes long for one, gets them one by one: what it answered is then kept
    when it is stopped, and workers can share them.
    """
    if not recipe.constrained:
        return [_RequestGroup(tuple(requests), recipe.seed + before.batches)]
    return [_RequestGroup((one,), recipe.seed + before.requests + place) for place, one in enumerate(requests)]


def _request_calls(recipe: Recipe, group: _RequestGroup) -> list[tuple[list[int], list[Prompt], Decoding]]:
    """Of a group: those with the same form of reply together. With the places of the requests."""
    decoding = Decoding(recipe.lengths.reply, temperature=1.0, seed=group.seed)
    found = []
    for given in (True, False):
        places = [place for place, request in enumerate(group.requests) if (request.answer is not None) == given]
        if not places:
            continue
        prompts: list[Prompt] = [request_turns(group.requests[place], recipe.instruction) for place in places]
        grammar = Grammar(json_schema=reply_schema(group.requests[places[0]])) if recipe.constrained else None
        found.append((places, prompts, replace(decoding, grammar=grammar)))
    return found


def _replies(recipe: Recipe, teacher: _Teacher, group: _RequestGroup) -> list[Answer]:
    replies: dict[int, Answer] = {}
    for places, prompts, decoding in _request_calls(recipe, group):
        replies |= zip(places, teacher.answers(prompts, decoding, is_check=False), strict=True)
    return [replies[place] for place in range(len(group.requests))]


def _proposed_rows(
    recipe: Recipe, request: RowRequest, reply: Answer, dropped: list[FilteredRow]
) -> Iterator[ProposedRow]:
    """The rows of a reply. What cannot be read goes to `dropped`."""
    read = read_reply_rows(reply, request.n, with_output=request.answer is None)
    whole_refused = bool(read.said) and is_refusal(read.said)
    lost = FilteredRow(by="refusal" if whole_refused else "unreadable", kind=request.kind, output=read.said)
    dropped += [lost] * read.unreadable
    first, kind = request.shown[0], KINDS[request.kind]
    for one in read.proposals:
        output = request.answer if request.answer is not None else recipe.spelt(one.output or "")
        turns = (*first.input[:-1], Message("user", one.input))
        passages = first.passages if kind.keeps_passages else ()
        if request.passage is not None:
            passages = (request.passage.section,)
        yield ProposedRow(Example("", turns, output, passages=passages), request, reply.usd / len(read.proposals))


def _asked_again(recipe: Recipe, teacher: _Teacher, passed: Sequence[ProposedRow], seed: int) -> list[ProposedRow]:
    """Each with whether the teacher gives its answer again, without having seen it: from its passage, where it has one."""
    checks = _check_call(recipe, passed, seed)
    if checks is None:
        return list(passed)
    answers = iter(teacher.answers(*checks, is_check=True))
    found = []
    for one in passed:
        own = list(islice(answers, recipe.checks(one.request.kind)))
        agrees = all(
            len(answer.text) <= LONGEST_REPLY and recipe.gives_again(answer.text, one.example, one.request.passage)
            for answer in own
        )
        usd = one.usd + sum(answer.usd for answer in own)
        found.append(replace(one, agrees=agrees if own else None, usd=usd))
    return found


def _check_call(recipe: Recipe, passed: Sequence[ProposedRow], seed: int) -> tuple[list[Prompt], Decoding] | None:
    """The call that asks for their answers again, None where none is checked."""
    times = [recipe.checks(one.request.kind) for one in passed]
    if not any(times):
        return None
    decoding = Decoding(recipe.lengths.answer, temperature=0.0 if max(times) == 1 else 1.0, seed=seed)
    return [_check_prompt(recipe, one) for one, n in zip(passed, times, strict=True) for _ in range(n)], decoding


def _check_prompt(recipe: Recipe, one: ProposedRow) -> tuple[Message, ...]:
    turns, request = one.example.input, one.request
    if request.passage is None:
        return recipe.blind_prompt(turns)
    return recipe.passage_prompt(turns, request.passage, request.shown)


def _row(one: ProposedRow, recipe: Recipe) -> SyntheticRow:
    example, passed = one.example, [name for name in FILTERS if name != "agreement" or one.agrees is not None]
    provenance = RowOrigin(
        kind=one.request.kind,
        teacher=without_keys(recipe.teacher),
        seeds=tuple(row.id for row in one.request.shown),
        seed_inputs=tuple(map(input_hash, one.request.shown)),
        prompt=f"{one.request.kind}/{VERSION}",
        passed=tuple(passed),
        made=recipe.made,
        usd=round(one.usd, 8) if recipe.priced else None,
        passage=_passage_origin(one.request.passage),
    )
    name = f"synthetic-{content_hash(example.input, example.output)}"
    return SyntheticRow(
        id=name, turns=example.input, output=example.output, passages=example.passages, synthetic=provenance
    )


def _passage_origin(passage: Chunk | None) -> SeedPassage | None:
    if passage is None:
        return None
    return SeedPassage(passage.document, passage.section, passage.start, passage.end, passage_hash(passage))


def _dropped(one: ProposedRow, by: FilterName) -> FilteredRow:
    return FilteredRow(by=by, kind=one.request.kind, input=one.text, output=one.example.output)
