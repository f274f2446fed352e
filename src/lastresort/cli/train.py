"""`lastresort train FILE`: one run of training, apart from a climb."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lastresort.cli.border import INTERRUPTED
from lastresort.cli.document import print_document
from lastresort.cli.terminal import print_note, print_text
from lastresort.errors import LastresortError, TaskError

if TYPE_CHECKING:
    from lastresort.train.training_file import TrainingFile


def train_command(
    file: Path = typer.Argument(help="The training file (sft.yaml, dpo.yaml, …)."),
    settings: list[str] = typer.Option(
        [], "--set", help="Override a key of the training file: --set adapter.r=8.", metavar="KEY=VALUE"
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run in the output folder."),
    strict: bool = typer.Option(
        False, "--strict", help="Refuse another framework's file with keys that are not honoured."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the record as one JSON document on stdout."),
) -> None:
    """Train an adapter or a whole model: supervised, on plain text, on preferences, or on rewards.

    FILE may also be a YAML of Axolotl or of LLaMA-Factory; --set then overrides its own keys.
    """
    from lastresort.cli.progress import progress
    from lastresort.cli.settings import parse_settings
    from lastresort.train.loop.launch import speaks
    from lastresort.types import Silent

    first = speaks(os.environ)
    with _silent_unless(first, LastresortError):
        loaded = _loaded(file, parse_settings(settings), resume=resume, strict=strict, told=first)
    from lastresort.train.files.run import run_training

    with _silent_unless(first), progress() if first else nullcontext(Silent()) as shown:
        record = run_training(loaded, resume=resume, progress=shown)
    if not first:
        return
    if as_json:
        print_document(record)
        return
    print_text("\n".join(told(record, loaded)))


def _loaded(file: Path, overrides: dict[str, Any], *, resume: bool, strict: bool, told: bool) -> TrainingFile:
    """Our own training file, or what another framework's becomes, whose remarks are told on stderr first."""
    from lastresort.interop import reading
    from lastresort.spec.training import load_training
    from lastresort.train.files.run_folder import BEGUN

    if (file / BEGUN).is_file():
        raise TaskError(
            "found the output folder of a training",
            where=str(file),
            expected="the training file that it came of",
            remedy="`lastresort train FILE --resume` goes on with it.",
        )
    if reading.foreign(file) is None:
        return load_training(file, overrides)
    imported = reading.read(file, overrides, strict=strict)
    for line in reading.said(imported.remarks) if told else ():
        print_note(line)
    # The others may find the run that the first process has begun by now.
    output = reading.output_of(imported, file)
    return load_training(reading.written(imported, output, file, resume=resume or not told))


@contextmanager
def _silent_unless(first: bool, *errors: type[LastresortError]) -> Iterator[None]:
    """Of several processes the first tells of an interruption, and of the errors that it surely meets too."""
    ends: tuple[type[BaseException], ...] = (KeyboardInterrupt, *errors)
    try:
        yield
    except ends as error:
        if first:
            raise
        raise SystemExit(error.exit_code if isinstance(error, LastresortError) else INTERRUPTED) from error


def told(record: dict[str, Any], file: TrainingFile) -> list[str]:
    """What a reader wants to know at the end, a line each."""
    trained, data = record["trained"], record["data"]
    steps_s = sum(step["seconds"] for step in record["steps"])
    together = (
        f" on {trained['processes']} processes{', the base in shards' * trained['sharded']}"
        if trained["processes"] > 1
        else ""
    )
    lines = [
        f"{file.objective}: {data['items']} {data['what']}, {trained['step']} steps{together} in {_time(trained['seconds'])}, "
        f"{trained['nominal_tokens'] / max(steps_s, 1e-9):,.0f} tokens/s",
        *_losses(record),
        f"tokens: {trained['computed_tokens']:,} computed of {trained['nominal_tokens']:,} nominal "
        f"({trained['computed_tokens'] / max(1, trained['nominal_tokens']):.0%})",
        _path(trained),
    ]
    for finding in data["findings"]:
        places = ", ".join(finding["places"][:3]) + (", …" if finding["count"] > 3 else "")
        lines.append(f"{finding['count']} {finding['what']}: {places}")
    saved = record["saved"]
    return [*lines, f"{saved['kind']}: {file.output / saved['folder']}", f"record: {file.output / 'training.json'}"]


def _losses(record: dict[str, Any]) -> list[str]:
    epochs = record["epochs"]
    lines = ["loss by epoch: " + ", ".join(f"{epoch['loss']:.4f}" for epoch in epochs)]
    if any("eval_loss" in epoch for epoch in epochs):
        found = ", ".join(f"{epoch['eval_loss']:.4f}" for epoch in epochs if "eval_loss" in epoch)
        lines.append(f"eval loss by epoch: {found} ({record['data']['eval_items']} held out)")
    return lines


def _path(trained: dict[str, Any]) -> str:
    """The path of the engine with its reason, and the check of the first batch."""
    told = f"path: {trained['path']}" + (f" ({trained['reason']})" if trained["reason"] else "")
    check = trained["check"]
    if check is None or check["gradient_difference"] is None:
        return told
    agree = "agree" if check["ok"] else "differ"
    return (
        f"{told}; first batch: packed and plain {agree} (loss by {check['loss_difference']:.1e} nats, "
        f"gradient by {check['gradient_difference']:.1e} of its norm)"
    )


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
