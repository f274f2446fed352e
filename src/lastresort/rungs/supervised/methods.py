"""What supervised training changes: an adapter on the base, which may be in 4 bits, or all weights.

Whether the base is in 4 bits says the task, else the memory plan for the local card.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lastresort.errors import DataError, InputError, PrerequisiteError
from lastresort.hardware.cards import Card
from lastresort.hardware.environment import card_here
from lastresort.hardware.find import find_shape
from lastresort.hardware.plan.fit import fit
from lastresort.hardware.plan.setup import Cards, Setup
from lastresort.hardware.shape import ModelShape
from lastresort.models.protocol import is_endpoint
from lastresort.records.rungs import WeightsNotLocal
from lastresort.rungs.rung import Workbench
from lastresort.spec.sections import SftSettings
from lastresort.spec.task import Task
from lastresort.types import ReplayLoss

if TYPE_CHECKING:
    from lastresort.models.loading import Loaded
    from lastresort.train.settings import AdapterSettings


@dataclass(frozen=True, slots=True)
class AdapterMethod:
    """LoRA; with in_4_bits QLoRA, whose adapter stores that its base is loaded in NF4.

    name: begins the names of candidates. prefix: begins those of curves. folder: of kept models in the run.
    """

    sft: SftSettings
    in_4_bits: bool = False
    prefix: str = ""
    folder: ClassVar[str] = "adapters"
    holds_base: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return "qlora" if self.in_4_bits else "lora"

    @property
    def loraplus_lr_ratio(self) -> float:
        """The learning rate of an adapter's B, as a multiple of the learning rate."""
        return self.sft.loraplus_lr_ratio

    def resolved(self) -> AdapterMethod:
        """As a process that started in another folder can use it."""
        return self

    def description(self) -> str:
        """In words, for the note of the search."""
        kind, ratio = "QLoRA" if self.in_4_bits else "LoRA", self.sft.loraplus_lr_ratio
        plus = f", B at {ratio:g} times the learning rate (LoRA+)" if ratio != 1 else ""
        return f"{kind} r {self.sft.r} on {self.sft.target} layers{plus}"

    def settings(self) -> AdapterSettings:
        return adapter_settings(self.sft, in_4_bits=self.in_4_bits)

    def load(self, bench: Workbench) -> Loaded:
        """The base in memory. Raises TaskError, DataError or PrerequisiteError if it cannot be loaded."""
        return load_to_train(bench, quantize="nf4" if self.in_4_bits else "no")

    def end(self, loaded: Loaded, model: Any) -> Loaded | None:
        """The base for the next run; None if it has to be loaded again."""
        from lastresort.train.adapters.adapters import detach

        return replace(loaded, model=detach(model))

    def save(self, loaded: Loaded, model: Any, folder: Path) -> None:
        from lastresort.train.adapters.adapters import save_adapter

        save_adapter(model, folder)

    def saved(self, folder: Path) -> bool:
        """Whether this folder holds what `save` writes."""
        return (folder / "adapter_config.json").is_file()


@dataclass(frozen=True, slots=True)
class WholeMethod:
    """All weights, in float32, since most small updates vanish in bfloat16. An ordinary model in the precision of the base is kept.
    start: a folder to start from instead of the base.
    """

    start: Path | None = None
    prefix: str = "full-"
    name: ClassVar[str] = "full"
    folder: ClassVar[str] = "models"
    loraplus_lr_ratio: ClassVar[float] = 1.0  # there is no B

    @property
    def holds_base(self) -> bool:
        """Whether training starts from the base itself."""
        return self.start is None

    def resolved(self) -> WholeMethod:
        """As a process that started in another folder can use it."""
        return self if self.start is None else replace(self, start=self.start.resolve())

    def description(self) -> str:
        """In words, for the note of the search."""
        return "all weights"

    def settings(self) -> AdapterSettings:
        from lastresort.train.settings import AdapterSettings

        return AdapterSettings(kind="none")

    def load(self, bench: Workbench) -> Loaded:
        """The base, or what `start` holds, in memory. Raises TaskError, DataError or PrerequisiteError if it cannot be loaded."""
        return load_to_train(bench, weights=self.start, precision="float32", quantize="no")

    def end(self, loaded: Loaded, model: Any) -> Loaded | None:
        """None: the base has to be loaded again for the next run."""
        return None

    def save(self, loaded: Loaded, model: Any, folder: Path) -> None:
        from lastresort.libraries import quiet_transformers
        from lastresort.models.loading import DTYPES
        from lastresort.train.adapters.adapters import save_trained
        from lastresort.train.adapters.folder import stored_dtype

        stored = stored_dtype(loaded.folder)
        with quiet_transformers():
            save_trained(model.to(DTYPES.get(stored, DTYPES["bfloat16"])), loaded.tokenizer, folder)

    def saved(self, folder: Path) -> bool:
        """Whether this folder holds what `save` writes."""
        return (folder / "config.json").is_file()


Method = AdapterMethod | WholeMethod


def begin(method: Method, loaded: Loaded, base_name: str, seed: int) -> Any:
    """The model before the first step."""
    from lastresort.train.adapters.adapters import attach_adapter

    return attach_adapter(loaded.model, method.settings(), base_name=base_name, seed=seed)


def weights_absent(task: Task) -> WeightsNotLocal | None:
    """Why nothing can be trained, None where the weights are here."""
    return WeightsNotLocal(task.tuned_model) if is_endpoint(task.tuned_model) else None


def method_of(task: Task) -> AdapterMethod:
    """The adapter that `tune.method` names, or that fits the local card."""
    return AdapterMethod(task.sft, in_4_bits=in_4_bits(task))


def adapter_settings(sft: SftSettings, *, in_4_bits: bool) -> AdapterSettings:
    from lastresort.train.settings import AdapterSettings

    quantize: Any = "nf4" if in_4_bits else None
    return AdapterSettings(r=sft.r, alpha=sft.alpha or 2 * sft.r, target=sft.target, quantize=quantize)


def load_to_train(
    bench: Workbench, *, weights: Path | None = None, precision: str = "auto", quantize: Any = "auto", **arguments: Any
) -> Loaded:
    """The model to train, alone in memory: models that answer are closed first. weights: a folder instead of its own."""
    from lastresort.models.local import load_local
    from lastresort.models.open import local_weights

    bench.models.close()
    folder = weights or local_weights(bench.models.tuned_name, bench.task.folder)
    kwargs = bench.task.chat_template_kwargs
    return load_local(folder, precision=precision, quantize=quantize, template_kwargs=kwargs, **arguments)


PASS_TOKENS = 1536  # of a full pass, as in `TrainSettings.max_pass_tokens`
SHORT_TOKENS = 256  # of the shortest useful pass


def in_4_bits(task: Task) -> bool:
    """As `tune.method` says; with auto, if LoRA does not fit the local card, QLoRA does, and bitsandbytes is installed."""
    if task.tune.method != "auto":
        return task.tune.method == "qlora"
    card = card_here(processor=False)
    if card is None or importlib.util.find_spec("bitsandbytes") is None:
        return False
    holds = any(section.replay and section.replay_loss == "kl" for section in (task.sft, task.preference))
    return card_needs_4_bits(
        task.tuned_model, task.folder, card, r=task.sft.r, replay_loss="kl" if holds else "likelihood"
    )


def known_shape(model: str, folder: Path) -> ModelShape | None:
    """None for an endpoint and a model of unknown shape. folder: what relative paths are relative to."""
    if is_endpoint(model):
        return None
    try:
        return find_shape(model, folder)
    except (InputError, DataError, PrerequisiteError):
        return None


def card_needs_4_bits(model: str, folder: Path, card: Card, *, r: int, replay_loss: ReplayLoss = "likelihood") -> bool:
    """Whether LoRA does not fit with full passes, and QLoRA does with short ones. False for a model of unknown shape: its training
    fails soon enough.
    """
    shape = known_shape(model, folder)
    if shape is None:
        return False
    cards = Cards(card)
    lora = Setup("lora", row_tokens=PASS_TOKENS, r=r, checkpointing=False, measured_at_once=1, replay_loss=replay_loss)
    qlora = replace(lora, method="qlora", row_tokens=SHORT_TOKENS, new_tokens=0)
    return not fit(shape, lora, cards).fits and fit(shape, qlora, cards).fits


def adapter_setup(task: Task, row_tokens: int, **more: Any) -> Setup:
    """The adapter of `sft` on the base, in the precision in which it would be loaded here."""
    from lastresort.models.loading import chosen_device, chosen_dtype, is_reduced

    quantised = in_4_bits(task)
    reduced = quantised or is_reduced(chosen_dtype("auto", chosen_device()))
    return Setup(
        "qlora" if quantised else "lora",
        row_tokens=row_tokens,
        checkpointing=False,
        r=task.sft.r,
        target=task.sft.target,
        compute="bfloat16" if reduced else "float32",
        **more,
    )
