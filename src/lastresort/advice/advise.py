"""`advise`: rules of thumb applied to the facts of a task, and the recommended path up the ladder. Pure: no model, no files.

Only `climb` measures. The advice says where measuring is worth it and what to find out first, and never recommends a rung that
a climb would skip, unless all that it lacks are documents of which a person knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from lastresort.advice import keeping, knowing, preferring, prompting, tuning
from lastresort.advice.facts import AppliedRule, Facts, Rule, apply_rules
from lastresort.advice.frameworks import RatedFramework, chosen_frameworks
from lastresort.advice.questions import AdviceOutcome, OpenQuestion, open_questions
from lastresort.ladder import RUNGS, trained_rungs, trains
from lastresort.records.advice import (
    AdviceDocument,
    Fact,
    FrameworkAdvice,
    OpenFact,
    RuleAdvice,
    RungAdvice,
    Stance,
)
from lastresort.report.words.wording import capital, listed, rung_in_prose, stopped
from lastresort.report.words.wording import round_percent as percent

LEFT_OUT = "Your task's ladder leaves it out."
NAME_DOCUMENTS = "Name the documents under `knowledge` first: until then, a climb skips retrieval."


def recommended_path(facts: Facts, applied: Sequence[AppliedRule]) -> tuple[RungAdvice, ...]:
    """All rungs in the order of the ladder.

    NOT: the task leaves it out, a climb would skip it, or a STRONG rule opposes it. DO: the lowest rung, and above it the first
    that a rule favours and none opposes, where the best prompt is known to miss the bar. ONLY_IF: the rest.
    """
    steps: list[RungAdvice] = []
    for rung in RUNGS:
        against = _ruled_out(rung, facts, applied)
        if against:
            steps.append(_advised(rung, "NOT", against))
            continue
        favoured = [one.advice for one in applied if rung in one.rule.favours and one.rule.strength != "WEAK"]
        cautions = [one.advice for one in applied if rung in one.rule.opposes]
        reasons = (*cautions, *favoured) or (RUNGS[rung].purpose,)
        if rung == "retrieval" and facts.unnamed_documents:
            reasons = (NAME_DOCUMENTS, *reasons)
        below = [step.rung for step in steps if step.stance != "NOT"]
        untried = [step.rung for step in steps if step.stance == "DO" and _has_more(step.rung, applied)]
        needed = favoured and not cautions and not untried and facts.prompt_misses
        if rung == "prompting" or not below or needed:
            steps.append(_advised(rung, "DO", reasons))
        else:
            steps.append(_advised(rung, "ONLY_IF", reasons, _condition(rung, below, untried, facts)))
    return tuple(steps)


def _advised(rung: str, stance: Stance, reasons: tuple[str, ...], condition: str | None = None) -> RungAdvice:
    return RungAdvice(rung=rung, stance=stance, condition=condition, reasons=reasons)


def _ruled_out(rung: str, facts: Facts, applied: Sequence[AppliedRule]) -> tuple[str, ...]:
    """Why this rung is ruled out, in sentences; () if it is not."""
    if rung not in facts.ladder:
        return (LEFT_OUT,)
    strong = tuple(one.advice for one in applied if rung in one.rule.opposes and one.rule.strength == "STRONG")
    skipped = facts.skip_of(rung)
    if skipped is not None:
        return (f"A climb would skip it: {skipped.rstrip('.')}.", *strong, *_strongly_favouring(rung, applied))
    if strong:
        return strong
    if rung == "retrieval" and facts.knowledge is False:
        return ("There are no documents to retrieve from.",)
    if rung == "retrieval" and facts.wrong and not facts.is_wrong("knowledge"):
        return ("What is wrong is not missing knowledge.",)
    return ()


def _strongly_favouring(rung: str, applied: Sequence[AppliedRule]) -> tuple[str, ...]:
    """None where another STRONG rule opposes the rung."""
    strong = [one for one in applied if one.rule.strength == "STRONG"]
    opposed = any(rung in one.rule.opposes for one in strong)
    return () if opposed else tuple(one.advice for one in strong if rung in one.rule.favours)


def _has_more(rung: str, applied: Sequence[AppliedRule]) -> bool:
    """Whether a rung may still be enough: it was not measured, or not properly."""
    return rung != "prompting" or any(rung in one.rule.favours and one.rule.strength == "STRONG" for one in applied)


def _condition(rung: str, below: Sequence[str], untried: Sequence[str], facts: Facts) -> str:
    if rung == "sft" and facts.prompt_meets:
        return "its yearly savings are worth training, serving and retraining"
    first_trained = trained_rungs()[:1]
    if not untried and facts.prompt_misses and (not trains(rung) or rung in first_trained):
        return RUNGS[rung].worth_it_if
    order = (*(first_trained if trains(rung) else ()), *untried[::-1], "prompting")
    after = next((lower for lower in order if lower in below), below[-1])
    bar = "your bar" if facts.bar is None else f"the bar of {percent(facts.bar)}"
    return f"{after} misses {bar}, and {RUNGS[rung].worth_it_if}"


RULES: tuple[Rule, ...] = (
    *prompting.RULES,
    *knowing.RULES,
    *tuning.RULES,
    *preferring.RULES,
    *tuning.CAPABILITY_RULES,
    *keeping.RULES,
)


@dataclass(frozen=True, slots=True)
class Advice:
    """answer: to "should I fine-tune?" by any rung, before anything is measured, with those that the task's ladder leaves out.
    ladder: of a task that follows the advice: with what a STRONG rule favours, also where the task's own leaves it out. frameworks:
    () where the rules leave nothing to train.
    """

    facts: Facts
    answer: str
    path: tuple[RungAdvice, ...]
    ladder: tuple[str, ...]
    applied: tuple[AppliedRule, ...]
    frameworks: tuple[RatedFramework, ...]
    to_find_out: tuple[OpenQuestion, ...]


def advise(facts: Facts) -> Advice:
    """The rules that apply to these facts, the path that follows, and the unknown facts that would change it."""
    applied, path, frameworks = _advice(facts)
    whole, all_applied = _whole(facts)
    whole_path = recommended_path(whole, all_applied)
    answer = _answer(whole, whole_path, _anywhere(whole, all_applied))
    if left_out := [step.rung for step in whole_path if step.stance != "NOT" and step.rung not in facts.ladder]:
        answer = f"{answer} Your task's ladder leaves out {listed(left_out)}."
    answer = " ".join((answer, *_but_skipped(whole, all_applied)))
    added = [rung for rung in left_out if _strongly_favouring(rung, all_applied)]
    ladder = tuple(step.rung for step in path if step.stance != "NOT" or step.rung in added)
    return Advice(facts, answer, path, ladder, applied, frameworks, open_facts(facts))


def _but_skipped(facts: Facts, applied: Sequence[AppliedRule]) -> list[str]:
    """A sentence on each rung above prompting that a STRONG rule favours and a climb would skip."""
    skips = {
        rung: why for rung in list(RUNGS)[1:] if (why := facts.skip_of(rung)) and _strongly_favouring(rung, applied)
    }
    return [
        f"{capital(rung_in_prose(rung))} is advised, too, but a climb of this task would skip it: {stopped(why)}"
        for rung, why in skips.items()
    ]


def _whole(facts: Facts) -> tuple[Facts, tuple[AppliedRule, ...]]:
    """As if the task's ladder left nothing out: whether to fine-tune is not asked of one ladder."""
    whole = replace(facts, ladder=tuple(RUNGS))
    return whole, apply_rules(RULES, whole)


def _left_out(step: RungAdvice) -> RungAdvice:
    """A rung that the task's ladder leaves out. step: what the rules say of it in a whole ladder."""
    if step.stance == "NOT":
        return step.replaced(reasons=(f"{LEFT_OUT} {step.reasons[0]}", *step.reasons[1:]))
    worth = f"only if {step.condition}" if step.condition else "now"
    named, reasons = (
        (f" {NAME_DOCUMENTS}", step.reasons[1:]) if step.reasons[0] == NAME_DOCUMENTS else ("", step.reasons)
    )
    return _advised(step.rung, "NOT", (f"{LEFT_OUT} The rules would add it {worth}.{named}", *reasons))


def open_facts(facts: Facts) -> tuple[OpenQuestion, ...]:
    """The unknown facts that would change the advice, in the order in which to ask."""
    return open_questions(facts, _outcome)


def as_document(advice: Advice, *, task: str | None = None, notes: Sequence[str] = ()) -> AdviceDocument:
    """The advice as `--json` prints it and the terminal shows it."""
    return AdviceDocument(
        task=task,
        answer=advice.answer,
        path=advice.path,
        ladder=advice.ladder,
        rules=tuple(RuleAdvice.from_fields_of(one.rule, advice=one.advice) for one in advice.applied),
        to_find_out=tuple(
            OpenFact(
                fact=one.question.fact,
                question=one.question.text,
                choices=one.question.choices,
                decides=one.changes,
            )
            for one in advice.to_find_out
        ),
        frameworks=tuple(
            FrameworkAdvice.from_fields_of(one.framework, fit=one.fit, because=one.because) for one in advice.frameworks
        ),
        facts=_known(advice.facts),
        notes=tuple(notes),
    )


def _known(facts: Facts) -> dict[str, Fact]:
    return {name: value for name, value in asdict(facts).items() if value is not None} | {
        "skips": {rung: why for rung, why in facts.skips if rung in facts.ladder and facts.skip_of(rung) is not None}
    }


def _advice(facts: Facts) -> tuple[tuple[AppliedRule, ...], tuple[RungAdvice, ...], tuple[RatedFramework, ...]]:
    applied = apply_rules(RULES, facts)
    path = tuple(step if step.rung in facts.ladder else _left_out(step) for step in recommended_path(*_whole(facts)))
    anywhere = _anywhere(facts, applied)
    relevant = tuple(one for one in applied if one.rule.matters(anywhere))
    return relevant, path, chosen_frameworks(facts) if any(map(trains, anywhere)) else ()


def _anywhere(facts: Facts, applied: Sequence[AppliedRule]) -> tuple[str, ...]:
    """The rungs that the rules leave open, even if a climb would skip them: they may be possible elsewhere."""
    return tuple(step.rung for step in recommended_path(replace(facts, skips=()), applied) if step.stance != "NOT")


def _outcome(facts: Facts) -> AdviceOutcome:
    applied, path, frameworks = _advice(facts)
    return AdviceOutcome(
        {step.rung: step.stance for step in path},
        tuple(one.rule.name for one in applied if one.rule.strength != "WEAK"),
        tuple((one.framework.name, one.fit) for one in frameworks if one.fit != "CAN"),
    )


def _answer(facts: Facts, path: Sequence[RungAdvice], anywhere: Sequence[str]) -> str:
    """The sentence on top. anywhere: the rungs that the rules leave open, whatever a climb would skip."""
    now = [step.rung for step in path if step.stance == "DO"]
    later = [step.rung for step in path if step.stance == "ONLY_IF"]
    score, bar = facts.best_prompt_score, facts.bar
    if score is not None and bar is not None and facts.prompt_meets and not facts.for_cost:
        return f"No: your prompt is at {percent(score)} and the bar at {percent(bar)}; confirm it on held-out examples and stop."
    if not now:
        return "No rung is left. The reasons against each are below."
    trained_now = [rung for rung in now if trains(rung)]
    trained_later = [rung for rung in later if trains(rung)]
    if trained_now:
        return (
            f"Probably yes, with {listed(trained_now)}: measure the best prompt too, since only the difference counts."
        )
    skipped = [(rung, why) for rung in RUNGS if trains(rung) and (why := facts.skip_of(rung))]
    if not trained_later and any(rung in anywhere for rung, _ in skipped):
        rung, why = skipped[0]
        first = listed([*now, *later])
        return f"Not yet: {first} first. {capital(rung_in_prose(rung))} is not possible yet: {stopped(why)}"
    if not trained_later:
        return f"No: nothing here calls for training. Use {listed([*now, *later])}."
    return f"Not yet: {listed(now)} first, {trained_later[0]} only if {'it falls' if len(now) == 1 else 'they fall'} short."
