"""What every model has, for the models of tests: they say only what is theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lastresort.models.protocol import OnAnswer, Prompt, Score, SharedTokens
from lastresort.stop import Stop
from lastresort.types import Decoding


class FakeModel:
    batch_matters: bool = False
    context_tokens: int | None = None
    rendering = rendering_fingerprint = computed_by = ""
    precision = "auto"
    score: Score | None = None

    def shared_tokens(self, prompts: Sequence[Prompt]) -> SharedTokens:
        return SharedTokens.none(len(prompts))

    def check_decoding(self, decoding: Decoding) -> None: ...

    def stream(
        self: Any, prompt: Prompt, decoding: Decoding, *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> Iterator[str]:
        [answer] = self.generate([prompt], decoding)
        yield answer.text
        if on_answer is not None:
            on_answer(0, answer)

    def close(self) -> None: ...
