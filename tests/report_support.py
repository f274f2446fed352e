"""Sample runs for the tests of the report: records and decisions as a climb writes them, with invented numbers.

Every sample is drawn from a seed, so that the same name gives the same run.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from climb_support import statement
from cost_support import COSTS
from lastresort.ladder import RUNGS
from lastresort.records.data_report import DataReport, Finding, Place
from lastresort.records.decision import VERSION, RunView
from lastresort.records.document import Statement
from lastresort.records.events.run import ClimbDecided, ClimbFinished, DataChecked, FilesRead, TaskRead
from lastresort.records.events.search import RungSearched, RungSkipped, RungTested, SearchedCandidate, SystemFrozen
from lastresort.records.events.training import LapTrained, TrainingReached
from lastresort.records.ledger import ItemReuse
from lastresort.records.record import ItemScore, Measurement, Record
from lastresort.records.training import RecordedSettings
from lastresort.report.decision import write_decision
from lastresort.report.words.data import of_reuse
from lastresort.train.settings import TrainSettings
from lastresort.types import Judgement, MoreUnits, Outlook, Selection, VerdictBasis

FAR_NEEDED = 1240  # by the sample "undecided"
FAR = Outlook(150 / FAR_NEEDED, (MoreUnits(150, 0.31, 0.0004), MoreUnits(1090, 0.72, 0.04)), 0.74196, 0.0083)
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> \x00\u202e {{ 7 * 7 }} "team": "billing"'
LADDER = ["prompting", "retrieval", "sft", "preference", "full"]
TEAMS = ("billing", "shipping", "returns", "accounts", "technical")
OPENINGS = (
    "I was charged twice for order {n} and nobody answers my mail.",
    "My parcel {n} has been “in transit” for nine days now. Where is it?",
    "The app closes as soon as I open invoice {n}.",
    "Bitte schicken Sie mir ein Rücksendeetikett für Bestellung {n} 📦.",
    "パスワードを忘れました。注文番号は {n} です。",
)


@dataclass(frozen=True)
class Tried:
    """A candidate: its share right on dev, and how many dev items it saw."""

    name: str
    right: float
    n: int = 100
    prompt_tokens: int = 200
    ill_formed: float = 0.0


@dataclass(frozen=True)
class RungMade:
    """A rung of a sample: what was tried, the chosen one, and its test; or why it was skipped."""

    name: str
    tried: tuple[Tried, ...] = ()
    chosen: str | None = None
    verdict: str = "NOT_MET"
    score: float = 0.0
    n_used: int = 0
    n_needed: int | None = None
    skipped: str | None = None
    rates: tuple[float, ...] = ()
    usd: float = 0.0
    by: str = "sequence"


@dataclass(frozen=True)
class Sample:
    """A whole run. answer_of: what a wrong answer looks like, from the right one and whether it lacks the form."""

    task: str
    about: str
    bar: float
    verdict: str
    answer: str
    rungs: tuple[RungMade, ...]
    reasons: tuple[str, ...]
    would_change: tuple[str, ...] = ("A bar above 75%: the evidence does not show that it would still be met.",)
    n_test: int = 300
    unit: str = "item"
    provisional: bool = False
    stopped_at: str | None = None
    winner: str = "none"
    model: str = "embedded"
    judge: dict[str, Any] | None = None
    retrieval: dict[str, Any] | None = None
    break_even: dict[str, Any] | None = None
    wrong: Callable[[str, bool, random.Random], str] = field(default=lambda right, ill, rng: _wrong(right, ill, rng))


def stated(text: str) -> dict[str, Any]:
    """A statement of a decision from its line, which begins with the rung that it is about."""
    rung, colon, rest = text.partition(": ")
    about = bool(colon) and rung in RUNGS
    found = Statement(code="of_a_sample", rung=rung if about else None, figures={}, text=rest if about else text)
    return found.as_json()


def make(folder: Path, name: str, seed: int = 0) -> Path:
    """Write record.sqlite and decision.json of the sample into `folder`."""
    sample, rng = SAMPLES[name], random.Random(f"{name}:{seed}")
    with Record.create(folder) as record:
        task = {"path": f"{sample.task}.yaml", "task": sample.task, "about": sample.about, "model": sample.model}
        record.append(TaskRead(task={**task, "ladder": LADDER, "bar": sample.bar, "on_undecided": "lead"}))
        record.append(FilesRead(files={"tickets.jsonl": "9f" * 32}))
        record.append(DataChecked(report=DATA))
        entries = [_rung(record, sample, rung, rng) for rung in sample.rungs]
        decision = _decision(sample, entries)
        record.append(ClimbDecided(decision=RunView.model_validate(decision)))
        record.append(ClimbFinished())
    write_decision(folder, RunView.model_validate(decision))
    return folder


DATA = DataReport(
    ok=True,
    counts={"train": 500, "dev": 100, "test": 300},
    labels={
        label: {"train": n - 40, "dev": 10, "test": 30}
        for label, n in {"billing": 214, "shipping": 190, "returns": 178, "accounts": 163, "technical": 155}.items()
    },
    tokens={},
    findings=(
        Finding(
            kind="near_duplicates",
            severity="note",
            says="1 pair of inputs in one split is nearly the same",
            count=1,
            places=(
                (
                    Place(side="train", id="t112", row=112, source="tickets.jsonl"),
                    Place(side="train", id="t640", row=640, source="tickets.jsonl"),
                ),
            ),
        ),
    ),
)


def remade(decision: RunView, **keys: Any) -> RunView:
    """The decision with other values under these keys, written as in decision.json."""
    return RunView.model_validate(decision.as_json() | keys)


def _rung(record: Record, sample: Sample, rung: RungMade, rng: random.Random) -> dict[str, Any]:
    if rung.skipped:
        record.append(RungSkipped(rung=rung.name, reason=statement(rung.skipped)))
    candidates = []
    for rate in rung.rates:
        _train(record, rate, rung.rates, rng)
    for tried in rung.tried:
        dev = _measured(sample, rung, tried, tried.n, "dev", rng)
        for start, stop in ((0, 35), (35, tried.n)):
            if start < tried.n:
                part = dev[start : min(stop, tried.n)]
                record.add_measurement(Measurement(rung.name, tried.name, f"dev[{start}:{stop}]", len(part), part))
        score = sum(item.score for item in dev) / tried.n
        entry = {"name": tried.name, "dev": {"score": score, "n": tried.n}, "prompt_tokens": tried.prompt_tokens}
        candidates.append({**entry, "seconds": sum(item.seconds for item in dev)})
    test = None
    if rung.chosen:
        tested = Tried(rung.chosen, rung.score)
        items = _measured(sample, rung, tested, rung.n_used, "test", rng, exact=True)
        record.add_measurement(Measurement(rung.name, rung.chosen, "test", sample.n_test, items))
        score = sum(item.score for item in items) / len(items)
        low, high = _limits(score, len(items))
        test = {
            "verdict": rung.verdict,
            "score": score,
            "n_used": rung.n_used,
            "n_available": sample.n_test,
            "unit": sample.unit,
            "interval": [low, high],
            "decided": _decided(rung, sample.bar, low, high),
            "n_needed": rung.n_needed,
            "outlook": asdict(FAR) if rung.n_needed == FAR_NEEDED else None,
        }
        best = max(c["dev"]["score"] for c in candidates)
        search = RungSearched(
            rung=rung.name,
            candidates=tuple(SearchedCandidate(**candidate) for candidate in candidates),
            chosen=rung.chosen,
            why=Selection(rung.chosen or "", "HIGHEST", 0.9, 100),
            findings=(statement(f"{len(candidates)} candidates were compared by successive halving on dev."),),
            bias_corrected=max(0.0, best - 0.012) if len(candidates) > 1 else None,
        )
        record.append(search)
        record.append(SystemFrozen(rung=rung.name, name=rung.chosen, sha256=""))
        record.append(RungTested(rung=rung.name, system=rung.chosen, judgement=_judgement(test)))
    return {
        "name": rung.name,
        "applies": rung.skipped is None,
        "skipped_because": None if rung.skipped is None else statement(rung.skipped).as_json(),
        "candidates": [{key: c[key] for key in ("name", "dev", "prompt_tokens")} for c in candidates],
        "chosen": rung.chosen,
        "test": test,
        "gate": None,
        "failures": _failures(record, rung),
        "cost": _cost(record, rung),
        "early_warnings": [],
    }


def _measured(
    sample: Sample, rung: RungMade, tried: Tried, n: int, split: str, rng: random.Random, exact: bool = False
) -> tuple[ItemScore, ...]:
    rights = [number < round(tried.right * n) for number in range(n)]
    rng.shuffle(rights)
    items = []
    for number, right in enumerate(rights):
        team, order = rng.choice(TEAMS), rng.randint(10_000, 99_999)
        expected = json.dumps(
            {"team": team, "urgent": rng.random() < 0.3, "order": str(order), "tags": [team, "web"]}, ensure_ascii=False
        )
        ill = not right and rng.random() < tried.ill_formed
        items.append(
            ItemScore(
                id=f"{split}-{number + 1}",
                score=float(right),
                answer=expected if right else sample.wrong(expected, ill, rng),
                expected=expected,
                input=rng.choice(OPENINGS).format(n=order),
                finish="length" if ill and rng.random() < 0.3 else "stop",
                format_ok=not ill,
                prompt_tokens=tried.prompt_tokens + rng.randint(-9, 9),
                completion_tokens=rng.randint(18, 34),
                seconds=rng.uniform(0.15, 0.4),
                usd=rung.usd,
            )
        )
    return tuple(items)


def _wrong(right: str, ill: bool, rng: random.Random) -> str:
    body = json.loads(right)
    if ill:
        return rng.choice((f"Sure! The team is {body['team']}.", right[: len(right) // 2], f"team: {body['team']}", ""))
    change = rng.choice(("team", "urgent", "order"))
    body[change] = {"team": rng.choice(TEAMS) + "-team", "urgent": not body["urgent"], "order": body["order"][::-1]}[
        change
    ]
    return json.dumps(body, ensure_ascii=False)


def _train(record: Record, rate: float, rates: Sequence[float], rng: random.Random) -> None:
    name, best = f"lr{rate:g}", sorted(rates)[len(rates) // 2]
    steps = 102 if rate == best else 34 if rate > best else 17
    floor, speed = (0.16, 14) if rate == best else (0.42, 9) if rate > best else (0.7, 40)
    for step in range(1, steps + 1):
        loss = floor + 2.1 * math.exp(-step / speed) + abs(rng.gauss(0, 0.06))
        record.add_curve_point(name, step, {"loss": loss, "grad_norm": 1.0, "learning_rate": rate})
        if step in (17, 34, 68, 102):
            dev = floor + 2.1 * math.exp(-step / speed) + 0.08
            record.add_curve_point(name, step, {"dev_loss": dev})
            record.append(LapTrained(rung="sft", name=f"{rate:g}@{step}", rate=rate, step=step, dev_loss=dev))
    record.append(training_reached("sft", name, rate=rate, steps=steps, seconds=steps * 1.9))


def training_reached(
    rung: str, name: str, *, rate: float = 0.001, steps: int = 3, seconds: float = 1.0
) -> TrainingReached:
    return TrainingReached(
        rung=rung,
        candidate=name,
        rows=545,
        replay_rows=50,
        step=steps,
        steps=102,
        computed_tokens=steps * 1_140,
        nominal_tokens=steps * 4_960,
        seconds=seconds,
        path="packed",
        reason=None,
        check=None,
        processes=1,
        sharded=False,
        settings=RecordedSettings.model_validate(asdict(TrainSettings(rate, epochs=3))),
    )


def _judgement(test: dict[str, Any]) -> Judgement:
    rest = {key: test[key] for key in ("score", "n_used", "n_available", "n_needed", "unit")}
    decided = None if test["decided"] is None else VerdictBasis(**test["decided"])
    far = None if test["outlook"] is None else FAR
    return Judgement(test["verdict"], interval=tuple(test["interval"]), decided=decided, outlook=far, **rest)


def _limits(score: float, n: int) -> tuple[float, float]:
    """Some interval of a believable width (Wilson, z = 3)."""
    z = 3.0
    middle = (score + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(score * (1 - score) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _decided(rung: RungMade, bar: float, low: float, high: float) -> dict[str, Any] | None:
    """By the exact test a little beyond the bar, wherever the interval lies; by the sequence at the interval's own limit."""
    if rung.verdict == "UNDECIDED":
        return None
    met = rung.verdict == "MET"
    if rung.by == "exact":
        return {"by": "exact", "error": 0.04, "limit": bar + (0.004 if met else -0.004)}
    return {"by": "sequence", "error": 0.01, "limit": max(bar, low) if met else min(bar, high)}


def _failures(record: Record, rung: RungMade) -> dict[str, int | None]:
    items = [
        item
        for m in record.measurements()
        if (m.rung, m.candidate) == (rung.name, rung.chosen) and m.split.startswith("dev")
        for item in m.items
        if item.score < 1
    ]
    ill = sum(item.format_ok is False for item in items)
    return {"format": ill, "knowledge": None, "other": len(items) - ill}


def _cost(record: Record, rung: RungMade) -> dict[str, Any]:
    done = [m for m in record.measurements() if m.rung == rung.name]
    training = sum(one.seconds for one in record.all(TrainingReached)) if rung.rates else 0.0
    return {
        "tokens_in": sum(m.tokens_in for m in done),
        "tokens_out": sum(m.tokens_out for m in done),
        "seconds": round(sum(m.seconds for m in done) + training, 3),
        "usd": sum(m.usd for m in done),
    }


def _decision(sample: Sample, entries: list[dict[str, Any]]) -> dict[str, Any]:
    won = sample.winner != "none"
    return {
        "schema": VERSION,
        "task": sample.task,
        "goal": "quality",
        "model": sample.model,
        "bar": sample.bar,
        "confidence": 0.95,
        "r": 6,
        "alpha_per_rung": 0.05 / 6,
        "verdict": sample.verdict,
        "meets_bar": sample.verdict == "MET",
        "provisional": sample.provisional,
        "stopped_at": sample.stopped_at,
        "answer": sample.answer,
        "answer_code": "of_a_test",
        "answer_figures": {},
        "reasons": [stated(reason) for reason in sample.reasons],
        "would_change": [stated(change) for change in sample.would_change],
        "judge": sample.judge,
        "retrieval": sample.retrieval,
        "test_reuse": of_reuse(ItemReuse(sample.n_test, 0, 0)).as_json(),
        "rungs": entries,
        "gate": None,
        "first_gate": None,
        "repairs": [],
        "compare": [],
        "break_even": sample.break_even,
        "winner": {
            "kind": sample.winner,
            "path": "winner" if won else None,
            "held": False,
            "sha256": "c0ffee" + "0" * 58 if won else None,
        },
        "provenance": {
            "versions": {"lastresort": "0.1.0", "python": "3.11.9", "torch": "2.9.0", "transformers": "5.1.0"},
            "seeds": {"split": 0, "training": 0, "decoding": 0},
            "hashes": {"tickets.jsonl": "9f" * 32, "model": "1a" * 32},
            "machine": {"system": "Linux x86_64", "cores": 2, "memory_bytes": 16_000_000_000},
        },
    }


COMPARED = {
    "model": "openai:some-judge",
    "asks": "comparison",
    "criterion": "the house style: short sentences, no jargon",
    "scale": None,
    "self_preference": True,
    "answers": 260,
    "verdicts": {"won": 160, "lost": 20, "tied": 24, "changed": 36, "same_text": 20},
    "order": {"n": 240, "changed": 0.15, "interval": [0.11, 0.2], "to_first": 25, "to_second": 3, "ties": 0.1},
    "asked": 480,
    "unparsed": 4,
    "agreement": {
        "n": 60,
        "share": 0.85,
        "interval": [0.739, 0.919],
        "kappa": 0.71,
        "kappa_interval": [0.5, 0.84],
        "weights": "none",
    },
    "correction": {
        "n": 60,
        "sensitivity": None,
        "specificity": None,
        "off": 0.03,
        "off_interval": [-0.04, 0.1],
        "met_above": 0.95,
        "not_met_below": 0.81,
        "error": 0.025,
    },
    "cost": {"tokens_in": 212_345, "tokens_out": 960, "seconds": 190.0, "usd": 1.25},
}
GRADED = {
    **COMPARED,
    "model": HOSTILE,
    "asks": "grading",
    "criterion": HOSTILE,
    "scale": "1-5",
    "verdicts": {"1": 10, "2": 20, "3": 30, "4": 100, "5": 100},
    "order": None,
    "agreement": None,
    "correction": None,
    "cost": {**COMPARED["cost"], "usd": None},
}

RETRIEVED = {
    "store": {
        "documents": 40,
        "chunks": 520,
        "embedder": "embedded",
        "seconds": 11.9,
        "disk_bytes": 2_400_000,
        "vector_bytes": 798_720,
    },
    "searches": [
        {
            "mode": mode,
            "reranked": False,
            "questions": 100,
            "recall": {"1": first, "3": 1.0},
            "ndcg": {"1": first, "3": 0.95},
            "mrr": 0.93,
        }
        for mode, first in (("hybrid", 0.88), ("vector", 0.93))
    ],
    "ceiling": {
        "n": 100,
        "labelled": 100,
        "closed_book": 0.0,
        "knowledge": 71,
        "systems": [{"name": HOSTILE, "verdict": "UNDECIDED", "score": 0.71, "interval": [0.57, 0.82]}],
    },
}

PROMPTS = (
    Tried("zero-shot", 0.02, 35, 96, ill_formed=0.9),
    Tried("structured", 0.06, 35, 118, ill_formed=0.8),
    Tried("zero-shot+constrained", 0.09, 35, 96),
    Tried("few-shot-3", 0.46, 100, 262, ill_formed=0.3),
    Tried("few-shot-5", 0.52, 100, 371, ill_formed=0.2),
    Tried("nearest-5", 0.61, 100, 377, ill_formed=0.12),
    Tried("nearest-5+constrained", 0.63, 100, 377),
    Tried("chain-of-thought", 0.03, 35, 110, ill_formed=0.7),
)
NO_KNOWLEDGE = "the task names no knowledge to retrieve from"
TICKETS = "Turn a support ticket into JSON with team, urgent, order and tags."

SAMPLES = {
    "sft-met": Sample(
        "ticket-routing",
        TICKETS,
        0.85,
        "MET",
        "Yes: SFT reaches 93.3% against a bar of 85%.",
        (
            RungMade("prompting", PROMPTS, "nearest-5+constrained", "NOT_MET", 0.619, 42),
            RungMade("retrieval", skipped=NO_KNOWLEDGE),
            RungMade(
                "sft",
                (
                    Tried("lora-lr0.0003-epoch2", 0.88, 100, 71, ill_formed=0.2),
                    Tried("lora-lr0.0003-epoch3", 0.92, 100, 71, ill_formed=0.25),
                    Tried("lora-lr0.0003-epoch3+constrained", 0.92, 100, 71),
                ),
                "lora-lr0.0003-epoch3",
                "MET",
                0.9333,
                180,
                rates=(1e-4, 3e-4, 1e-3),
            ),
        ),
        (
            "prompting: nearest-5+constrained scored 61.9% on 42 of 300 test items "
            "(interval 39.3% to 80.3%) and misses the bar of 85%.",
            "retrieval: skipped: the task names no knowledge to retrieve from.",
            "sft: lora-lr0.0003-epoch3 scored 93.3% on 180 of 300 test items (interval 85.4% to 97.1%) and meets the bar of 85%.",
            "SFT meets the bar, and every higher rung costs more.",
            "On the 42 test items that both answered, sft scored 92.9% and prompting 61.9%. This is descriptive only.",
            "No gate was run: what else tuning changed was not measured.",
        ),
        stopped_at="sft",
        winner="adapter",
    ),
    "prompting-met": Sample(
        "json-only",
        "Write the order as JSON.",
        0.9,
        "MET",
        "No: prompting reaches 98.3% against a bar of 90%, so there is little left for tuning to gain.",
        (
            RungMade(
                "prompting",
                (Tried("zero-shot", 0.0, 35, 60, ill_formed=1.0), Tried("zero-shot+constrained", 0.98, 100, 60)),
                "zero-shot+constrained",
                "MET",
                0.983,
                118,
                usd=0.0021,
            ),
        ),
        ("prompting: zero-shot+constrained scored 98.3% on 118 of 300 test items and meets the bar of 90%.",),
        stopped_at="prompting",
        winner="prompt",
        model="openai:some-model",
    ),
    "undecided": Sample(
        "claims-triage",
        "Decide who handles an insurance claim.",
        0.8,
        "UNDECIDED",
        "Provisionally no: prompting scored 83.3% against a bar of 80%, on too few test items to be sure.",
        (RungMade("prompting", PROMPTS[3:7], "nearest-5+constrained", "UNDECIDED", 0.8333, 150, 1240),),
        ("Prompting is undecided with its score at or above the bar, so the climb stops here for now.",),
        n_test=150,
        provisional=True,
        stopped_at="prompting",
        winner="prompt",
    ),
    "grouped": Sample(
        "visits",
        "Say what the patient needs.",
        0.8,
        "NOT_MET",
        "Not as it is: no rung reaches the bar of 80%. The best, prompting, scored 72%.",
        (RungMade("prompting", PROMPTS[3:6], "nearest-5", "NOT_MET", 0.72, 100, by="exact"),),
        ("prompting: nearest-5 scored 72% on 100 of 100 test groups and misses the bar of 80%.",),
        n_test=100,
        unit="group",
    ),
    "none-met": Sample(
        "contract-clauses",
        "Name the clause. Ein Vertrag, 条項, مادة.",
        0.95,
        "NOT_MET",
        "Not as it is: no rung reaches the bar of 95%. The best, SFT, scored 78%.",
        (
            RungMade("prompting", PROMPTS, "nearest-5", "NOT_MET", 0.55, 40),
            RungMade("retrieval", skipped=NO_KNOWLEDGE),
            RungMade(
                "sft",
                (Tried("lora-lr0.0003-epoch3", 0.79, 100, 71, ill_formed=0.1),),
                "lora-lr0.0003-epoch3",
                "NOT_MET",
                0.78,
                50,
                rates=(3e-4,),
            ),
            RungMade("preference", skipped="the task names neither preferences nor a reward"),
            RungMade("full", skipped="the plan wants 31 GiB of memory, and this machine has 16"),
        ),
        ("No rung is left.",),
    ),
    "hostile": Sample(
        "hostile",
        HOSTILE,
        0.9,
        "NOT_MET",
        f"Not decided: {HOSTILE}",
        (RungMade("prompting", (Tried(HOSTILE, 0.3, 100, 50, ill_formed=0.5),), HOSTILE, "NOT_MET", 0.3, 40),),
        (HOSTILE,),
        judge=GRADED,
        wrong=lambda right, ill, rng: HOSTILE if ill else json.dumps({**json.loads(right), "team": HOSTILE}),
    ),
}
SAMPLES["retrieved"] = replace(SAMPLES["prompting-met"], retrieval=RETRIEVED)
SAMPLES["judged"] = replace(SAMPLES["prompting-met"], judge=COMPARED)
SAMPLES["costed"] = replace(SAMPLES["sft-met"], break_even=COSTS)
