"""Apply published rules of thumb to what is known about a task. No model runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lastresort.advice.advise import Advice, advise, as_document, open_facts
from lastresort.advice.facts import Facts
from lastresort.advice.questions import NOTHING, FactQuestion, question_of, read_answer
from lastresort.errors import InputError
from lastresort.records.advice import AdviceDocument
from lastresort.spec.task import Task, given_task
from lastresort.types import Json, JsonObject

KEYS = {  # of the task file, by fact
    "bar": "bar",
    "knowledge": "knowledge",
    "knowledge_changes": "knowledge_changes",
    "retrain_every": "retrain_every",
    "context": "use.context",
    "preferences": "preferences",
    "reward": "reward",
    "calls_per_month": "use.calls_per_month",
}


_IN_FACTS = ("knowledge", "preferences", "reward")  # their own keys name files, which an answer does not


def place_of(fact: str) -> str:
    """The key of the task file, dotted, under which an answer to the question for a fact is kept."""
    return KEYS[fact] if fact in KEYS and fact not in _IN_FACTS else f"facts.{fact}"


def answer_in_task(fact: str, typed: str) -> tuple[str, Json]:
    """Key and value with which a task file states a typed answer. Raises InputError saying what was expected."""
    question = question_of(fact)
    value = read_answer(question, typed)
    if isinstance(value, tuple):
        return place_of(fact), list(value) or [NOTHING]
    return place_of(fact), value


@dataclass(frozen=True, slots=True)
class AdviceRequest:
    """What is known. facts: names and values that no file states, each value as text or as a Python value.

    Raises InputError for settings without a task.
    """

    task: Path | Task | None = None
    facts: Sequence[tuple[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.task is None and self.settings:
            raise InputError("--set without a task file", expected="--fact NAME=VALUE", remedy="Add the task file.")


@dataclass(frozen=True, slots=True)
class Recommendation:
    """task: its name, None without one. notes: sentences for the reader."""

    advice: Advice
    task: str | None
    notes: tuple[str, ...]

    @property
    def answer(self) -> str:
        """To "should I fine-tune?", before anything is measured."""
        return self.advice.answer

    @property
    def document(self) -> AdviceDocument:
        return as_document(self.advice, task=self.task, notes=self.notes)

    def as_dict(self) -> JsonObject:
        """As `lastresort advise --json` prints it."""
        return self.document.as_json()

    def __repr__(self) -> str:
        return f"<Recommendation: {self.answer}>"

    def _repr_html_(self) -> str:
        from lastresort.report.advice import path_table
        from lastresort.report.notebook import terminal_html

        return terminal_html(self.answer, path_table(self.document))


def give_advice(request: AdviceRequest, ask: Callable[[Facts], Facts] | None = None) -> Recommendation:
    """Apply the rules to this task and these facts. ask: adds a person's answers to the facts.

    Raises InputError for a fact that is unknown, unreadable, or stated by the task file; TaskError and DataError for a task that
    cannot be read.
    """
    name, stated, notes = _known(request)
    facts = _with_given(stated, request.facts)
    if ask is not None:
        facts = ask(facts)
    if request.task is not None:
        notes = (*notes, *_missing_from_task(stated, facts))
    return Recommendation(advise(facts), name, notes)


def _known(request: AdviceRequest) -> tuple[str | None, Facts, tuple[str, ...]]:
    """The task's name, what its file states, and notes for the reader."""
    if request.task is None:
        return None, Facts(), ()
    from lastresort.advice.task_facts import facts_of

    task = given_task(request.task, dict(request.settings))
    task_facts = facts_of(task)
    return task.task, task_facts.facts, task_facts.notes


def _with_given(stated: Facts, given: Sequence[tuple[str, Any]]) -> Facts:
    facts = stated
    for name, value in given:
        question = question_of(name)
        if getattr(stated, question.fact) is not None:
            raise InputError(
                f"--fact {question.fact}, which the task file already states ({getattr(stated, question.fact)})",
                expected="a fact that it does not state",
                remedy="Leave it out, or leave TASK out to see what would follow.",
            )
        facts = replace(facts, **{question.fact: read_answer(question, _as_typed(value))})
    return facts


def _as_typed(value: Any) -> str:
    """True -> "yes", ["format", "style"] -> "format,style"; text as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _missing_from_task(stated: Facts, facts: Facts) -> tuple[str, ...]:
    """A note on facts that belong in the task file, since a climb cannot know them otherwise."""
    keys = [
        key
        for fact, key in KEYS.items()
        if getattr(stated, fact) is None and getattr(facts, fact) not in (None, False, "none")
    ]
    if not keys:
        return ()
    return (f"Add these keys to the task file, so that a climb knows them too: {', '.join(keys)}.",)


def ask_in_turn(facts: Facts, read: Callable[[str], str | None], say: Callable[[str], None]) -> Facts:
    """The facts with a person's answers. Asks each question once, and only those that would still change the advice.

    read: gives the line typed after a prompt, None at the end of the input, which ends the questions like `q`. An empty line skips
    a question.
    """
    say("Press Enter to skip a question, q to stop.")
    asked_names: set[str] = set()
    while True:
        found = (one.question for one in open_facts(facts))
        question = next((one for one in found if one.fact not in asked_names), None)
        if question is None:
            return facts
        asked_names.add(question.fact)
        has_answer, value = _answer(question, read, say)
        if not has_answer:
            return facts
        if value is not None:
            facts = replace(facts, **{question.fact: value})


def _answer(question: FactQuestion, read: Callable[[str], str | None], say: Callable[[str], None]) -> tuple[bool, Any]:
    """(whether to go on, the value or None where it was skipped). Asks again after an answer that cannot be read."""
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
