"""`lastresort advise [TASK]`: rules of thumb applied to what is known, nothing run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lastresort.cli.document import print_document

if TYPE_CHECKING:
    from lastresort.advice.facts import Facts


KEYS = {  # facts that a task file can tell too
    "bar": "bar",
    "knowledge": "knowledge",
    "knowledge_changes": "knowledge_changes",
    "retrain_every": "retrain_every",
    "context": "use.context",
    "preferences": "preferences",
    "reward": "reward",
    "calls_per_month": "use.calls_per_month",
}


def advise_command(
    task: Path | None = typer.Argument(None, help="The task file (task.yaml). Without one: what --fact and you tell."),
    ask: bool = typer.Option(False, "--ask", help="Ask for what is not known. Without TASK and --fact it asks anyway."),
    facts: list[str] = typer.Option(
        [],
        "--fact",
        help="Tell what no file can: --fact wrong=format,style, --fact best_prompt_score=0.8.",
        metavar="NAME=VALUE",
    ),
    settings: list[str] = typer.Option(
        [], "--set", help="Override a key of the task file: --set bar=0.9.", metavar="KEY=VALUE"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the advice as one JSON document on stdout."),
) -> None:
    """Say by published rules of thumb whether to prompt, retrieve or train, and why. No model is asked."""
    from lastresort.advice.advise import advise, as_document

    _check_asking(task, ask or (task is None and not facts), settings)
    name, known, notes = _known(task, settings)
    told = _told(known, facts)
    if ask or (task is None and not facts):
        from lastresort.cli.asking import ask as ask_person

        told = ask_person(told)
    if task is not None:
        notes = (*notes, *_unwritten(known, told))
    document = as_document(advise(told), task=name, notes=notes)
    if as_json:
        print_document(document)
        return
    from lastresort.cli.console import SafeConsole
    from lastresort.report.advice import advice_text

    SafeConsole().print(advice_text(document))


def _check_asking(task: Path | None, asks: bool, settings: Sequence[str]) -> None:
    from lastresort.errors import InputError

    if task is None and settings:
        raise InputError("--set without a task file", expected="--fact NAME=VALUE", remedy="Name the task file, too.")
    if asks and not (sys.stdin is not None and sys.stdin.isatty()):
        raise InputError(
            "no terminal to ask on" if task else "neither a task file nor facts, and no terminal to ask on",
            expected="a terminal" if task else "TASK or --fact NAME=VALUE",
            remedy="Tell what you know with --fact, such as --fact wrong=format.",
        )


def _known(task: Path | None, settings: Sequence[str]) -> tuple[str | None, Facts, tuple[str, ...]]:
    """The task's name, what its file tells, and what a reader must see beside."""
    from lastresort.advice.facts import Facts

    if task is None:
        return None, Facts(), ()
    from lastresort.advice.task_facts import facts_of
    from lastresort.cli.settings import parse_settings
    from lastresort.spec.task import load_task

    loaded = load_task(task, parse_settings(settings))
    found = facts_of(loaded)
    return loaded.task, found.facts, found.notes


def _told(known: Facts, facts: Sequence[str]) -> Facts:
    """The facts with those of --fact. Raises InputError for one that is unknown, unreadable, or told by the task file."""
    from lastresort.advice.questions import question_of, read_answer
    from lastresort.errors import InputError

    told = known
    for fact in facts:
        name, equals, typed = fact.partition("=")
        if not equals or not name.strip() or not typed.strip():
            raise InputError(
                f'"{fact}"', where="--fact", expected="NAME=VALUE", remedy="For example: --fact wrong=format"
            )
        question = question_of(name.strip())
        if getattr(known, question.fact) is not None:
            raise InputError(
                f"--fact {question.fact}, which the task file tells ({getattr(known, question.fact)})",
                expected="what it does not tell",
                remedy="Leave it out, or leave TASK out to see what would follow.",
            )
        told = replace(told, **{question.fact: read_answer(question, typed)})
    return told


def _unwritten(known: Facts, told: Facts) -> tuple[str, ...]:
    """What was told here and belongs in the task file, since a climb cannot know it otherwise."""
    keys = [
        key
        for fact, key in KEYS.items()
        if getattr(known, fact) is None and getattr(told, fact) not in (None, False, "none")
    ]
    if not keys:
        return ()
    return (f"Write down what you told here, so that a climb knows it too: {', '.join(keys)}.",)
