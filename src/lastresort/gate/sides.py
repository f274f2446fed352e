"""The two sides of a gate: the models that a user names, of any framework, and whether they can be compared.

Nothing is converted. An adapter is compared with its base by file headers before weights are loaded, because PEFT skips layers that
it does not find.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from lastresort.embedded import converted_name
from lastresort.errors import DataError, InputError, TaskError, UnknownModelError
from lastresort.gate.suites.suite import SideName
from lastresort.hardware.memory import free_memory_bytes, give_back_freed_memory
from lastresort.hardware.plan.memory import CACHE_BYTES
from lastresort.libraries import loading
from lastresort.models.adapter_settings import adapter_settings
from lastresort.models.open import ModelOpening, absolute_name, local_weights
from lastresort.models.protocol import Model, is_endpoint
from lastresort.models.tokenizer import TOKENIZER, read_rendering_fingerprint
from lastresort.report.words import gate as words
from lastresort.stop import Stop, check
from lastresort.systems.files import FILE, artefact_sha256
from lastresort.systems.running import load_winner, refuse_no_winner
from lastresort.systems.system import System
from lastresort.train.adapters.folder import CONFIG, WEIGHTS, weight_shapes
from lastresort.train.files.run_folder import trained_from, trained_rendering, trained_weights
from lastresort.types import Progress


@dataclass(frozen=True, slots=True)
class GateSide:
    """One of the two models. name: as the user wrote it, or of what was found in the folder that was named. open: loads it.
    rendering: hash of how it renders conversations, "" if that is not visible. scores: whether it gives likelihoods of answers.
    fingerprint: that the loaded model must have, "" for any. weight_bytes: of its weights on disk, 0 for an endpoint. opening: how
    another process opens it, None where only this one can.
    """

    name: str
    open: Callable[[], Model]
    rendering: str = ""
    scores: bool = True
    fingerprint: str = ""
    weight_bytes: int = 0
    opening: ModelOpening | None = None


@contextmanager
def open_side(side: GateSide) -> Iterator[Model]:
    """The model of a side, closed at the end, so that the other has room. Raises DataError if its fingerprint is another."""
    give_back_freed_memory()
    model = side.open()
    try:
        if side.fingerprint and model.fingerprint != side.fingerprint:
            raise DataError(
                f"the weights, precision or template of {side.name} are not those that were measured",
                where=side.name,
                expected=f"fingerprint {side.fingerprint[:16]}, not {model.fingerprint[:16]}",
                remedy="Put them back, or start a new run.",
            )
        yield model
    finally:
        model.close()


# A second model stays open beside the first if this multiple of its weights on disk is free, and room for keys and values: weights
# may be loaded in a wider precision, and those of the first may be mapped from a file, which counts as free memory.
ROOM = 2


class OpenedSides:
    """The two models. A gate that looks asks them in turn, so both stay open if memory has room; otherwise one is closed first.

    together: whether both may stay open; where workers have models in memory, their room counts on one here. differ: whether two
    that are the same model are refused.
    free: free bytes, None if unknown; tests pass their own.
    """

    def __init__(
        self,
        sides: Mapping[SideName, GateSide],
        progress: Progress,
        stop: Stop,
        free: Callable[[], int | None] = free_memory_bytes,
        *,
        together: bool = True,
        differ: bool = False,
    ) -> None:
        self._sides, self._progress, self._stop, self._free = sides, progress, stop, free
        self._together, self._differ = together, differ
        self._stack = ExitStack()
        self._open: dict[SideName, Model] = {}
        self.fingerprints: dict[SideName, str] = {}
        self.name: SideName | None = None

    def model(self, name: SideName) -> Model:
        if name not in self._open:
            side = self._sides[name]
            if self._open and not self._has_room(side):
                self._close()
            check(self._stop)
            label = {"base": "base", "tuned": "tuned model"}[name]
            self._progress.stage(f"opening the {label} {side.name}", None)
            self._open[name] = self._stack.enter_context(open_side(side))
            self.fingerprints[name] = self._open[name].fingerprint
            if self._differ and len(set(self.fingerprints.values())) < len(self.fingerprints):
                base, tuned = (self._sides[side].name for side in ("base", "tuned"))
                raise _the_base_itself(f"{tuned}, the same model as {base}, weights, precision and template")
        self.name = name
        return self._open[name]

    def _has_room(self, side: GateSide) -> bool:
        if not side.weight_bytes:
            return True
        if not self._together:
            return False
        give_back_freed_memory()
        free_bytes = self._free()
        return free_bytes is not None and free_bytes > ROOM * side.weight_bytes + CACHE_BYTES

    def _close(self) -> None:
        self._open.clear()
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def refuse_other_rendering(base: GateSide, tuned: GateSide) -> None:
    """Raises InputError if the two would see different text for the same conversation."""
    if base.rendering and tuned.rendering and base.rendering != tuned.rendering:
        raise InputError(
            f"the chat template or the special tokens of {tuned.name} differ from those of {base.name}",
            expected="the same text for both, since the gate would compare templates otherwise",
            remedy="Put the base's chat template and special tokens into the tuned model's folder, or name another base.",
        )


_FACTOR = re.compile(r"base_model\.model\.(?P<layer>.+)\.(?P<part>lora_A|lora_B)\.weight")


def is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


def base_named_by(adapter: Path) -> str:
    """The base that the adapter's settings name, "" if they name none. Raises DataError if they are not a JSON object."""
    return str(adapter_settings(adapter).get("base_model_name_or_path") or "")


def check_fit(adapter: Path, base: Path, base_name: str) -> None:
    """Raises DataError if a low-rank layer of the adapter is missing in the base, or has another shape there.

    Other kinds of adapters are left to PEFT, which refuses wrong shapes when it loads them.
    """
    factors = _factors(adapter)
    if not factors:
        return
    sizes = _layer_sizes(base)
    for layer, (part, width) in ((layer, factor) for layer, parts in factors.items() for factor in parts.items()):
        if layer not in sizes:
            raise _refused(adapter, f"the layer {layer}, which {base_name} does not have", base_name)
        if width not in sizes[layer]:
            shape = f"{part} of {layer} with {width} {'inputs' if part == 'lora_A' else 'outputs'}"
            raise _refused(
                adapter,
                f"{shape}, while {base_name} has a layer of {' x '.join(map(str, sizes[layer]))}",
                base_name,
            )


def _factors(adapter: Path) -> dict[str, dict[str, int]]:
    """Layer -> factor -> inputs of A, outputs of B."""
    factors: dict[str, dict[str, int]] = {}
    for key, shape in weight_shapes(adapter).items():
        match = _FACTOR.fullmatch(key)
        if match is not None and len(shape) == 2:
            factors.setdefault(match["layer"], {})[match["part"]] = shape[1 if match["part"] == "lora_A" else 0]
    return factors


def _layer_sizes(base: Path) -> dict[str, tuple[int, ...]]:
    """Path -> shape of the weights of every layer with a matrix, without loading them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with loading(base, "a causal language model"), torch.device("meta"):
        config: Any = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        if hasattr(config, "quantization_config"):  # a base stored in 4 bits has the shapes of what was quantised
            del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return {
        name: tuple(module.weight.shape)
        for name, module in model.named_modules()
        if getattr(getattr(module, "weight", None), "ndim", 0) == 2
    }


def _refused(adapter: Path, found: str, base_name: str) -> DataError:
    trained_on = base_named_by(adapter)
    trained_note = f", while this one was trained on {trained_on}" if trained_on and trained_on != base_name else ""
    return DataError(
        f"found {found}",
        where=str(adapter),
        expected=f"an adapter of {base_name}{trained_note}",
        remedy="Name its own base with --base, or another adapter.",
    )


Kind = Literal["adapter", "model", "winner"]


@dataclass(frozen=True, slots=True)
class GateSides:
    """system: saved with the tuned model, None if it is a model alone. notes: for the reader of the result. artefact: hash of the
    saved system, taken before it is opened.
    """

    base: GateSide
    tuned: GateSide
    kind: Kind
    system: System | None = None
    notes: tuple[str, ...] = ()
    artefact: str | None = None

    @property
    def scores(self) -> bool:
        """Whether both models give likelihoods of answers."""
        return self.base.scores and self.tuned.scores


def resolve_sides(
    base: str, tuned: str, template_kwargs: Mapping[str, Any], here: Path, *, base_as: str = "--base"
) -> GateSides:
    """base: a model's name as in a task file. tuned: a PEFT adapter's folder, a model's name, the output of a training, or the
    winner of a run.

    here: what relative paths start from. base_as: where the user named the base, for errors. Raises InputError if a name leads
    nowhere, the adapter does not fit the base, or the winner was not tuned.
    """
    folder = here / Path(tuned).expanduser()
    _refuse_the_base_itself(base, tuned, here, base_as)
    winner = _winner(folder)
    if winner is not None:
        return _of_winner(base, str(Path(tuned) / winner.relative_to(folder)), winner, here, base_as)
    refuse_no_winner(folder)
    if (saved := trained_weights(folder)) is not None:
        folder, tuned = saved, str(Path(tuned) / saved.relative_to(folder))
        _refuse_the_base_itself(base, tuned, here, base_as)
    base_side = _base_side(base, template_kwargs, here, base_as)
    if is_adapter(folder):
        return GateSides(base_side, *_of_adapter(base, tuned, folder, template_kwargs, here))
    _refuse_half_an_adapter(folder)
    with _named_by(
        "--tuned",
        "a PEFT adapter's folder, a model's folder or name, the output of a training, or the winner/ of a run",
    ):
        side = _side(tuned, template_kwargs, here)
    _refuse_other_than_trained(side, trained_rendering(folder), f"the rows that {tuned} was trained on")
    notes = tuple(words.identified_by_name(name) for name in (base, tuned) if is_endpoint(name))
    trained_on = trained_from(folder)
    if _is_another(trained_on, base, here):
        notes += (words.other_base(tuned, trained_on, base),)
    return GateSides(base_side, side, "model", notes=notes)


def _base_side(
    name: str, template_kwargs: Mapping[str, Any], here: Path, base_as: str, precision: str = "auto"
) -> GateSide:
    with _named_by(base_as, "the model that it was tuned from"):
        return _side(name, template_kwargs, here, precision)


@contextmanager
def _named_by(option: str, expected: str) -> Iterator[None]:
    """Errors about a model's name point at the option that it came from. expected: of a name that is nothing on disk."""
    try:
        yield
    except TaskError as error:
        if error.where != "model":
            raise
        wanted = expected if isinstance(error, UnknownModelError) else error.expected
        raise TaskError(error.found, where=option, expected=wanted, remedy=error.remedy) from error


def _refuse_half_an_adapter(place: Path) -> None:
    """Raises InputError for an adapter's weights in place of its folder, and for a folder without its configuration."""
    weights = place if place.is_file() else place / WEIGHTS
    if weights.name.startswith("adapter_") and weights.is_file():
        lacks = "" if is_adapter(weights.parent) else f" and no {CONFIG} next to it"
        raise InputError(
            f"found {weights.name}{lacks}",
            where=f"--tuned {place}",
            expected="an adapter's folder as PEFT's save_pretrained writes it",
            remedy="Save the adapter again." if lacks else f"Name the folder: {weights.parent}.",
        )


def _refuse_the_base_itself(base: str, tuned: str, here: Path, base_as: str) -> None:
    """Raises InputError if both names lead to one model."""
    if absolute_name(base, here) == absolute_name(tuned, here):
        raise _the_base_itself(f"{tuned}, which is also the base ({base_as})")


def _the_base_itself(found: str) -> InputError:
    """Hours later the gate could only say that it is no better."""
    return InputError(
        f"found {found}",
        where="--tuned",
        expected="a model that was tuned from the base",
        remedy="Name the adapter or the model that the training wrote, or another base with --base.",
    )


def _winner(folder: Path) -> Path | None:
    return next((place for place in (folder, folder / "winner") if (place / FILE).is_file()), None)


def _of_winner(base: str, tuned: str, folder: Path, here: Path, base_as: str) -> GateSides:
    system = load_winner(folder)
    kwargs, precision = system.template_kwargs, system.precision
    base_side = _base_side(base, kwargs, here, base_as, precision)
    notes: tuple[str, ...] = ()
    if system.adapter is not None:
        side, _, _, notes = _of_adapter(base, tuned, system.adapter, kwargs, here, precision)
        own_base = absolute_name(base, here) == absolute_name(system.model, folder)
        side = replace(side, fingerprint=system.fingerprint if own_base else "")
    elif system.tuned_from:
        side = replace(_side(system.model, kwargs, folder, precision, known_as=tuned), fingerprint=system.fingerprint)
    else:
        raise _nothing_tuned(system, folder)
    _refuse_other_than_trained(side, system.trained_rendering, f"the rows that {system.name} was trained on")
    return GateSides(base_side, side, "winner", system, notes, artefact_sha256(folder))


def _nothing_tuned(system: System, folder: Path) -> InputError:
    return InputError(
        f"the winner {system.name} is a prompt, whose model was not tuned",
        where=str(folder / FILE),
        expected="a run that a tuned model won",
        remedy="There is nothing to gate: the base ships as it is.",
    )


def _refuse_other_than_trained(side: GateSide, trained: str, rows: str) -> None:
    """Raises InputError if a side would see other text than it was trained on."""
    if trained and side.rendering and trained != side.rendering:
        raise InputError(
            f"the chat template or the special tokens of {side.name} differ from those of {rows}",
            expected=f"the rendering {trained[:16]} of its training, not {side.rendering[:16]}",
            remedy="Put back the template and chat_template_kwargs that it was trained with, or train it again.",
        )


def _of_adapter(
    base: str, tuned: str, adapter: Path, template_kwargs: Mapping[str, Any], here: Path, precision: str = "auto"
) -> tuple[GateSide, Kind, None, tuple[str, ...]]:
    """The base with the adapter. If the adapter brings a tokenizer, that shows how its training data was rendered."""
    side = _side(base, template_kwargs, here, precision, adapter=adapter, known_as=tuned)
    if is_endpoint(base):
        return side, "adapter", None, ()
    check_fit(adapter, _weights(base, here), base)
    _refuse_other_than_trained(side, trained_rendering(adapter), f"the rows that {adapter} was trained on")
    trained_on = base_named_by(adapter)
    is_other = _is_another(trained_on, base, here)
    notes = (words.other_base_of_adapter(tuned, trained_on, base),) if is_other else ()
    return side, "adapter", None, notes


def _side(
    name: str,
    template_kwargs: Mapping[str, Any],
    here: Path,
    precision: str = "auto",
    *,
    adapter: Path | None = None,
    known_as: str = "",
) -> GateSide:
    kwargs, adapter = dict(template_kwargs), None if adapter is None else adapter.resolve()
    opening = ModelOpening(
        absolute_name(name, here), here.resolve(), precision=precision, adapter=adapter, template_kwargs=kwargs
    )
    if is_endpoint(name):
        opening.open()  # refuses what leads nowhere; no weights are read
        return GateSide(known_as or name, opening.open, scores=False, opening=opening)
    has_tokenizer = adapter is not None and (adapter / TOKENIZER).is_file()
    weights = _weights(name, here)
    rendering = read_rendering_fingerprint(adapter if has_tokenizer and adapter is not None else weights, kwargs)
    size = sum(file.stat().st_size for kind in ("safetensors", "bin") for file in weights.glob(f"*.{kind}"))
    return GateSide(known_as or name, opening.open, rendering, weight_bytes=size, opening=opening)


def _is_another(trained_on: str, base: str, here: Path) -> bool:
    """Whether the base cannot go by the last part of this name, "" if unknown: its own, that of its folder, or that of the file it
    was converted from.
    """
    if not trained_on or is_endpoint(base):
        return False
    name, folder = Path(trained_on).name, _weights(base, here).name
    return name not in (Path(base).name, folder) and converted_name(folder) not in (name, name.removesuffix(".gguf"))


def _weights(name: str, here: Path) -> Path:
    from lastresort.models.loading import weights_folder

    return weights_folder(local_weights(name, here))
