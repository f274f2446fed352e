"""A judge's model at work: held to the form of a verdict where it can be, asked once more where it said something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lastresort.errors import CandidateError, TaskError
from lastresort.evals.scorers.judge_questions import Prompt, only, read_verdict
from lastresort.models.protocol import Model, Pay, paying
from lastresort.types import Answer, Decoding, Grammar, Message

VERDICT_TOKENS = 32
_VERDICT = Decoding(VERDICT_TOKENS)


@dataclass(frozen=True, slots=True)
class Spent:
    """What asking took. calls: prompts answered. paid_usd: the part of usd that was paid now, for what no cache had."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    usd: float = 0.0
    paid_usd: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.calls + other.calls,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            self.seconds + other.seconds,
            self.usd + other.usd,
            self.paid_usd + other.paid_usd,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """said: one of the choices, None where none could be read twice. spent: over both times."""

    said: str | None
    spent: Spent


class Asking:
    """Asks the model that `opened` gives, which is called when the first verdict is wanted and has to keep what it opens.

    decoding: of a verdict, whose form is added where the model takes it. pay: given the price of every answer as it arrives. A
    model that refuses the form is asked for text from then on, which is read strictly.
    """

    def __init__(self, opened: Callable[[], Model], decoding: Decoding = _VERDICT, pay: Pay = lambda usd: None) -> None:
        self._opened, self.decoding = opened, decoding
        self._on_answer = paying(pay)
        self._constrained = True

    def open(self) -> Model:
        """The model, opened if it is not yet."""
        return self._opened()

    def verdicts(self, prompts: Sequence[Prompt], choices: tuple[str, ...]) -> list[Verdict]:
        """One a prompt, in order.

        Raises TaskError where the judge has no room for a prompt, InfrastructureError where it cannot be reached.
        """
        first = self._answers(prompts, choices)
        found = [Verdict(read_verdict(answer.text, choices), spent) for answer, spent in first]
        unread = [index for index, verdict in enumerate(found) if verdict.said is None]
        again = [
            (*prompts[index], Message("assistant", first[index][0].text.strip() or "…"), _reminder(choices))
            for index in unread
        ]
        for index, (answer, spent) in zip(unread, self._answers(again, choices), strict=True):
            found[index] = Verdict(read_verdict(answer.text, choices), found[index].spent + spent)
        return found

    def _answers(self, prompts: Sequence[Prompt], choices: tuple[str, ...]) -> list[tuple[Answer, Spent]]:
        if not prompts:
            return []
        return [(answer, _spent(answer)) for answer in self._generated(self.open(), prompts, choices)]

    def _generated(self, model: Model, prompts: Sequence[Prompt], choices: tuple[str, ...]) -> list[Answer]:
        text = self.decoding
        if self._constrained:
            form = replace(text, grammar=Grammar(choices=choices))
            try:
                model.check_decoding(form)
                return model.generate(prompts, form, self._on_answer)
            except CandidateError:  # the form or the length: asking without the form tells which
                answers = self._asked_for_text(model, prompts, text)
                self._constrained = False
                return answers
        return self._asked_for_text(model, prompts, text)

    def _asked_for_text(self, model: Model, prompts: Sequence[Prompt], decoding: Decoding) -> list[Answer]:
        try:
            return model.generate(prompts, decoding, self._on_answer)
        except CandidateError as error:
            raise TaskError(
                error.found,
                where=f"the judge {model.name}",
                expected=error.expected,
                remedy="Take a judge with a longer context, shorten the inputs, or lower decode.max_new_tokens.",
            ) from error


def _reminder(choices: Sequence[str]) -> Message:
    return Message("user", f"That is no verdict. {only(choices)}")


def _spent(answer: Answer) -> Spent:
    return Spent(1, answer.prompt_tokens, answer.completion_tokens, answer.seconds, answer.usd, answer.paid)
