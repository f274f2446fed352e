"""What Prometheus reads at /metrics: vLLM's names, below lastresort: in place of vllm:, so that its dashboards serve."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lastresort.serve.work import Load
from lastresort.types import Answer

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """In a registry of its own. load: of the owner, read when the page is. clock: seconds from any origin."""

    def __init__(self, model: str, load: Callable[[], Load], clock: Callable[[], float] = time.perf_counter) -> None:
        self.registry, self._clock = CollectorRegistry(), clock
        self._gauge(model, "num_requests_running", "Answers being computed.", lambda: load().running)
        self._gauge(model, "num_requests_waiting", "Answers in the queue.", lambda: load().waiting)
        self._gauge(model, "kv_cache_usage_perc", "Share of the cache in use, 0 to 1.", lambda: load().used)
        self._prompt = self._counter("prompt_tokens", "Tokens of prompts.").labels(model)
        self._generated = self._counter("generation_tokens", "Tokens of answers.").labels(model)
        self._ended = self._counter("request_success", "Answers by how they ended.", "finished_reason")
        self._responses = self._counter("http_responses", "Responses by status.", "path", "status")
        self._first = self._histogram("time_to_first_token_seconds", "From the request to its first piece.", model)
        self._between = self._histogram("time_per_output_token_seconds", "From one piece to the next.", model)
        self._whole = self._histogram("e2e_request_latency_seconds", "From the request to its answer.", model)
        self._model = model

    def page(self) -> bytes:
        return generate_latest(self.registry)

    def watch(self, began: float) -> AnswerClock:
        """began: when the request arrived, by `now`."""
        return AnswerClock(self, began)

    def responded(self, path: str, status: int) -> None:
        self._responses.labels(self._model, path, str(status)).inc()

    def now(self) -> float:
        return self._clock()

    def first_after(self, seconds: float) -> None:
        self._first.observe(seconds)

    def next_after(self, seconds: float) -> None:
        self._between.observe(seconds)

    def ended(self, answer: Answer, seconds: float) -> None:
        self._prompt.inc(answer.prompt_tokens)
        self._generated.inc(answer.completion_tokens)
        self._ended.labels(self._model, answer.finish).inc()
        self._whole.observe(seconds)

    def _gauge(self, model: str, name: str, about: str, value: Callable[[], float]) -> None:
        gauge = Gauge(f"lastresort:{name}", about, ("model_name",), registry=self.registry)
        gauge.labels(model).set_function(value)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"lastresort:{name}", about, ("model_name", *labels), registry=self.registry)

    def _histogram(self, name: str, about: str, model: str) -> Histogram:
        made = Histogram(f"lastresort:{name}", about, ("model_name",), registry=self.registry, buckets=_SECONDS)
        return made.labels(model)


class AnswerClock:
    """The times of one answer."""

    def __init__(self, metrics: Metrics, began: float) -> None:
        self._metrics, self._began = metrics, began
        self._last: float | None = None

    def piece(self) -> None:
        now = self._metrics.now()
        if self._last is None:
            self._metrics.first_after(now - self._began)
        else:
            self._metrics.next_after(now - self._last)
        self._last = now

    def ended(self, answer: Answer) -> None:
        self._metrics.ended(answer, self._metrics.now() - self._began)
