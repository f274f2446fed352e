"""A model with local weights, which answers through the engine."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Any

from lastresort.data.chat_template import start_of_text
from lastresort.data.rendering import render_prompt, stop_token_ids
from lastresort.engine.cache import PrefixCache, begun_lengths, shared_prefix_length
from lastresort.engine.choose import Sampling
from lastresort.engine.live_rows import Continuation
from lastresort.engine.logp import score_continuations
from lastresort.engine.sampling import Generated, generate, stream
from lastresort.engine.support import computed_by
from lastresort.errors import CandidateError, ContractError, TooLongError
from lastresort.hardware.memory import give_back_freed_memory
from lastresort.hardware.plan.memory import answers_at_once
from lastresort.hardware.threads import Threads
from lastresort.models.constrained import (
    Constraint,
    GrowingText,
    StreamedText,
    TokenTable,
    cut_at_stop,
    holds_stop,
)
from lastresort.models.loading import Loaded, is_reduced, load_local
from lastresort.models.protocol import OnAnswer, OnRead, Prompt, SharedTokens
from lastresort.models.tokenizer import rendering_fingerprint
from lastresort.stop import Stop
from lastresort.types import Answer, Decoding, JsonObject

__all__ = ["Loaded", "LocalModel", "load_local"]

ENGINE_PATH = "cache-7"  # how answers are computed; raised whenever the same weights would give other answers


class LocalModel:
    """Answers and scores with a loaded model. clock: seconds from any origin, an argument so that tests can set it. threads: how
    many compute, None for what is fastest here. on_read: called while the prompts of a batch are read, with how many are by then
    and have no answer yet. render: a prompt's tokens, None for those of the model's chat template.

    batch_size: answers computed together, None for as many as a model of this shape has room for. A row's random draws depend
    on the prompt, the seed and how often the prompt came before in the call, not on its position.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        name: str,
        template_kwargs: JsonObject | None = None,
        batch_size: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
        threads: Threads | None = None,
        on_read: OnRead | None = None,
        render: Callable[[Prompt], list[int]] | None = None,
    ) -> None:
        self._loaded: Loaded | None = loaded
        self._render, self._on_read = render, on_read
        self.name = name
        self.fingerprint, self.rendering = loaded.fingerprint, loaded.rendering
        self.precision = str(loaded.dtype).removeprefix("torch.")
        self.batch_matters = is_reduced(loaded.dtype)
        self.batch_size = answers_at_once(_cache_bytes(loaded.model)) if batch_size is None else batch_size
        self._template_kwargs = dict(template_kwargs or {})
        self._clock = clock
        self._stop_ids = frozenset(stop_token_ids(loaded.tokenizer, template_kwargs=self._template_kwargs))
        self._table: TokenTable | None = None
        self._prefixes = PrefixCache()
        self.threads = threads or Threads(loaded.model)

    @property
    def loaded(self) -> Loaded:
        """The weights and the tokenizer. Raises ContractError once the model is closed."""
        if self._loaded is None:
            raise ContractError("the model was closed", where=self.name, expected="an open one")
        return self._loaded

    @cached_property
    def spare_tokenizer(self) -> Any:
        """A copy, for another library to change."""
        return copy.deepcopy(self.loaded.tokenizer)

    @property
    def template_kwargs(self) -> JsonObject:
        """Arguments of the chat template."""
        return dict(self._template_kwargs)

    @cached_property
    def rendering_fingerprint(self) -> str:
        """Hash of how it renders conversations, to compare with the rows that it was trained on."""
        return rendering_fingerprint(self.loaded.tokenizer, self._template_kwargs)

    @property
    def context_tokens(self) -> int | None:
        return self.loaded.context_tokens

    @property
    def computed_by(self) -> str:
        """Engine path, device and attention kernel, which change an answer by rounding only. The first access runs the model
        on a few tokens."""
        return f"{ENGINE_PATH} on {self.loaded.model.device.type} by {computed_by(self.loaded.model)}"

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self._rendered(prompt))

    def shared_tokens(self, prompts: Sequence[Prompt]) -> SharedTokens:
        """In whole steps of a prefix, as it is kept."""
        rendered = [tuple(self._rendered(prompt)) for prompt in prompts]
        others = [tuple(self._rendered((*prompt[:-1], replace(prompt[-1], content="?")))) for prompt in prompts]
        return SharedTokens(shared_prefix_length(rendered), begun_lengths([*rendered, *others])[: len(rendered)])

    def check_decoding(self, decoding: Decoding) -> None:
        """Raises CandidateError for a grammar that cannot be enforced with this model."""
        self._constraint(decoding)

    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        """Answers in order, batch_size prompts at a time. What they share is computed once.

        Raises CandidateError if a prompt leaves no room for its answer, or if the grammar cannot be enforced.
        """
        rendered = [self._rendered(prompt) for prompt in prompts]
        self._check_room(prompts, rendered, decoding.max_new_tokens)
        seeds = row_seeds(rendered, decoding.seed)
        answers: list[Answer] = []
        with self.threads.chosen(min(len(rendered), self.batch_size)):
            for start in range(0, len(rendered), self.batch_size):
                end = start + self.batch_size
                answers += self._batch(rendered[start:end], seeds[start:end], decoding, start, on_answer)
        return answers

    def stream(
        self, prompt: Prompt, decoding: Decoding, *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> Iterator[str]:
        """One answer as it grows, computed as a batch of this prompt alone. Tokens are shown as soon as they are text."""
        rendered = self._rendered(prompt)
        self._check_room([prompt], [rendered], decoding.max_new_tokens)
        constraint, streamed, began = self._constraint(decoding), StreamedText(decoding.stop), self._clock()
        growing, tokens = GrowingText(self.text_of), list[int]()
        steps = stream(
            self.loaded.model,
            rendered,
            settings=self._sampling(decoding),
            seed=row_seeds([rendered], decoding.seed)[0],
            allowed=constraint.allowed if constraint is not None else None,
            stopped=self._stopped(decoding, constraint),
            prefixes=self._prefixes,
        )
        with self.threads.chosen(1), closing(steps):
            generated = None
            while generated is None and (stop is None or stop.requested() is None):
                try:
                    tokens.append(next(steps))
                except StopIteration as end:
                    generated = end.value
                else:
                    if more := streamed.grow(growing.of(tokens)):
                        yield more
        generated = generated or Generated(tuple(tokens), "length")
        answer = self.answer_of(len(rendered), generated, decoding, self._clock() - began)
        if more := streamed.finish(answer.text):
            yield more
        if on_answer is not None:
            on_answer(0, answer)

    def continuation(self, prompt: Prompt | str, decoding: Decoding, *, top_logps: int | None = None) -> Continuation:
        """What the engine needs to answer the prompt as `generate` answers it alone. A text is continued as it is.

        Raises CandidateError if the prompt leaves no room for its answer, or if the grammar cannot be enforced.
        """
        rendered = self._beginning(prompt) if isinstance(prompt, str) else self._rendered(prompt)
        self._check_room([prompt], [rendered], decoding.max_new_tokens)
        constraint = self._constraint(decoding)
        stopped = self._stopped(decoding, constraint)
        return Continuation(
            tuple(rendered),
            self._sampling(decoding),
            row_seeds([rendered], decoding.seed)[0],
            None if constraint is None else lambda so_far: constraint.allowed(0, so_far),
            None if stopped is None else lambda so_far: stopped(0, so_far),
            top_logps,
        )

    def answer_of(self, prompt_tokens: int, generated: Generated, decoding: Decoding, seconds: float) -> Answer:
        """The answer that these tokens are."""
        text = cut_at_stop(self.text_of(generated.tokens), decoding.stop)
        return Answer(text, prompt_tokens, len(generated.tokens), generated.finish, seconds)

    def text_of(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """special: with the text of special tokens."""
        text = self.loaded.tokenizer.decode(
            list(tokens), skip_special_tokens=not special, clean_up_tokenization_spaces=False
        )
        return str(text)

    def close(self) -> None:
        """Release the weights. Their memory is free once nobody else holds them."""
        self._loaded, self._table, self._prefixes = None, None, PrefixCache()
        self.threads.release()
        give_back_freed_memory(gpu=True)

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[str]]) -> list[list[float]]:
        """Summed log-probability in nats of every continuation as the start of the answer. No end token is added."""
        tokenizer = self.loaded.tokenizer
        rendered = [self._rendered(prompt) for prompt in prompts]
        pieces = [[tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts] for texts in continuations]
        longest = max((len(piece) for texts in pieces for piece in texts), default=0)
        self._check_room(prompts, rendered, longest)
        scored: list[list[float]] = []
        with self.threads.chosen(sum(map(len, rendered[: self.batch_size]))):
            for start in range(0, len(rendered), self.batch_size):
                end = start + self.batch_size
                scored += score_continuations(self.loaded.model, rendered[start:end], pieces[start:end])
        return scored

    def _batch(
        self,
        rendered: Sequence[list[int]],
        seeds: Sequence[int],
        decoding: Decoding,
        start: int,
        on_answer: OnAnswer | None,
    ) -> list[Answer]:
        shares = _TimeShares(len(rendered), self._clock)
        answers: dict[int, Answer] = {}

        def finished(row: int, generated: Generated) -> None:
            answers[row] = self.answer_of(len(rendered[row]), generated, decoding, shares.of_next())
            if on_answer is not None:
                on_answer(start + row, answers[row])

        constraint = self._constraint(decoding)
        generate(
            self.loaded.model,
            rendered,
            settings=self._sampling(decoding),
            seeds=seeds,
            allowed=constraint.allowed if constraint is not None else None,
            stopped=self._stopped(decoding, constraint),
            prefixes=self._prefixes,
            on_finished=finished,
            on_step=self.threads.step,
            on_read=self._on_read,
        )
        return [answers[row] for row in range(len(rendered))]

    def _sampling(self, decoding: Decoding) -> Sampling:
        return Sampling(
            max_new_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            top_k=decoding.top_k,
            stop_ids=self._stop_ids,
            rows_at_once=self.batch_size,
        )

    def _constraint(self, decoding: Decoding) -> Constraint | None:
        if decoding.grammar is None:
            return None
        if self._table is None:
            width = self.loaded.model.get_output_embeddings().weight.shape[0]
            self._table = TokenTable(self.loaded.tokenizer, width, self._stop_ids)
        return Constraint(self._table, decoding.grammar)

    def _stopped(
        self, decoding: Decoding, constraint: Constraint | None
    ) -> Callable[[int, Sequence[int]], bool] | None:
        """Ends a row whose text contains a stop string, or whose grammar is complete."""
        if not decoding.stop:
            return constraint.complete if constraint is not None else None

        def stopped(row: int, tokens: Sequence[int]) -> bool:
            if constraint is not None and constraint.complete(row, tokens):
                return True
            return holds_stop(tokens, decoding.stop, self.text_of)

        return stopped

    def _rendered(self, prompt: Prompt) -> list[int]:
        if self._render is not None:
            return self._render(prompt)
        return render_prompt(self.loaded.tokenizer, prompt, template_kwargs=self._template_kwargs)

    def _beginning(self, text: str) -> list[int]:
        """The tokens of a text without template, after the begin-of-text token where the model knows one."""
        tokenizer = self.loaded.tokenizer
        start = start_of_text(tokenizer)
        whole = text if text.startswith(start) else start + text
        tokens = [int(token) for token in tokenizer(whole, add_special_tokens=False)["input_ids"]]
        if not tokens:
            raise CandidateError("the prompt is empty", expected="a text to continue", remedy="Send one.")
        return tokens

    def _check_room(self, prompts: Sequence[Prompt | str], rendered: Sequence[list[int]], new_tokens: int) -> None:
        limit = self.loaded.context_tokens
        for prompt, tokens in zip(prompts, rendered, strict=True):
            if limit is not None and len(tokens) + new_tokens > limit:
                last = prompt if isinstance(prompt, str) else prompt[-1].content if prompt else ""
                raise TooLongError(
                    f"{len(tokens)} prompt tokens and {new_tokens} for the answer exceed the model's context",
                    where=f"the prompt that ends in the turn {last[:60]!r}",
                    expected=f"at most {limit} together",
                    remedy="Shorten the input, show fewer examples, or lower decode.max_new_tokens.",
                )


def row_seeds(rendered: Sequence[Sequence[int]], seed: int) -> list[int]:
    """The seed of every row, from its prompt's tokens and `seed` plus how often the prompt came before.

    So a cache that requests only the second sample, with seed + 1, gets the one that this call would have returned.
    """
    seen: Counter[tuple[int, ...]] = Counter()
    seeds = []
    for tokens in rendered:
        prompt = tuple(tokens)
        digest = hashlib.sha256(json.dumps([seed + seen[prompt], *prompt]).encode()).digest()
        seeds.append(int.from_bytes(digest[:8], "big"))
        seen[prompt] += 1
    return seeds


def _cache_bytes(model: Any) -> int:
    """Keys and values of one token in all layers."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * model.dtype.itemsize)


class _TimeShares:
    """Divides the time of a batch among its rows: at any moment, unfinished rows share the time equally.

    A row's share is known when it finishes, and the shares add up to the time of the batch.
    """

    def __init__(self, rows: int, clock: Callable[[], float]) -> None:
        self._left, self._clock = rows, clock
        self._last, self._per_row = clock(), 0.0

    def of_next(self) -> float:
        now = self._clock()
        self._per_row += (now - self._last) / self._left
        self._last = now
        self._left -= 1
        return self._per_row
