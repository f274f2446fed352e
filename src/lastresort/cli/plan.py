"""`lastresort plan --model M`: memory, time and money before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lastresort.cli.choice import one_of
from lastresort.cli.climb import names_a_task
from lastresort.cli.document import print_document
from lastresort.cli.terminal import print_text

if TYPE_CHECKING:
    from lastresort.hardware.plan.plan import Asked
    from lastresort.hardware.plan.setup import Cards, Setup
    from lastresort.hardware.shape import Shape


def plan_command(
    stray: str | None = typer.Argument(None, metavar="--model NAME", hidden=True),
    model: str | None = typer.Option(
        None,
        "--model",
        help="A name of the catalogue (llama-3-8b), a folder, a .gguf file, or a hub id; no weight is read.",
    ),
    method: str = typer.Option(
        "auto", "--method", metavar="auto|lora|qlora|full", help="auto: what the card has room for."
    ),
    objective: str = typer.Option(
        "sft", "--objective", metavar="sft|dpo|grpo", help="dpo: all on pairs; grpo: all on groups."
    ),
    gpu: str | None = typer.Option(
        None,
        "--gpu",
        help="A card (rtx-4090), its size (24GB), several (2xl40s), or cpu. Default: what is here, else the cheapest.",
    ),
    sharing: str = typer.Option(
        "fsdp", "--sharing", metavar="ddp|zero1|zero2|zero3|fsdp", help="How several cards share."
    ),
    tokens: int = typer.Option(
        1024, "--tokens", help="Tokens of a row: of the longest, and on average unless --mean-tokens."
    ),
    mean_tokens: float | None = typer.Option(None, "--mean-tokens", help="Of a row on average, for the time."),
    shared_tokens: int = typer.Option(0, "--shared-tokens", help="How many at the beginning all rows of a pass share."),
    rows: int | None = typer.Option(
        None, "--rows", min=1, help="Rows (pairs, prompts) to train on: gives time and money."
    ),
    epochs: float = typer.Option(3, "--epochs", min=0.001, help="Passes over them."),
    batch: int = typer.Option(1, "--batch", help="Rows (pairs) in one pass on each card."),
    checkpointing: bool = typer.Option(True, "--checkpointing/--no-checkpointing", help="Compute activations again."),
    r: int = typer.Option(16, "--r", help="Rank of the adapters."),
    target: str = typer.Option(
        "attention", "--target", metavar="attention|all-linear", help="Layers that get adapters."
    ),
    optimizer: str = typer.Option("adamw", "--optimizer", metavar="adamw|paged_adamw_8bit", help="Its state's size."),
    precision: str = typer.Option("auto", "--precision", metavar="auto|bfloat16|float32", help="Of the products."),
    second_model: bool = typer.Option(
        False, "--second-model", help="dpo: a reference of its own, not the adapter turned off."
    ),
    sampler: str = typer.Option(
        "engine", "--sampler", metavar="engine|beside|elsewhere", help="grpo: who draws the answers."
    ),
    answer_tokens: int = typer.Option(
        256, "--answer-tokens", help="The longest answer, when groups are drawn and measured."
    ),
    price: list[str] = typer.Option(
        [], "--price", metavar="USD|CARD=USD", help="An hour of the named card, or of this one."
    ),
    prices: Path | None = typer.Option(None, "--prices", help="A file of prices, CARD: USD a line."),
    picture: Path | None = typer.Option(
        None, "--picture", help="Write memory by part against the cards to this .svg file."
    ),
    listed: bool = typer.Option(False, "--list", help="List the models and cards that are known by name."),
    as_json: bool = typer.Option(False, "--json", help="Print the plan as one JSON document on stdout."),
) -> None:
    """Forecast memory part by part, whether it fits, time and money; and say what to take. Nothing is loaded or downloaded."""
    from lastresort.errors import InputError

    if stray is not None:
        remedy = f"Put the name of its option before it, such as --model {stray}."
        if names_a_task(stray):
            remedy = f"`lastresort climb {stray} --dry-run` forecasts a task: memory, time and money of each rung."
        raise InputError(f'found "{stray}"', where="plan", expected="options only", remedy=remedy)
    if listed:
        _list(as_json)
        return
    from lastresort.hardware.find import find_shape
    from lastresort.hardware.plan.plan import plan
    from lastresort.hardware.plan.setup import SHARINGS

    if model is None:
        raise InputError(
            "no model", where="plan", expected="--model NAME", remedy="`lastresort plan --list` shows names."
        )
    setup = _setup(
        method=method, learning=objective, row_tokens=tokens, batch=batch, shared_tokens=shared_tokens, checkpointing=checkpointing,
        r=r, target=target, optimizer=optimizer, compute=precision, sampler=sampler, new_tokens=answer_tokens,
        reference="second model" if second_model else "adapter off",
    )  # fmt: skip
    cards, here = _cards(gpu, one_of("--sharing", sharing, SHARINGS))
    shape = find_shape(model, Path.cwd())
    asked = _asked(
        setup, method != "auto", cards, here, price, prices, _job(rows, mean_tokens or tokens, epochs, cards)
    )
    found = plan(shape, asked)
    if picture is not None:
        _draw(picture, shape, found, asked)
    if as_json:
        print_document(found)
        return
    from lastresort.cli.console import SafeConsole
    from lastresort.report.plan import plan_text

    SafeConsole().print(plan_text(found))
    if picture is not None:
        print_text(f"written: {picture}")


def _setup(*, method: str, **told: Any) -> Setup:
    from lastresort.hardware.plan.setup import Setup

    _refuse_what_another_stands_for(told["learning"])
    allowed = {
        "learning": ("sft", "dpo", "grpo"),
        "target": ("attention", "all-linear"),
        "optimizer": ("adamw", "paged_adamw_8bit"),
        "compute": ("auto", "bfloat16", "float32"),
        "sampler": ("engine", "beside", "elsewhere"),
    }
    flags = {"learning": "--objective", "compute": "--precision"}
    for key, names in allowed.items():
        one_of(flags.get(key, f"--{key}"), told[key], names)
    if told["sampler"] == "beside":
        told["sampler"] = "vllm beside"
    chosen: Any = one_of("--method", method, ("auto", "lora", "qlora", "full"))
    return Setup("lora" if chosen == "auto" else chosen, **told)


def _refuse_what_another_stands_for(objective: str) -> None:
    """An objective that `train` knows and the plan has no figures of its own for."""
    from lastresort.errors import InputError
    from lastresort.objectives import NEEDS

    need = NEEDS.get(objective)
    stands = {"pairs": "dpo", "groups": "grpo", "text": "sft", "labels": "sft"}.get(need or "", objective)
    if objective == stands:
        return
    alike = ", ".join(name for name, own in NEEDS.items() if own == need)
    why = {
        "text": "which stands for plain text, too",
        "labels": "whose memory kto takes; its reference and the answers to other prompts take time beside",
    }.get(need or "", f"which stands for all on {need}: {alike}")
    raise InputError(
        f'found "{objective}"', where="--objective", expected="sft, dpo, grpo", remedy=f"Name {stands}, {why}."
    )


def _cards(gpu: str | None, sharing: Any) -> tuple[Cards | None, bool]:
    """The cards to plan for, and whether they are this machine's. None: none was named, and here is no GPU."""
    from lastresort.hardware.catalogue.cards import cards_named
    from lastresort.hardware.environment import card_here
    from lastresort.hardware.plan.setup import Cards

    if gpu is not None and gpu.strip().lower() != "cpu":
        count, card = cards_named(gpu)
        return Cards(card, count, sharing if count > 1 else "ddp"), False
    card_found = card_here(processor=gpu is not None)
    return (None, False) if card_found is None else (Cards(card_found), True)


def _job(rows: int | None, tokens: float, epochs: float, cards: Cards | None) -> Any:
    from lastresort.hardware.plan.time import Job

    if rows is None:
        return None
    rate = None
    if cards is not None and cards.card.is_cpu:
        from lastresort.hardware.environment import matrix_flops_per_s
        from lastresort.models.precision import processor_computes_bfloat16

        rate = matrix_flops_per_s(processor_computes_bfloat16())
    return Job(rows, tokens, epochs, rate)


def _asked(
    setup: Setup, told: bool, cards: Cards | None, here: bool, price: list[str], prices: Path | None, job: Any
) -> Asked:
    from lastresort.hardware.catalogue.cards import prices_with
    from lastresort.hardware.plan.plan import Asked

    named = [] if cards is None or here else [cards.card.name]
    return Asked(setup, told, cards, here, prices_with(price, prices, named), job)


def _draw(path: Path, shape: Shape, found: dict[str, Any], asked: Asked) -> None:
    from lastresort.errors import InputError
    from lastresort.hardware.plan.plan import bars, marks
    from lastresort.records.atomic import write_atomically
    from lastresort.report.charts.plan import plan_chart
    from lastresort.report.plan import answer

    if path.suffix != ".svg":
        raise InputError(
            f'found "{path.name}"', where="--picture", expected="a name that ends in .svg", remedy="Name one."
        )
    drawn = plan_chart(bars(shape, found, asked), found["setup"]["method"], marks(found), answer(found))
    write_atomically(path, f"{drawn}\n")


def _list(as_json: bool) -> None:
    from lastresort.hardware.catalogue.cards import known_cards, known_prices
    from lastresort.hardware.catalogue.models import known_models

    models = {name: entry.parameters for name, entry in known_models().items()}
    prices = known_prices()
    cards = {
        name: {
            "memory_bytes": card.memory_bytes,
            "usd_per_hour": prices[name].usd_per_hour if name in prices else None,
        }
        for name, card in known_cards().items()
    }
    if as_json:
        print_document({"models": models, "cards": cards})
        return
    for name, parameters in models.items():
        print_text(f"{name:<20} {parameters / 1e9:>8,.3g} billion parameters")
    print_text()
    for name, card in known_cards().items():
        usd = f"  ${prices[name].usd_per_hour:.2f} an hour" if name in prices else ""
        print_text(f"{name:<20} {card.memory_bytes / (1 << 30):>8,.1f} GiB{usd}")
