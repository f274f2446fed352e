"""What a rung reports while it is at work, what a training and a merge report at their end, line by line, and how far preference
training moved the answers.

A gain that is only length is shown as such.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from lastresort.hardware.plan.fit import gib
from lastresort.records.events.search import SkippedFile
from lastresort.records.events.training import AnswerLengths, DriftMeasured, Movement
from lastresort.records.rungs import CurveBelowBar, SmallReflector
from lastresort.report.words.rungs import search_sentence
from lastresort.report.words.untuned import of_small_reflector
from lastresort.report.words.wording import count, counted, duration, spaced
from lastresort.report.words.wording import round_percent as percent
from lastresort.rungs import notes

if TYPE_CHECKING:
    from lastresort.records.training import TrainedSteps
    from lastresort.train.adapters.gguf import ExportedGguf
    from lastresort.train.adapters.merge import Merged
    from lastresort.train.files.run_folder import TrainingRecord


def note_line(rung: str, note: notes.RungNote) -> str:
    """What a rung reports while it is at work, as a line; of `TrainOn`, the question."""
    return f"{rung}: {_note(note)}"


def _note(note: notes.RungNote) -> str:
    match note:
        case notes.RateDroppedOut(rate, because):
            return f"learning rate {rate:g} drops out: {because}"
        case notes.PlainPathTaken(reason):
            return f"training takes the plain path: {reason}"
        case notes.SmallerPasses(training, needed, free, lowered):
            return f"{_needs(training, needed, free)}. It trains with {lowered.written()}."
        case notes.MayNotFit(training, needed, free, remedy):
            return f"{_needs(training, needed, free)}. It may not fit. {remedy}"
        case notes.OneProcess():
            return "GRPO samples while it trains, so it runs in one process."
        case notes.ModelLeftOff(device):
            return f"not all of the model could be moved back to {device}."
        case notes.NothingReplayed():
            return "no rows are replayed, since GRPO trains on its own samples only."
        case notes.ReplayByLikelihood():
            return (
                "replay rows are trained by likelihood, since this model's hidden states cannot be separated from its "
                "logits."
            )
        case notes.PlainClosedBook(because):
            return f"the plain prompt answers closed book: {because}"
        case SkippedFile():
            return f"{note.path} is skipped: {note.reason}"
        case SmallReflector():
            return of_small_reflector(note)
        case CurveBelowBar():
            return f"{search_sentence(note)} Training continues unless you stop it."
        case notes.TrainOn(seen):
            return f"{search_sentence(seen)} Train the rest anyway?"
        case _:
            assert_never(note)


def _needs(training: str, needed_bytes: int, free_bytes: int) -> str:
    return f"{training} needs {gib(needed_bytes)} by the plan, and {gib(free_bytes)} is free"


def of_held_out(task: str, rows: int, dev: int, test: int) -> str:
    """Whether a gate or a climb of a task would still be a test of what was trained. rows: of the training. dev, test: how many of
    them repeat its dev and its test items.
    """
    if not dev + test:
        return f"None of the {counted(rows, 'training row')} has the same input as a dev or test item of {task}."
    return (
        f"Of the {counted(rows, 'training row')}, {_repeat(dev)} a dev item and {_repeat(test)} a test item of {task}: a gate or a "
        "climb of that task would test what was trained on."
    )


def _repeat(rows: int) -> str:
    return f"{count(rows)} {'repeats' if rows == 1 else 'repeat'}"


def of_unread_task(task: str, fault: str) -> str:
    return f"Which rows {task} holds out is not known, since it cannot be read: {fault}"


def held_out_line(said: str, *, leaks: bool, suffix: str | None) -> str:
    """said: by one of the above. suffix: of a file that would hold the train split alone; None where there is no such file."""
    instead = (
        f" Train on the train split only: the page (Train) writes it to a separate file (…{suffix})." if suffix else ""
    )
    return f"{'warning: ' if leaks else ''}{said}{instead}"


def dropout_line(rate: float, key: str) -> str:
    """key: that sets it in the user's file."""
    cost = "Training takes the plain path, which can be several times slower"
    return f"warning: dropout {rate:g} rules out the packed form. {cost}. To train packed: --set {key}=0"


def of_train_split(rows: int, given: int, name: str, dev: int, test: int) -> list[str]:
    """Which rows of a task's data a training reads, and why not all, in lines."""
    return [
        f"{count(rows)} of the {counted(given, 'row')} of {name}: the train split of its task.",
        f"Its {count(dev)} dev and {count(test)} test items stay held out.",
    ]


# Notes on what an export cannot express.


def of_replay_export(rows: int, cut: int, *, held: bool) -> list[str]:
    """rows: the last ones. cut: answers that were cut at the token limit. held: to the base's distribution."""
    last = "row is" if rows == 1 else f"{count(rows)} rows are"
    found = [f"The last {last} replay: general requests with the base model's own answers."]
    if held:
        found.append("The climb trained the replay rows on the base's distribution; the export trains on their text.")
    if cut:
        were, its = ("was", "its end token") if cut == 1 else ("were", "their end tokens")
        found.append(f"{counted(cut, 'replay answer')} {were} cut. The climb did not train {its}; the export does.")
    return found


def replay_not_exported(rows: int) -> str:
    return f"The climb also trained on {counted(rows, 'row')} of replay."


def of_cut_rows(rows: int) -> str:
    """Of preferences with an answer that was cut at the token limit."""
    hold = "has" if rows == 1 else "have"
    return f"{counted(rows, 'row')} {hold} a cut answer. The climb did not train its end token; the export does."


def form_not_exported() -> str:
    return "output: rewards that check the output form of the task do not see it in the export."


def of_checkpoint_kept(unit: str, stop: int, whole: int) -> str:
    """stop: the epoch or step (unit) that the climb kept, of a schedule for so many."""
    return (
        f"The climb kept the checkpoint after {unit} {stop} of a schedule for {whole}: stop there for the same model."
    )


def of_scale_kept(scale: float) -> str:
    return f"The climb scaled the adapter by {scale:g} after the training."


def training_lines(record: TrainingRecord, objective: str, output: Path) -> list[str]:
    trained, data = record.trained, record.data
    steps_s = sum(step["seconds"] for step in record.steps)
    padding = (
        "; more, as the plain path pads the rows of a pass to the longest"
        if trained.computed_tokens > trained.nominal_tokens
        else ""
    )
    shards = f", {'all weights' if record.saved.kind == 'model' else 'the base'} in shards" if trained.sharded else ""
    together = f" on {trained.processes} processes{shards}" if trained.processes > 1 else ""
    lines = [
        f"{objective}: {data.items} {data.what}, {trained.step} steps{together} in {spaced(duration(trained.seconds))}; "
        f"the steps alone took {spaced(duration(steps_s))}, {trained.nominal_tokens / max(steps_s, 1e-9):,.0f} nominal tokens/s",
        *_losses(record),
        f"tokens: {trained.computed_tokens:,} computed of {trained.nominal_tokens:,} nominal "
        f"({trained.computed_tokens / max(1, trained.nominal_tokens):.0%}{padding})",
        _path(trained),
    ]
    for finding in data.findings:
        places = ", ".join(finding.places[:3]) + (", …" if finding.count > 3 else "")
        lines.append(f"{finding.count} {finding.what}: {places}")
    saved = record.saved
    return [*lines, f"{saved.kind}: {output / saved.folder}", f"record: {output / 'training.json'}"]


def merge_lines(merged: Merged, gguf: ExportedGguf | None) -> list[str]:
    check = merged.check
    weights = "the dequantised 4-bit weights" if merged.into == "nf4" else "the weights"
    return [
        f"{merged.layers} layers of {merged.base} merged into {weights}, scale {merged.scale:g}, {merged.dtype}",
        f"checked on {check.texts} texts: logits differ by {check.relative_difference:.2g} of their spread "
        f"({check.tolerance:g} is allowed; the largest single difference is {check.largest_difference:.2g}), "
        f"the adapter moves them by {check.adapter_effect:.2g}; the likeliest token is the same in {check.same_tokens:.0%}",
        f"model: {merged.folder}",
        *([] if gguf is None else [f"gguf: {gguf.path}", f"ollama: ollama create NAME -f {gguf.modelfile}"]),
    ]


def merge_warning(merged: Merged) -> str | None:
    if not merged.check.drowned:
        return None
    return f"Warning: rounding to {merged.dtype} is as large as what the adapter changes; --dtype float32 keeps it."


def _losses(record: TrainingRecord) -> list[str]:
    epochs = record.epochs
    lines = ["loss by epoch: " + ", ".join(f"{epoch['loss']:.4f}" for epoch in epochs)]
    if any("eval_loss" in epoch for epoch in epochs):
        found = ", ".join(f"{epoch['eval_loss']:.4f}" for epoch in epochs if "eval_loss" in epoch)
        lines.append(f"eval loss by epoch: {found} ({record.data.eval_items} held out)")
    return lines


def _path(trained: TrainedSteps) -> str:
    """The path of the engine with its reason, and the check of the first batch."""
    taken = f"path: {trained.path}" + (f" ({trained.reason})" if trained.reason else "")
    check = trained.check
    if check is None or check.gradient_difference is None or not check.loss_limit:  # nothing was compared
        return taken
    agree = "agree" if check.ok else "differ"
    loss, limit = f"{check.loss_difference:.2g} nats", f"{check.loss_limit:.2g} nats"
    if check.largest_loss > 1:
        share = _small(check.loss_difference / check.largest_loss)
        loss, limit = f"{loss}, {share} of the largest ({check.largest_loss:.3g})", _small(check.loss_limit)
    return (
        f"{taken}; first batch: packed and plain {agree} (likelihood loss per token of a row: off by {loss}, limit {limit}; "
        f"gradient: off by {_small(check.gradient_difference)} of its norm, limit {_small(check.gradient_limit)})"
    )


def _small(share: float) -> str:
    """0.018 -> "1.8%", 1e-9 -> "1e-07%"."""
    return f"{100 * share:.2g}%"


MARKED = 0.2  # a change of the mean answer's length, either way, that is pointed out


def growth(length: AnswerLengths) -> float:
    """Of the mean answer, as a share: 0.2 is a fifth longer."""
    before = length.tokens_before
    return length.tokens_after / before - 1 if before else 0.0


def title(length: AnswerLengths) -> str:
    """What a reader should see first."""
    gained = length.score_after - length.score_before
    change = f"{'gained' if gained >= 0 else 'lost'} {abs(100 * gained):.1f} points on dev"
    return f"Preference training {change}, with answers {_compared(growth(length))}"


def of_length(length: AnswerLengths) -> str:
    """Answers and scores on dev before and after."""
    grown = growth(length)
    lengths = f"{length.tokens_before:.1f} tokens before, {length.tokens_after:.1f} after"
    scores = f"the score on dev went from {percent(length.score_before)} to {percent(length.score_after)}"
    if abs(grown) <= MARKED:
        return f"The mean answer has {lengths}, and {scores}."
    told = f"Answers became {_compared(grown)} ({lengths}), and {scores}"
    if grown < 0:
        return f"{told}."
    if not length.level:
        return f"{told}. No answer stayed as short, so the gain cannot be separated from the length."
    same = f"On the {length.level} items whose answers did not grow, it went from {percent(length.level_before)}"
    return f"{told}. {same} to {percent(length.level_after)}."


def of_movement(moved: Movement) -> str:
    """KL and margins. The reference of an objective, where it has one, is the starting model."""
    kl, error = moved.kl, moved.kl_error
    within = f" ± {error:.2g}" if error is not None else ""
    told = (
        f"KL to the starting model: {kl:.3g}{within} nats per answer, {moved.kl_per_token:.2g} per token, exact at every token "
        f"of {moved.kl_answers} answers that the tuned model sampled to dev prompts"
    )
    if moved.margin is None or moved.margin_above_0 is None:
        return f"{told}."
    share = f"above 0 for {percent(moved.margin_above_0)} of {moved.margin_n:,} {moved.margin_of}"
    before = moved.margin_before
    if before is not None:
        odds = f"{moved.margin:.3g} above those of the worse (before {before:.3g})"
        return f"{told}. Log odds of the better answers, per token: {odds}, {share}."
    return f"{told}. Reward margin {moved.margin:.3g} nats, {share}."


def sentence(drift: DriftMeasured) -> str:
    """All of it about one candidate."""
    return f"{drift.candidate}: {of_length(drift.length)} {of_movement(drift.moved)}"


def _compared(grown: float) -> str:
    if abs(grown) <= MARKED:
        return "of about the same length"
    return f"{percent(abs(grown))} {'longer' if grown > 0 else 'shorter'}"
