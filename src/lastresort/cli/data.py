"""`lastresort data …`: a look at the data, more rows to train on, and rows in other shapes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer
from typer import Argument, Option

from lastresort.app.terminal import confirmed, print_document, print_note, print_text
from lastresort.cli.options import ABLATING_RAY, TASK_SETTINGS, parse_settings, split_pair
from lastresort.errors import InputError, StoppedError
from lastresort.synthesis.kinds import KINDS

if TYPE_CHECKING:
    from lastresort.stop import Stop

data_app = typer.Typer(
    help="Check, make, convert, mix and pair rows.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

USD: Any = Option(None, "--usd", help="Most money to spend. Default: limits.usd of the task.")
PROMPT_PRICE: Any = Option(None, "--prompt-price", min=0, help="USD per million prompt tokens.")
OUTPUT_PRICE: Any = Option(None, "--output-price", min=0, help="USD per million output tokens.")
BALANCE = "Quotas of the labels. train: their shares in train. even: the rarest first. any: none."
YES: Any = Option(False, "--yes", help="Do not ask before paid calls.")


class _Found(Protocol):
    def as_dict(self) -> dict[str, Any]: ...
    def lines(self) -> list[str]: ...


def _print(found: _Found, as_json: bool) -> None:
    if as_json:
        print_document(found.as_dict())
    else:
        print_text("\n".join(found.lines()))


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


@data_app.command("check")
def check_command(
    task: Path = Argument(help="The task file (task.yaml)."),
    rows: int = Option(0, "--show", min=0, help="Show the tokens and the training mask of this many rows."),
    settings: list[str] = TASK_SETTINGS,
    as_json: bool = Option(False, "--json", help="Print the findings as one JSON document on stdout."),
) -> None:
    """Check a task's examples and preferences.

    Looks for duplicates, leaks, conflicts and lengths. Exit code 1: something must be fixed first.
    """
    from lastresort.app.data_check import check_task
    from lastresort.spec.task import load_task

    found = check_task(load_task(task, parse_settings(settings)), show=rows)
    _print(found, as_json)
    if not found.ok:
        raise typer.Exit(1)


@data_app.command("synth")
def synth_command(
    task: Path = Argument(help="The task file (task.yaml)."),
    teacher: str | None = Option(
        None,
        "--teacher",
        metavar="MODEL",
        help="Model that writes the rows. Default: prompting.reflect, else the task's.",
    ),
    n: int | None = Option(None, "--n", help="Rows to make. Default: as many as train has, at most 200."),
    kinds: str = Option(
        "",
        "--kinds",
        metavar="KIND,…",
        help=f"Kinds of rows: {', '.join(KINDS)}. Default: all that fit the task, except documents.",
    ),
    balance: str = Option("train", "--balance", metavar="train|even|any", help=BALANCE),
    agreement: int | None = Option(
        None,
        "--agreement",
        help="How many times the teacher must repeat a row's answer without seeing it. Default: 1. For documents: at least 2.",
    ),
    usd: float | None = USD,
    calls: int | None = Option(None, "--calls", help="Most calls. Default: 6 per row or 3 per check, at least 60."),
    prompt_price: float | None = PROMPT_PRICE,
    output_price: float | None = OUTPUT_PRICE,
    seed: int = Option(0, "--seed", min=0, help="Seed for drawing the rows to show."),
    out: Path | None = Option(
        None, "--out", help="File of rows. Default: <task>-synthetic.jsonl next to the task file."
    ),
    dry_run: bool = Option(False, "--dry-run", help="Show the cost and the first requests. Calls no model."),
    yes: bool = YES,
    ablate: bool = Option(
        False, "--ablate", help="Then train with and without the rows and compare on dev, as study synthetic does."
    ),
    seeds: int | None = Option(None, "--seeds", help="Seeds of --ablate. At least 3, default 5."),
    ray: str | None = ABLATING_RAY,
    settings: list[str] = TASK_SETTINGS,
    as_json: bool = Option(False, "--json", help="Print what was made as one JSON document on stdout."),
) -> None:
    """Make synthetic training rows.

    A teacher writes them from training rows or documents. Run the same command again to continue, or with a higher --n to make
    more. Exit code 4: stopped before all rows were made.
    """
    from lastresort.app.ablation import planned_ablation, refuse_what_ablates_nothing
    from lastresort.app.console import progress
    from lastresort.app.synth import SynthRequest, forecast_synth, synth_data
    from lastresort.cli.border import stoppable
    from lastresort.cli.study import show_study
    from lastresort.report.words.synthetic import NOT_STUDIED
    from lastresort.scale.cluster import one_cluster
    from lastresort.stop import check

    named = tuple(filter(None, map(str.strip, kinds.split(","))))
    request = SynthRequest(
        task, teacher, n, named, balance, agreement, calls, usd, prompt_price, output_price, seed, out, parse_settings(settings),
        ray,
    )  # fmt: skip
    refuse_what_ablates_nothing(ablate=ablate, seeds=seeds, dry_run=dry_run)
    if dry_run:
        with progress() as shown:
            forecast = forecast_synth(request, shown)
        _print(forecast, as_json)
        return

    def go_on(question: str, stop: Stop) -> bool:
        return yes or confirmed(question, stop)

    with one_cluster() as connect:
        with stoppable() as (shown, stop):
            ablation = planned_ablation(request, seeds, shown, stop, go_on, connect) if ablate else None
            found = synth_data(request, shown, stop, go_on, connect)
        if found.ended != "rows":
            _print(found, as_json)
            if ablate:
                print_note(NOT_STUDIED)
            raise typer.Exit(StoppedError.exit_code)
        if ablation is None:
            _print(found, as_json)
            return
        lines = "\n".join(found.lines())  # before the study, which may stop
        print_note(lines) if as_json else print_text(lines)
        check(stop)  # a request that came as the last row was written
        with stoppable() as (shown, stop):
            study = ablation.studied(found, shown, stop)
    show_study(study.document, study.report, as_json=as_json)


@data_app.command("convert")
def convert_command(
    file: Path = Argument(help="A file of rows: .jsonl, .json, .csv, .tsv (each also with .gz) or .parquet."),
    to: str = Option(..., "--to", metavar="SHAPE", help="The new shape (docs/data.md lists them)."),
    out: Path | None = Option(
        None, "--out", help="The new file, in the format of its suffix. Default: FILE-SHAPE.jsonl."
    ),
    columns: str = Option("", "--columns", metavar="NAME=COLUMN,…", help="FILE's columns for input, output, prompt …"),
    drop: str = Option(
        "", "--drop", metavar="PART,…", help="Leave out system, turns, keys, tools, rejected, or a column by its name."
    ),
    as_json: bool = Option(False, "--json", help="Print what was written as one JSON document on stdout."),
) -> None:
    """Write rows in another shape.

    What the new shape cannot hold is refused, naming row and field, unless --drop names it.
    """
    from lastresort.app.data_convert import convert_file
    from lastresort.cli.border import stoppable

    named = [split_pair(pair, "--columns", "NAME=COLUMN", "input=body") for pair in _names(columns)]
    if len(dict(named)) < len(named):
        raise InputError("found a name twice", where="--columns", expected="each name once", remedy="Correct it.")
    with stoppable() as (shown, stop):
        found = convert_file(file, to, shown, stop, out=out, columns=dict(named), drop=_names(drop))
    _print(found, as_json)


@data_app.command("mix")
def mix_command(
    files: list[str] = Argument(
        metavar="FILE[=SHARE|=N]…", help="Files of rows: all of one, a share of the mix, or N rows."
    ),
    out: Path = Option(..., "--out", help="The new file. Its suffix sets the format."),
    to: str | None = Option(None, "--to", metavar="SHAPE", help="Shape of the mix. Default: that of the first file."),
    rows: int | None = Option(None, "--rows", help="Rows of the mix, if every file has a share or none has."),
    repeat: bool = Option(False, "--repeat", help="Reuse the rows of a file once it is used up."),
    seed: int = Option(0, "--seed", min=0, help="Seed for drawing and ordering the rows."),
    drop: str = Option("", "--drop", metavar="PART,…", help="What to leave out, as in data convert."),
    as_json: bool = Option(False, "--json", help="Print what was taken as one JSON document on stdout."),
) -> None:
    """Mix files of rows into one.

    Draws without replacement and mixes the order. Says what it took from each file, and how many rows are in several files.
    """
    from lastresort.app.data_mix import MixRequest, mix_files, source_of
    from lastresort.cli.border import stoppable

    request = MixRequest(tuple(map(source_of, files)), out, to, rows, repeat, seed, _names(drop))
    with stoppable() as (shown, stop):
        found = mix_files(request, shown, stop)
    _print(found, as_json)


@data_app.command("pairs")
def pairs_command(
    task: Path = Argument(help="The task file (task.yaml)."),
    samples: Path | None = Option(None, "--samples", metavar="FILE", help="A model's answers to training rows."),
    run: Path | None = Option(None, "--from", metavar="RUN", help="Pairs made by the rung preference of this run."),
    model: str | None = Option(None, "--model", help="Sample this model now, zero-shot at temperature 1."),
    n: int | None = Option(None, "--n", help="Answers of --model to each row. At least 2, default 8."),
    rows: int | None = Option(None, "--rows", help="Training rows to sample --model on. Default: all."),
    usd: float | None = USD,
    prompt_price: float | None = PROMPT_PRICE,
    output_price: float | None = OUTPUT_PRICE,
    dry_run: bool = Option(False, "--dry-run", help="Show what --model would cost. Samples nothing."),
    yes: bool = YES,
    out: Path | None = Option(None, "--out", help="File of pairs. Default: <task>-pairs.jsonl next to the task file."),
    margin: float = Option(0.0, "--margin", help="Smallest score difference in a pair."),
    own_answers: bool = Option(False, "--own-answers", help="Choose the row's own answer if no sample is right."),
    most: int = Option(4, "--most", help="Most pairs per prompt, at most 4."),
    settings: list[str] = TASK_SETTINGS,
    as_json: bool = Option(False, "--json", help="Print what was made as one JSON document on stdout."),
) -> None:
    """Make preference pairs from scored samples.

    Scores the samples with the task's scorer and pairs the best with the worst of each training row. Never uses dev or test.
    With --model, run the same command again to continue.
    """
    from lastresort.app.console import progress
    from lastresort.app.data_pairs import PairsRequest, forecast_pairs, pair_samples
    from lastresort.cli.border import stoppable

    request = PairsRequest(
        task, samples, run, out, margin, own_answers, most, parse_settings(settings), model, n, rows, usd, prompt_price,
        output_price,
    )  # fmt: skip
    if dry_run:
        with progress() as shown:
            forecast = forecast_pairs(request, shown)
        _print(forecast, as_json)
        return
    with stoppable() as (shown, stop):
        found = pair_samples(request, shown, stop, None if yes else confirmed)
    _print(found, as_json)
