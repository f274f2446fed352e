"""`lastresort train FILE` and `lastresort merge ADAPTER`: training apart from a climb."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from typer import Argument, Option

from lastresort.app.terminal import print_document, print_note, print_text
from lastresort.cli.border import INTERRUPTED
from lastresort.cli.options import parse_settings


def train_command(
    file: Path = Argument(help="The training file (sft.yaml, dpo.yaml, …)."),
    settings: list[str] = Option([], "--set", help="Override a key, such as --set adapter.r=8.", metavar="KEY=VALUE"),
    resume: bool = Option(False, "--resume", help="Resume the run in the output folder."),
    strict: bool = Option(False, "--strict", help="Refuse a file of another framework with unsupported keys."),
    as_json: bool = Option(False, "--json", help="Print the record as one JSON document on stdout."),
) -> None:
    """Train an adapter or a full model.

    Trains by SFT, or on plain text, preferences or rewards.
    FILE can also be an Axolotl or LLaMA-Factory YAML. --set then overrides that framework's keys.
    """
    from lastresort.app.console import progress
    from lastresort.app.runtime import stop_on_sigterm
    from lastresort.app.train import leads, train
    from lastresort.report.words.training import training_lines
    from lastresort.types import SILENT

    first = leads()
    with (
        _silent_unless(first),
        progress() if first else nullcontext(SILENT) as shown,
        stop_on_sigterm() as stop,
    ):
        trained = train(file, shown, stop, settings=parse_settings(settings), resume=resume, strict=strict)
    if not first:
        return
    if as_json:
        print_document(trained.record.as_json())
        return
    print_text("\n".join(training_lines(trained.record, trained.objective, trained.output)))


@contextmanager
def _silent_unless(first: bool) -> Iterator[None]:
    """Of several processes only the first reports an interruption."""
    try:
        yield
    except KeyboardInterrupt as error:
        if first:
            raise
        raise SystemExit(INTERRUPTED) from error


def merge_command(
    adapter: Path = Argument(help="Folder of an adapter, as PEFT saves it."),
    base: str | None = Option(None, "--base", help="The base model. Default: the one named by the adapter."),
    out: Path | None = Option(None, "--out", help="Folder for the merged model. Default: ADAPTER-merged."),
    into: str | None = Option(
        None,
        "--into",
        metavar="16bit|nf4",
        help="Merge into the base's own weights or into its dequantised 4-bit weights. Default: what the adapter was trained on.",
    ),
    scale: float = Option(1.0, "--scale", help="Share of the adapter to merge: 0 gives the base, 1 all of it."),
    dtype: str | None = Option(None, "--dtype", metavar="bfloat16|float32", help="Precision. Default: the base's."),
    gguf: bool = Option(False, "--gguf", help="Also write a GGUF and an Ollama Modelfile into the folder gguf/."),
    gguf_type: str | None = Option(
        None, "--gguf-type", metavar="f16|bf16|f32", help="Also write the GGUF, in this precision. Default: lossless."
    ),
    as_json: bool = Option(False, "--json", help="Print the result as one JSON document on stdout."),
) -> None:
    """Merge an adapter into its base.

    Checks that the merged model gives the same answers.
    """
    from lastresort.app.train import merge
    from lastresort.report.words.training import merge_lines, merge_warning

    found = merge(adapter, base=base, out=out, into=into, scale=scale, dtype=dtype, gguf=gguf, gguf_type=gguf_type)
    if as_json:
        print_document(found.as_dict())
        return
    if (warning := merge_warning(found.merged)) is not None:
        print_note(warning)
    print_text("\n".join(merge_lines(found.merged, found.gguf)))
