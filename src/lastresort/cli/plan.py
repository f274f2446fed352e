"""`lastresort plan --model M` and `lastresort env`: memory, time and cost of a training, and what this machine can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from lastresort.cli.climb import names_a_task
from lastresort.cli.terminal import print_document, print_text
from lastresort.errors import InputError


def plan_command(
    stray: str | None = typer.Argument(None, metavar="--model NAME", hidden=True),
    model: str | None = typer.Option(
        None,
        "--model",
        help="A name from the catalogue (llama-3-8b), a folder, a .gguf file, or a hub id. No weights are read.",
    ),
    method: str = typer.Option("auto", "--method", metavar="auto|lora|qlora|full", help="auto: the best that fits."),
    objective: str = typer.Option(
        "sft", "--objective", metavar="sft|dpo|grpo", help="dpo: all on pairs; grpo: all on groups."
    ),
    gpu: str | None = typer.Option(
        None,
        "--gpu",
        help="A GPU (rtx-4090), a memory size (24GB), several GPUs (2xl40s), or cpu. Default: this machine's GPU, else the "
        "cheapest that fits.",
    ),
    sharing: str = typer.Option(
        "fsdp", "--sharing", metavar="ddp|zero1|zero2|zero3|fsdp", help="How GPUs share the model."
    ),
    tokens: int = typer.Option(
        1024, "--tokens", help="Longest row in tokens; also the mean unless --mean-tokens is set."
    ),
    mean_tokens: float | None = typer.Option(None, "--mean-tokens", help="Mean row in tokens, for the time."),
    shared_tokens: int = typer.Option(0, "--shared-tokens", help="Length in tokens of a prefix that all rows share."),
    rows: int | None = typer.Option(None, "--rows", min=1, help="Training rows (pairs, prompts), for time and cost."),
    epochs: float = typer.Option(3, "--epochs", min=0.001, help="Passes over the rows."),
    batch: int = typer.Option(1, "--batch", help="Rows (pairs) per forward pass and GPU."),
    checkpointing: bool = typer.Option(True, "--checkpointing/--no-checkpointing", help="Recompute activations."),
    r: int = typer.Option(16, "--r", help="Rank of the adapters."),
    target: str = typer.Option("attention", "--target", metavar="attention|all-linear", help="Layers with adapters."),
    optimizer: str = typer.Option("adamw", "--optimizer", metavar="adamw|paged_adamw_8bit", help="Optimizer."),
    precision: str = typer.Option("auto", "--precision", metavar="auto|bfloat16|float32", help="Compute precision."),
    second_model: bool = typer.Option(False, "--second-model", help="dpo: load a separate reference model."),
    sampler: str = typer.Option(
        "engine",
        "--sampler",
        metavar="engine|beside|elsewhere",
        help="grpo: what samples the answers. beside: a vLLM server on the same GPUs; elsewhere: one on other GPUs.",
    ),
    answer_tokens: int = typer.Option(
        256, "--answer-tokens", help="Longest answer in tokens, when sampled or measured."
    ),
    price: list[str] = typer.Option([], "--price", metavar="USD|CARD=USD", help="Price per hour of --gpu, or of CARD."),
    prices: Path | None = typer.Option(None, "--prices", help="File of prices per hour, one CARD: USD per line."),
    picture: Path | None = typer.Option(None, "--picture", help="Draw the memory, part by part, to this .svg file."),
    listed: bool = typer.Option(False, "--list", help="List the models and GPUs that are known by name."),
    as_json: bool = typer.Option(False, "--json", help="Print the plan as one JSON document on stdout."),
) -> None:
    """Forecast memory, time and cost of training.

    Also says which GPU to use. Nothing is loaded or downloaded.
    """
    from lastresort.app.plan import PlanRequest, known_names, make_plan, write_picture

    if stray is not None:
        remedy = f"Put the name of its option before it, such as --model {stray}."
        if names_a_task(stray):
            remedy = f"`lastresort climb {stray} --dry-run` forecasts a task: memory, time and money of each rung."
        raise InputError(f'found "{stray}"', where="plan", expected="options only", remedy=remedy)
    if listed:
        _list(known_names(), as_json)
        return
    if model is None:
        raise InputError(
            "no model", where="plan", expected="--model NAME", remedy="`lastresort plan --list` shows names."
        )
    request = PlanRequest(
        model, method=method, objective=objective, gpu=gpu, sharing=sharing, tokens=tokens, mean_tokens=mean_tokens,
        shared_tokens=shared_tokens, rows=rows, epochs=epochs, batch=batch, checkpointing=checkpointing, r=r, target=target,
        optimizer=optimizer, precision=precision, second_model=second_model, sampler=sampler, answer_tokens=answer_tokens,
        price=price, prices=prices,
    )  # fmt: skip
    found = make_plan(request)
    if picture is not None:
        write_picture(picture, found)
    if as_json:
        print_document(found.document.as_json())
        return
    from lastresort.cli.console import show
    from lastresort.report.plan import plan_text

    show(plan_text(found.document))
    if picture is not None:
        print_text(f"written: {picture}")


def _list(names: dict[str, dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_document(names)
        return
    for name, parameters in names["models"].items():
        print_text(f"{name:<20} {parameters / 1e9:>8,.3g} billion parameters")
    print_text()
    for name, card in names["cards"].items():
        usd = "" if card["usd_per_hour"] is None else f"  ${card['usd_per_hour']:.2f} an hour"
        print_text(f"{name:<20} {card['memory_bytes'] / (1 << 30):>8,.1f} GiB{usd}")


def env_command(
    as_json: bool = typer.Option(False, "--json", help="Print it as one JSON document on stdout."),
) -> None:
    """Show what this machine can train.

    Lists processor, memory, GPUs and packages.
    """
    from lastresort.app.plan import this_machine
    from lastresort.cli.console import show
    from lastresort.report.terminal import environment_text

    found = this_machine()
    if as_json:
        print_document(found)
    else:
        show(environment_text(found))
