"""Forecast memory, time and money of a training before anything is spent. Nothing is loaded or downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from lastresort.errors import InputError
from lastresort.hardware.plan.setup import SHARINGS
from lastresort.types import ReplayLoss

if TYPE_CHECKING:
    from lastresort.hardware.plan.document import PlanDocument
    from lastresort.hardware.plan.plan import PlanInputs
    from lastresort.hardware.plan.setup import Cards, Setup, Sharing
    from lastresort.hardware.plan.time import TrainingWork
    from lastresort.report.environment import Environment
    from lastresort.report.plan import KnownNames
    from lastresort.train.settings import TrainingFile

METHODS: tuple[Literal["auto", "lora", "qlora", "full"], ...] = ("auto", "lora", "qlora", "full")
PLANNED: tuple[Literal["sft", "dpo", "grpo"], ...] = ("sft", "dpo", "grpo")
TARGETS: tuple[Literal["attention", "all-linear"], ...] = ("attention", "all-linear")
OPTIMIZERS: tuple[Literal["adamw", "paged_adamw_8bit"], ...] = ("adamw", "paged_adamw_8bit")
PRECISIONS: tuple[Literal["auto", "bfloat16", "float32"], ...] = ("auto", "bfloat16", "float32")
REPLAY_LOSSES: tuple[ReplayLoss, ...] = get_args(ReplayLoss)
SAMPLERS: tuple[Literal["engine", "same-gpus", "other-gpus"], ...] = ("engine", "same-gpus", "other-gpus")


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What to forecast; each field is the option of `lastresort plan` with its name.

    model: a name of the catalogue, a folder, a .gguf file or a hub id. gpu: None for this machine's, else the cheapest that fits.
    mean_tokens: None for `tokens`. rows: None for no forecast of time and money. price: such as "2.5" or "a100-80=2.5".
    """

    model: str | Path
    method: str = "auto"
    objective: str = "sft"
    gpu: str | None = None
    sharing: str = "fsdp"
    tokens: int = 1024
    mean_tokens: float | None = None
    shared_tokens: int = 0
    rows: int | None = None
    epochs: float = 3
    batch: int = 1
    checkpointing: bool = True
    r: int = 16
    target: str = "attention"
    optimizer: str = "adamw"
    precision: str = "auto"
    second_model: bool = False
    sampler: str = "engine"
    answer_tokens: int = 256
    replay_loss: str = "likelihood"
    price: Sequence[str] = ()
    prices: Path | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A forecast. document: what `lastresort plan --json` prints. picture: memory part by part against the cards, as SVG."""

    document: PlanDocument
    picture: str

    @property
    def answer(self) -> str:
        """What it takes, on what, and for how much, in one sentence."""
        from lastresort.report.plan import answer

        return answer(self.document)

    @property
    def fits(self) -> bool:
        return self.document.fits

    def __repr__(self) -> str:
        return f"<Plan: {self.answer}>"

    def _repr_html_(self) -> str:
        from lastresort.report.notebook import picture_html

        return picture_html(self.answer, self.picture)


def make_plan(request: PlanRequest) -> Plan:
    """Forecast a training. Raises InputError for a model, a card or a word that is not known."""
    from lastresort.hardware.find import find_shape
    from lastresort.hardware.plan.plan import bars, marks, plan
    from lastresort.report.charts.plan import plan_chart
    from lastresort.report.plan import answer
    from lastresort.spec.values import one_of

    setup = _setup(request)
    cards, here = _cards(request.gpu, one_of("--sharing", request.sharing, SHARINGS))
    shape = find_shape(str(request.model), Path.cwd())
    inputs = _inputs(request, setup, cards, here)
    document = plan(shape, inputs)
    picture = plan_chart(bars(shape, document, inputs), document.setup.method, marks(document), answer(document))
    return Plan(document, f"{picture}\n")


def needs_torch(request: PlanRequest) -> bool:
    """Whether the forecast has torch measure this machine's speed or look for its GPU, which takes seconds to load."""
    from lastresort.hardware.memory import may_have_gpu

    return request.gpu == "cpu" or (request.gpu is None and may_have_gpu())


def plan_options(file: TrainingFile, within: Path) -> dict[str, str]:
    """The forecast of a training, as the options of `lastresort plan`. within: the folder from which a model's name is read."""
    from lastresort.data.files import read_rows

    settings, adapter = file.settings, file.settings.adapter
    model = Path(file.model)
    below = model.is_absolute() and model.is_relative_to(within)
    methods = "full" if adapter.kind == "none" else "qlora" if adapter.quantize else "lora"
    options = {
        "model": f"./{model.relative_to(within).as_posix()}" if below else file.model,
        "method": methods,
        "objective": {"pairs": "dpo", "groups": "grpo"}.get(settings.objective.need, "sft"),
        "rows": str(sum(len(read_rows(path)) for path in file.data.train)),
        "epochs": f"{settings.epochs:g}",
        "r": str(adapter.r),
        "optimizer": settings.optimizer,
        "precision": file.precision,
        "checkpointing": "on" if settings.checkpointing else "off",
    }
    if adapter.target in TARGETS:
        options["target"] = str(adapter.target)
    return options | ({} if file.max_tokens is None else {"tokens": str(file.max_tokens)})


def write_picture(path: Path, plan: Plan) -> None:
    """Write the plan's picture. Raises InputError unless the name says that it is an SVG."""
    from lastresort.records.atomic import write_atomically

    if path.suffix != ".svg":
        raise InputError(
            f'found "{path.name}"', where="--picture", expected="a name that ends in .svg", remedy="Name one."
        )
    write_atomically(path, plan.picture)


def known_names() -> KnownNames:
    """The models and cards that are known by name: parameters; memory and what an hour costs."""
    from lastresort.hardware.cards import known_cards, known_prices
    from lastresort.hardware.find import known_models
    from lastresort.report.plan import KnownCard, KnownNames

    prices = known_prices()
    cards = {
        name: KnownCard(
            memory_bytes=card.memory_bytes, usd_per_hour=prices[name].usd_per_hour if name in prices else None
        )
        for name, card in known_cards().items()
    }
    return KnownNames(models={name: entry.parameters for name, entry in known_models().items()}, cards=cards)


def this_machine() -> Environment:
    """Processor, memory, GPUs and packages, and the largest models of the catalogue that can be trained here."""
    from lastresort.hardware.environment import card_here, environment
    from lastresort.hardware.plan.plan import within_reach
    from lastresort.models.loading import chosen_device, chosen_dtype
    from lastresort.report.environment import Environment

    card = card_here(processor=True)
    precision = str(chosen_dtype("auto", chosen_device())).removeprefix("torch.")
    reach = {} if card is None else within_reach(card)
    return Environment.model_validate({**environment(), "precision": precision, "reach": reach})


def _setup(request: PlanRequest) -> Setup:
    from lastresort.hardware.plan.setup import Setup
    from lastresort.spec.values import one_of

    _refuse_covered(request.objective)
    _refuse_counts(request)
    learning = one_of("--objective", request.objective, PLANNED)
    target = one_of("--target", request.target, TARGETS)
    optimizer = one_of("--optimizer", request.optimizer, OPTIMIZERS)
    compute = one_of("--precision", request.precision, PRECISIONS)
    sampler = one_of("--sampler", request.sampler, SAMPLERS)
    method = one_of("--method", request.method, METHODS)
    replay_loss = one_of("--replay-loss", request.replay_loss, REPLAY_LOSSES)
    if learning == "grpo" and replay_loss == "kl":
        raise InputError(
            "found kl with --objective grpo, which trains on its own samples only",
            where="--replay-loss",
            expected="likelihood",
            remedy="Leave it out.",
        )
    return Setup(
        "lora" if method == "auto" else method,
        learning=learning,
        row_tokens=request.tokens,
        batch=request.batch,
        shared_tokens=request.shared_tokens,
        checkpointing=request.checkpointing,
        r=request.r,
        target=target,
        optimizer=optimizer,
        compute=compute,
        sampler=sampler,
        new_tokens=request.answer_tokens,
        reference="second model" if request.second_model else "adapter off",
        replay_loss=replay_loss,
    )


def _refuse_counts(request: PlanRequest) -> None:
    """Raises InputError at the first option that counts nothing, or more than its whole."""
    mean, tokens, shared = request.mean_tokens, request.tokens, request.shared_tokens
    checked = (
        ("--tokens", tokens, tokens >= 1, "a number of at least 1"),
        ("--batch", request.batch, request.batch >= 1, "a number of at least 1"),
        ("--r", request.r, request.r >= 1, "a number of at least 1"),
        ("--answer-tokens", request.answer_tokens, request.answer_tokens >= 0, "a number of at least 0"),
        (
            "--shared-tokens",
            shared,
            0 <= shared < tokens,
            f"at least 0, and fewer shared tokens than the longest row has ({tokens:,}, --tokens)",
        ),
        (
            "--mean-tokens",
            mean,
            mean is None or shared < mean <= tokens,
            f"a number above {f'what all rows share ({shared:,}, --shared-tokens)' if shared else '0'}, and at most that of the "
            f"longest row ({tokens:,}, --tokens)",
        ),
    )
    for option, found, right, expected in checked:
        if not right:
            raise InputError(f"found {found:,}".removesuffix(".0"), where=option, expected=expected)


def _refuse_covered(objective: str) -> None:
    """Raises InputError for an objective of `train` that another one covers in the plan."""
    from lastresort.objectives import OBJECTIVES

    need = OBJECTIVES[objective].need if objective in OBJECTIVES else None
    stands = {"pairs": "dpo", "groups": "grpo", "text": "sft", "labels": "sft"}.get(need or "", objective)
    if objective == stands:
        return
    alike = ", ".join(name for name, own in OBJECTIVES.items() if own.need == need)
    why = {
        "text": "which covers plain text too",
        "labels": "which takes the same memory; its reference and the answers to other prompts take more time",
    }.get(need or "", f"which covers all on {need}: {alike}")
    raise InputError(
        f'found "{objective}"', where="--objective", expected="sft, dpo, grpo", remedy=f"Name {stands}, {why}."
    )


def _cards(gpu: str | None, sharing: Sharing) -> tuple[Cards | None, bool]:
    """The cards to plan for, and whether they are this machine's. None: none was named, and here is no GPU."""
    from lastresort.hardware.cards import cards_named
    from lastresort.hardware.environment import card_here
    from lastresort.hardware.plan.setup import Cards

    if gpu is not None and gpu.strip().lower() != "cpu":
        count, card = cards_named(gpu)
        return Cards(card, count, sharing if count > 1 else "ddp"), False
    card_found = card_here(processor=gpu is not None)
    return (None, False) if card_found is None else (Cards(card_found), True)


def _inputs(request: PlanRequest, setup: Setup, cards: Cards | None, here: bool) -> PlanInputs:
    from lastresort.hardware.cards import prices_with
    from lastresort.hardware.plan.plan import PlanInputs

    named = [] if cards is None or here else [cards.card.name]
    job = _job(request, cards)
    return PlanInputs(
        setup, request.method != "auto", cards, here, prices_with(request.price, request.prices, named), job
    )


def _job(request: PlanRequest, cards: Cards | None) -> TrainingWork | None:
    from lastresort.hardware.plan.time import TrainingWork

    if request.rows is None:
        return None
    rate = None
    if cards is not None and cards.card.is_cpu:
        from lastresort.hardware.environment import matrix_flops_per_s
        from lastresort.models.loading import processor_computes_bfloat16

        rate = matrix_flops_per_s(processor_computes_bfloat16())
    return TrainingWork(request.rows, request.mean_tokens or request.tokens, request.epochs, rate)
