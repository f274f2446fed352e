"""Suites asked of functions and of models, a round at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lastresort.gate.suites.suite import ChoiceRequest, Question, Suite, SuiteItem, SuiteReply, TextRequest, Transcript

Answers = Callable[[Sequence[Question]], Sequence[SuiteReply]]
Said = list[tuple[SuiteItem, Transcript]]


def asked(suite: Suite, items: Sequence[SuiteItem], answers: Answers) -> Said:
    """Every item with its finished transcript; the questions of a round are put together."""
    said: Said = [(item, {}) for item in items]
    while True:
        round_ = [(transcript, question) for item, transcript in said for question in suite.ask(item, transcript)]
        if not round_:
            return said
        replies = answers([question for _, question in round_])
        for (transcript, question), reply in zip(round_, replies, strict=True):
            transcript[question.key] = reply


def by_text(answer: Callable[[str, tuple[str, ...]], str]) -> Answers:
    """A model scripted as a function from the last turn of the prompt and the options (none of a `TextRequest`) to a reply."""
    return each(lambda question: answer(question.prompt[-1].content, getattr(question, "options", ())))


def each(answer: Callable[[Question], str]) -> Answers:
    def reply(question: Question) -> SuiteReply:
        text = answer(question)
        if isinstance(question, ChoiceRequest):
            return SuiteReply(text, tuple(float(option == text) for option in question.options))
        return SuiteReply(text)

    return lambda questions: [reply(question) for question in questions]


def of_model(model: Any) -> Answers:
    """A model that scores and generates."""

    def replies(questions: Sequence[Question]) -> list[SuiteReply]:
        found: dict[int, SuiteReply] = {}
        chosen = [(at, question) for at, question in enumerate(questions) if isinstance(question, ChoiceRequest)]
        scores = model.score([q.prompt for _, q in chosen], [q.options for _, q in chosen]) if chosen else []
        for (at, question), logps in zip(chosen, scores, strict=True):
            found[at] = SuiteReply(max(zip(logps, question.options, strict=True))[1], tuple(logps))
        written = [(at, question) for at, question in enumerate(questions) if isinstance(question, TextRequest)]
        for decoding in {question.decoding for _, question in written}:
            same = [(at, question) for at, question in written if question.decoding == decoding]
            told = model.generate([question.prompt for _, question in same], decoding)
            for (at, _), answer in zip(same, told, strict=True):
                found[at] = SuiteReply(answer.text, (), answer.finish)
        return [found[at] for at in range(len(questions))]

    return replies
