"""Samples of a model for rows of train, for `lastresort data pairs --model`: which rows, at what price, asked for once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean

from lastresort.app.prices import Prices, limit_of, prices_of
from lastresort.climb.prepare import PreparedTask
from lastresort.climb.room import max_new_tokens
from lastresort.climb.workload import machine_of
from lastresort.climb.workspace import RESPONSES, SHARED
from lastresort.data.split import one_row_a_prompt
from lastresort.errors import SAME_COMMAND, BudgetError, StoppedError, StopRequestedError
from lastresort.models.cached import Cache, CachedModel, MemoryCache
from lastresort.models.open import ModelOpening, absolute_name
from lastresort.models.protocol import Prompt, is_endpoint
from lastresort.records.responses import ResponseCache
from lastresort.report.words.data_files import PairsForecast, SampledAnswers
from lastresort.rungs.forecast import Forecast, answering
from lastresort.rungs.prompting.prompts import instruction, prompting_decoding
from lastresort.spec.paths import is_paid
from lastresort.spec.task import Task
from lastresort.stop import GoOn, Stop
from lastresort.synthesis.pairs import RowSampler, SamplingBudget, with_room
from lastresort.systems.answerer import Answerer
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Answer, Example, Progress

SAMPLES = 8  # of a row, unless more are asked for


@dataclass(frozen=True, slots=True)
class SampleOrder:
    """n: answers of this model to a row; rows: how many, None for all. usd, prices: of the options. runs: the folder with the
    response cache.
    """

    model: str
    n: int
    rows: int | None
    usd: float | None
    prices: Prices
    runs: Path

    @property
    def cache(self) -> Path:
        return self.runs / SHARED / RESPONSES

    def place(self, task: Task) -> str:
        """The model's name, from whatever folder it is opened."""
        return absolute_name(self.model, task.folder if self.model == task.model else Path.cwd())


@dataclass(frozen=True, slots=True)
class ModelSamples:
    """answers: of the model, n to each row. no_room: rows without room for one. conflicting: as in SamplesLeftOut."""

    sampled: SampledAnswers
    answers: Sequence[tuple[Example, list[Answer]]]
    no_room: int
    conflicting: int


@dataclass(frozen=True, slots=True)
class _Sampling:
    """A model that is open. rows: those with room, of so many that were drawn. priced: whether its price is known."""

    order: SampleOrder
    task: Task
    priced: bool
    budget: SamplingBudget
    sampler: RowSampler
    rows: Sequence[Example]
    drawn: int
    conflicting: int

    def forecast(self, progress: Progress) -> PairsForecast:
        """The machine is timed where a local model is to answer."""
        missing = self.sampler.missing(self.rows)
        cost = Forecast(0, 0, 0, None, 0.0)
        if missing:
            model = self.sampler.answerer.model
            prompts = {id(one): one for one in missing}  # a row's samples share one, which takes a while to count
            n_tokens = {key: model.count_tokens(one) for key, one in prompts.items()}
            mean_tokens = fmean(n_tokens[id(one)] for one in missing)
            shared = model.shared_tokens(list(prompts.values())).by_all
            longest = self.sampler.answerer.system.decoding.max_new_tokens
            price_in, price_out = self.budget.prices if self.priced else (None, None)
            machine = machine_of(self.task, self.order.place(self.task), (price_in, price_out), progress)
            machine = replace(machine, prompt_price=price_in, output_price=price_out)  # a script's, too
            cost = answering("samples", machine, len(missing), mean_tokens, shared, longest)
        return PairsForecast(
            model=self.order.model,
            rows=len(self.rows),
            n=self.sampler.count,
            asked=len(missing),
            kept=self.sampler.count * len(self.rows) - len(missing),
            tokens_in=cost.tokens_in,
            tokens_out=cost.tokens_out,
            usd=cost.usd,
            needed_usd=self._needed_usd(missing) if self.priced and missing else None,
            limit_usd=self.budget.limit_usd,
            seconds=cost.seconds,
        )

    def _needed_usd(self, missing: Sequence[Prompt]) -> float:
        """As the budget itself reckons before it asks."""
        budget = replace(self.budget)
        budget.add(self.sampler.kept(self.rows))
        return budget.usd + budget.most(missing, self.sampler.answerer.system.decoding.max_new_tokens)


def forecast_samples(order: SampleOrder, prepared: PreparedTask, progress: Progress) -> PairsForecast:
    """What would be asked for. Opens the model, since answers are kept by what it is, and asks it nothing. Writes no pairs; on
    first use the embedded model is made ready, and a damaged cache is moved aside. progress: shows what is timed.
    """
    known = ResponseCache(order.cache) if order.cache.exists() else nullcontext(MemoryCache({}))
    with known as cache, _opened(order, prepared, cache) as sampling:
        return sampling.forecast(progress)


def sample_model(
    order: SampleOrder, prepared: PreparedTask, progress: Progress, stop: Stop, go_on: GoOn | None
) -> ModelSamples:
    """Zero-shot, as the rung preference samples. Rows of train neither repeat dev or test nor nearly do.

    go_on: asks the user before paid calls, None to start them without. Raises BudgetError at the limit of money, StoppedError where
    it stopped: the same call goes on.
    """
    with ResponseCache(order.cache) as cache, _opened(order, prepared, cache) as sampling:
        if is_paid(order.model) and go_on is not None:
            _ask_before_paying(sampling.forecast(progress), stop, go_on)
        try:
            answers = sampling.sampler.answers(sampling.rows, sampling.budget, progress, stop)
        except BudgetError:
            raise
        except StoppedError as error:
            raise error.going_on(SAME_COMMAND) from error
        usd = sampling.budget.usd if sampling.priced else None
        sampled = SampledAnswers(order.model, len(answers), order.n, usd)
        return ModelSamples(sampled, answers, sampling.drawn - len(answers), sampling.conflicting)


@contextmanager
def _opened(order: SampleOrder, prepared: PreparedTask, cache: Cache) -> Iterator[_Sampling]:
    task, name = prepared.task, order.model
    prices = prices_of(task, name, order.prices)
    limit = limit_of(task, order.usd, name, prices)
    limit_from = "--usd" if order.usd is not None else f'{task.path.name}, key "limits.usd"'
    budget = SamplingBudget(limit, limit_from, (prices[0] or 0.0, prices[1] or 0.0))
    opening = ModelOpening(
        order.place(task),
        task.folder,
        prompt_price=budget.prices[0],
        output_price=budget.prices[1],
        template_kwargs=task.chat_template_kwargs if name == task.model else {},
    )
    train, conflicting = one_row_a_prompt(prepared.split.train)
    rows = Random(task.split.seed).sample(train, len(train))[: order.rows]
    model = opening.open(on_lost=budget.lose)
    try:
        decoding = prompting_decoding(task, max_new_tokens(prepared, model))
        if not is_endpoint(opening.name):  # local weights take no effort
            decoding = replace(decoding, reasoning_effort=None)
        cached = CachedModel(model, cache)
        answerer = Answerer(System("samples", opening.name, PromptDesign(instruction(task)), decoding), cached)
        sampler = RowSampler(answerer, cached, order.n)
        priced = not is_paid(name) or None not in prices
        yield _Sampling(order, task, priced, budget, sampler, with_room(answerer, rows), len(rows), conflicting)
    finally:
        model.close()


def _ask_before_paying(forecast: PairsForecast, stop: Stop, go_on: GoOn) -> None:
    """Raises StopRequestedError where the answer is no."""
    if forecast.asked and forecast.usd != 0 and not go_on(forecast.question(), stop):
        raise StopRequestedError("nobody agreed to the paid calls", where="--model", remedy="Answer y, or add --yes.")
