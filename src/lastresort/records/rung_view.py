"""Parts of the view of a rung, from its state."""

from __future__ import annotations

from collections.abc import Sequence

from lastresort.records.decision import (
    CandidateView,
    CeilingSystem,
    CeilingView,
    Failures,
)
from lastresort.records.decision_parts import (
    CandidateFacts,
    OptimisedPrompt,
    RepairView,
    SecondGate,
    SecondGateMeasure,
)
from lastresort.records.events import (
    CandidateMeasured,
    CeilingMeasured,
    PromptOptimised,
    RepairTried,
)
from lastresort.records.gate import ClimbGate
from lastresort.records.measurement import DEV, BarTest, DevScore, whole_of
from lastresort.records.rung_state import RungState


def repair_view(rung: RungState, tried: RepairTried) -> RepairView:
    tested = rung.repaired if rung.repaired is not None and rung.repaired.system == tried.system else None
    second = None if tested is None else rung.gates.get(tested.system)
    return RepairView(
        rung=tried.rung,
        kind=tried.repair,
        setting=tried.setting,
        system=tried.system,
        dev=tried.dev,
        measures=tried.measures,
        good=tried.good,
        findings=tried.findings,
        spent=tried.spent,
        frozen=tested is not None,
        test=None if tested is None else BarTest.of(tested.judgement),
        gate=None if second is None else _second_gate(second),
    )


def _second_gate(gate: ClimbGate) -> SecondGate:
    return SecondGate(
        verdict=gate.verdict,
        mode=gate.mode,
        seed=gate.seed,
        alpha=gate.alpha,
        artefact_sha256=gate.artefact_sha256,
        reasons=gate.reasons,
        measures=tuple(SecondGateMeasure.model_validate(suite, from_attributes=True) for suite in gate.suites),
        spent=gate.spent,
    )


def optimised_view(found: PromptOptimised) -> OptimisedPrompt:
    return OptimisedPrompt.model_validate(found, from_attributes=True)


def on_dev(rung: RungState, candidate: str | None) -> list[CandidateMeasured]:
    return [one for (name, split), one in rung.measured.items() if name == candidate and whole_of(split) == DEV]


def candidate_views(rung: RungState, chosen: str | None) -> tuple[CandidateView, ...]:
    """Those of the search, and the chosen system where it came of a repair; during a search those that were measured so far."""
    searched = () if rung.searched is None else rung.searched.candidates
    found = {
        one.name: CandidateView(name=one.name, dev=one.dev, prompt_tokens=one.prompt_tokens, facts=rung.facts(one.name))
        for one in searched
    }
    others = (name for name, split in rung.measured if whole_of(split) == DEV)
    for name in dict.fromkeys([chosen] if rung.searched is not None else others):
        if name is not None and name not in found and (stretches := on_dev(rung, name)):
            found[name] = _candidate(name, stretches, rung.facts(name))
    return tuple(found.values())


def _candidate(name: str, stretches: Sequence[CandidateMeasured], facts: CandidateFacts | None) -> CandidateView:
    n, tokens = sum(one.n for one in stretches), sum(one.tokens_in for one in stretches)
    score = stretches[0].score if len(stretches) == 1 else sum(one.score * one.n for one in stretches) / max(1, n)
    return CandidateView(
        name=name,
        dev=DevScore(score=min(1.0, score), n=n),
        prompt_tokens=round(tokens / n, 1) if n else 0.0,
        facts=facts,
    )


def failures_of(stretches: Sequence[CandidateMeasured], knowledge: frozenset[str] | None) -> Failures:
    wrong = {name for one in stretches for name in one.wrong}
    lacking = len(wrong & (knowledge or frozenset()))
    return Failures(
        format=len({name for one in stretches for name in one.ill_formed}),
        knowledge=None if knowledge is None else lacking,
        other=len(wrong) - lacking,
    )


def ceiling_view(measured: CeilingMeasured) -> CeilingView:
    return CeilingView(
        n=measured.n,
        labelled=measured.labelled,
        closed_book=measured.closed_book,
        knowledge=len(measured.knowledge),
        systems=tuple(
            CeilingSystem(name=name, verdict=found.outcome, score=found.score, interval=found.interval)
            for name, found in measured.systems.items()
        ),
    )
