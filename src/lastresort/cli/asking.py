"""Asking a person at the terminal for the facts that would change the advice. Questions go to stderr; Enter leaves one open."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lastresort.advice.advise import open_facts
from lastresort.advice.facts import Facts
from lastresort.advice.questions import Open, Question, read_answer
from lastresort.cli.terminal import print_note
from lastresort.errors import InputError

Read = Callable[[str], str | None]


def read_line(prompt: str) -> str | None:
    """A line that was typed, None where the input ended."""
    print_note(prompt, end="")
    line = sys.stdin.readline()
    if not line:
        print_note()
    return line.strip() if line else None


def ask(facts: Facts, read: Read = read_line, say: Callable[[str], None] | None = None) -> Facts:
    """The facts with what was answered. Asks only what would still change the advice, in one go through the questions.

    The end of the input ends the asking, as an answer of `q` does.
    """
    say = say or print_note
    say("Enter leaves a question open, q ends.")
    passed: set[str] = set()
    while True:
        question = _next(open_facts(facts), passed)
        if question is None:
            return facts
        passed.add(question.fact)
        answered, value = _answer(question, read, say)
        if not answered:
            return facts
        if value is not None:
            facts = replace(facts, **{question.fact: value})


def _next(open_ones: tuple[Open, ...], passed: set[str]) -> Question | None:
    return next((one.question for one in open_ones if one.question.fact not in passed), None)


def _answer(question: Question, read: Read, say: Callable[[str], None]) -> tuple[bool, Any]:
    """(whether to go on, the value or None where it stays open); asks again after an answer that cannot be read."""
    numbered = [f"{number} {choice}" for number, choice in enumerate(question.choices, start=1)]
    say(f"\n{question.text}{'' if question.text.endswith('?') else '.'}")
    if numbered:
        say("  " + "  ".join(numbered))
    while True:
        typed = read("> ")
        if typed is None or typed.lower() == "q":
            return False, None
        if not typed:
            return True, None
        try:
            return True, read_answer(question, typed)
        except InputError as error:
            say(f"  Please answer with {error.expected}.")
