"""Making synthetic rows: plan a batch of requests, ask, filter, ask again without the answers, and write down what is kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from lastresort.data.duplicates import input_hash
from lastresort.data.read import content_hash
from lastresort.keys import without_keys
from lastresort.models.protocol import Model, Prompt, sample_indices
from lastresort.stop import Stop, check
from lastresort.synthesis.filters import FILTERS, FilterName, ProposedRow, SeenRows, dropped_by, is_refusal
from lastresort.synthesis.journal import FilteredRow, Journal, RequestBatch, RowOrigin, SyntheticRow, Tally
from lastresort.synthesis.kinds import KINDS, Draw, RowRequest, SeedRows
from lastresort.synthesis.prompts import PER_REQUEST, VERSION, reply_schema, request_turns
from lastresort.synthesis.reading import LONGEST_REPLY, read_reply_rows
from lastresort.synthesis.spending import Purse
from lastresort.systems.compose import compose
from lastresort.systems.system import PromptDesign
from lastresort.types import Answer, Decoding, Example, Grammar, Message, Progress

BATCH, LOCAL_BATCH = 8, 1  # requests; a local model takes long for one
NO_YIELD = 24  # requests in a row, of one session, of which nothing is kept
LEAST_YIELD = 0.2  # of the proposed rows, to plan with

Ended = Literal["rows", "calls", "usd", "no_yield"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is to be made. teacher: its name, as the user gives it. n: rows. kinds: in turn. instruction: of the task, with the
    form of its answers. blind: how the teacher answers an input on its own. agreement: how often it must give the row's answer
    again, 0 to not ask. agrees: whether an answer counts as that of the example. spelt: an answer as train spells it.
    max_new_tokens: of a reply; blind_tokens, answer_tokens: of a prompt for an answer alone, and of the answer. constrained:
    whether the teacher is a local model, whose decoding can be held to the form of a reply. made: the date.
    """

    teacher: str
    n: int
    kinds: tuple[str, ...]
    seeds: SeedRows
    instruction: str
    blind: PromptDesign
    agreement: int
    agrees: Callable[[str, Example], bool]
    spelt: Callable[[str], str]
    max_new_tokens: int
    blind_tokens: int
    answer_tokens: int
    seed: int
    made: str
    constrained: bool = False


def make_rows(
    recipe: Recipe, known: SeenRows, teacher: Model, journal: Journal, purse: Purse, progress: Progress, stop: Stop
) -> Ended:
    """Make rows until there are n, or a limit is reached, or nothing usable comes any more. Returns which.

    known: without the rows of the journal, which are added. stop: checked between batches.
    Raises InfrastructureError where the teacher cannot be reached: the same call goes on.
    """
    for text in _known_texts(journal.batches):
        known.remember(text)
    known.labels.update(row.output for batch in journal.batches for row in batch.rows)
    purse.open(journal)
    before = len(journal.batches)
    progress.stage("synthetic rows", recipe.n, min(recipe.n, len(journal.tally.rows)))
    while True:
        check(stop)
        planned = planned_batch(recipe, known, journal.batches)
        affordable = purse.affordable([request_turns(one, recipe.instruction) for one in planned], recipe.agreement)
        ended = _ended(recipe, journal.batches, before, affordable, purse)
        if ended is not None:
            return ended
        batch = _batch(recipe, known, teacher, planned[:affordable], journal.tally, purse)
        journal.append(batch)
        found = journal.tally
        spent = f", {found.usd:.2f} USD spent" if found.usd else ""
        progress.advance(
            len(batch.rows), f"{len(found.rows) / max(1, found.proposed):.0%} of the proposed rows kept{spent}"
        )


def planned_batch(recipe: Recipe, known: SeenRows, batches: Sequence[RequestBatch]) -> list[RowRequest]:
    """The next requests. They follow from the batches so far, so that a batch that was interrupted is planned again as it was."""
    made, proposed = sum(len(batch.rows) for batch in batches), sum(_proposed(batch) for batch in batches)
    share = max(LEAST_YIELD, made / proposed) if proposed else 1.0
    number = sum(batch.requests for batch in batches)
    wanted = math.ceil(max(1, recipe.n - made) / (PER_REQUEST * share))
    by_label, for_label = recipe.seeds.by_label, [name for name in recipe.kinds if KINDS[name].needs_labels]
    missing = {label: known.missing(label) for label in known.wanted if for_label or by_label[label]}
    shown = Counter(one for batch in batches for one in batch.shown)
    requests = []
    for one in range(number, number + min(LOCAL_BATCH if recipe.constrained else BATCH, wanted)):
        random = Random(f"synthetic:{recipe.seed}:{one}")
        label = _most_missing(missing, random) if missing else None
        kinds = recipe.kinds if label is None or by_label[label] else for_label
        request = KINDS[kinds[one % len(kinds)]].request(Draw(recipe.seeds, random, label, shown))
        if label is not None:
            request = replace(request, n=max(1, min(PER_REQUEST, missing[label])))
            missing[label] -= request.n
        shown[_shown(request)] += 1
        requests.append(request)
    return requests


def _shown(request: RowRequest) -> tuple[str, str]:
    return request.kind, request.shown[0].id


def _proposed(batch: RequestBatch) -> int:
    return len(batch.rows) + len(batch.dropped) + batch.surplus


def _most_missing(missing: Mapping[str, int], random: Random) -> str:
    most = max(missing.values())
    return random.choice([label for label, n in missing.items() if n == most])


def _known_texts(batches: Sequence[RequestBatch]) -> Iterator[str]:
    """As they were remembered: rows that were kept, and those whose answer the teacher did not give again."""
    for batch in batches:
        yield from (row.turns[-1].content for row in batch.rows)
        yield from (row.input for row in batch.dropped if row.by == "agreement")


def _ended(recipe: Recipe, batches: Sequence[RequestBatch], before: int, affordable: int, purse: Purse) -> Ended | None:
    """before: batches of earlier sessions, after which another one may well give rows."""
    if sum(len(batch.rows) for batch in batches) >= recipe.n:
        return "rows"
    without_rows = 0
    for batch in reversed(batches[before:]):
        if batch.rows:
            break
        without_rows += batch.requests
    if without_rows >= NO_YIELD:
        return "no_yield"
    return None if affordable else purse.limit


def _batch(
    recipe: Recipe, known: SeenRows, teacher: Model, requests: Sequence[RowRequest], before: Tally, purse: Purse
) -> RequestBatch:
    number = before.batches
    dropped: list[FilteredRow] = []
    passed: list[ProposedRow] = []
    for request, reply in zip(requests, _replies(recipe, teacher, requests, number, purse), strict=True):
        for one in _proposed_rows(recipe, request, reply, dropped):
            by = dropped_by(one, known)
            if by is None:
                known.hold(one)
                passed.append(one)
            else:
                dropped.append(_dropped(one, by))
    kept = []
    for one in _asked_again(recipe, teacher, passed, number, purse):
        if FILTERS["agreement"](one, known):
            known.let_go(one)
            dropped.append(_dropped(one, "agreement"))
        else:
            kept.append(one)
    room = max(0, recipe.n - len(before.rows))
    for one in kept[room:]:
        known.let_go(one)
    return RequestBatch(
        number=number,
        requests=len(requests),
        rows=tuple(_row(one, recipe) for one in kept[:room]),
        dropped=tuple(dropped),
        shown=tuple(map(_shown, requests)),
        surplus=len(kept[room:]),
    )


def _replies(recipe: Recipe, teacher: Model, requests: Sequence[RowRequest], number: int, purse: Purse) -> list[Answer]:
    """To all requests of a batch, those with the same form of reply together."""
    decoding = Decoding(recipe.max_new_tokens, temperature=1.0, seed=recipe.seed + number)
    replies: dict[int, Answer] = {}
    for given in (True, False):
        places = [place for place, request in enumerate(requests) if (request.answer is not None) == given]
        if not places:
            continue
        prompts = [request_turns(requests[place], recipe.instruction) for place in places]
        grammar = Grammar(json_schema=reply_schema(requests[places[0]])) if recipe.constrained else None
        replies |= zip(places, _ask(teacher, prompts, replace(decoding, grammar=grammar), purse), strict=True)
    return [replies[place] for place in range(len(requests))]


def _ask(teacher: Model, prompts: Sequence[Prompt], decoding: Decoding, purse: Purse) -> list[Answer]:
    asked = [
        content_hash(prompt, f"{decoding.seed}:{sample}")
        for prompt, sample in zip(prompts, sample_indices(prompts), strict=True)
    ]
    return teacher.generate(prompts, decoding, lambda index, answer: purse.record_answer(asked[index], answer))


def _proposed_rows(
    recipe: Recipe, request: RowRequest, reply: Answer, dropped: list[FilteredRow]
) -> Iterator[ProposedRow]:
    """The rows of a reply. What cannot be read goes to `dropped`."""
    read = read_reply_rows(reply, request.n, with_output=request.answer is None)
    whole_refused = bool(read.said) and is_refusal(read.said)
    lost = FilteredRow(by="refusal" if whole_refused else "unreadable", kind=request.kind)
    dropped += [lost] * read.unreadable
    first, kind = request.shown[0], KINDS[request.kind]
    for one in read.proposals:
        output = request.answer if request.answer is not None else recipe.spelt(one.output or "")
        turns = (*first.input[:-1], Message("user", one.input))
        passages = first.passages if kind.keeps_passages else ()
        yield ProposedRow(Example("", turns, output, passages=passages), request, reply.usd / len(read.proposals))


def _asked_again(
    recipe: Recipe, teacher: Model, passed: Sequence[ProposedRow], number: int, purse: Purse
) -> list[ProposedRow]:
    """Each with whether the teacher gives its answer again, without having seen it."""
    times = recipe.agreement
    if not times or not passed:
        return list(passed)
    decoding = Decoding(recipe.answer_tokens, temperature=0.0 if times == 1 else 1.0, seed=recipe.seed + number)
    prompts = [compose(recipe.blind, one.example.input, recipe.blind.shots) for one in passed for _ in range(times)]
    answers = _ask(teacher, prompts, decoding, purse)
    found = []
    for place, one in enumerate(passed):
        own = answers[place * times : (place + 1) * times]
        agrees = all(len(answer.text) <= LONGEST_REPLY and recipe.agrees(answer.text, one.example) for answer in own)
        found.append(replace(one, agrees=agrees, usd=one.usd + sum(answer.usd for answer in own)))
    return found


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
        usd=round(one.usd, 8),
    )
    name = f"synthetic-{content_hash(example.input, example.output)}"
    return SyntheticRow(
        id=name, turns=example.input, output=example.output, passages=example.passages, synthetic=provenance
    )


def _dropped(one: ProposedRow, by: FilterName) -> FilteredRow:
    return FilteredRow(by=by, kind=one.request.kind, input=one.text, output=one.example.output)
