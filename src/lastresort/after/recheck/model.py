"""Test a newer model, or a new prompt, on the frozen test set of a run, by the prompts that the run chose for its own model.

The answer (is the tuned model still needed?) follows from the verdicts on these prompts alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lastresort.after.recheck.finished import (
    FinishedRun,
    RecheckNumber,
    check_size,
    count,
    earlier_number,
    look_of,
    next_number,
)
from lastresort.after.recheck.models import Design, RecheckModels, Replacement, cost_of, designs, fitting, prompt_tokens
from lastresort.climb.bar_test import BarRule, judge_so_far
from lastresort.data.split import groups_of
from lastresort.errors import CandidateError
from lastresort.evals.evidence.paired import better
from lastresort.evals.judged import correction_in
from lastresort.ladder import trains
from lastresort.records.events.search import RungGivenUp
from lastresort.records.measurement import BarTest, ItemScore
from lastresort.report.recheck import (
    ComparedWithWinner,
    DroppedPrompt,
    RecheckFindings,
    ReplacementAsked,
    RunWinner,
    SystemTried,
    TestLook,
    Verdict,
)
from lastresort.report.words import recheck as words
from lastresort.rungs.open_models import OpenModels
from lastresort.systems.files import as_dict
from lastresort.types import Judgement, Outcome, Progress

ROUNDING = 1e-9


def compare(
    winner: Sequence[float],
    scores: Sequence[float],
    *,
    n_items: int,
    groups: Sequence[str] | None,
    binary: bool,
    confidence: float,
    seed: int,
) -> ComparedWithWinner | None:
    """Item by item: a test where both answered the whole test set, a description where one stopped.

    winner, scores: of the first items of the test set in its order. n_items: of all. groups: the label of each of all.
    None where no item was answered by both.
    """
    n = min(len(winner), len(scores))
    if not n:
        return None
    old, now = list(winner[:n]), list(scores[:n])
    if n < n_items:
        before, after = sum(old) / n, sum(now) / n
        return ComparedWithWinner(
            n=n,
            unit="item",
            whole=False,
            winner_score=before,
            score=after,
            difference=_rounded(after - before),
            confidence=confidence,
        )
    comparison = better(old, now, binary=binary, groups=groups, seed=seed, confidence=confidence)
    return ComparedWithWinner(
        n=comparison.n,
        unit="item" if groups is None else "group",
        whole=True,
        winner_score=_mean(old, groups),
        score=_mean(now, groups),
        difference=_rounded(comparison.difference),
        confidence=confidence,
        interval=comparison.interval,
        p_better=comparison.p,
        p_worse=better(now, old, binary=binary, groups=groups, seed=seed, confidence=confidence).p,
    )


def _mean(scores: Sequence[float], groups: Sequence[str] | None) -> float:
    """Of the items, or of the groups by their means."""
    if groups is None:
        return sum(scores) / len(scores)
    parts: dict[str, list[float]] = {}
    for score, group in zip(scores, groups, strict=True):
        parts.setdefault(group, []).append(score)
    return sum(sum(part) / len(part) for part in parts.values()) / len(parts)


def _rounded(difference: float) -> float:
    return 0.0 if abs(difference) < ROUNDING else difference


def overall(tried: Sequence[SystemTried]) -> tuple[Outcome, SystemTried]:
    """MET where one is, NOT_MET where all are; and the system that decides it."""
    best = max(tried, key=lambda one: one.test.score)
    met = next((prompt for prompt in tried if prompt.test.verdict == "MET"), None)
    if met is not None:
        return "MET", met
    undecided = [prompt for prompt in tried if prompt.test.verdict == "UNDECIDED"]
    if undecided:
        return "UNDECIDED", max(undecided, key=lambda one: one.test.score)
    return "NOT_MET", best


def verdict_of(outcome: Outcome, winner: RunWinner | None) -> tuple[Verdict, bool | None]:
    """With whether the answer is yes, None where it is open. A tuned model is needed as long as no prompt meets the bar; where none
    won, the question is whether what is new meets the bar.
    """
    if outcome == "UNDECIDED":
        return "CANNOT_TELL", None
    met = outcome == "MET"
    if winner is not None and trains(winner.rung):
        return ("NO_LONGER_NEEDED", False) if met else ("STILL_NEEDED", True)
    return ("MEETS_BAR", True) if met else ("BELOW_BAR", False)


@dataclass(frozen=True, slots=True)
class _Tested:
    design: Design
    items: tuple[ItemScore, ...]
    judgement: Judgement

    def ended(self, finish: str) -> int:
        """How many answers ended so."""
        return sum(item.finish == finish for item in self.items)


def recheck_model(
    finished: FinishedRun, new: Replacement, models: RecheckModels, *, quick: bool, progress: Progress
) -> RecheckFindings:
    """Judge each prompt of the run with what is new, the cheapest first, and compare it with the winner item by item.

    quick: no system answers more than its verdict needs, and the comparison is a description on what both answered; otherwise
    both answer the whole test set, the winner what it has not answered yet.
    Raises InputError where nothing is new or the test set is worn out, CandidateError where the model can try no prompt.
    """
    wanted = designs(finished, new)
    opened = models.of_run() if new.settled is None else models.of_new(new)
    try:
        fitting_designs, dropped = fitting(opened, wanted)
        if not fitting_designs:
            raise CandidateError(
                f"{new.model or finished.task.model} cannot be measured as the run was: {dropped[0].because}",
                where=str(finished.folder),
                remedy="Use another model.",
            )
        fingerprint = opened.open(fitting_designs[0].system).fingerprint
        number, look = _count(finished, new, fitting_designs, fingerprint)
        tested = _tested(finished, new, models, opened, fitting_designs, look, quick=quick, progress=progress)
    finally:
        opened.close()
    items = _winner_items(finished, models, quick=quick, progress=progress)
    tried = [_tried(finished, models, new, design, items, look) for design in tested]
    winner, (outcome, best) = _winner(finished, items), overall(tried)
    verdict, yes = verdict_of(outcome, winner)
    return RecheckFindings(
        kind="model",
        number=number.number,
        verdict=verdict,
        yes=yes,
        answer=words.model_answer(new.subject, finished.task.bar, winner, outcome, best),
        reasons=(*words.model_reasons(finished.task.bar, winner, tried), words.look_reason(look)),
        notes=tuple(_notes(finished, new, verdict, dropped, tested)),
        new=ReplacementAsked(model=new.model, prompt=new.prompt, fingerprint=fingerprint),
        look=look,
        winner=winner,
        tried=tuple(tried),
        dropped=tuple(dropped),
        knowledge=None,
    )


def _count(
    finished: FinishedRun, new: Replacement, found: Sequence[Design], fingerprint: str
) -> tuple[RecheckNumber, TestLook]:
    """Count this look before anything is answered. Raises DataError where the test set is worn out."""
    systems = [replace(design.system, fingerprint="", rendering="", precision="") for design in found]
    what = [fingerprint, *(as_dict(system) for system in systems)]
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    number = earlier_number(finished.record, key) or next_number(finished.record, looks=True)
    assert number.look is not None, "a recheck of a model is a look"
    look = look_of(number.look, len(found), finished.task.confidence)
    grouped = groups_of(finished.order) is not None
    check_size(
        look,
        finished.prepared.n_units,
        bar=finished.task.bar,
        binary=finished.prepared.scorer.binary and not grouped,
        unit="group" if grouped else "item",
    )
    count(finished.record, key, number, *new.changes)
    return number, look


def _tested(
    finished: FinishedRun,
    new: Replacement,
    models: RecheckModels,
    opened: OpenModels,
    found: Sequence[Design],
    look: TestLook,
    *,
    quick: bool,
    progress: Progress,
) -> list[_Tested]:
    """Each prompt on the test set, until one meets the bar. quick: no more items than its verdict needs."""

    by = correction_in(finished.record, finished.task.bar, finished.task.confidence)

    def judge(items: Sequence[ItemScore]) -> Judgement | None:
        rule = BarRule(finished.task.bar, finished.prepared.scorer.binary, look.each, by)
        return judge_so_far(rule, items, finished.order)

    scorer, tested = models.scorer(opened), list[_Tested]()
    for design in found:
        progress.stage(f"{new.subject}: testing {design.system.name}", len(finished.order))
        items: list[ItemScore] = []
        for batch in models.measured(opened, design.system, finished.order, scorer):
            items += batch
            if quick and len(items) < len(finished.order) and judge(items) is not None:
                break
        judgement = judge(items)
        assert judgement is not None, "a whole test, or a decided one, is judged"
        tested.append(_Tested(design, tuple(items), judgement))
        if judgement.outcome == "MET":
            break
    return tested


def _winner_items(
    finished: FinishedRun, models: RecheckModels, *, quick: bool, progress: Progress
) -> tuple[ItemScore, ...]:
    """The winner's recorded answers; and unless quick, what it answers now to the rest of the test set."""
    winner = finished.winner
    if winner is None:
        return ()
    rest = finished.order[len(winner.items) :]
    if quick or not rest:
        return winner.items
    progress.stage(f"{winner.rung}: {winner.system.name} on the rest of the test set", len(rest))
    opened = models.of_run()
    try:
        more = models.measured(opened, winner.system, rest, models.scorer(opened))
        return (*winner.items, *(item for batch in more for item in batch))
    finally:
        opened.close()


def _winner(finished: FinishedRun, items: Sequence[ItemScore]) -> RunWinner | None:
    """items: what it answered, in the run and now."""
    winner = finished.winner
    if winner is None:
        return None
    return RunWinner(
        rung=winner.rung,
        kind=winner.kind,
        name=winner.system.name,
        test=finished.winner_test,
        recorded=len(winner.items),
        answered_now=len(items) - len(winner.items),
        prompt_tokens=prompt_tokens(items),
    )


def _tried(
    finished: FinishedRun,
    models: RecheckModels,
    new: Replacement,
    tested: _Tested,
    winner: Sequence[ItemScore],
    look: TestLook,
) -> SystemTried:
    return SystemTried(
        rung=tested.design.rung,
        name=tested.design.system.name,
        test=BarTest.of(tested.judgement),
        prompt_tokens=prompt_tokens(tested.items),
        cut=tested.ended("length"),
        refused=tested.ended("refused"),
        cost=cost_of(tested.items, models.price_known(new)),
        compared=compare(
            [item.score for item in winner],
            [item.score for item in tested.items],
            n_items=len(finished.order),
            groups=groups_of(finished.order),
            binary=finished.prepared.scorer.binary,
            confidence=1 - look.each,
            seed=finished.task.split.seed,
        ),
    )


def _notes(
    finished: FinishedRun, new: Replacement, verdict: str, dropped: Sequence[DroppedPrompt], tested: Sequence[_Tested]
) -> Iterator[str]:
    """What a reader must know beyond the answer."""
    old_model = finished.task.model
    for prompt in dropped:
        yield words.untried(prompt.name, prompt.because)
    if verdict in ("STILL_NEEDED", "BELOW_BAR", "CANNOT_TELL") and new.model is not None:
        yield words.chosen_for_another(old_model, new.model)
        if finished.record.last(RungGivenUp, "retrieval") is not None:
            yield words.retrieval_untried(old_model, new.model)
    if verdict == "NO_LONGER_NEEDED" and finished.task.goal == "cost":
        yield words.cost_unweighed()
    for test in tested:
        system, cut, refused = test.design.system, test.ended("length"), test.ended("refused")
        if cut:
            yield words.of_cut_answers(cut, system.name, system.decoding.max_new_tokens)
        if refused:
            yield words.of_refused_items(refused, system.name)
