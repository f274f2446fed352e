"""Training of all weights on the task's rows; if knowledge is missing, after pretraining on the task's documents.

In pretraining the base learns the documents as plain text, before it learns to answer.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lastresort.errors import DataError
from lastresort.hardware.environment import card_here
from lastresort.hardware.memory import machine_memory_bytes
from lastresort.hardware.plan.fit import PlannedTraining
from lastresort.hardware.plan.memory import bytes_of_training_all
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.models.open import parameter_count
from lastresort.models.protocol import BYTES_PER_TOKEN, estimated_tokens
from lastresort.records.events.training import TextLearned, TrainingFacts
from lastresort.records.rungs import (
    LacksMemory,
    MethodExcluded,
    Pretraining,
    Skip,
    SmallestPassTooLarge,
    TooFewRows,
    TooLarge,
)
from lastresort.rungs.divided import base_beyond_card, cards_of_training
from lastresort.rungs.forecast import ALL_WEIGHTS, Forecast, Workload, answering, training
from lastresort.rungs.prompting.prompts import grammar_of
from lastresort.rungs.rung import RungSetup, Search, Workbench
from lastresort.rungs.supervised.methods import WholeMethod, begin, known_shape, weights_absent
from lastresort.rungs.supervised.milder import retrain
from lastresort.rungs.supervised.rates import losses_of_race, raced_beyond
from lastresort.rungs.supervised.replay_rows import rendered_replay, replay_of, replay_size
from lastresort.rungs.supervised.sft import (
    ADVISED_ROWS,
    LEAST_ROWS,
    REPLAY_ROW_TOKENS,
    forecast_of_replay,
    planned_replay_loss,
    stale_reason,
    tuned_system,
)
from lastresort.rungs.supervised.training import SupervisedTraining, kept_epochs
from lastresort.rungs.tuning import (
    TuningRun,
    choose_on_dev,
    early_warnings,
    record_training,
    train_to,
)
from lastresort.spec.sections import FullSettings
from lastresort.spec.task import Task
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Example, ReplayLoss

ROW_TOKENS, BATCH = 512, 4
TOO_HIGH = 1.1  # times what was measured is what the plan of this training said at most
LEAST_STEPS = 100  # a few large steps do not learn a short text by heart, however often they read it
NAME = "text"


@dataclass(frozen=True, slots=True)
class PretrainedModel:
    """folder: the model. learned: what from."""

    folder: Path
    learned: TextLearned


def pretrained(bench: Workbench, rung: str, section: FullSettings) -> PretrainedModel:
    """The base after the task's knowledge, once a run. Raises DataError where it diverges or the documents cannot be read."""
    folder = bench.folder / "models" / "pretrained"
    recorded = bench.record.last(TextLearned, rung)
    if recorded is None or not WholeMethod().saved(folder):
        learned = _train(bench, rung, section, folder)
        if recorded is None:
            bench.record.append(learned)
        shutil.rmtree(bench.folder / "checkpoints" / NAME, ignore_errors=True)
    else:
        learned = recorded
    return PretrainedModel(folder, learned)


def rows_a_step(rows: int, epochs: int) -> int:
    """Of an optimizer step: BATCH, fewer where the documents are so short that LEAST_STEPS would not be reached."""
    return max(1, min(BATCH, rows * epochs // LEAST_STEPS))


def _train(bench: Workbench, rung: str, section: FullSettings, folder: Path) -> TextLearned:
    from lastresort.train.loop.batches import completions
    from lastresort.train.loop.loop import Diverged, total_steps
    from lastresort.train.settings import Objective, TrainSettings

    method = WholeMethod()
    size = replay_size(len(bench.train), section.replay, section.replay_prompts)
    replay = replay_of(bench, rung, size, section.replay_prompts)
    bench.progress.stage(f"{rung}: reading the knowledge", None)
    documents = _documents(bench)
    loaded = method.load(bench)
    text = _text_rows(loaded, documents)
    rows = [*text, *rendered_replay(loaded, replay, bench.task.chat_template_kwargs)]
    settings = TrainSettings(
        learning_rate=section.text_learning_rate,
        epochs=section.text_epochs,
        batch_size=rows_a_step(len(rows), section.text_epochs),
        adapter=method.settings(),
        objective=Objective("text"),
        seed=bench.task.split.seed,
    )
    model = begin(method, loaded, bench.models.tuned_name, settings.seed)
    facts = TrainingFacts(rows=len(rows), replay_rows=len(rows) - len(text))
    run = TuningRun(rung, NAME, "knowledge as text", loaded, settings, facts)
    early = early_warnings(bench, rung, PromptDesign(bench.task.about.strip()))
    early.open(loaded, model, [row.ids for row in rows], epochs=section.text_epochs, looks=1)
    early.start(NAME, model)
    try:
        trained_steps = train_to(bench, run, model, completions(rows), total_steps(len(rows), settings))
    except Diverged as error:
        raise DataError(
            f"pretraining on the knowledge diverged ({error.found})",
            where="full.text_learning_rate",
            remedy="Lower it and start a new run.",
        ) from error
    early.add(NAME, trained_steps.step, model)
    early.report()
    record_training(bench, run, trained_steps)
    method.save(loaded, model, folder)
    tokens = sum(sum(row.targets) for row in text)
    return TextLearned(
        rung=rung,
        documents=len(documents),
        tokens=tokens,
        epochs=section.text_epochs,
        learning_rate=section.text_learning_rate,
        replay_rows=len(rows) - len(text),
    )


def _documents(bench: Workbench) -> list[Any]:
    from lastresort.data.plain_text import TextDocument
    from lastresort.knowledge.reading import read_documents

    assert bench.task.knowledge is not None
    texts = read_documents(bench.task.knowledge, progress=bench.progress).documents
    return [TextDocument(document.text, document.id) for document in texts]


def _text_rows(loaded: Any, documents: list[Any]) -> list[Any]:
    from lastresort.data.plain_text import packed_rows
    from lastresort.engine.forest import Row

    length = min(loaded.context_tokens or ROW_TOKENS, ROW_TOKENS)
    return [Row(row.ids, row.targets) for row in packed_rows(loaded.tokenizer, documents, length)]


class FullRung:
    """All weights at a low learning rate, with replay. The result is a whole model, not an adapter."""

    name = "full"
    takes_more_replay = True

    def skip_reason(self, task: Task, train: Sequence[Example]) -> Skip | None:
        if (absent := weights_absent(task)) is not None:
            return absent
        if task.tune.method in ("lora", "qlora"):
            return MethodExcluded("all weights", task.tune.method)
        if (stale := stale_reason(task)) is not None:
            return stale
        if len(train) < LEAST_ROWS:
            return TooFewRows(len(train), LEAST_ROWS, ADVISED_ROWS)
        lack = lack_of_memory(task, train)
        divided = task.model_copy(update={"tune": task.tune.model_copy(update={"processes": "auto"})})
        if lack is None or lack_of_memory(divided, train) is not None:
            return lack
        return replace(lack, enough=cards_of_training(divided))

    def forecast(self, task: Task, work: Workload) -> Forecast:
        """As for the rung sft, with the training of all weights, after pretraining if there is knowledge."""
        about = work.about_tokens
        row = about + work.input_tokens + work.output_tokens
        prompt, machine, section = about + work.input_tokens, work.machine, task.full
        rates, n_kept = len(section.learning_rates), len(kept_epochs(section.epochs))
        replay = replay_size(work.n_train, section.replay, section.replay_prompts)
        passes = n_kept + (grammar_of(task) is not None)
        epochs = section.epochs * (1 + raced_beyond(rates))
        label = f"training of all weights, {rates} learning rate{'s raced' if rates > 1 else ''}"
        preparation = forecast_of_replay(section, machine, replay, epochs)
        if pretraining_reason(task, None) is not None:
            text = _text_tokens(task.knowledge) // ROW_TOKENS + 1
            rows, epochs_of_text = text + replay, section.text_epochs
            mean = (text * ROW_TOKENS + replay * REPLAY_ROW_TOKENS) / rows
            batch = rows_a_step(rows, epochs_of_text)
            preparation += training(
                "pretraining", machine, rows, epochs_of_text, mean, 0, batch, operations=ALL_WEIGHTS
            )
        rows, batch, lengths = work.n_train + replay, section.batch_size, work.lengths
        return (
            preparation
            + training(label, machine, rows, epochs, row, about, batch, operations=ALL_WEIGHTS, lengths=lengths)
            + answering("loss on dev", machine, work.n_dev * (n_kept + losses_of_race(rates)), row, about, 0)
            + answering("checkpoints on dev", machine, work.n_dev * passes, prompt, about, work.max_new_tokens)
            + answering("test of the chosen", machine, work.n_test, prompt, about, work.max_new_tokens)
        )

    def planned_setup(self, task: Task, work: Workload, row_tokens: int) -> RungSetup:
        loss = planned_replay_loss(task.full)
        setup = Setup("full", row_tokens=row_tokens, checkpointing=False, compute="float32", replay_loss=loss)
        return RungSetup(setup, row_tokens, task.full.batch_size)

    def search(self, bench: Workbench) -> Search:
        task = bench.task
        lacking = bench.record.lacking_knowledge
        why = pretraining_reason(task, None if lacking is None else len(lacking))
        start, pretraining = None, None
        if why is not None:
            pretrained_model = pretrained(bench, self.name, task.full)
            start, pretraining = pretrained_model.folder, Pretraining(pretrained_model.learned, why)
        tuning = SupervisedTraining(bench, self.name, task.full, WholeMethod(start))
        rate = tuning.race()
        folders = tuning.finish(rate)
        tuning.close()
        for checkpoint in (bench.folder / "checkpoints").glob("full-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)  # three times the model; what is kept is in models/
        systems = [
            replace(
                tuned_system(bench, self.name, folder),
                model=str(folder.resolve()),
                adapter=None,
                tuned_from=bench.models.tuned_name,
            )
            for folder in folders
        ]
        return choose_on_dev(bench, self.name, systems, tuning.findings(rate, pretraining))

    def retrain(
        self, bench: Workbench, system: System, *, replay: float | None = None, learning_rate: float | None = None
    ) -> System | None:
        """From the same start as the search, with what was pretrained."""
        section, lacking = bench.task.full, bench.record.lacking_knowledge
        pretrains = pretraining_reason(bench.task, None if lacking is None else len(lacking)) is not None
        method = WholeMethod(pretrained(bench, self.name, section).folder if pretrains else None)
        return retrain(bench, self.name, section, method, system, replay=replay, learning_rate=learning_rate)


def pretraining_reason(task: Task, lacking: int | None) -> str | None:
    """Why the knowledge goes into the weights before the rows, None where it does not.

    lacking: how many dev items failed for lack of knowledge, None where no retrieval has measured it.
    """
    if task.knowledge is None:
        return None
    if task.use.context == "forbidden":
        return "it may not go into the prompt"
    if lacking is None:
        return "no retrieval has shown that knowledge is not what is missing"
    if not lacking:
        return None
    return f"{lacking} dev {'item' if lacking == 1 else 'items'} failed for lack of knowledge"


def lack_of_memory(task: Task, train: Sequence[Example]) -> LacksMemory | None:
    """Why all weights cannot be trained here, by a count of bytes or by the plan; None where they may fit, or it is not known."""
    memory = machine_memory_bytes()
    together = None if memory is None else cards_of_training(task) * memory
    parameters = parameter_count(task.tuned_model, task.folder)
    return too_large(parameters, together, planned_replay_loss(task.full)) or smallest_pass_too_large(task, train)


def too_large(
    parameters: int | None, memory_bytes: int | None, replay_loss: ReplayLoss = "likelihood"
) -> TooLarge | None:
    """Why all weights cannot be trained in this memory, None where they may fit or it is not known. Activations come on top."""
    if parameters is None or memory_bytes is None:
        return None
    needed = bytes_of_training_all(parameters, replay_loss)
    return None if needed < memory_bytes else TooLarge(parameters, needed, memory_bytes)


def smallest_pass_too_large(task: Task, train: Sequence[Example]) -> SmallestPassTooLarge | None:
    """Why training all weights fits no card here, whatever the passes: in shards, where the task may divide it over several cards
    and one of them can hold the whole model, which answers there. None where it may fit, as the plan can be too high, or the
    model's shape or the memory is not known. Rows are taken to be as long as the longest of train, within the model's context.
    """
    card, shape = card_here(processor=True), known_shape(task.tuned_model, task.folder)
    if card is None or shape is None:
        return None
    longest = max(estimated_tokens(row.input_text) + estimated_tokens(row.output) for row in train)
    tokens = estimated_tokens(task.about) + longest
    tokens = tokens if shape.context_tokens is None else min(tokens, shape.context_tokens)
    loss = planned_replay_loss(task.full)
    setup = Setup("full", row_tokens=tokens, checkpointing=True, compute="float32", replay_loss=loss)
    planned = PlannedTraining(shape, setup, Cards(card), tokens, tokens, tokens)
    count = 1 if card.is_cpu or base_beyond_card(planned) else cards_of_training(task)
    if count > 1:
        planned = replace(planned, cards=Cards(card, count, "fsdp"))
    needed = planned.needed_bytes
    if needed <= TOO_HIGH * card.memory_bytes:
        return None
    return SmallestPassTooLarge(needed, card.memory_bytes, tokens, on_card=not card.is_cpu, cards=count)


def _text_tokens(path: Path | None) -> int:
    """Estimated tokens of the documents, by the size of their files."""
    if path is None:
        return 0
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) // BYTES_PER_TOKEN
