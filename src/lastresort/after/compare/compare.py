"""Compare ways of training: each trained with several seeds by the winner's settings, all measured on the whole test set.

This happens after the verdict, which stays. Every finished piece is recorded, so that a comparison that was cut can be resumed.
"""

from __future__ import annotations

from dataclasses import replace

from lastresort.after.compare.results import ComparisonSetup, compared_ways
from lastresort.after.compare.training import (
    RUNG,
    WayFailed,
    WinnerSettings,
    merge,
    settings_of,
    system_of,
    tidy,
    train,
    training_names,
)
from lastresort.after.compare.ways import ComparisonRequest, Trial
from lastresort.climb.bar_test import order_of_test
from lastresort.climb.budget import over_time
from lastresort.climb.prepare import PreparedTask
from lastresort.climb.workload import workload
from lastresort.data.split import groups_of
from lastresort.hardware.memory import PeakMemory
from lastresort.ladder import COMPARED_RUNG, trains
from lastresort.records.decision_parts import ComparisonRefusal
from lastresort.records.events.after_test import (
    AnsweringSpent,
    TrainingSpent,
    WayMeasured,
    WaysChosen,
    WaysCompared,
    WaysRefused,
    WayTrained,
)
from lastresort.records.ledger import Ledger, item_hash
from lastresort.records.record import Measurement
from lastresort.report.words import candidates as words
from lastresort.rungs.forecast import ALL_WEIGHTS, FROZEN_BASE, Forecast, answering, training
from lastresort.rungs.rung import Workbench
from lastresort.rungs.supervised.rates import raced_beyond
from lastresort.rungs.supervised.replay_rows import replay_size
from lastresort.rungs.supervised.sft import forecast_of_base
from lastresort.stop import check
from lastresort.systems.system import System


def forecast_of(request: ComparisonRequest, prepared: PreparedTask) -> Forecast:
    """What it would take, in estimated tokens: all epochs, and every answer as long as allowed. No model is loaded."""
    task, work = prepared.task, workload(prepared, COMPARED_RUNG)
    machine = replace(work.machine, training_cards=1)  # time and memory of one process are compared
    about = work.about_tokens
    row = about + work.input_tokens + work.output_tokens
    replay = replay_size(work.n_train, task.sft.replay, task.sft.replay_prompts)
    rows = work.n_train + replay
    whole = Forecast(0, 0, 0, 0.0, 0.0)
    for way in request.ways:
        if way.trains:
            races = raced_beyond(len(task.full.learning_rates)) if way.trains_all_weights else 0.0
            operations = ALL_WEIGHTS if way.trains_all_weights else FROZEN_BASE
            epochs = task.sft.epochs * (request.seeds + races)
            label, batch = f"{way.name}, {request.seeds} seeds", task.sft.batch_size
            whole += training(label, machine, rows, epochs, row, about, batch, operations=operations)
            loss = task.full.replay_loss if way.trains_all_weights else task.sft.replay_loss
            whole += forecast_of_base(loss, machine, replay, epochs)
            whole += answering(f"{way.name}, loss on dev", work.machine, work.n_dev * request.seeds, row, about, 0)
        answers, prompt = work.n_test * request.seeds, about + work.input_tokens
        whole += answering(f"{way.name}, test", work.machine, answers, prompt, about, work.max_new_tokens)
    return whole


def compare_ways(
    bench: Workbench, prepared: PreparedTask, request: ComparisonRequest, winner: str | None, ledger: Ledger
) -> None:
    """Record what the comparison found, or why there is none. winner: the rung that won.

    All of them train in this process, whatever the task says: its time and memory are compared. Raises StoppedError where a limit
    is reached: a resumed climb goes on from there.
    """
    task = bench.task
    bench = replace(bench, task=task.model_copy(update={"tune": task.tune.model_copy(update={"processes": 1})}))
    because = _why_not(bench, prepared, request, winner)
    if because is not None:
        bench.progress.say(words.refused_line(because))
        bench.record.append(WaysRefused(names=request.names, because=because))
        return
    settings, test = settings_of(bench), order_of_test(prepared.split.test)
    ledger.use([item_hash(example) for example in test], bench.record.run_id)
    seeds = request.seed_numbers(bench.task.split.seed)
    for way in sorted(request.ways, key=lambda way: not way.trains):
        for trial in (Trial(way, seed) for seed in seeds):
            if bench.record.last(WayMeasured, trial.key) is None:
                _run(bench, prepared, trial, settings)
            tidy(bench, trial, settings)
    groups = groups_of(test)
    setup = ComparisonSetup(
        ways=request.ways,
        seeds=seeds,
        groups=None if groups is None else tuple(groups),
        alpha=round(1 - bench.task.confidence, 12),
        epoch=settings.stop,
        unit=settings.unit,
        seed=bench.task.split.seed,
        trainings={trial: training_names(bench, trial, settings) for trial in _trials_so_far(bench, request)},
    )
    compared = WaysCompared(names=request.names, seeds=request.seeds, ways=compared_ways(bench.record, setup))
    if bench.record.last(WaysCompared) != compared:
        bench.record.append(compared)
    for way_found in compared.ways:
        bench.progress.say(words.found_line(way_found.said))


def _trials_so_far(bench: Workbench, request: ComparisonRequest) -> list[Trial]:
    """Of the requested ways, with every seed that was ever requested of the run: their cost counts."""
    most = max(chosen.seeds for chosen in bench.record.all(WaysChosen))
    seeds = ComparisonRequest(request.names, most).seed_numbers(bench.task.split.seed)
    return [Trial(way, seed) for way in request.ways for seed in seeds]


def _why_not(
    bench: Workbench, prepared: PreparedTask, request: ComparisonRequest, winner: str | None
) -> ComparisonRefusal | None:
    if winner is None:
        return ComparisonRefusal(code="NO_WINNER")
    if not trains(winner):
        return ComparisonRefusal(code="TRAINS_NOTHING", winner=winner)
    if winner != COMPARED_RUNG:
        return ComparisonRefusal(code="OTHER_RUNG", winner=winner)
    if bench.record.last(WayMeasured) is not None:
        return None  # it has started
    if settings_of(bench).scale != 1:
        return ComparisonRefusal(code="SCALED", winner=winner)
    over = over_time(forecast_of(request, prepared).seconds, bench.hours_left())
    if over is None:
        return None
    return ComparisonRefusal(code="OVER_TIME", winner=winner, planned_s=over.planned_s, hours_left=over.hours_left)


def _run(bench: Workbench, prepared: PreparedTask, trial: Trial, settings: WinnerSettings) -> None:
    """Train or make, measure, record."""
    check(bench.stop)
    trained: TrainingSpent | None = None
    answered: AnsweringSpent | None = None
    failed: str | None = None
    try:
        if trial.way.trains:
            trained = _trained(bench, trial, settings)
        else:
            _make(bench, trial)
        answered = _measure(bench, prepared, trial, system_of(bench, trial, settings))
    except WayFailed as failure:
        bench.progress.say(words.dropped_line(trial.key, str(failure)))
        failed = str(failure)
    bench.record.append(
        WayMeasured(way=trial.way.name, seed=trial.seed, training=trained, answering=answered, failed=failed)
    )


def _trained(bench: Workbench, trial: Trial, settings: WinnerSettings) -> TrainingSpent:
    """What training took, recorded as soon as it is over: its peak memory cannot be measured later."""
    known = bench.record.last(WayTrained, trial.key)
    if known is None:
        bench.progress.say(words.training_line(trial.key))
        known = WayTrained(way=trial.way.name, seed=trial.seed, spent=train(bench, trial, settings))
        bench.record.append(known)
    return known.spent


def _make(bench: Workbench, trial: Trial) -> None:
    """Raises WayFailed where its source failed, or the result answers differently."""
    source = bench.record.last(WayMeasured, trial.source.key)
    assert source is not None, "what others are made of comes first"
    if source.failed is not None:
        raise WayFailed(f"there is no {source.key} to make it from")
    if trial.way.whole_model:
        merge(bench, trial)


def _measure(bench: Workbench, prepared: PreparedTask, trial: Trial, system: System) -> AnsweringSpent:
    """Answer all test items; returns what that took."""
    known, memory = bench.record.measurement(RUNG, system.name, "test"), None
    if known is None:
        bench.models.close()
        peak = PeakMemory()
        if trial.way.four_bits and not trial.way.trains:
            _lend_in_4_bits(bench, system)
        order = order_of_test(prepared.split.test)
        items = bench.test_scores(system, order, f"{RUNG}: {system.name} on the test set")
        memory = peak.read_bytes()
        bench.models.close()  # one that was lent answers for nobody else
        known = Measurement(RUNG, system.name, "test", len(order), tuple(items))
        bench.record.add_measurement(known)
    return AnsweringSpent(memory_bytes=memory, seconds=known.seconds, tokens=known.tokens_out)


def _lend_in_4_bits(bench: Workbench, system: System) -> None:
    """The base in NF4 below an adapter that was trained on the ordinary one. A System cannot say this, so the model is opened here
    and answers in this process.
    """
    from lastresort.models.loading import load_local, round_adapter
    from lastresort.models.local import LocalModel
    from lastresort.models.open import local_weights

    kwargs = system.template_kwargs
    weights = local_weights(system.model, bench.task.folder)
    loaded = round_adapter(load_local(weights, adapter=system.adapter, quantize="nf4", template_kwargs=kwargs))
    bench.models.lend(system, LocalModel(loaded, name=system.name, template_kwargs=kwargs))
