"""What making rows takes in calls and money, and how it keeps within its limits, over all sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lastresort.models.protocol import Prompt, estimated_prompt_tokens
from lastresort.synthesis.journal import CallSpending, Journal
from lastresort.synthesis.prompts import PER_REQUEST
from lastresort.types import Answer


class Purse:
    """Limits, and a journal of what was spent of them. calls, usd: None for no limit. prices: USD per million tokens of prompt and
    output. reply_tokens: the longest reply to a request. blind_tokens, answer_tokens: the longest prompt for the answer to an
    input, and the longest answer.
    """

    def __init__(
        self,
        *,
        calls: int | None,
        usd: float | None,
        prices: tuple[float, float],
        reply_tokens: int,
        blind_tokens: int,
        answer_tokens: int,
    ) -> None:
        self._calls, self._usd, self._prices = calls, usd, prices
        self._reply_tokens, self._blind_tokens, self._answer_tokens = reply_tokens, blind_tokens, answer_tokens
        self._journal: Journal | None = None
        self.limit: Literal["calls", "usd"] = "calls"

    def open(self, journal: Journal) -> None:
        """From now on, with what earlier sessions spent."""
        self._journal = journal

    def record_lost(self, usd: float) -> None:
        """What a call may have cost that gave no answer."""
        self._opened().spend(CallSpending(asked=None, usd=usd))

    def record_answer(self, asked: str, answer: Answer) -> None:
        """asked: see `CallSpending`. A replay of an answer that was counted is not counted again."""
        journal = self._opened()
        if answer.paid or not journal.has_answer(asked):
            journal.spend(
                CallSpending(
                    asked=asked,
                    tokens_in=answer.prompt_tokens,
                    tokens_out=answer.completion_tokens,
                    usd=max(answer.usd, answer.paid),
                    seconds=answer.seconds,
                )
            )

    def affordable(self, prompts: Sequence[Prompt], agreement: int) -> int:
        """How many of these requests fit into what is left, with all that may follow from them. Sets `limit` where not all do."""
        spent = self._opened().tally
        calls, usd = spent.calls, spent.usd
        unknown = self._usd is not None and not calls  # what a model that thinks costs shows at the first answer
        for number, prompt in enumerate(prompts[:1] if unknown else prompts):
            calls += 1 + agreement * PER_REQUEST
            usd += self._most_usd(prompt, agreement, spent.dearest_usd)
            if self._calls is not None and calls > self._calls:
                self.limit = "calls"
                return number
            if self._usd is not None and usd > self._usd:
                self.limit = "usd"
                return number
        return min(1, len(prompts)) if unknown else len(prompts)

    def _most_usd(self, prompt: Prompt, agreement: int, dearest_usd: float) -> float:
        """Of a request whose reply is as long as it may be, and of answering its rows. No answer is taken to cost less than the
        dearest so far.
        """
        asked_again = agreement * PER_REQUEST
        tokens_in = estimated_prompt_tokens(prompt) + asked_again * self._blind_tokens
        tokens_out = self._reply_tokens + asked_again * self._answer_tokens
        forecast = (tokens_in * self._prices[0] + tokens_out * self._prices[1]) / 1e6
        return max(forecast, (1 + asked_again) * dearest_usd)

    def _opened(self) -> Journal:
        assert self._journal is not None, "opened before anything is asked"
        return self._journal
