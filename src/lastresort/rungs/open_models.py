"""The models of a climb, opened when first needed, behind the response cache, one at a time in memory.

Judges stay open next to the model whose answers they score; taking turns would load both again for every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lastresort.hardware.memory import give_back_freed_memory
from lastresort.hardware.threads import ThreadChoice
from lastresort.models.cached import Cache, CachedModel, has_answers_of_workers, keep_from_workers
from lastresort.models.calls import RetryPolicy
from lastresort.models.endpoint import Approve, nobody_to_ask
from lastresort.models.open import ModelOpening, open_model
from lastresort.models.protocol import Model, OnRead, Pay
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import KnownPassages, Lookup, Lookups, Passages
from lastresort.systems.system import System
from lastresort.types import JsonObject


class OpenModels:
    """Opens the model of a system. At most one stays open: a base and its adapters would otherwise fill the memory.

    named: the models that the user's own file or options name. A saved system may name others; approve: asks about an endpoint.
    on_lost: given what calls may have cost that gave no answer. on_read: see `LocalModel`, of those that answer.
    """

    def __init__(
        self,
        cache: Cache | None,
        *,
        base_folder: Path,
        base_name: str,
        tuned_name: str,
        prompt_price: float = 0.0,
        output_price: float = 0.0,
        on_threads: Callable[[ThreadChoice], None] | None = None,
        on_read: OnRead | None = None,
        on_lost: Pay = lambda usd: None,
        named: Collection[str] = (),
        approve: Approve = nobody_to_ask,
    ) -> None:
        self._on_threads, self._on_read, self._on_lost = on_threads, on_read, on_lost
        self._named, self._approve = frozenset(named), approve
        self._cache, self._base_folder = cache, base_folder
        self.base_name, self.tuned_name = base_name, tuned_name
        self._prices = (prompt_price, output_price)
        self._key: tuple[object, ...] | None = None
        self._model: Model | None = None
        self._lent = False  # its owner closes it
        self._judges: dict[tuple[str, float, float], Model] = {}
        self._lookups = Lookups()
        self._on_close: Callable[[], None] = lambda: None

    def open(self, system: System) -> Model:
        """The system's model with its adapter, behind the cache."""
        key = _key(system)
        if self._model is None or key != self._key:
            self._close_model()
            model = self.opening(system).open(
                on_threads=self._on_threads, on_read=self._on_read, on_lost=self._on_lost, approve=self._approve
            )
            self._model, self._key, self._lent = self._cached(model), key, False
        return self._model

    def opening(self, system: System) -> ModelOpening:
        """How the system's model is opened, here or in a process that started in another folder."""
        tuned = system.model == self.tuned_name != self.base_name
        prompt_price, output_price = (0.0, 0.0) if tuned else self._prices  # the prices are those of the base
        return ModelOpening(
            system.model,
            self._base_folder.resolve(),
            system.precision,
            None if system.adapter is None else system.adapter.resolve(),
            prompt_price,
            output_price,
            system.template_kwargs,
            system.model in self._named,
        )

    def lend(self, system: System, model: Model) -> None:
        """Use a model that was opened elsewhere for this system, behind the cache, until another is opened or all are closed."""
        self._close_model()
        self._model, self._key, self._lent = self._cached(model), _key(system), True

    def is_lent(self, system: System) -> bool:
        """Whether the open model is one that only this process has: see `lend`."""
        return self._lent and _key(system) == self._key

    def answerer(self, system: System, passages: Passages | None = None) -> Answerer:
        """The system, ready to answer; its store stays open for the next one. passages: shown for these conversations in place of
        what its retriever finds.
        """
        lookup: Lookup | None = None if system.retriever is None else self._lookups.of(system.retriever)
        if passages is not None and lookup is not None:
            lookup = KnownPassages(passages, lookup)
        return Answerer(system, self.open(system), lookup)

    def judge(self, name: str, *, prompt_price: float | None, output_price: float | None) -> Model:
        """The judge's model behind the cache, which stays open until `close`. Prices: USD per million tokens, None for none."""
        key = (name, prompt_price or 0.0, output_price or 0.0)
        if key not in self._judges:
            self._judges[key] = self._opened(*key)
        return self._judges[key]

    @contextmanager
    def another(
        self,
        name: str,
        *,
        prompt_price: float,
        output_price: float,
        template_kwargs: JsonObject | None = None,
        patience: RetryPolicy | None = None,
    ) -> Iterator[Model]:
        """A further model behind the cache, in memory with the one that answers until the block ends. Prices: as of `judge`.
        patience: as of `open_model`.
        """
        model = self._opened(name, prompt_price, output_price, template_kwargs, patience)
        try:
            yield model
        finally:
            model.close()
            give_back_freed_memory()

    def pinned(self, system: System) -> System:
        """The system with the rendering, precision and fingerprint of the model it is measured with."""
        model = self.open(system)
        return replace(
            system,
            rendering=model.rendering,
            precision=model.precision,
            fingerprint=model.fingerprint,
        )

    def check(self, system: System) -> None:
        """Raises CandidateError if the system's model does not support its decoding."""
        self.open(system).check_decoding(system.decoding)

    @property
    def seconds_compare(self) -> bool:
        """Whether the seconds of all kept answers were measured in the same way: not where workers gave some of them."""
        return self._cache is None or not has_answers_of_workers(self._cache)

    def keep_from_workers(self, bodies: Mapping[str, Mapping[str, Any]], share: float) -> None:
        """Have their answers at hand, under the keys of any model that may be opened. share: as of `models.cached`."""
        if self._cache is not None:
            keep_from_workers(self._cache, bodies, share)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Have this called, too, whenever the models are closed: other processes may have them in memory."""
        self._on_close = callback

    def close(self) -> None:
        """Close the open models and free their memory."""
        self._on_close()
        for judge in self._judges.values():
            judge.close()
        self._judges = {}
        self._lookups = Lookups()
        self._close_model()

    def _opened(
        self,
        name: str,
        prompt_price: float,
        output_price: float,
        template_kwargs: JsonObject | None = None,
        patience: RetryPolicy | None = None,
    ) -> Model:
        model = open_model(
            name,
            base_folder=self._base_folder,
            prompt_price=prompt_price,
            output_price=output_price,
            template_kwargs=template_kwargs,
            on_lost=self._on_lost,
            named=name in self._named,
            approve=self._approve,
            patience=patience,
        )
        return self._cached(model)

    def _cached(self, model: Model) -> Model:
        return CachedModel(model, self._cache) if self._cache is not None else model

    def _close_model(self) -> None:
        if self._model is None:
            return
        if not self._lent:
            self._model.close()
        self._model, self._key = None, None
        give_back_freed_memory()


def _key(system: System) -> tuple[object, ...]:
    return (system.model, system.adapter, system.precision, repr(sorted(system.template_kwargs.items())))
