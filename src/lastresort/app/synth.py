"""Synthetic training rows for a task: `lastresort data synth`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, get_args

from lastresort.app.prices import Prices, limit_of, prices_of, refuse_below, refuse_unknown_model
from lastresort.app.start import RUNS
from lastresort.app.synth_recipe import known_of, recipe_of, rows_hash, task_hash, why_no_agreement
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.climb.workload import machine_of
from lastresort.climb.workspace import RESPONSES, SHARED
from lastresort.errors import (
    SAME_COMMAND,
    InputError,
    LastresortError,
    StoppedError,
    StopRequestedError,
    TooLongError,
)
from lastresort.keys import without_keys
from lastresort.models.cached import CachedModel
from lastresort.models.open import ModelOpening, absolute_name
from lastresort.models.protocol import Model, is_endpoint
from lastresort.records.atomic import disk_errors, held
from lastresort.records.responses import ResponseCache
from lastresort.report.words import synthetic as words
from lastresort.report.words.progress import no_workers_line
from lastresort.report.words.synthetic import SyntheticRows, SynthForecast
from lastresort.rungs.forecast import Machine, answering
from lastresort.scale.ahead import CALLS, AnsweredAhead
from lastresort.scale.cluster import Connect, checked_address
from lastresort.scale.crew import Crew
from lastresort.scale.work import is_loaded
from lastresort.spec.paths import is_paid, refuse_unwritable
from lastresort.spec.task import Task, given_task
from lastresort.spec.values import one_of
from lastresort.stop import NEVER, GoOn, Stop
from lastresort.synthesis.diversity import Diversity, diversity
from lastresort.synthesis.filters import Balance, SeenRows
from lastresort.synthesis.journal import Header, Journal, Tally
from lastresort.synthesis.kinds import KINDS, Turns, passages_hash
from lastresort.synthesis.make import Ending, make_rows, planned_batch, recall
from lastresort.synthesis.prompts import PER_REQUEST, VERSION, request_turns
from lastresort.synthesis.recipe import PASSAGE_CHECKS, Recipe, SpendingLimits, forecast
from lastresort.types import SILENT, Progress

MOST_ROWS = 200  # unless more are asked for
CALLS_A_ROW, CALLS_A_CHECK, LEAST_CALLS = 6, 3, 60  # a call for each check of a row, and of those that are dropped
_SHORTER = (
    "Leave out expansion and documents, which show the most, with --kinds, or name a teacher with a longer context. If rows were "
    "made already, name another file with --out as well."
)


@dataclass(frozen=True, slots=True)
class SynthRequest:
    """The options of `lastresort data synth`, by their names; None: their defaults. ray: local, auto or HOST:PORT; None for this
    process alone. runs: the folder with the response cache.
    """

    task: Path | Task
    teacher: str | None = None
    n: int | None = None
    kinds: tuple[str, ...] = ()
    balance: str = "train"
    agreement: int | None = None
    calls: int | None = None
    usd: float | None = None
    prompt_price: float | None = None
    output_price: float | None = None
    seed: int = 0
    out: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    ray: str | None = None
    runs: Path = RUNS


def synth_data(
    request: SynthRequest,
    progress: Progress,
    stop: Stop = NEVER,
    go_on: GoOn | None = None,
    connect: Connect | None = None,
) -> SyntheticRows:
    """Make synthetic rows for a task, from its train rows (and its documents, where the kinds say so), and write them beside the
    task. The same call goes on.

    go_on: asks the user before paid calls, None to start them without. stop: checked between calls. connect: None to a cluster of
    its own.
    Raises InputError for what cannot be used, StoppedError where it stopped.
    """
    progress.stage("reading the task")
    setup = _setup(request, run_code=True)
    path = setup.out
    refuse_unwritable("--out", path)
    if path.exists() and not path.is_file():
        raise InputError("found no file", where=f"--out {path}", expected="a new file", remedy="Name another.")
    folder = setup.folder
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    wait = "Wait for it, or name another file with --out."
    with (
        held(folder, "another process is making these rows", expected="one process a file", remedy=wait),
        ResponseCache(request.runs / SHARED / RESPONSES) as cache,
    ):
        journal = setup.journal()
        journal.check(_header(setup, journal.fingerprint))  # before workers start; the teacher itself is not open yet
        with _workers(setup, journal.tally, progress, connect) as crew, _opened(setup, journal) as model:
            journal.begin(_header(setup, model.fingerprint))
            recall(setup.known, journal.tally)
            _ask_before_paying(setup, journal.tally, progress, stop, go_on)
            teacher = CachedModel(model, cache)
            make = partial(
                make_rows, setup.recipe, setup.known, journal, setup.limits, progress, words.making_note, stop
            )
            try:
                if crew is None:
                    ending = make(teacher)
                else:
                    at_workers = AnsweredAhead(teacher, setup.opening, crew, stop)
                    ending = make(at_workers.model, at_workers.expect)
            except StoppedError as error:
                raise error.going_on(SAME_COMMAND) from error
            except TooLongError as error:
                raise TooLongError(error.found, where=error.where, expected=error.expected, remedy=_SHORTER) from error
        return _result(setup, journal, ending, progress)


def _ask_before_paying(setup: _Setup, tally: Tally, progress: Progress, stop: Stop, go_on: GoOn | None) -> None:
    """Raises StopRequestedError where the answer is no."""
    if len(tally.rows) >= setup.n:
        return
    estimate = setup.forecast(tally, Machine(None, 1.0))  # its time is not asked about, and takes seconds to find
    for line in words.notes(estimate, agreement_off=setup.agreement_off):
        progress.say(line)
    if setup.paid and go_on is not None and not go_on(words.question(estimate), stop):
        raise StopRequestedError(
            "nobody agreed to the paid calls",
            where=str(setup.out),
            remedy="Answer y, or add --yes. Nothing was spent.",
        )


def forecast_synth(request: SynthRequest, progress: Progress = SILENT) -> SynthForecast:
    """What it would ask next, and what the rows still to be made would cost and take. Opens no model, runs no code, changes no
    file. progress: shows what is timed.

    Raises InputError for what cannot be used, also for rows that were made with other settings.
    """
    setup = _setup(request, run_code=False)
    journal = setup.journal()
    journal.check(_header(setup, journal.fingerprint))
    recall(setup.known, journal.tally)
    is_missing = len(journal.tally.rows) < setup.n
    task = setup.prepared.task
    machine = machine_of(task, setup.name, setup.prices, progress) if is_missing else Machine(None, 1.0)
    return setup.forecast(journal.tally, machine)


@dataclass(frozen=True, slots=True)
class _Setup:
    """prices: of the teacher. agreement_off: why it cannot be checked."""

    prepared: PreparedTask
    request: SynthRequest
    teacher: str
    name: str
    n: int
    out: Path
    recipe: Recipe
    known: SeenRows
    limits: SpendingLimits
    prices: Prices
    agreement_off: str | None

    @property
    def folder(self) -> Path:
        """Of what belongs to the file of rows."""
        return self.out.with_name(f".{self.out.name}")

    def journal(self) -> Journal:
        conversations = any(len(row.input) > 1 or row.input[-1].extra for row in self.prepared.split.train)
        return Journal(self.folder / "journal.jsonl", self.out, as_messages=conversations)

    @property
    def opening(self) -> ModelOpening:
        """Of the teacher."""
        task, (price_in, price_out) = self.prepared.task, self.prices
        return ModelOpening(
            self.name,
            task.folder,
            prompt_price=price_in or 0.0,
            output_price=price_out or 0.0,
            template_kwargs=task.chat_template_kwargs if self.teacher == task.model else {},
        )

    @property
    def paid(self) -> bool:
        return is_paid(self.teacher) and self.prices != (0.0, 0.0)

    @property
    def loads_at_workers(self) -> bool:
        """Whether workers answer in the teacher's place, as long as a row is missing."""
        opening = self.opening
        return self.request.ray is not None and is_loaded(opening.name, (opening.prompt_price, opening.output_price))

    def forecast(self, made: Tally, machine: Machine) -> SynthForecast:
        """Of the rows that are still to be made, with replies that are as long as they may be. The rows of `made` are known
        already. machine: of the teacher.
        """
        recipe, task, n = self.recipe, self.prepared.task, max(0, self.n - len(made.rows))
        batch_recipe = replace(recipe, n=len(made.rows) + len(KINDS) * PER_REQUEST)
        batch, _ = planned_batch(batch_recipe, self.known, made, Turns(recipe.seeds, made.shown), SpendingLimits())
        prompts = {one.kind: request_turns(one, recipe.instruction) for one in reversed(batch)}
        n_by_label = [max(0, self.known.missing(label)) for label in self.known.wanted] or [n]
        calls = forecast(recipe, n_by_label, list(prompts.values()))
        price_in, price_out = self.limits.prices if recipe.priced else (None, None)
        machine, one_by_one = replace(machine, prompt_price=price_in, output_price=price_out), recipe.constrained
        lengths = recipe.lengths
        cost = answering(
            "requests", machine, calls.requests, calls.request_tokens, 0, lengths.reply, alone=one_by_one
        ) + answering("checks", machine, calls.answers, calls.answer_tokens, 0, lengths.answer, alone=one_by_one)
        is_same_model = self.name == absolute_name(task.tuned_model, task.folder)
        first_prompts = {kind: prompts[kind] for kind in recipe.kinds if n and kind in prompts}
        sends_passages = bool(recipe.seeds.passages) and is_paid(self.teacher)
        return SynthForecast(
            self.teacher,
            n,
            recipe.kinds,
            calls.requests,
            calls.answers,
            cost.usd,
            cost.seconds if n else None,
            first_prompts,
            is_same_model,
            sends_passages,
            recipe.seeds.protection,
            at_workers=self.loads_at_workers and n > 0 and cost.seconds is not None,
        )


def _setup(request: SynthRequest, *, run_code: bool) -> _Setup:
    if request.ray is not None:
        checked_address(request.ray)
    task = given_task(request.task, dict(request.settings))
    out = _file(request, task)
    others = tuple(path for path in task.examples.synthetic if path.resolve() != out.resolve())
    without_out = task.model_copy(update={"examples": task.examples.model_copy(update={"synthetic": others})})
    _check(request, out)
    teacher = request.teacher or task.reflect_model
    name = absolute_name(teacher, Path.cwd() if request.teacher is not None else task.folder)
    refuse_unknown_model(name, task.folder, "--teacher" if request.teacher is not None else None)
    prices = prices_of(task, teacher, (request.prompt_price, request.output_price))
    limit_usd = limit_of(task, request.usd, teacher, prices)
    prepared_task = prepare(without_out, run_code=run_code, begins=False)
    real_rows = tuple(row for row in prepared_task.split.train if not row.synthetic)
    prepared = replace(prepared_task, task=task, split=replace(prepared_task.split, train=real_rows))
    n = request.n if request.n is not None else min(len(prepared.split.train), MOST_ROWS)
    why = why_no_agreement(prepared, run_code=run_code)
    from_documents = any(KINDS[kind].needs_passages for kind in request.kinds)
    if request.agreement and why is not None and not from_documents:
        raise InputError(
            f"found --agreement {request.agreement} for a task with {why}",
            expected="--agreement 0",
            remedy="Leave it out.",
        )
    agreement = 0 if why is not None else request.agreement if request.agreement is not None else 1
    recipe = recipe_of(
        prepared,
        teacher=teacher,
        n=n,
        kinds=request.kinds,
        agreement=agreement,
        passage_checks=max(request.agreement or 0, PASSAGE_CHECKS),
        seed=request.seed,
        made=datetime.now(UTC).date().isoformat(),
        constrained=not is_endpoint(teacher),
        priced=not is_paid(teacher) or None not in prices,
    )
    calls_a_row = max(CALLS_A_ROW, CALLS_A_CHECK * recipe.most_checks)
    return _Setup(
        prepared=prepared,
        request=request,
        teacher=teacher,
        name=name,
        n=n,
        out=out,
        recipe=recipe,
        known=known_of(prepared, recipe, one_of("--balance", request.balance, get_args(Balance))),
        limits=SpendingLimits(
            calls=request.calls if request.calls is not None else max(LEAST_CALLS, calls_a_row * n),
            usd=limit_usd,
            prices=(prices[0] or 0.0, prices[1] or 0.0),
        ),
        prices=prices,
        agreement_off=why if request.agreement is None or from_documents else None,
    )


def rows_file(request: SynthRequest) -> Path:
    """Where the rows are written."""
    return _file(request, given_task(request.task, dict(request.settings)))


def made_at_workers(request: SynthRequest) -> bool:
    """Whether workers write the rows, where there are any."""
    task = given_task(request.task, dict(request.settings))
    name = request.teacher or task.reflect_model
    price_in, price_out = prices_of(task, name, (request.prompt_price, request.output_price))
    return is_loaded(name, (price_in or 0.0, price_out or 0.0))


def _file(request: SynthRequest, task: Task) -> Path:
    return request.out or task.folder / f"{task.task}-synthetic.jsonl"


def _check(request: SynthRequest, out: Path) -> None:
    if out.suffix.lower() != ".jsonl":
        raise InputError(
            f'found "{out.name}"', where="--out", expected="a file that ends in .jsonl", remedy="Name it so."
        )
    for kind in request.kinds:
        one_of("--kinds", kind, tuple(KINDS))
    one_of("--balance", request.balance, get_args(Balance))
    refuse_below(
        ("--n", request.n, 1),
        ("--calls", request.calls, 1),
        ("--agreement", request.agreement, 0),
        ("--usd", request.usd, 0),
        ("--prompt-price", request.prompt_price, 0),
        ("--output-price", request.output_price, 0),
    )


def _workers(
    setup: _Setup, made: Tally, progress: Progress, connect: Connect | None
) -> AbstractContextManager[Crew | None]:
    """That answer in the teacher's place; None where this process alone does, or no row is missing."""
    address = setup.request.ray
    if address is None or len(made.rows) >= setup.n:
        return nullcontext()
    if not setup.loads_at_workers:
        progress.say(no_workers_line("for the rows"))
        return nullcontext()
    from lastresort.app.spread import crew_on_ray

    return crew_on_ray(address, progress, [setup.opening], kind=CALLS, connect=connect)


@contextmanager
def _opened(setup: _Setup, journal: Journal) -> Iterator[Model]:
    model = setup.opening.open(on_lost=journal.record_lost)
    try:
        yield model
    finally:
        model.close()


def _header(setup: _Setup, fingerprint: str) -> Header:
    recipe = setup.recipe
    return Header(
        teacher=without_keys(setup.teacher),  # as the journal writes it
        fingerprint=fingerprint,
        train=rows_hash(setup.prepared.split.train),
        task=task_hash(setup.prepared.task, recipe.instruction),
        kinds=recipe.kinds,
        seed=recipe.seed,
        balance=setup.request.balance,
        agreement=recipe.most_checks,
        prompts=VERSION,
        passages=passages_hash(recipe.seeds.passages),
    )


def _result(setup: _Setup, journal: Journal, ending: Ending, progress: Progress) -> SyntheticRows:
    tally = journal.tally
    labels = Counter(row.output for row in tally.rows) if setup.recipe.seeds.by_label else Counter[str]()
    return SyntheticRows(
        path=setup.out,
        journal=journal.path,
        task_file=setup.prepared.task.path,
        sources=setup.prepared.task.examples,
        teacher=setup.teacher,
        n=setup.n,
        ended=ending,
        tally=tally,
        in_file=journal.rows_in_file(),
        labels=dict(labels.most_common()),
        diversity=_diversity(setup, tally, progress),
        usd=tally.usd if setup.recipe.priced else None,
    )


def _diversity(setup: _Setup, tally: Tally, progress: Progress) -> Diversity | None:
    """None where there are too few rows, or no embedder is there."""
    from lastresort.knowledge.embedder import open_embedder

    rows = ["\n".join(turn.content for turn in row.turns) for row in tally.rows]
    train = [row.input_text for row in setup.prepared.split.train]
    try:
        embedder = open_embedder(setup.prepared.task.retrieval.embedder)
        return diversity(embedder, rows, train, Random(setup.recipe.seed))
    except LastresortError as error:
        progress.say(words.no_diversity(error))
        return None
