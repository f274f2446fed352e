"""Questions to a person: one per fact, the answers it takes, and whether an answer would change the advice."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lastresort.advice.facts import WRONG, Facts
from lastresort.errors import InputError
from lastresort.records.advice import FrameworkFit, Stance
from lastresort.rungs.supervised.sft import PACES
from lastresort.spec.values import nearest

YES_NO = ("yes", "no")
NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class FactQuestion:
    """fact: the field of Facts. text: the question. choices: the answers where they are few; () where it is a number.

    kind: how a typed answer is read. samples: answers to try, to see whether the question matters.
    """

    fact: str
    text: str
    kind: str
    samples: tuple[Any, ...]
    choices: tuple[str, ...] = ()


def read_answer(question: FactQuestion, typed: str) -> Any:
    """The value of a typed answer. Raises InputError saying what was expected."""
    return _READERS[question.kind](question, typed.strip())


def question_of(fact: str) -> FactQuestion:
    """The question for a fact. Raises InputError for a name that no question has."""
    found = next((question for question in QUESTIONS if question.fact == fact), None)
    if found is None:
        names = [question.fact for question in QUESTIONS]
        close = nearest(fact, names)
        raise InputError(
            f'no fact is called "{fact}"',
            expected="" if close else f"one of {', '.join(names)}",
            remedy=f'Did you mean "{close}"?' if close else "Correct its name.",
        )
    return found


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question whose answer would change the advice. changes: the rungs whose stance it decides."""

    question: FactQuestion
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AdviceOutcome:
    """What a reader of the advice sees: the stance of each rung, the rules that apply, the frameworks to use."""

    stances: Mapping[str, Stance]
    rules: tuple[str, ...]
    frameworks: tuple[tuple[str, FrameworkFit], ...]


def open_questions(facts: Facts, outcome: Callable[[Facts], AdviceOutcome]) -> tuple[OpenQuestion, ...]:
    """The unknown facts that matter, in the order in which to ask: one of their samples changes the outcome."""
    now, found = outcome(facts), []
    for question in QUESTIONS:
        if getattr(facts, question.fact) is not None:
            continue
        others = [
            then for sample in question.samples if (then := outcome(replace(facts, **{question.fact: sample}))) != now
        ]
        if others:
            decided = (rung for rung in now.stances if any(then.stances[rung] != now.stances[rung] for then in others))
            found.append(OpenQuestion(question, tuple(rung for rung in decided if rung in facts.ladder)))
    return tuple(found)


def _refuse(question: FactQuestion, typed: str, expected: str) -> InputError:
    return InputError(f'"{typed}"', where=question.fact, expected=expected)


def _choice(question: FactQuestion, typed: str) -> str:
    """A choice by its name, the beginning of it, or its number from 1."""
    if typed.isascii() and typed.isdigit() and 1 <= int(typed) <= len(question.choices):
        return question.choices[int(typed) - 1]
    begun = [choice for choice in question.choices if typed and choice.startswith(typed.lower())]
    if typed.lower() in question.choices:
        return typed.lower()
    if len(begun) != 1:
        raise _refuse(question, typed, f"one of {', '.join(question.choices)}")
    return begun[0]


def _yes_no(question: FactQuestion, typed: str) -> bool:
    words = {"true": "yes", "false": "no"}
    return _choice(question, words.get(typed.lower(), typed)) == "yes"


def _permission(question: FactQuestion, typed: str) -> str:
    return _choice(
        question, {"yes": "allowed", "y": "allowed", "no": "forbidden", "n": "forbidden"}.get(typed.lower(), typed)
    )


def _several(question: FactQuestion, typed: str) -> tuple[str, ...]:
    """Choices by name or number, separated by commas or spaces."""
    chosen = {_choice(question, part) for part in re.split(r"[,\s]+", typed) if part}
    if not chosen or (NOTHING in chosen and len(chosen) > 1):
        raise _refuse(question, typed, f"some of {', '.join(question.choices)}")
    return tuple(kind for kind in WRONG if kind in chosen)


def _number(question: FactQuestion, typed: str) -> float:
    """A number with an ending k, m or b, as people write them. Spaces, commas and underscores between digits do not count."""
    match = re.fullmatch(r"([0-9][0-9 ,_]*(?:\.[0-9]+)?|\.[0-9]+)\s*([kmb]?)", typed.lower())
    if match is None:
        raise _refuse(question, typed, "a number, such as 1200 or 7b")
    return float(re.sub(r"[ ,_]", "", match[1])) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}[match[2]]


def _amount(question: FactQuestion, typed: str) -> float:
    value = _number(question, typed)
    if not value > 0 or not math.isfinite(value):
        raise _refuse(question, typed, "a number above 0")
    return value


def _share(question: FactQuestion, typed: str) -> float:
    """0.82, 82 or 82%."""
    bare = typed.removesuffix("%").strip()
    value = _number(question, bare)
    if typed.endswith("%") or value > 1:
        value /= 100
    if value > 1:
        raise _refuse(question, typed, "a share such as 0.82 or 82%")
    return value


def _bar(question: FactQuestion, typed: str) -> float:
    value = _share(question, typed)
    if not 0 < value < 1:
        raise _refuse(question, typed, "a share strictly between 0 and 1")
    return value


_READERS: dict[str, Callable[[FactQuestion, str], Any]] = {
    "choice": _choice,
    "yes or no": _yes_no,
    "permission": _permission,
    "several": _several,
    "count": lambda question, typed: round(_number(question, typed)),
    "amount": _amount,
    "share": _share,
    "bar": _bar,
}


def _yes(fact: str, text: str) -> FactQuestion:
    return FactQuestion(fact, text, "yes or no", (True, False), YES_NO)


QUESTIONS = (
    FactQuestion(
        "wrong",
        "What is wrong with today's answers? Name all that apply",
        "several",
        ((), *((kind,) for kind in WRONG), ("knowledge", "style")),
        (*WRONG, NOTHING),
    ),
    FactQuestion("bar", "What share of right answers is good enough?", "bar", (0.5, 0.85, 0.98)),
    FactQuestion(
        "best_prompt_score", "What share does your best prompt get right?", "share", (0.02, 0.5, 0.8, 0.87, 0.92, 0.99)
    ),
    FactQuestion("n_examples", "How many labelled examples are there?", "count", (0, 1000)),
    FactQuestion("n_train", "How many of them may be used for training?", "count", (20, 200, 2_000, 20_000, 100_000)),
    FactQuestion(
        "output",
        "What format must an answer have?",
        "choice",
        ("schema", "choices", "text"),
        ("schema", "choices", "text"),
    ),
    _yes("knowledge", "Are there documents that the answers depend on?"),
    FactQuestion("knowledge_changes", "How often do the documents change?", "choice", PACES, PACES),
    FactQuestion("retrain_every", "How often would a tuned model be retrained?", "choice", PACES, PACES),
    FactQuestion(
        "context",
        "May the documents go into the prompt?",
        "permission",
        ("allowed", "forbidden"),
        ("allowed", "forbidden"),
    ),
    _yes("verbatim", "Must answers quote the documents word for word?"),
    _yes("restricted", "Are there documents that not every user may see?"),
    FactQuestion(
        "preferences",
        "Are there answers that people compared (pairs) or rated (labels)?",
        "choice",
        ("pairs", "labels", "none"),
        ("pairs", "labels", "none"),
    ),
    _yes("reward", "Can a program score an answer, such as a calculation or code that runs?"),
    FactQuestion(
        "breadth",
        "Is the task narrow (one kind of input) or broad?",
        "choice",
        ("narrow", "broad"),
        ("narrow", "broad"),
    ),
    _yes("general_use", "Does the same model do other work that must stay good?"),
    _yes("can_label", "Are there people who could label more examples?"),
    _yes("teacher", "Is there a larger model that answers well enough?"),
    _yes("private", "Must all data stay on your own machines?"),
    FactQuestion("calls_per_month", "How many calls a month?", "count", (1_000, 10_000_000)),
    FactQuestion(
        "parameters",
        "How many parameters does the model to be tuned have (135m, 7b)?",
        "count",
        (10**8, 10**9, 8 * 10**9, 7 * 10**10),
    ),
    FactQuestion("cards", "How many GPUs can you use for training?", "count", (0, 1, 8)),
    FactQuestion("card_gb", "How many GB of memory does each have?", "amount", (8.0, 24.0, 80.0)),
    _yes("web_ui", "Will people who do not write code train models?"),
)
