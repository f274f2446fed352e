"""What a comparison would take, in estimated tokens: no model is loaded."""

from __future__ import annotations

from lastresort.ladder.compare.names import TRAINED, Asked
from lastresort.ladder.prepare import Prepared
from lastresort.ladder.workload import workload
from lastresort.rungs.forecast import ALL_WEIGHTS, FROZEN_BASE, Forecast, answering, training
from lastresort.rungs.learning_rates import raced_beyond
from lastresort.synthesis.replay import replay_rows


def forecast_of(asked: Asked, prepared: Prepared) -> Forecast:
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
