"""The frozen test set put to a newer model, or under a new prompt, by the prompts that the run chose for its own model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lastresort.after.recheck import asking as looks
from lastresort.after.recheck.answer import RetriedPrompt, RunOutcome, answer, compare
from lastresort.after.recheck.asking import RecheckModels, RecheckNumber, cost_of, look_of, prompt_tokens
from lastresort.after.recheck.designs import Design, Replacement, designs, fitting
from lastresort.after.recheck.finished import FinishedRun, MeasuredWinner
from lastresort.climb.test import judge_so_far
from lastresort.data.split import groups_of
from lastresort.errors import CandidateError
from lastresort.evals.scorers import Scorer
from lastresort.records.events import RungGivenUp
from lastresort.records.measurement import BarTest, ItemScore
from lastresort.report.recheck import DroppedPrompt, RecheckFindings, ReplacementAsked, RunWinner, SystemTried, TestLook
from lastresort.rungs.open_models import OpenModels
from lastresort.systems.files import as_dict
from lastresort.types import Judgement, Progress


@dataclass(frozen=True, slots=True)
class _Tested:
    design: Design
    items: tuple[ItemScore, ...]
    judgement: Judgement


def recheck_model(
    finished: FinishedRun, new: Replacement, asking: RecheckModels, *, quick: bool, progress: Progress
) -> RecheckFindings:
    """Judge each prompt of the run with what is new, the cheapest first, and compare it with the winner item by item.

    quick: no system answers more than its verdict needs, and the comparison is a description on what both answered; otherwise
    both answer the whole test set (DESIGN part 9), the winner what it has not answered yet.
    Raises InputError where nothing is new or the test set is worn out, CandidateError where the model can try no prompt.
    """
    wanted = designs(finished, new)
    models = asking.models_of_run() if new.settled is None else asking.models_of_new(new)
    try:
        found, dropped = fitting(models, wanted)
        if not found:
            raise CandidateError(
                f"{new.model or finished.task.model} cannot be asked as the run asked: {dropped[0].because}",
                where=str(finished.folder),
                remedy="Take another model.",
            )
        fingerprint = models.open(found[0].system).fingerprint
        counted, look = _count(finished, new, found, fingerprint)
        tested = _tested(finished, new, asking, models, found, look, quick=quick, progress=progress)
    finally:
        models.close()
    answered = _winner_items(finished, asking, quick=quick, progress=progress)
    tried = [
        RetriedPrompt(
            one.design.rung,
            one.design.system.name,
            one.judgement,
            compare(
                [item.score for item in answered],
                [item.score for item in one.items],
                n_items=len(finished.order),
                groups=groups_of(finished.order),
                binary=finished.prepared.scorer.binary,
                confidence=1 - look.each,
                seed=finished.task.split.seed,
            ),
        )
        for one in tested
    ]
    said = answer(new.subject, finished.task.bar, _before(finished), tried)
    return RecheckFindings(
        kind="model",
        number=counted.number,
        verdict=said.verdict,
        yes=said.yes,
        answer=said.answer,
        reasons=(*said.reasons, looks.told(look)),
        notes=tuple(_notes(finished, new, said.verdict, dropped, tested)),
        new=ReplacementAsked(model=new.model, prompt=new.prompt, fingerprint=fingerprint),
        look=look,
        winner=None if finished.winner is None else _winner_entry(finished, finished.winner, answered),
        tried=tuple(_tried_entry(asking, new, one, tested[place]) for place, one in enumerate(tried)),
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
    counted = looks.numbered(finished.record, key) or looks.next_number(finished.record, looks=True)
    assert counted.look is not None, "a recheck of a model is a look"
    look = look_of(counted.look, len(found), finished.task.confidence)
    grouped = groups_of(finished.order) is not None
    looks.check_size(
        look,
        finished.prepared.n_units,
        bar=finished.task.bar,
        binary=finished.prepared.scorer.binary and not grouped,
        unit="group" if grouped else "item",
    )
    looks.note(finished.record, key, counted, new.subject)
    return counted, look


def _tested(
    finished: FinishedRun,
    new: Replacement,
    asking: RecheckModels,
    models: OpenModels,
    found: Sequence[Design],
    look: TestLook,
    *,
    quick: bool,
    progress: Progress,
) -> list[_Tested]:
    """Each prompt on the test set, until one meets the bar: a dearer one is then not wanted."""
    scorer, tested = asking.scorer(models), list[_Tested]()
    for design in found:
        progress.stage(f"{new.subject}: testing {design.system.name}", len(finished.order))
        items = _answered(finished, asking, models, scorer, design, look, quick=quick)
        judgement = _judged(finished, items, look)
        assert judgement is not None, "a whole test, or a decided one, is judged"
        tested.append(_Tested(design, tuple(items), judgement))
        if judgement.outcome == "MET":
            break
    return tested


def _answered(
    finished: FinishedRun,
    asking: RecheckModels,
    models: OpenModels,
    scorer: Scorer,
    design: Design,
    look: TestLook,
    *,
    quick: bool,
) -> list[ItemScore]:
    items: list[ItemScore] = []
    for batch in asking.answered(models, design.system, finished.order, scorer):
        items += batch
        if quick and len(items) < len(finished.order) and _judged(finished, items, look) is not None:
            break
    return items


def _judged(finished: FinishedRun, items: Sequence[ItemScore], look: TestLook) -> Judgement | None:
    return judge_so_far(finished.task, finished.prepared.scorer.binary, items, finished.order, look.each)


def _winner_items(
    finished: FinishedRun, asking: RecheckModels, *, quick: bool, progress: Progress
) -> tuple[ItemScore, ...]:
    """The winner's recorded answers; and unless quick, what it answers now to the rest of the test set."""
    winner = finished.winner
    if winner is None:
        return ()
    rest = finished.order[len(winner.items) :]
    if quick or not rest:
        return winner.items
    progress.stage(f"{winner.rung}: {winner.system.name} on the rest of the test set", len(rest))
    models = asking.models_of_run()
    try:
        more = asking.answered(models, winner.system, rest, asking.scorer(models))
        return (*winner.items, *(item for batch in more for item in batch))
    finally:
        models.close()


def _before(finished: FinishedRun) -> RunOutcome:
    winner = finished.winner
    if winner is None:
        return RunOutcome(None, "", tuned=False, shown=False)
    shown = finished.winner_test.verdict == "MET"
    return RunOutcome(winner.rung, f"{winner.rung} ({winner.system.name})", tuned=winner.tuned, shown=shown)


def _winner_entry(finished: FinishedRun, winner: MeasuredWinner, answered: Sequence[ItemScore]) -> RunWinner:
    return RunWinner(
        rung=winner.rung,
        kind=winner.kind,
        name=winner.system.name,
        test=finished.winner_test,
        recorded=len(winner.items),
        answered_now=len(answered) - len(winner.items),
        prompt_tokens=prompt_tokens(answered),
    )


def _tried_entry(asking: RecheckModels, new: Replacement, one: RetriedPrompt, tested: _Tested) -> SystemTried:
    return SystemTried(
        rung=one.rung,
        name=one.name,
        test=BarTest.of(one.judgement),
        prompt_tokens=prompt_tokens(tested.items),
        cut=sum(item.finish == "length" for item in tested.items),
        refused=sum(item.finish == "refused" for item in tested.items),
        cost=cost_of(tested.items, asking.price_known(new)),
        compared=one.compared,
    )


def _notes(
    finished: FinishedRun, new: Replacement, verdict: str, dropped: Sequence[DroppedPrompt], tested: Sequence[_Tested]
) -> list[str]:
    """What a reader must know beside the answer."""
    found = [f"{one.name} could not be tried: {one.because}" for one in dropped]
    if verdict in ("STILL_NEEDED", "BELOW_BAR", "CANNOT_TELL") and new.model is not None:
        found.append(
            f"The prompts were chosen on dev for {finished.task.model}; another may suit {new.model} better, which only a climb "
            "with it looks for."
        )
        if finished.record.last(RungGivenUp, "retrieval") is not None:
            found.append(
                f"Retrieval was not tried, since the run gave it up for {finished.task.model}; a climb with {new.model} would try."
            )
    if verdict == "NO_LONGER_NEEDED" and finished.task.goal == "cost":
        found.append("The goal of the run was cost, which is not weighed here: a climb with the new model weighs it.")
    for one in tested:
        cut, refused = (sum(item.finish == why for item in one.items) for why in ("length", "refused"))
        system = one.design.system
        if cut:
            found.append(f"{cut} answers of {system.name} were cut at {system.decoding.max_new_tokens} tokens.")
        if refused:
            found.append(f"{refused} test items were too long for {system.name} and count as wrong.")
    return found
