"""Does a running server answer as the run measured? The run stays as it is; nothing is written into it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from shlex import quote

from lastresort.after.recheck.finished import FinishedRun, MeasuredWinner, open_finished
from lastresort.after.recheck.models import RecheckModels, cost_of
from lastresort.climb.workspace import RESPONSES, shared_folder
from lastresort.data.split import groups_of
from lastresort.errors import SAME_COMMAND, BudgetError, InputError, LastresortError, StoppedError, StopRequestedError
from lastresort.evals.scorers import Scorer
from lastresort.models.calls import RetryPolicy
from lastresort.models.endpoint import Approve, nobody_to_ask
from lastresort.models.protocol import Prompt
from lastresort.records.decision import HELD
from lastresort.records.measurement import REST, ItemScore, whole_of
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache
from lastresort.report.verify import (
    ENDS,
    AnswerMissing,
    CauseTested,
    DifferingAnswer,
    ItemsPlanned,
    ScoresCompared,
    ServerAsked,
    VerifyDocument,
    WinnerMeasured,
)
from lastresort.report.words import verify as words
from lastresort.report.words.verify import Sent
from lastresort.spec.paths import is_paid
from lastresort.stop import NEVER, Stop, check
from lastresort.systems.answerer import Answerer
from lastresort.systems.running import no_winner
from lastresort.systems.system import System
from lastresort.types import SILENT, Example, Progress, Unit
from lastresort.verify.asking import AnswersUntilDone, Experiments, MissingAnswer, Served, ServedAnswer, ask, recognised
from lastresort.verify.causes import CAUSES, FEWEST, TRIED, Case, open_measured, tested
from lastresort.verify.causes.case import in_turn, more_tokens
from lastresort.verify.causes.settings import beyond_rounding
from lastresort.verify.outcome import (
    ALPHA,
    CHANCE,
    MARGIN,
    POWER,
    SPREAD,
    ServedScores,
    ServedVerdict,
    TwoArms,
    apart,
    exchanged_p,
    judge,
    least,
    needed,
    rounding_explains,
)
from lastresort.verify.server import FIRST_PATIENCE, PATIENCE, VerifiedServer, connect

WINNER = "winner"
LEFT_OUT = ("temperature", "top_p", "seed")
LEFT_OUT_TRIED = 4


def verify(
    run: Path,
    url: str,
    *,
    model: str | None = None,
    n: int | None = None,
    task_file: Path | None = None,
    sent: Sent | None = None,
    request: Path | None = None,
    allow_held: bool = False,
    patience: RetryPolicy = PATIENCE,
    first: RetryPolicy = FIRST_PATIENCE,
    progress: Progress = SILENT,
    stop: Stop = NEVER,
    approve: Approve = nobody_to_ask,
) -> VerifyDocument:
    """Send items that the run recorded to the server, compare its answers and scores, and test what could cause a difference.

    run: of a climb with a winner. model, sent: None for what the server offers. request: a file of the parameters that its
    clients send, None for our own. n: items, None for as many as show a loss, or all. task_file: where the task file is now.
    allow_held: also of a winner that the gate holds. patience: of the calls; first: of the first. stop: checked between batches.
    approve: asks about an endpoint that only the run names, such as its judge.
    Raises InputError or DataError for what cannot be compared, InfrastructureError if the server cannot be reached.
    """
    began = time.monotonic()
    with Record.open(run, read_only=True) as record:
        progress.stage("reading the run", None)
        finished = open_finished(run, record, task_file)
        winner = the_winner(finished, allow_held=allow_held)
        items = _recorded(finished, winner)
        server = connect(
            url,
            winner.system,
            model=model,
            sent=sent,
            request=request,
            prices=_prices(finished, winner),
            patience=patience,
            first=first,
        )
        path = shared_folder(run) / RESPONSES
        models = RecheckModels(finished.prepared, record, path, progress, stop, approve)
        judges = models.of_run()
        try:
            with ResponseCache(path) as cache:
                verification = _Verification(
                    finished, winner, items, server, models.scorer(judges), cache, progress, stop
                )
                return verification.document(n, began)
        except StoppedError as error:
            raise error.going_on(SAME_COMMAND) from error
        finally:
            judges.close()
            models.close()
            server.model.close()


def the_winner(finished: FinishedRun, *, allow_held: bool) -> MeasuredWinner:
    """Raises DataError where there is none, InputError where the gate holds it."""
    if finished.winner is None:
        raise no_winner(finished.folder, finished.decision)
    decided = finished.decision.winner
    if decided is not None and decided.held and not allow_held:
        raise InputError(
            HELD,
            where=str(finished.folder),
            expected="a winner that may ship",
            remedy=f"`lastresort report {quote(str(finished.folder))}` says what would settle it. "
            "To use it as it is, add --allow-held.",
        )
    return finished.winner


def _recorded(finished: FinishedRun, winner: MeasuredWinner) -> list[tuple[Example, ItemScore]]:
    """The test items with the winner's answers: those of its test, and those that it answered later for the gate."""
    record, name = finished.record, winner.system.name
    splits = [
        measurement.split
        for measurement in record.measured(winner.rung)
        if measurement.candidate == name and whole_of(measurement.split) == REST
    ]
    later = [measured for split in splits if (measured := record.measurement(winner.rung, name, split)) is not None]
    by_id = {item.id: item for measured in later for item in measured.items} | {item.id: item for item in winner.items}
    return [(example, by_id[example.id]) for example in finished.order if example.id in by_id]


def how_many(n: int | None, enough: int, labels: Sequence[str] | None, recorded: int) -> int:
    """The items to send: as many as their user wants, to the end of a group, or as many units as are enough."""
    if labels is None:
        return min(n or enough, recorded)
    if n is None:
        first = list(dict.fromkeys(labels))[:enough]
        return sum(label in set(first) for label in labels)
    stop = min(n, recorded)
    while 0 < stop < recorded and labels[stop] == labels[stop - 1]:
        stop += 1
    return stop


@dataclass(frozen=True)
class _Verification:
    finished: FinishedRun
    winner: MeasuredWinner
    items: Sequence[tuple[Example, ItemScore]]
    server: VerifiedServer
    scorer: Scorer
    cache: ResponseCache
    progress: Progress
    stop: Stop

    def document(self, n: int | None, began: float) -> VerifyDocument:
        """n: items to send, None for as many as show a loss."""
        labels = groups_of([example for example, _ in self.items])
        binary = self.scorer.binary and labels is None
        enough = needed(binary)
        items = self.items[: how_many(n, enough, labels, len(self.items))]
        units = len(items) if labels is None else len(set(labels[: len(items)]))
        plan = words.plan(
            len(items),
            len(self.items),
            MARGIN,
            power=POWER,
            units=units,
            unit="item" if labels is None else "group",
            needed=enough,
            least=least(binary),
        )
        self.progress.say(plan)
        self.progress.stage("checking which server answers", None)
        sender = self.server.sender(self.winner.system)
        recognition = recognised(sender, self.server.model, [example for example, _ in items], self.stop)
        kept_answers = AnswersUntilDone(self.cache, f"{self.server.model.fingerprint} {recognition.salt}")
        self.progress.stage(f"{self.server.endpoint}", len(items))
        arriving = ask(sender, kept_answers, items, self.scorer, self.progress, self.stop, counts=recognition.counts)
        served = list(arriving)
        compared = self._judged(served)
        answers = [answer for answer in served if isinstance(answer, ServedAnswer)]
        experiments = Experiments(self.server.model, kept_answers)
        causes = self._causes(sender, answers, experiments, worse=compared.worse)
        notes = [*self._left_out(sender, answers, experiments), *self._counts(answers, causes)]
        kept_answers.forget()
        return self._written(served, compared, causes, notes, enough, time.monotonic() - began)

    @property
    def _price_known(self) -> bool:
        return is_paid(self.winner.system.model) and self.finished.task.price_known

    def _judged(self, served: Sequence[Served]) -> ServedVerdict:
        scores = [answer.score if isinstance(answer, ServedAnswer) else None for answer in served]
        recorded, seed = [answer.recorded.score for answer in served], self.finished.task.split.seed
        groups = groups_of([answer.example for answer in served])
        return judge(ServedScores(recorded, scores, self.scorer.binary, groups, seed))

    def _causes(
        self, sender: Answerer, answers: Sequence[ServedAnswer], experiments: Experiments, *, worse: bool
    ) -> tuple[CauseTested, ...]:
        system, temperature = self.winner.system, self.winner.system.decoding.temperature
        differing = to_explain(answers, system, worse=worse)
        if len(differing) < FEWEST:
            return ()
        self.progress.stage("looking for the cause: loading the measured model", len(CAUSES))
        # Of a winner that samples no experiment compares texts.
        local = (
            words.samples_note(temperature) if temperature > 0 else open_measured(system, self.finished.folder / WINNER)
        )
        case = Case(
            system=system,
            sent=self.server.sent,
            differing=tuple(sorted(differing, key=_change)[:TRIED]),
            sender=sender,
            composer=sender if self.server.sent == "prompt" else self.server.composer(system),
            api=experiments,
            local=local,
            answers=tuple(answers),
            stop=self.stop,
        )
        try:
            return tuple(tested(case, self.progress))
        finally:
            if not isinstance(local, str):
                local.model.close()

    def _left_out(self, sender: Answerer, answers: Sequence[ServedAnswer], experiments: Experiments) -> list[str]:
        """What a client gets that leaves the settings of decoding out."""
        system = self.winner.system
        if system.decoding.temperature > 0:
            return [words.samples_note(system.decoding.temperature)]
        tried = [answer for answer in answers if not answer.refused][:LEFT_OUT_TRIED]
        prompts = [sender.prompt(answer.example.input) for answer in tried]
        decoding, order = sender.system.decoding, Random(0)
        experiments.begin("left out")
        self.progress.stage("asking without temperature, top_p and seed", None)

        def asked(prompt: Prompt, without: Collection[str]) -> str:
            check(self.stop)
            return experiments.replies([prompt], decoding, without=without)[0].text

        def turns_of(prompt: Prompt) -> TwoArms[str]:
            return in_turn(lambda _: asked(prompt, ()), lambda _: asked(prompt, LEFT_OUT), order)

        try:
            differing = [prompt for prompt in prompts if asked(prompt, ()) != asked(prompt, LEFT_OUT)]
            turns = [turns_of(prompt) for prompt in differing]
        except (StopRequestedError, BudgetError):
            raise
        except LastresortError:
            return []
        shown = exchanged_p(turns, apart) <= CHANCE  # else the rounding of other batches explains it
        return [words.left_out_note(len(differing), len(tried))] if shown else []

    def _counts(self, answers: Sequence[ServedAnswer], causes: Sequence[CauseTested]) -> list[str]:
        """Where the server counts other prompt tokens than were measured although the texts are the same, and no cause is found."""
        counted = [more_tokens(answer, self.winner.system) for answer in answers if answer.same_text]
        known = [more for more in counted if more is not None]
        if not any(known) or any(cause.explains for cause in causes):
            return []
        return [words.counts_note([more for more in known if more], len(known))]

    def _written(
        self,
        served: Sequence[Served],
        compared: ServedVerdict,
        causes: tuple[CauseTested, ...],
        notes: Sequence[str],
        enough: int,
        seconds: float,
    ) -> VerifyDocument:
        answers = [answer for answer in served if isinstance(answer, ServedAnswer)]
        missing = [answer for answer in served if isinstance(answer, MissingAnswer)]
        tested, identical = compared.tested, sum(answer.same_text for answer in answers)
        refused = [answer for answer in answers if answer.refused]
        labels = groups_of([example for example, _ in self.items])
        unit: Unit = "item" if labels is None else "group"
        reasons = words.reasons(
            identical,
            len(answers),
            tested.difference,
            tested.interval,
            unit=unit,
            units=tested.n,
            margin=MARGIN,
            confidence=1 - 2 * ALPHA,
            is_open=tested.verdict == "UNDERPOWERED" and not compared.spoilt,
            needed=tested.n_needed,
            least=least(self.scorer.binary and labels is None),
            sent=len(served) if labels is None else len(set(labels[: len(served)])),
            available=len(self.items) if labels is None else len(set(labels)),
        )
        reasons += [words.missing_reason(len(missing), spoils=compared.spoilt)] if missing else []
        reasons += [words.refused_reason(len(refused))] if refused else []
        explaining = [cause.cause for cause in causes if cause.explains]
        tried_causes = [cause for cause in causes if cause.explains is not None]
        undecided = [cause.cause for cause in causes if cause.undecided]
        reasons += [words.causes_reason(explaining, undecided, len(tried_causes))] if causes else []
        few = 0 if causes or self.winner.system.decoding.temperature > 0 else len(_to_examine(answers))
        reasons += [words.too_few_reason(few, _answered(answers))] if few else []
        decision = self.finished.decision
        return VerifyDocument(
            run=self.finished.folder.resolve().name,
            task=decision.task,
            winner=WinnerMeasured(
                rung=self.winner.rung, kind=self.winner.kind, name=self.winner.system.name, recorded=len(self.items)
            ),
            server=ServerAsked(
                url=self.server.endpoint.url,
                model=self.server.endpoint.model,
                sent=self.server.sent,
                parameters=self.server.parameters,
            ),
            worse=compared.worse,
            answer=words.answer(
                tested.verdict,
                identical,
                len(answers),
                compared.recorded,
                compared.served,
                margin=MARGIN,
                loss_seen=tested.loss_seen,
                missing=len(missing),
                spoilt=compared.spoilt,
            ),
            reasons=tuple(reasons),
            notes=(*self.server.notes, *notes),
            planned=ItemsPlanned(n=len(served), needed=enough, power=POWER, spread=SPREAD[self.scorer.binary]),
            n=len(answers),
            identical=identical,
            refused=len(refused),
            cut=sum(answer.finish == "length" for answer in answers),
            compared=ScoresCompared.from_fields_of(
                tested,
                recorded=compared.recorded,
                served=compared.served,
                confidence=1 - 2 * ALPHA,
                margin=MARGIN,
                unit=unit,
                n_needed=tested.n_needed if tested.verdict == "UNDERPOWERED" else None,
            ),
            missing=tuple(AnswerMissing(id=answer.example.id, because=answer.because) for answer in missing),
            differing=tuple(_differing(answer) for answer in sorted(answers, key=_loss) if not answer.same_text),
            causes=causes,
            cost=cost_of([answer.answer for answer in answers], self._price_known),
            seconds=round(seconds, 3),
        )


def to_explain(answers: Sequence[ServedAnswer], system: System, *, worse: bool) -> list[ServedAnswer]:
    """The differing answers that need a cause: where rounding explains how many differ, those that show what no rounding does.

    worse: a loss is shown, which has a cause however few answers differ.
    """
    differing = _to_examine(answers)
    needs_cause = worse or system.decoding.temperature > 0
    if needs_cause or not rounding_explains(len(differing), _answered(answers)):
        return differing
    return [answer for answer in differing if beyond_rounding(answer, system)]


def _to_examine(answers: Sequence[ServedAnswer]) -> list[ServedAnswer]:
    return [answer for answer in answers if not answer.same_text and not answer.refused]


def _answered(answers: Sequence[ServedAnswer]) -> int:
    return sum(not answer.refused for answer in answers)


def _loss(served: ServedAnswer) -> float:
    """Items that lost come first; others keep their order."""
    return served.score - served.recorded.score


def _change(served: ServedAnswer) -> float:
    """Items whose score changed most come first, whichever way: what rounding changes is as likely to be examined either way."""
    return -abs(_loss(served))


def _differing(served: ServedAnswer) -> DifferingAnswer:
    return DifferingAnswer(
        id=served.example.id,
        input=served.recorded.input,
        expected=served.recorded.expected,
        recorded=served.recorded.answer,
        served=served.refused or served.answer.text,
        recorded_score=served.recorded.score,
        recorded_finish=next((end for end in ENDS if end == served.recorded.finish), "stop"),
        served_score=served.score,
        finish="refused" if served.refused else served.answer.finish,
    )


def _prices(finished: FinishedRun, winner: MeasuredWinner) -> tuple[float, float]:
    """Those of the task, where its winner is a prompt over an endpoint; what another server costs is not known."""
    use = finished.task.use
    if not is_paid(winner.system.model):
        return 0.0, 0.0
    return use.prompt_price or 0.0, use.output_price or 0.0
