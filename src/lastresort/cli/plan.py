"""`lastresort plan --model M` and `lastresort env`: memory, time and cost of a training, and what this machine can do."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from typer import Argument, Option

from lastresort.app.plan import METHODS, OPTIMIZERS, PLANNED, PRECISIONS, REPLAY_LOSSES, SAMPLERS, TARGETS
from lastresort.cli.options import names_a_task
from lastresort.errors import InputError
from lastresort.hardware.plan.setup import SHARINGS


def plan_command(
    stray: str | None = Argument(None, metavar="--model NAME", hidden=True),
    model: str | None = Option(
        None, "--model", help="A catalogue name (llama-3-8b), a folder, a .gguf file, or a hub id. Reads no weights."
    ),
    method: str = Option("auto", "--method", metavar="|".join(METHODS), help="auto: the best that fits."),
    objective: str = Option(
        "sft", "--objective", metavar="|".join(PLANNED), help="dpo: any objective on pairs; grpo: any on groups."
    ),
    gpu: str | None = Option(
        None,
        "--gpu",
        help="A GPU (rtx-4090), a memory size (24GB as sold, 23.6GiB as torch reports, 24564MiB as nvidia-smi shows), several "
        "GPUs (2xl40s), or cpu. Default: this machine's GPU, else the cheapest that fits.",
    ),
    sharing: str = Option("fsdp", "--sharing", metavar="|".join(SHARINGS), help="How GPUs share the model."),
    tokens: int = Option(1024, "--tokens", help="Longest row in tokens; also the mean unless --mean-tokens is set."),
    mean_tokens: float | None = Option(None, "--mean-tokens", help="Mean row in tokens, for the time."),
    shared_tokens: int = Option(0, "--shared-tokens", help="Length in tokens of a prefix that all rows share."),
    rows: int | None = Option(None, "--rows", min=1, help="Training rows (pairs, prompts), for time and cost."),
    epochs: float = Option(3, "--epochs", min=0.001, help="Passes over the rows."),
    batch: int = Option(1, "--batch", help="Rows (pairs) per forward pass and GPU."),
    checkpointing: bool = Option(True, "--checkpointing/--no-checkpointing", help="Recompute activations."),
    r: int = Option(16, "--r", help="Rank of the adapters."),
    target: str = Option("attention", "--target", metavar="|".join(TARGETS), help="Layers with adapters."),
    optimizer: str = Option("adamw", "--optimizer", metavar="|".join(OPTIMIZERS), help="Optimizer."),
    precision: str = Option("auto", "--precision", metavar="|".join(PRECISIONS), help="Compute precision."),
    second_model: bool = Option(False, "--second-model", help="dpo: load a separate reference model."),
    sampler: str = Option(
        "engine",
        "--sampler",
        metavar="|".join(SAMPLERS),
        help="grpo: what samples the answers. same-gpus or other-gpus: a vLLM server there.",
    ),
    answer_tokens: int = Option(256, "--answer-tokens", help="Longest answer in tokens, when sampled or measured."),
    replay_loss: str = Option(
        "likelihood", "--replay-loss", metavar="|".join(REPLAY_LOSSES), help="kl: replay has a KL loss to the base."
    ),
    price: list[str] = Option([], "--price", metavar="USD|GPU=USD", help="Price per hour of --gpu, or of GPU."),
    prices: Path | None = Option(None, "--prices", help="File of prices per hour, one GPU: USD per line."),
    picture: Path | None = Option(None, "--picture", help="Draw the memory, part by part, to this .svg file."),
    listed: bool = Option(False, "--list", help="List the models and GPUs that are known by name."),
    as_json: bool = Option(False, "--json", help="Print the plan as one JSON document on stdout."),
) -> None:
    """Forecast memory, time and cost of training.

    Also says which GPU to use. Nothing is loaded or downloaded.
    """
    from lastresort.app.plan import PlanRequest, known_names, make_plan, write_picture
    from lastresort.cli.border import show_document
    from lastresort.report.plan import names_text, plan_text

    if stray is not None:
        remedy = f"Put the name of its option before it, such as --model {stray}."
        if names_a_task(stray):
            remedy = f"`lastresort climb {quote(str(stray))} --dry-run` forecasts a task: memory, time and money of each rung."
        raise InputError(f'found "{stray}"', where="plan", expected="options only", remedy=remedy)
    if listed:
        show_document(known_names(), names_text, as_json=as_json)
        return
    if model is None:
        raise InputError(
            "no model", where="plan", expected="--model NAME", remedy="`lastresort plan --list` shows names."
        )
    request = PlanRequest(
        model, method=method, objective=objective, gpu=gpu, sharing=sharing, tokens=tokens, mean_tokens=mean_tokens,
        shared_tokens=shared_tokens, rows=rows, epochs=epochs, batch=batch, checkpointing=checkpointing, r=r, target=target,
        optimizer=optimizer, precision=precision, second_model=second_model, sampler=sampler, answer_tokens=answer_tokens,
        replay_loss=replay_loss, price=price, prices=prices,
    )  # fmt: skip
    found = make_plan(request)
    if picture is not None:
        write_picture(picture, found)
    last_line = None if picture is None else f"written: {picture}"
    show_document(found.document, plan_text, as_json=as_json, last_line=last_line)


def env_command(as_json: bool = Option(False, "--json", help="Print it as one JSON document on stdout.")) -> None:
    """Show what this machine can train.

    Lists processor, memory, GPUs and packages.
    """
    from lastresort.app.plan import this_machine
    from lastresort.cli.border import show_document
    from lastresort.report.environment import environment_text

    show_document(this_machine(), environment_text, as_json=as_json)
