"""A gate from top to bottom. Where the two models come from is unknown here, so a gate alone and a gate in a climb are the same.

    who is asked   the base and the tuned model, the two sides of a gate (sides.py)
    what           the suites (built_in.py, plans.py): general, sycophancy and format leak (suites/, probes/); the task's test
                   set (target.py); tasks of lm-eval (lm_eval/)
    how            a pilot shows where this base has something to lose (`run_pilot`), sample sizes follow (plans.py), items are
                   drawn (drawing.py), then both models answer, look by look, until each suite is decided (suites/asking.py)
    compared       item by item: a measure gives a pair of scores (suites/suite.py), and each measure is tested at every look
                   (scored.py)
    verdict        SHIP, HOLD or REJECT over all measures and the target (verdict/decide.py)

command.py (`lastresort gate`), in_climb.py and after/repair call it; document.py makes gate.json of the result. from_logs.py takes
what other tools logged: there the models were asked before, so only the last two lines are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lastresort.evals.evidence.sequential import LookedP, look_schedule
from lastresort.gate.document import findings_of
from lastresort.gate.drawing import draw, look_order
from lastresort.gate.lm_eval.suite import FurtherSuite, LmEvalSuite
from lastresort.gate.plans import SizeRule, SuitePlan, run_pilot, sample_size
from lastresort.gate.scored import (
    GateSettings,
    Margins,
    PlannedSuite,
    ScoredSuite,
    goes_on,
    is_decided,
    is_regressed,
    judge_suites,
    looked_p,
    measures_so_far,
)
from lastresort.gate.sides import GateSide, OpenedSides, refuse_other_rendering
from lastresort.gate.suites.asking import (
    AnswerBatches,
    KeptAnswers,
    SuiteBatch,
    SuitePart,
    SuiteReplies,
    ask_each,
    joined,
)
from lastresort.gate.suites.suite import SideName
from lastresort.gate.target import HeldOutTarget, alone
from lastresort.gate.verdict.compare import planned_power
from lastresort.gate.verdict.decide import conclude, no_target
from lastresort.gate.workers import GateWorkers
from lastresort.models.protocol import Model
from lastresort.records.gate import Fingerprints, GateFindings, GateForecast, TargetFound
from lastresort.report.words import gate as words
from lastresort.report.words.gate import GateSubject, SuiteEstimate
from lastresort.scale.crew import Crew
from lastresort.stop import NEVER, Stop
from lastresort.types import MeasureSoFar, Progress

OnLook = Callable[[tuple[MeasureSoFar, ...]], None]


def unseen(measures: tuple[MeasureSoFar, ...]) -> None:
    """Discards them."""


@dataclass(frozen=True, slots=True)
class AskedBase:
    """The base's part of a gate without looks. replies: of each planned suite, in order."""

    planned: tuple[PlannedSuite, ...]
    replies: tuple[SuiteReplies, ...]


def run_gate(
    base: GateSide,
    tuned: GateSide,
    plans: Sequence[SuitePlan],
    margins: Margins,
    *,
    settings: GateSettings,
    kept: KeptAnswers,
    training_texts: Sequence[str],
    progress: Progress,
    target: HeldOutTarget | TargetFound | None = None,
    further: Sequence[FurtherSuite] = (),
    stop: Stop = NEVER,
    on_look: OnLook = unseen,
    crew: Crew | None = None,
    together: bool = True,
) -> GateFindings:
    """Ask both models, compare them, and conclude.

    margins: by the name of a suite, as the task's `keep`. training_texts: items too similar to one of them are skipped. target: the
    task's test set to ask, or what was found on it before; None to compare only everything else. further: suites that ask by
    themselves. stop: checked before each model is opened and after every batch. on_look: gets the measures after each look. crew:
    answers for loaded models, None for this process alone. together: whether both models may be open at once, as far as memory has
    room; not where it is shared with trainings.
    Raises InputError if the two render conversations differently, StoppedError if it stopped: the same call then resumes it.
    """
    refuse_other_rendering(base, tuned)
    required = [plan for plan in plans if margins[plan.name] != "skip"]
    to_ask = None if isinstance(target, TargetFound) else target
    runner = GateRunner(
        settings,
        kept,
        training_texts,
        progress,
        to_ask,
        further=further,
        stop=stop,
        on_look=on_look,
        workers=GateWorkers.of(crew, base, tuned),
    )
    sides: dict[SideName, GateSide] = {"base": base, "tuned": tuned}
    together = together and crew is None
    # In a climb or a study, a training that changed nothing is compared like any other.
    with OpenedSides(sides, progress, stop, together=together, differ=to_ask is not None) as opened:
        planned, forecast = runner.plan(opened.model("base"), required, margins)
        scored = look_by_look(runner, opened, planned)
    power = planned_power(_count_measures(required, further))
    measures = judge_suites(plans, scored, margins, settings)
    for suite in further:
        measures += suite.judge() if isinstance(suite, LmEvalSuite) else [suite]
    conclusion = conclude(measures, _judge_target(target, settings.alpha), power=power, alpha=settings.alpha)
    spent = [suite.spent for suite in further if isinstance(suite, LmEvalSuite)]
    return findings_of(
        conclusion, scored, forecast=forecast, further=spent, fingerprints=Fingerprints(**opened.fingerprints)
    )


def look_by_look(runner: GateRunner, opened: OpenedSides, planned: Sequence[PlannedSuite]) -> tuple[ScoredSuite, ...]:
    """Both models answer what comes at a look of each suite that is not decided, until all are or one measure is REGRESSED.

    The model that answered last goes first, so that each look opens only one model if there is no room for both. The test set and
    the further suites are asked at the first look.
    """
    replies: dict[SideName, list[list[SuiteReplies]]] = {side: [[] for _ in planned] for side in ("base", "tuned")}
    scored = [ScoredSuite(suite, joined(()), joined(()), 0) for suite in planned]
    going = [number for number, suite in enumerate(planned) if suite.drawn.items]
    measures = _count_measures([suite.plan for suite in planned], runner.further)
    looked: dict[int, list[LookedP]] = {}
    look = 0
    while going or look == 0:
        first_side: SideName = opened.name or "base"
        for side in (first_side, "tuned" if first_side == "base" else "base"):
            model = opened.model(side)
            parts = runner.ask_parts(side, model, [planned[number] for number in going], look)
            for number, part in zip(going, parts, strict=True):
                replies[side][number].append(part)
            if look == 0:
                runner.ask_once(side, model, measures)
        look += 1
        for number in going:
            base, tuned = replies["base"][number], replies["tuned"][number]
            scored[number] = ScoredSuite(planned[number], joined(base), joined(tuned), look)
        looked |= {number: looked_p(scored[number]) for number in going}
        alpha = runner.settings.alpha
        has_regressed = any(is_regressed(looked[number], alpha, measures) for number in going)
        going = [
            n
            for n in going
            if not has_regressed
            and look < len(planned[n].schedule)
            and not is_decided(looked[n], alpha)
            and goes_on(scored[n], runner.settings)
        ]
        runner.on_look(
            tuple(
                measure
                for n, looked_p in looked.items()
                for measure in measures_so_far(scored[n], looked_p, alpha, measures, goes_on=n in going)
            )
        )
    return tuple(scored)


@dataclass(frozen=True, slots=True)
class GateRunner:
    """Asks one model, then the other. subject: of the forecast. workers: None for this process alone."""

    settings: GateSettings
    kept: KeptAnswers
    training_texts: Sequence[str]
    progress: Progress
    target: HeldOutTarget | None
    subject: GateSubject = "gate"
    further: Sequence[FurtherSuite] = ()
    stop: Stop = NEVER
    on_look: OnLook = unseen
    workers: GateWorkers | None = None

    def plan(
        self, model: Model, plans: Sequence[SuitePlan], margins: Margins
    ) -> tuple[tuple[PlannedSuite, ...], GateForecast]:
        """Pilots of the base, sample sizes and the forecast."""
        measures = _count_measures(plans, self.further)
        planned = tuple(self._plan(model, plan, float(margins[plan.name]), measures) for plan in plans)
        if self.target is not None:
            self.progress.stage("base: a first look at the test set", None)
            self._answer_target(self.target, "base", model, most=model.batch_size)
        return planned, self._forecast(planned)

    def ask_base(self, side: GateSide, plans: Sequence[SuitePlan], margins: Margins) -> AskedBase:
        """Without looks: all that the base is asked."""
        with OpenedSides({"base": side}, self.progress, self.stop) as opened:
            model = opened.model("base")
            planned, _ = self.plan(model, plans, margins)
            return AskedBase(planned, tuple(self.ask_parts("base", model, planned, 0)))

    def ask_tuned(self, side: GateSide, base: AskedBase) -> tuple[ScoredSuite, ...]:
        """Without looks: all that the tuned model is asked. Returns each suite with both replies."""
        with OpenedSides({"tuned": side}, self.progress, self.stop) as opened:
            model = opened.model("tuned")
            replies = self.ask_parts("tuned", model, base.planned, 0)
            return tuple(
                ScoredSuite(suite, before, after, 1)
                for suite, before, after in zip(base.planned, base.replies, replies, strict=True)
            )

    def ask_parts(self, side: SideName, model: Model, planned: Sequence[PlannedSuite], look: int) -> list[SuiteReplies]:
        """What comes at this look of each of these suites."""
        parts = [
            SuitePart(
                suite.piloted.suite, suite.part(look), self.kept.of(side, suite.plan.name), suite.stage(side, look)
            )
            for suite in planned
        ]
        return ask_each(model, parts, progress=self.progress, stop=self.stop, answered=self._batch_answers(side))

    def ask_once(self, side: SideName, model: Model, measures: int) -> None:
        """The test set, then the further suites."""
        if self.target is not None:
            self.progress.stage(f"{side}: the task's test set", self.target.n)
            self._answer_target(self.target, side, model)
        power, answered = planned_power(measures), None if self.workers is None else self.workers.documents(side)
        for suite in (one for one in self.further if isinstance(one, LmEvalSuite)):
            suite.answer(side, model, self.kept.workspace, power, self.progress, self.stop, answered)

    def _batch_answers(self, side: SideName) -> AnswerBatches[SuiteBatch] | None:
        return None if self.workers is None else self.workers.suites(side)

    def _answer_target(self, target: HeldOutTarget, side: SideName, model: Model, most: int | None = None) -> None:
        measured_by = alone if self.workers is None else self.workers.measured_by(side)
        target.answer(side, model, self.progress, most, self.stop, measured_by)

    def _plan(self, model: Model, plan: SuitePlan, margin: float, measures: int) -> PlannedSuite:
        answers, answered = self.kept.of("base", plan.name), self._batch_answers("base")
        pilot = run_pilot(model, plan, margin, answers, self.progress, self.stop, answered)
        piloted = plan.after_pilot(pilot.transcripts, margin)
        settings = self.settings
        rule = SizeRule(measures, settings.alpha, settings.quick, settings.looks)
        size = sample_size(piloted.suite, pilot.transcripts, margin, rule, pilot.item_seconds)
        drawn = draw(piloted.suite, settings.seed, size.items, self.training_texts, settings.facts)
        n, fixed = len(drawn.items), min(size.fixed, len(drawn.items))
        return PlannedSuite(
            plan,
            margin,
            piloted,
            replace(drawn, items=look_order(drawn.items, fixed)) if settings.looks else drawn,
            pilot.seconds_of(drawn.items),
            len(pilot.items),
            size.needed,
            min(size.expected, n),
            look_schedule(n, fixed) if settings.looks and n else (n,),
            fixed,
        )

    def _forecast(self, planned: Sequence[PlannedSuite]) -> GateForecast:
        """Told before the long part begins, by suite, so that a reader sees what takes its time."""
        parts = [
            SuiteEstimate(suite.plan.name, suite.expected, len(suite.drawn.items), suite.seconds) for suite in planned
        ]
        if self.target is not None:
            n = self.target.n
            parts.append(SuiteEstimate("target", n, n, n * self.target.seconds_an_item()))
        forecast = GateForecast(
            items=2 * sum(part.most for part in parts),
            seconds=2 * sum(part.seconds for part in parts),
            expected_items=2 * sum(part.expected for part in parts),
            expected_seconds=2 * sum(part.expected_seconds for part in parts),
        )
        self.progress.say(words.announced(self.subject, forecast, parts))
        for suite in planned:
            if not self.settings.quick and len(suite.drawn.items) < suite.needed:
                self.progress.say(words.too_few(suite.plan.name, len(suite.drawn.items), suite.needed))
        return forecast


def _judge_target(target: HeldOutTarget | TargetFound | None, alpha: float) -> TargetFound:
    if target is None:
        return no_target()
    return target if isinstance(target, TargetFound) else target.judge(alpha)


def _count_measures(plans: Sequence[SuitePlan], further: Sequence[FurtherSuite]) -> int:
    each = (one.measures if isinstance(one, LmEvalSuite) else int(one.verdict != "SKIPPED") for one in further)
    return max(1, sum(len(plan.pilot.measures) for plan in plans) + sum(each))
