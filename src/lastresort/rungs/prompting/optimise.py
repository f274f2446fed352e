"""One more prompt for the race, by a model that reflects on failures: whether that is worth it, and what enters the race."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec

from lastresort.errors import PrerequisiteError
from lastresort.evals.evidence.paired import p_above_zero, paired_differences
from lastresort.evals.evidence.selection import PREDICTED
from lastresort.models.calls import RetryPolicy
from lastresort.models.open import absolute_name, parameter_count
from lastresort.models.protocol import Model, is_endpoint
from lastresort.records.events.search import PromptOptimised
from lastresort.records.measurement import ItemScore
from lastresort.records.rungs import (
    GepaMissing,
    NoHeadroom,
    NoNeedToOptimise,
    NoReflector,
    PromptKept,
    PromptRewritten,
    SearchFinding,
    SmallReflector,
    TooFewRowsToOptimise,
    UsdTooSmall,
)
from lastresort.rungs.prompting.prompts import (
    PLAIN,
    form_request,
    instruction_of,
    prompting_decoding,
    sections_of,
)
from lastresort.rungs.prompting.with_gepa import LEAST_ROWS, optimised
from lastresort.rungs.race import Race
from lastresort.rungs.rung import Workbench
from lastresort.spec.task import Task
from lastresort.systems.system import Author, PromptDesign, System

LEAST_PARAMETERS = 6_500_000_000  # what is called 7B may have 6.7
NAME = "optimised"
LEVEL = 0.05  # of the check for headroom
MOST_ILL_FORMED = 0.02  # of the answers of the best prompt


@dataclass(frozen=True, slots=True)
class NewPrompts:
    """What enters the race late, and what is said of it."""

    systems: tuple[System, ...] = ()
    findings: tuple[SearchFinding, ...] = ()


def new_prompts(bench: Workbench, rung: str, race: Race) -> NewPrompts:
    """Of a race that was run. What was optimised is recorded once a run."""
    task = bench.task
    if task.prompting.optimise == "off" or race.nothing_left() is not None:
        return NewPrompts()
    prompt_optimised = bench.record.last(PromptOptimised, rung)
    if prompt_optimised is None:
        reason = why_kept(task, len(bench.train)) or _by_the_race(bench, race)
        if reason is not None:
            return NewPrompts(findings=(reason,))
        result = _optimise(bench, rung, race)
        if isinstance(result, UsdTooSmall):
            return NewPrompts(findings=(result,))
        prompt_optimised = result
        bench.record.append(prompt_optimised)
    finding = PromptRewritten(
        **{field.name: getattr(prompt_optimised, field.name) for field in fields(PromptRewritten)}
    )
    return NewPrompts(_entering(bench, race, prompt_optimised.best) if prompt_optimised.better else (), (finding,))


def lacks_gepa(task: Task) -> bool:
    """Whether the task wants an optimised prompt and the package that writes it is not there."""
    return task.prompting.optimise == "on" and "prompting" in task.ladder and not _installed()


def refuse_missing(task: Task) -> None:
    """Raises PrerequisiteError where `lacks_gepa`."""
    if lacks_gepa(task):
        raise PrerequisiteError(
            "gepa is not installed, and prompting.optimise is on",
            where=task.path.name,
            remedy="Run: pip install 'lastresort[prompts]', or write prompting: {optimise: auto}.",
        )


def why_kept(task: Task, n_train: int) -> PromptKept | None:
    """Why no prompt is optimised, by the facts of the task and this machine; None where it may be.

    An endpoint does not say how large its model is: one that is named under `prompting.reflect` is taken to be large enough, as is
    every other model that is named there.
    """
    if not _installed():
        return GepaMissing()
    keys = task.prompting
    if keys.optimise == "auto" and keys.reflect is None:
        parameters = parameter_count(task.model, task.folder)
        if parameters is None or parameters < LEAST_PARAMETERS:
            return NoReflector(task.model, parameters, LEAST_PARAMETERS)
    return TooFewRowsToOptimise(n_train, LEAST_ROWS) if n_train < LEAST_ROWS else None


def may_reflect(task: Task) -> bool:
    """Whether `prompting.reflect` may be called here."""
    return task.prompting.optimise != "off" and "prompting" in task.ladder and _installed()


def _installed() -> bool:
    """A folder of this name without code is found, too, and has no origin."""
    spec = find_spec("gepa")
    return spec is not None and spec.origin is not None


def _by_the_race(bench: Workbench, race: Race) -> PromptKept | None:
    """Why none is optimised, by what the hand-made prompts scored on dev."""
    task, best, groups = bench.task, race.choose().name, bench.dev_groups()
    if task.prompting.optimise == "auto":
        no_headroom = without_headroom(
            race.items, PLAIN, best, binary=bench.scorer.binary, groups=groups, seed=task.split.seed
        )
        if no_headroom is not None:
            return no_headroom
    chance = race.chance_of_met()
    return NoNeedToOptimise(best, chance) if chance >= PREDICTED else None


def _optimise(bench: Workbench, rung: str, race: Race) -> PromptOptimised | UsdTooSmall:
    task = bench.task
    parameters = parameter_count(task.reflect_model, task.folder)
    if parameters is not None and parameters < LEAST_PARAMETERS:
        bench.say(rung, SmallReflector(task.reflect_model, parameters, LEAST_PARAMETERS))
    with _reflector(bench) as model:
        return optimised(
            bench,
            rung,
            plain=task.about.strip(),
            form=form_request(task),
            written=lambda about: _zero_shot(bench, about, written_by="model"),
            reflector=model,
            priced=task.price_known and task.reflect_price_known,
            reflector_name=task.reflect_model,
            raced=race.items.get(PLAIN) or [item for items in race.items.values() for item in items],
        )


def _reflector(bench: Workbench) -> AbstractContextManager[Model]:
    """An endpoint gets a client of its own, also where it is the task's model: one that does not ask again for what is late."""
    task, same_model = bench.task, bench.task.reflect_model == bench.task.model
    if same_model and not is_endpoint(task.model):
        return nullcontext(bench.models.open(_zero_shot(bench, task.about, written_by="task")))
    prices = task.use if same_model else task.prompting
    return bench.models.another(
        absolute_name(task.reflect_model, task.folder),
        prompt_price=prices.prompt_price or 0.0,
        output_price=prices.output_price or 0.0,
        template_kwargs=task.chat_template_kwargs if same_model else None,
        patience=RetryPolicy(repeat_late=False),
    )


def _zero_shot(bench: Workbench, about: str, *, written_by: Author) -> System:
    task = bench.task
    design = PromptDesign(instruction_of(about, task), written_by=written_by)
    decoding = prompting_decoding(task, bench.max_new_tokens)
    return System(NAME, bench.models.base_name, design, decoding, template_kwargs=task.chat_template_kwargs)


def _entering(bench: Workbench, race: Race, about: str) -> tuple[System, ...]:
    """The new instruction alone, and in place of the old one in the best hand-made prompt, if that is more than an instruction."""
    best = race.systems[race.choose().name]
    alone = _zero_shot(bench, about, written_by="model")
    in_sections = best.prompt.layout == "sections"
    instruction = sections_of(about, bench.task) if in_sections else instruction_of(about, bench.task)
    reworded = replace(
        best,
        name=f"{best.name}+{NAME}",
        prompt=replace(best.prompt, instruction=instruction, written_by="model"),
    )
    same = reworded.prompt == alone.prompt and reworded.decoding == alone.decoding
    return (alone,) if same else (alone, reworded)


def may_optimise(task: Task, n_train: int) -> bool:
    """Whether a prompt may be optimised, as far as that is known before anything is measured."""
    return task.prompting.optimise != "off" and why_kept(task, n_train) is None


def without_headroom(
    items: Mapping[str, Sequence[ItemScore]],
    plain: str,
    best: str,
    *,
    binary: bool,
    groups: Sequence[str] | None,
    seed: int,
) -> NoHeadroom | None:
    """Whether the hand-made prompts show on dev that optimising can hardly help; None where some prompt differs from the plain one,
    or the best one's answers often lack the required form.

    If they differ by noise alone, the wording does not matter to this model on this task, and an optimised prompt mostly ends below
    the plain one. Source: arXiv 2604.14585.

    Each prompt is compared with the plain one on the items that both answered: paired, two-sided, the p-values times the number of
    comparisons (Bonferroni), at 0.05. items: of each candidate, in the order of dev. groups: of each dev item, None without.
    """
    ill_formed = sum(item.format_ok is False for item in items[best])
    if ill_formed > MOST_ILL_FORMED * len(items[best]):
        return None
    others = {name: found for name, found in items.items() if name != plain and found}
    if plain not in items or not items[plain] or not others:
        return None
    values = {name: _p(items[plain], found, binary, groups, seed) for name, found in others.items()}
    nearest = min(values, key=values.__getitem__)
    p = min(1.0, values[nearest] * len(values))
    if p <= LEVEL:
        return None
    n_compared = min(len(items[plain]), len(items[nearest]))
    return NoHeadroom(len(values), nearest, n_compared, p, LEVEL, best, ill_formed, len(items[best]))


def _p(
    plain: Sequence[ItemScore], other: Sequence[ItemScore], binary: bool, groups: Sequence[str] | None, seed: int
) -> float:
    """Two-sided p of a difference on the items that both answered."""
    n = min(len(plain), len(other))
    a, b = [item.score for item in plain[:n]], [item.score for item in other[:n]]
    shared_groups = None if groups is None else list(groups[:n])
    binary = binary and groups is None
    change = paired_differences(a, b, binary=binary, groups=shared_groups)
    return min(1.0, 2 * min(p_above_zero(way, binary=binary, seed=seed) for way in (change, -change)))
