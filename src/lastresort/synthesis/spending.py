"""What making rows takes in calls and money, and how it keeps within its limits, over all sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lastresort.models.protocol import Prompt, estimated_prompt_tokens
from lastresort.synthesis.journal import Tally
from lastresort.synthesis.prompts import PER_REQUEST
from lastresort.types import Answer


@dataclass(slots=True)
class BatchSpending:
    """usd: as if nothing came from the cache, so that a batch costs the same in every session that it takes."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    lost_usd: float = 0.0
    dearest_usd: float = 0.0
    seconds: float = 0.0


class Purse:
    """Limits and what is left of them. calls, usd: None for no limit. prices: USD per million tokens of prompt and output.
    reply_tokens, answer_tokens: the longest reply to a request, and the longest answer to an input.
    """

    def __init__(
        self,
        *,
        calls: int | None,
        usd: float | None,
        prices: tuple[float, float],
        reply_tokens: int,
        answer_tokens: int,
    ) -> None:
        self._calls, self._usd, self._prices = calls, usd, prices
        self._tokens = reply_tokens, answer_tokens
        self.spent_calls, self.spent_usd, self._dearest_usd = 0, 0.0, 0.0
        self.limit: Literal["calls", "usd"] = "calls"
        self._batch = BatchSpending()

    def restore(self, tally: Tally) -> None:
        """What earlier sessions spent."""
        self.spent_calls, self.spent_usd, self._dearest_usd = tally.calls, tally.usd, tally.dearest_usd

    def lose(self, usd: float) -> None:
        """What a call may have cost that gave no answer."""
        self._batch.lost_usd += usd

    def take(self, answer: Answer) -> None:
        spent = self._batch
        spent.calls += 1
        spent.tokens_in += answer.prompt_tokens
        spent.tokens_out += answer.completion_tokens
        usd = max(answer.usd, answer.paid)
        spent.usd += usd
        spent.dearest_usd = max(spent.dearest_usd, usd)
        spent.seconds += answer.seconds

    def end_batch(self) -> BatchSpending:
        ended, self._batch = self._batch, BatchSpending()
        self.spent_calls += ended.calls
        self.spent_usd += ended.usd + ended.lost_usd
        self._dearest_usd = max(self._dearest_usd, ended.dearest_usd)
        return ended

    def affordable(self, prompts: Sequence[Prompt], agreement: int) -> int:
        """How many of these requests fit into what is left, with all that may follow from them. Sets `limit` where not all do."""
        calls, usd = self.spent_calls, self.spent_usd
        unknown = (
            self._usd is not None and not self.spent_calls
        )  # what a model that thinks costs shows at the first answer
        for number, prompt in enumerate(prompts[:1] if unknown else prompts):
            calls += 1 + agreement * PER_REQUEST
            usd += self.most_usd(prompt, agreement)
            if self._calls is not None and calls > self._calls:
                self.limit = "calls"
                return number
            if self._usd is not None and usd > self._usd:
                self.limit = "usd"
                return number
        return min(1, len(prompts)) if unknown else len(prompts)

    def most_usd(self, prompt: Prompt, agreement: int) -> float:
        """Of a request whose reply is as long as it may be, and of answering its rows, whose prompts are taken to be as long. No
        answer is taken to cost less than the dearest so far.
        """
        tokens_in, (reply, answer) = estimated_prompt_tokens(prompt), self._tokens
        asked_again = agreement * PER_REQUEST
        tokens_out = reply + asked_again * answer
        forecast = ((1 + asked_again) * tokens_in * self._prices[0] + tokens_out * self._prices[1]) / 1e6
        return max(forecast, (1 + asked_again) * self._dearest_usd)
