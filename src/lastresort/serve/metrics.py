"""What Prometheus reads at /metrics: vLLM's names, below lastresort: in place of vllm:, so that its dashboards serve."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lastresort.serve.work import Load
from lastresort.types import Answer

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """In a registry of its own. loads: of each model that is served, by its name, read when the page is. clock: seconds from any
    origin. What no model was found for counts for the first.
    """

    def __init__(self, loads: Mapping[str, Callable[[], Load]], clock: Callable[[], float] = time.perf_counter) -> None:
        self.registry, self._clock = CollectorRegistry(), clock
        self._gauge(loads, "num_requests_running", "Answers being computed.", lambda load: load.running)
        self._gauge(loads, "num_requests_waiting", "Answers in the queue.", lambda load: load.waiting)
        self._gauge(loads, "kv_cache_usage_perc", "Share of the cache in use, 0 to 1.", lambda load: load.used)
        self._prompt = self._counter("prompt_tokens", "Tokens of prompts.")
        self._generated = self._counter("generation_tokens", "Tokens of answers.")
        self._ended = self._counter("request_success", "Answers by how they ended.", "finished_reason")
        self._responses = self._counter("http_responses", "Responses by status.", "path", "status")
        self.first = self._histogram("time_to_first_token_seconds", "From the request to its first piece.")
        self.between = self._histogram("time_per_output_token_seconds", "From one piece to the next.")
        self._whole = self._histogram("e2e_request_latency_seconds", "From the request to its answer.")
        self._default = next(iter(loads))
        for model in loads:
            for metric in (self._prompt, self._generated, self.first, self.between, self._whole):
                metric.labels(model)  # zero until something is counted, not missing

    def page(self) -> bytes:
        return generate_latest(self.registry)

    def watch(self, model: str, began: float) -> AnswerClock:
        """began: when the request arrived, by `now`."""
        return AnswerClock(self, model, began)

    def responded(self, model: str, path: str, status: int) -> None:
        """model: "" where none was found."""
        self._responses.labels(model or self._default, path, str(status)).inc()

    def now(self) -> float:
        return self._clock()

    def ended(self, model: str, answer: Answer, seconds: float) -> None:
        self._prompt.labels(model).inc(answer.prompt_tokens)
        self._generated.labels(model).inc(answer.completion_tokens)
        self._ended.labels(model, answer.finish).inc()
        self._whole.labels(model).observe(seconds)

    def _gauge(
        self, loads: Mapping[str, Callable[[], Load]], name: str, about: str, value: Callable[[Load], float]
    ) -> None:
        gauge = Gauge(f"lastresort:{name}", about, ("model_name",), registry=self.registry)
        for model, load in loads.items():
            gauge.labels(model).set_function(lambda load=load: value(load()))  # type: ignore[misc]

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"lastresort:{name}", about, ("model_name", *labels), registry=self.registry)

    def _histogram(self, name: str, about: str) -> Histogram:
        return Histogram(f"lastresort:{name}", about, ("model_name",), registry=self.registry, buckets=_SECONDS)


class AnswerClock:
    """The times of one answer."""

    def __init__(self, metrics: Metrics, model: str, began: float) -> None:
        self._metrics, self._model, self._began = metrics, model, began
        self._last: float | None = None

    def piece(self) -> None:
        now = self._metrics.now()
        if self._last is None:
            self._metrics.first.labels(self._model).observe(now - self._began)
        else:
            self._metrics.between.labels(self._model).observe(now - self._last)
        self._last = now

    def ended(self, answer: Answer) -> None:
        self._metrics.ended(self._model, answer, self._metrics.now() - self._began)
