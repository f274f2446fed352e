"""From a task to what making rows for it takes: which rows may be shown, what an answer must look like, how it is checked."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from lastresort.climb.prepare import PreparedTask, check_right_answers
from lastresort.data.check import output_checks
from lastresort.data.duplicates import normalised, numbers_and_negations
from lastresort.data.formats.rows import compact_json
from lastresort.data.read import content_hash
from lastresort.errors import DataError, InputError
from lastresort.evals.scorers import SCORERS, AsksAModel, build_scorer, format_ok
from lastresort.evals.scorers.forms import chosen
from lastresort.foreign import NotJson, is_json, parse_json
from lastresort.knowledge.chunks import Chunk
from lastresort.models.protocol import estimated_prompt_tokens, estimated_tokens
from lastresort.rungs.prompting.prompts import instruction
from lastresort.rungs.retrieval.rung import cut_for
from lastresort.spec.paths import is_paid
from lastresort.spec.task import Task
from lastresort.synthesis.filters import LONGER, Balance, SeenRows, labels_of, wanted_rows
from lastresort.synthesis.kinds import (
    KINDS,
    LEAST_CHARACTERS,
    Kind,
    PassageProtection,
    SeedRows,
    different,
    seed_passages,
    stands_alone,
)
from lastresort.synthesis.prompts import PER_REQUEST, json_part
from lastresort.synthesis.recipe import Lengths, Recipe
from lastresort.systems.compose import compose, render_passages
from lastresort.systems.system import PromptDesign, Shot
from lastresort.types import Example, Message

LONGEST_SHOWN = 8000  # characters of a row that the teacher is shown, without its system prompt
BLIND_SHOTS = 6
TRIED = 20  # rows of train, by the scorer
GRADED_AGREES = 0.5  # of a graded scorer
SAME_WORDS = 0.8  # of two answers that count as one where the scorer cannot say it (F1)
LEAST_TOKENS, FORM_TOKENS = 512, 32  # of a reply, and of its JSON around a row
PASSAGE_TOKENS = 64  # of what is said around a passage


def recipe_of(
    prepared: PreparedTask,
    *,
    teacher: str,
    n: int,
    kinds: Sequence[str],
    agreement: int,
    passage_checks: int,
    seed: int,
    made: str,
    constrained: bool,
    priced: bool,
) -> Recipe:
    """kinds: () for all that the task can have without its documents. Raises InputError where no row can be shown, or a kind does
    not fit.
    """
    task, seeds = prepared.task, seed_rows(prepared, seed)
    if any(KINDS[kind].needs_passages for kind in kinds):
        _refuse_to_send_passages(task, teacher)
        passages, protection = _seed_passages(prepared, seeds, seed)
        seeds = replace(seeds, passages=passages, protection=protection)
    shots = tuple(Shot(row.input, row.output) for row in _varied(seeds, BLIND_SHOTS, seed))
    longest = _longest_tokens(seeds.rows)
    blind = PromptDesign(instruction(task), shots=shots, k=len(shots))
    return Recipe(
        teacher=teacher,
        n=n,
        kinds=_kinds(kinds, seeds, task),
        seeds=seeds,
        instruction=instruction(task),
        blind=blind,
        agreement=agreement,
        passage_checks=passage_checks,
        agrees=_agrees(prepared),
        supports=_supports(prepared),
        spelt=_spelt(prepared),
        lengths=Lengths(
            reply=max(LEAST_TOKENS, PER_REQUEST * (2 * sum(longest) + FORM_TOKENS)),
            blind=_blind_tokens(blind, seeds, prepared.split.train),
            answer=2 * longest[1] + FORM_TOKENS,
        ),
        seed=seed,
        made=made,
        constrained=constrained,
        priced=priced,
    )


def known_of(prepared: PreparedTask, recipe: Recipe, balance: Balance) -> SeenRows:
    """What the rows of a recipe are compared with, other synthetic rows of the task among it."""
    split = prepared.split
    labels = labels_of(split.train, prepared.task.output.choices)
    by_name = any(KINDS[kind].needs_labels for kind in recipe.kinds)
    made_labels = [label for label in labels if by_name or recipe.seeds.by_label[label]]
    n_by_label = wanted_rows(split.train, made_labels, recipe.n, balance)
    held_out = (*split.dev, *split.test)
    seen_rows = SeenRows(split.train, held_out, _answer_fault(prepared, labels), n_by_label, free_answers=not labels)
    for row in prepared.as_read.train:
        if row.synthetic:
            seen_rows.remember(row.input[-1].content)
    return seen_rows


def seed_rows(prepared: PreparedTask, seed: int) -> SeedRows:
    """The rows of train that a teacher may be shown, in random order: all but very long ones, those whose last turn is not the
    user's, and inputs that came before.
    """
    train = prepared.split.train
    fitting = [row for row in train if row.input[-1].role == "user" and _characters(row) <= LONGEST_SHOWN]
    rows = Random(f"synthetic rows:{seed}").sample(fitting, len(fitting))
    if not rows:
        raise InputError(
            f"none of the {len(train)} train rows can be shown to a teacher",
            where=prepared.task.path.name,
            expected=f"rows of at most {LONGEST_SHOWN:,} characters that end with a user turn",
            remedy="Add shorter rows.",
        )
    labels = labels_of(train, prepared.task.output.choices)
    by_label: dict[str, list[Example]] = {label: [] for label in labels}
    for row in rows if labels else ():
        by_label.get(row.output, []).append(row)
    return SeedRows(tuple(different(rows)), {label: different(own) for label, own in by_label.items()})


def task_hash(task: Task, about: str) -> str:
    """Changes with what the teacher sees of the task, and how its answers are judged; not with its folder or with prices."""
    judge, score = task.score.judge, task.resolved()["score"]
    if judge is not None:
        score = judge.model_copy(update={"prompt_price": None, "output_price": None}).written(task.folder)
    parts = [about, task.output.choices, task.output.json_schema, score]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def rows_hash(rows: Sequence[Example]) -> str:
    text = "".join(content_hash(row.input, row.output) for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def why_no_agreement(prepared: PreparedTask, *, run_code: bool) -> str | None:
    """What a task has that keeps two answers from being compared; None where they can be. run_code: see `prepare`."""
    if prepared.task.knowledge is not None:
        return "documents, which the teacher does not have"
    if isinstance(prepared.scorer, AsksAModel):
        return "a judge"
    if run_code and not _takes_answers_of_train(prepared):
        return "a scorer that does not compare with an answer like those of train"
    return None


def _takes_answers_of_train(prepared: PreparedTask) -> bool:
    """Not where a user's scorer expects something else than an answer in its place, such as facts."""
    agrees = _agrees(prepared)
    return all(agrees(row.output, row) for row in prepared.split.train[:TRIED])


def _characters(row: Example) -> int:
    return sum(len(turn.content) for turn in row.input if turn.role != "system") + len(row.output)


def _kinds(names: Sequence[str], seeds: SeedRows, task: Task) -> tuple[str, ...]:
    fitting = [
        name
        for name, kind in KINDS.items()
        if (seeds.by_label or not kind.needs_labels) and (seeds.passages or not kind.needs_passages)
    ]
    for name in names:
        if name in KINDS and name not in fitting:
            found, remedy = _unfit(KINDS[name], seeds, task)
            raise InputError(
                f'found "{name}" for a task {found}',
                where="--kinds",
                expected=", ".join(fitting),
                remedy=f"Leave it out, or {remedy}.",
            )
    return tuple(dict.fromkeys(names or [name for name in fitting if not KINDS[name].needs_passages]))


def _refuse_to_send_passages(task: Task, teacher: str) -> None:
    """Raises InputError where the documents may not be in a prompt that leaves this machine."""
    if task.use.context == "forbidden" and is_paid(teacher):
        raise InputError(
            f"found {teacher}, an endpoint, for questions from documents that may not be in a prompt (use.context: forbidden)",
            where="--kinds",
            expected="a teacher that is loaded here",
            remedy="Name a local one with --teacher, or leave out the kinds that show passages.",
        )


def _unfit(kind: Kind, seeds: SeedRows, task: Task) -> tuple[str, str]:
    """What of the task keeps it from having this kind, and how that could change."""
    if kind.needs_labels:
        return "whose answers are not labels", f"list the labels of {task.task} under output: {{choices: […]}}"
    if task.knowledge is None:
        return "without documents", "name them under `knowledge`"
    if seeds.by_label:
        return "whose answers are labels", "make rows of another kind"
    return (
        "without a row and a passage that can be shown",
        f"add a row that is one question, and passages of {LEAST_CHARACTERS} characters that no dev or test row names or asks in",
    )


def _seed_passages(
    prepared: PreparedTask, seeds: SeedRows, seed: int
) -> tuple[tuple[Chunk, ...], PassageProtection | None]:
    """There are none where answers are labels, or where no row shows what a question looks like."""
    task, as_read = prepared.task, prepared.as_read
    if task.knowledge is None or seeds.by_label or not any(map(stands_alone, seeds.rows)):
        return (), None
    return seed_passages(cut_for(task), (*as_read.dev, *as_read.test), seed)


def _varied(seeds: SeedRows, n: int, seed: int) -> list[Example]:
    """n rows, with as many different labels as there are."""
    random = Random(f"synthetic shots:{seed}")
    labels = [rows for rows in seeds.by_label.values() if rows]
    one_a_label = [random.choice(list(rows)) for rows in random.sample(labels, min(n, len(labels)))]
    others = random.sample(seeds.rows, min(len(seeds.rows), 2 * n))
    return different([*one_a_label, *others])[:n]


def _longest_tokens(rows: Sequence[Example]) -> tuple[int, int]:
    """Of nearly all last turns, and of nearly all answers."""
    index = int(0.99 * (len(rows) - 1))
    inputs = sorted(estimated_tokens(row.input[-1].content) for row in rows)
    return inputs[index], sorted(estimated_tokens(row.output) for row in rows)[index]


def _blind_tokens(blind: PromptDesign, seeds: SeedRows, train: Sequence[Example]) -> int:
    """Of the longest prompt for an answer: the earlier turns of a row shown, an input as long as the filter lets through, and a
    passage.
    """
    most_earlier_tokens = max(sum(estimated_tokens(turn.content) for turn in row.input[:-1]) for row in seeds.rows)
    without_input = estimated_prompt_tokens(compose(blind, (Message("user", ""),), blind.shots))
    passages = (estimated_tokens(render_passages([passage])) + PASSAGE_TOKENS for passage in seeds.passages)
    return (
        without_input + max(passages, default=0) + most_earlier_tokens + math.ceil(LONGER * _longest_tokens(train)[0])
    )


def _spelt(prepared: PreparedTask) -> Callable[[str], str]:
    """Labels as they are spelt in train, JSON as compact as there; all else as it is."""
    labels = labels_of(prepared.split.train, prepared.task.output.choices)
    writes_json = all(is_json(row.output) for row in prepared.split.train)

    def spelt(output: str) -> str:
        if labels:
            return chosen(output, labels) or output
        try:
            return compact_json(parse_json(json_part(output)), "reply") if writes_json else output
        except NotJson:
            return output

    return spelt


def _answer_fault(prepared: PreparedTask, labels: Sequence[str]) -> Callable[[Example], str | None]:
    """Why an answer cannot be one of the task: not a label, not of its schema or format, or one that its scorer cannot take."""
    output, scorer = prepared.task.output, prepared.scorer
    checks = output_checks(tuple(labels) or output.choices, output.json_schema)
    reads = SCORERS[prepared.task.score.name].reads
    takes_train_answers: list[bool] = []  # whether the scorer takes answers like those of train, once it was tried

    def fault(example: Example) -> str | None:
        for words, _, check in checks:
            if (reason := check(example.output)) is not None:
                return f"{words}: {reason}"
        if reads is not None and format_ok(example.output, scorer=prepared.task.score.name) is False:
            return f"is no {reads}"
        takes_train_answers[:] = takes_train_answers or [
            isinstance(scorer, AsksAModel) or _takes_answers_of_train(prepared)
        ]
        try:
            check_right_answers(scorer, (example,) if takes_train_answers[0] else ())
        except DataError as error:
            return error.found
        return None

    return fault


def _supports(prepared: PreparedTask) -> Callable[[str, Example], bool]:
    """By the task's scorer, or by the text where that asks a model, is graded or cannot compare with answers as in train."""
    scorer = prepared.scorer
    agrees: list[Callable[[str, Example], bool]] = []  # once the scorer was tried

    def supports(answer: str, example: Example) -> bool:
        if not agrees:
            compares = scorer.binary and not isinstance(scorer, AsksAModel) and _takes_answers_of_train(prepared)
            agrees.append(_agrees(prepared) if compares else _says_the_same)
        return agrees[0](answer, example)

    return supports


def _says_the_same(answer: str, example: Example) -> bool:
    """The same text when normalised, or nearly the same words with all numbers and negations equal."""
    answer_text, right_text = answer.strip(), example.output
    if normalised(answer_text) == normalised(right_text):
        return True
    same_facts = numbers_and_negations(answer_text) == numbers_and_negations(right_text)
    return same_facts and build_scorer("token_f1", {})(answer_text, example) >= SAME_WORDS


def _agrees(prepared: PreparedTask) -> Callable[[str, Example], bool]:
    """By the task's scorer."""
    scorer = prepared.scorer
    reads_json = SCORERS[prepared.task.score.name].reads == "json" or prepared.task.output.json_schema is not None

    def agrees(answer: str, example: Example) -> bool:
        answer_text = json_part(answer) if reads_json else answer.strip()
        try:
            return float(scorer(answer_text, example)) >= (1.0 if scorer.binary else GRADED_AGREES)
        except DataError:
            return False

    return agrees
