"""Continued pretraining: the base learns the task's documents as plain text, before it learns to answer."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastresort.errors import DataError
from lastresort.records.events import TextLearned, TrainingFacts
from lastresort.rungs.rung import Workbench
from lastresort.rungs.supervised.methods import WholeMethod
from lastresort.rungs.supervised.replay_rows import replay_of, replay_size
from lastresort.rungs.tuning import TuningRun, early_warnings, record_training, train_to
from lastresort.spec.sections import FullSettings
from lastresort.systems.system import PromptDesign

ROW_TOKENS, BATCH = 512, 4
LEAST_STEPS = 100  # a few large steps do not learn a short text by heart, however often they read it
NAME = "text"


@dataclass(frozen=True, slots=True)
class PretrainedModel:
    """folder: the model. summary: what was learned, in words."""

    folder: Path
    summary: str


def pretrained(bench: Workbench, rung: str, section: FullSettings) -> PretrainedModel:
    """The base after the task's knowledge, once a run. Raises DataError where it diverges or the documents cannot be read."""
    folder = bench.folder / "models" / "pretrained"
    noted = bench.record.last(TextLearned, rung)
    if noted is None or not WholeMethod().saved(folder):
        told = _train(bench, rung, section, folder)
        if noted is None:
            bench.record.append(TextLearned(rung=rung, learned=told))
        shutil.rmtree(bench.folder / "checkpoints" / NAME, ignore_errors=True)
    else:
        told = noted.learned
    return PretrainedModel(folder, told)


def rows_a_step(rows: int, epochs: int) -> int:
    """Of an optimizer step: BATCH, fewer where the documents are so short that LEAST_STEPS would not be reached."""
    return max(1, min(BATCH, rows * epochs // LEAST_STEPS))


def _train(bench: Workbench, rung: str, section: FullSettings, folder: Path) -> str:
    from lastresort.train.loop.batches import completions
    from lastresort.train.loop.loop import Diverged, total_steps
    from lastresort.train.settings import Objective, TrainSettings

    method = WholeMethod()
    replay = replay_of(bench, rung, replay_size(len(bench.train), section.replay))
    bench.progress.stage(f"{rung}: reading the knowledge", None)
    documents = _documents(bench)
    loaded = method.load(bench)
    text = _text_rows(loaded, documents)
    rows = [*text, *_replay_rows(bench, loaded, replay)]
    settings = TrainSettings(
        learning_rate=section.text_learning_rate,
        epochs=section.text_epochs,
        batch_size=rows_a_step(len(rows), section.text_epochs),
        adapter=method.settings(),
        objective=Objective("text"),
        seed=bench.task.split.seed,
    )
    model = method.begin(loaded, bench.models.tuned_name, settings.seed)
    facts = TrainingFacts(rows=len(rows), replay_rows=len(rows) - len(text))
    run = TuningRun(rung, NAME, "knowledge as text", loaded.fingerprint, settings, facts)
    early = early_warnings(bench, rung, PromptDesign(bench.task.about.strip()))
    early.open(loaded, model, [row.ids for row in rows], epochs=section.text_epochs, looks=1)
    early.start(NAME, model)
    try:
        trained = train_to(bench, run, model, completions(rows), total_steps(len(rows), settings))
    except Diverged as error:
        raise DataError(
            f"pretraining on the knowledge diverged ({error.found})",
            where="full.text_learning_rate",
            remedy="Lower it and start a new run.",
        ) from error
    early.add(NAME, trained.step, model)
    early.report()
    record_training(bench, run, trained)
    method.save(loaded, model, folder)
    tokens = sum(sum(row.targets) for row in text)
    return (
        f"first pretrained on the knowledge as plain text ({len(documents)} documents, {tokens:,} tokens, "
        f"{section.text_epochs} epochs at {section.text_learning_rate:g}, with {len(rows) - len(text)} rows of replay)"
    )


def _documents(bench: Workbench) -> list[Any]:
    from lastresort.data.plain_text import TextDocument
    from lastresort.knowledge.reading import read_documents

    assert bench.task.knowledge is not None
    found = read_documents(bench.task.knowledge, progress=bench.progress).documents
    return [TextDocument(document.text, document.id) for document in found]


def _text_rows(loaded: Any, documents: list[Any]) -> list[Any]:
    from lastresort.data.plain_text import packed_rows
    from lastresort.engine.forest import Row

    length = min(loaded.context_tokens or ROW_TOKENS, ROW_TOKENS)
    return [Row(row.ids, row.targets) for row in packed_rows(loaded.tokenizer, documents, length)]


def _replay_rows(bench: Workbench, loaded: Any, replay: Any) -> list[Any]:
    from lastresort.train.loop.batches import training_rows

    return training_rows(
        loaded.tokenizer,
        replay.examples,
        tuple,
        context_tokens=loaded.context_tokens,
        template_kwargs=bench.task.chat_template_kwargs,
        ends=replay.ends,
    )
