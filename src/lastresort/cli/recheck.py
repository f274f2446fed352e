"""`lastresort recheck RUN`: is the tuned model still needed, and do its answers still hold?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lastresort.cli.document import print_document
from lastresort.cli.terminal import print_text

if TYPE_CHECKING:
    from lastresort.after.recheck.designs import New


def recheck_command(
    run: Path = typer.Argument(help="The folder of a finished run."),
    model: str | None = typer.Option(
        None, "--model", help="A newer model: does it, asked with the run's prompts, make the tuned model needless?"
    ),
    prompt: Path | None = typer.Option(
        None, "--prompt", help="A file with an instruction, tried in place of that of the run's prompts."
    ),
    knowledge: Path | None = typer.Option(
        None,
        "--knowledge",
        help="Documents as they are now: do the winner's answers still hold? Without --model and --prompt: those of the task.",
    ),
    task: Path | None = typer.Option(
        None, "--task", help="Where the run's task file is now. Default: where it was when the run was climbed."
    ),
    quick: bool = typer.Option(
        False, "--quick", help="Answer no more test items than the verdict needs; the comparison is then no test."
    ),
    prompt_price: float | None = typer.Option(
        None, "--prompt-price", min=0, help="Of --model, in USD per million tokens of prompt."
    ),
    output_price: float | None = typer.Option(
        None, "--output-price", min=0, help="Of --model, in USD per million tokens of answer."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as one JSON document on stdout."),
) -> None:
    """Ask a finished run anew: is its tuned model still needed, now that there is a newer model, a new prompt, other documents?

    Exit code 1: the answer is no. Everything is written to recheck-<n>.json in the run's folder.
    """
    from lastresort.errors import InputError

    asked_anew = model is not None or prompt is not None
    if asked_anew and knowledge is not None:
        raise InputError(
            f"--knowledge beside {'--model' if model is not None else '--prompt'}",
            expected="one question at a time, since of two changes nobody could tell which did it",
            remedy="Leave one of them out.",
        )
    if model is None and (prompt_price is not None or output_price is not None):
        raise InputError("a price without --model", expected="the model that it is the price of", remedy="Name it.")
    from lastresort.after.recheck.recheck import recheck
    from lastresort.cli.progress import progress
    from lastresort.report.recheck import file_name, recheck_text

    new = _new(model, prompt, prompt_price, output_price) if asked_anew else None
    with progress() as shown:
        found = recheck(run, new=new, documents=knowledge, task_file=task, quick=quick, progress=shown)
    if as_json:
        print_document(found)
    else:
        from lastresort.cli.console import SafeConsole

        SafeConsole().print(recheck_text(found))
        print_text(f"written: {run / file_name(found['number'])}")
    if found["yes"] is False:
        raise typer.Exit(1)


def _new(model: str | None, prompt: Path | None, prompt_price: float | None, output_price: float | None) -> New:
    from lastresort.after.recheck.designs import New
    from lastresort.models.open import settled_name

    settled: Any = None if model is None else settled_name(model, Path.cwd())
    return New(model, settled, None if prompt is None else _instruction(prompt), prompt_price, output_price)


def _instruction(path: Path) -> str:
    from lastresort.errors import InputError

    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text in UTF-8"
        raise InputError(
            f"cannot be read ({reason})",
            where=str(path),
            expected="a file with an instruction",
            remedy="Check the name.",
        ) from error
    if not text:
        raise InputError("the file is empty", where=str(path), expected="an instruction", remedy="Write one.")
    return text
