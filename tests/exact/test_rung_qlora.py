"""The rung sft on a base in 4 bits: what is measured is what was trained on, and what the winner loads."""

from __future__ import annotations

from pathlib import Path

from lastresort.records.events.training import TrainingReached
from lastresort.records.record import Record
from lastresort.records.rung_view import facts_in
from lastresort.systems.files import load_system
from lastresort.systems.running import open_answerer
from lastresort.types import Message
from tuning_support import climbed, tiny_task


def test_qlora_is_trained_measured_and_served_on_the_same_4_bit_base(tmp_path: Path) -> None:
    from lastresort.models.quantized import read_quantized_base

    path = tiny_task(tmp_path / "task", ladder=["sft"], tune={"method": "qlora"}, bar=0.1)
    found = climbed(path, tmp_path / "run")
    system = load_system(found.run / "winner")
    assert system.name.startswith("qlora-lr0.003-epoch")
    assert system.adapter is not None
    note = read_quantized_base(system.adapter)
    assert note is not None
    assert note.quantize == "nf4"
    with Record.open(found.run, read_only=True) as record:
        training, measured = record.last(TrainingReached), record.measurement("sft", system.name, "dev[0:20]")
        facts = facts_in(record, "sft", system.name)
    assert training is not None
    assert training.settings.adapter.quantize == "nf4"
    assert facts is not None
    assert facts.trained is not None
    assert (facts.weights, facts.trained.method, facts.trained.rank) == (
        "trained",
        "qlora",
        training.settings.adapter.r,
    )
    assert (facts.trained.learning_rate, facts.trained.unit) == (0.003, "epoch")
    assert measured is not None
    answerer = open_answerer(system, found.run / "winner")
    answers = answerer.answer([(Message("user", item.input),) for item in measured.items])
    assert [answer.text for answer in answers] == [item.answer for item in measured.items]
