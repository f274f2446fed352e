"""Ways of training beside each other: each trained with several seeds, all measured on the whole test set after the verdict.

Every finished piece is noted, so that a comparison that was cut goes on. What it finds is in the decision, whose verdict was
given before and stays.

What a comparison would take, in estimated tokens: no model is loaded.
"""

from __future__ import annotations

from lastresort.after.compare.entries import ComparisonSetup, entries_of
from lastresort.after.compare.names import MADE, TRAINED, ComparisonRequest
from lastresort.after.compare.training import RUNG, WayFailed, WinnerSettings, made, settings_of, system_of, tidy, train
from lastresort.climb.budget import over_time
from lastresort.climb.prepare import PreparedTask
from lastresort.climb.test import order_of_test
from lastresort.climb.workload import workload
from lastresort.data.split import groups_of
from lastresort.hardware.memory import PeakMemory
from lastresort.ladder import trains
from lastresort.records.decision_parts import ComparedWay
from lastresort.records.events import (
    AnsweringSpent,
    TrainingSpent,
    WayMeasured,
    WaysCompared,
    WaysRefused,
    WayTrained,
    way_key,
)
from lastresort.records.ledger import Ledger, item_hash
from lastresort.records.record import Measurement
from lastresort.report.words.skips import clause
from lastresort.rungs.forecast import ALL_WEIGHTS, FROZEN_BASE, Forecast, answering, training
from lastresort.rungs.rung import Workbench
from lastresort.rungs.supervised.training import raced_beyond
from lastresort.stop import check
from lastresort.synthesis.replay import replay_rows
from lastresort.systems.system import System


def forecast_of(asked: ComparisonRequest, prepared: PreparedTask) -> Forecast:
    """All epochs, every answer as long as allowed; in 4 bits as long as otherwise."""
    task, work = prepared.task, workload(prepared, "sft")
    about = work.about_tokens
    row = about + work.input_tokens + work.output_tokens
    rows = work.n_train + replay_rows(work.n_train, task.sft.replay)
    whole = Forecast(0, 0, 0, 0.0, 0.0)
    for way in asked.names:
        if way in TRAINED:
            races = raced_beyond(len(task.full.learning_rates)) if way == "full" else 0.0
            operations = ALL_WEIGHTS if way == "full" else FROZEN_BASE
            epochs = task.sft.epochs * (asked.seeds + races)
            label, batch = f"{way}, {asked.seeds} seeds", task.sft.batch_size
            whole += training(label, work.machine, rows, epochs, row, about, batch, operations=operations)
            whole += answering(f"{way}, loss on dev", work.machine, work.n_dev * asked.seeds, row, about, 0)
        asking, prompt = work.n_test * asked.seeds, about + work.input_tokens
        whole += answering(f"{way}, test", work.machine, asking, prompt, about, work.max_new_tokens)
    return whole


def compare_ways(
    bench: Workbench, prepared: PreparedTask, asked: ComparisonRequest, winner: str | None, ledger: Ledger
) -> None:
    """Note in the record what the comparison found, or why there is none. winner: the rung that won.

    Raises StoppedError where a limit is reached: a resumed climb goes on from there.
    """
    because = _why_not(bench, prepared, asked, winner)
    if because is not None:
        bench.progress.say(f"{RUNG}: nothing is compared: {because}")
        bench.record.append(WaysRefused(names=asked.names, because=because))
        return
    settings, test = settings_of(bench), order_of_test(prepared.split.test)
    ledger.use([item_hash(example) for example in test], bench.record.run_id)
    seeds = asked.numbers(bench.task.split.seed)
    for way in sorted(asked.names, key=lambda name: name in MADE):
        for seed in seeds:
            if bench.record.last(WayMeasured, way_key(way, seed)) is None:
                _one(bench, prepared, way, seed, settings)
            tidy(bench, way, seed)
    groups = groups_of(test)
    whole = ComparisonSetup(
        asked.names,
        seeds,
        None if groups is None else tuple(groups),
        round(1 - bench.task.confidence, 12),
        settings.epoch,
        bench.task.split.seed,
    )
    ways = tuple(map(ComparedWay.model_validate, entries_of(bench.record, whole)))
    found = WaysCompared(names=asked.names, seeds=asked.seeds, ways=ways)
    if bench.record.last(WaysCompared) != found:
        bench.record.append(found)
    for entry in ways:
        bench.progress.say(f"{RUNG}: {entry.said}")


def _why_not(bench: Workbench, prepared: PreparedTask, asked: ComparisonRequest, winner: str | None) -> str | None:
    if winner is None:
        return "no system won, so that there are no settings to train with in other ways"
    if winner is not None and not trains(winner):
        return f"{winner} won, and what won was not trained"
    if winner != "sft":
        return f"the winner was trained by {winner}, and ways are compared where it was tuned by sft"
    if bench.record.last(WayMeasured) is not None:
        return None  # it has begun
    over = over_time(forecast_of(asked, prepared).seconds, bench.hours_left())
    return None if over is None else clause(over)


def _one(bench: Workbench, prepared: PreparedTask, way: str, seed: int, settings: WinnerSettings) -> None:
    """Train or make, measure, note."""
    check(bench.stop)
    trained: TrainingSpent | None = None
    failed: str | None = None
    try:
        if way in TRAINED:
            trained = _trained(bench, way, seed, settings)
        else:
            _refuse_without_source(bench, way, seed)
            made(bench, way, seed)
    except WayFailed as failure:
        bench.progress.say(f"{RUNG}: {way_key(way, seed)} drops out: {failure}")
        failed = str(failure)
    answered = None if failed else _answering(bench, prepared, way, system_of(bench, way, seed, settings))
    bench.record.append(WayMeasured(way=way, seed=seed, training=trained, answering=answered, failed=failed))


def _trained(bench: Workbench, way: str, seed: int, settings: WinnerSettings) -> TrainingSpent:
    """What training took, noted as soon as it is over: the peak of a training cannot be told afterwards."""
    key = way_key(way, seed)
    known = bench.record.last(WayTrained, key)
    if known is None:
        bench.progress.say(f"{RUNG}: training {key}")
        known = WayTrained(way=way, seed=seed, spent=train(bench, way, seed, settings))
        bench.record.append(known)
    return known.spent


def _refuse_without_source(bench: Workbench, way: str, seed: int) -> None:
    key = way_key(MADE[way], seed)
    source = bench.record.last(WayMeasured, key)
    assert source is not None, "what others are made of comes first"
    if source.failed is not None:
        raise WayFailed(f"there is no {key} to make it of")


def _answering(bench: Workbench, prepared: PreparedTask, way: str, system: System) -> AnsweringSpent:
    """Measure on all test items; returns what that took."""
    known, memory = bench.record.measurement(RUNG, system.name, "test"), None
    if known is None:
        bench.models.close()
        peak = PeakMemory()
        if way == "nf4":
            _lend_in_4_bits(bench, system)
        order = order_of_test(prepared.split.test)
        bench.progress.stage(f"{RUNG}: {system.name} on the test set", len(order))
        items = [item for batch in bench.measured(system, order, refused_is_wrong=True) for item in batch]
        memory = peak.read_bytes()
        bench.models.close()  # one that was lent answers for nobody else
        known = Measurement(RUNG, system.name, "test", len(order), tuple(items))
        bench.record.add_measurement(known)
    return AnsweringSpent(memory_bytes=memory, seconds=known.seconds, tokens=known.tokens_out)


def _lend_in_4_bits(bench: Workbench, system: System) -> None:
    """The base in NF4 below an adapter that was trained on the ordinary one."""
    from lastresort.models.local import LocalModel, load_local
    from lastresort.models.open import local_weights

    kwargs = system.template_kwargs
    weights = local_weights(system.model, bench.task.folder)
    loaded = load_local(weights, adapter=system.adapter, quantize="nf4", template_kwargs=kwargs)
    bench.models.lend(system, LocalModel(loaded, name=system.name, template_kwargs=kwargs))
