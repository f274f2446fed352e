"""From what a user names, a base and a tuned model of any framework, to the two sides of a gate. Nothing is converted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lastresort.embedded import converted_name
from lastresort.errors import InputError, TaskError
from lastresort.ladder.gate.adapter_fit import check_fit, is_adapter, trained_on
from lastresort.ladder.gate.sides import Side
from lastresort.ladder.winner_folder import load_winner
from lastresort.models.open import local_folder, open_model, settled_name
from lastresort.models.protocol import is_endpoint
from lastresort.models.renderings import TOKENIZER, rendering_of
from lastresort.systems.artefact import artefact_sha256
from lastresort.systems.files import FILE
from lastresort.systems.system import System
from lastresort.train.adapter_folder import CONFIG, WEIGHTS
from lastresort.train.run_folder import trained_rendering

Kind = Literal["adapter", "model", "winner"]


@dataclass(frozen=True, slots=True)
class Named:
    """system: what was saved with the tuned model, None where it is a model alone. notes: what a reader has to know of it.
    artefact: hash of the saved system, taken before it is opened.
    """

    base: Side
    tuned: Side
    kind: Kind
    system: System | None = None
    notes: tuple[str, ...] = ()
    artefact: str | None = None


def named_sides(
    base: str, tuned: str, template_kwargs: Mapping[str, Any], here: Path, *, base_as: str = "--base"
) -> Named:
    """base: a model's name as in a task file. tuned: a PEFT adapter's folder, a model's name, or the winner of a run.

    here: what relative paths start from. base_as: where a user gave the base. Raises InputError where one leads nowhere, where the
    adapter does not fit the base, and where the winner was not tuned.
    """
    folder = here / Path(tuned).expanduser()
    winner = _winner(folder)
    if winner is not None:
        return _of_winner(base, tuned, winner, here, base_as)
    base_side = _base_side(base, template_kwargs, here, base_as)
    if is_adapter(folder):
        return Named(base_side, *_of_adapter(base, tuned, folder, template_kwargs, here))
    _refuse_half_an_adapter(folder)
    with _speaking_of("--tuned", "a PEFT adapter's folder, a model's folder or name, or the winner/ of a run"):
        side = _side(tuned, template_kwargs, here)
    _refuse_other_than_trained(side, trained_rendering(folder), f"the rows that {tuned} was trained on")
    notes = tuple(_known_by_name(name) for name in (base, tuned) if is_endpoint(name))
    return Named(base_side, side, "model", notes=notes)


def _base_side(
    name: str, template_kwargs: Mapping[str, Any], here: Path, base_as: str, precision: str = "auto"
) -> Side:
    with _speaking_of(base_as, "the model that it was tuned from"):
        return _side(name, template_kwargs, here, precision)


@contextmanager
def _speaking_of(option: str, expected: str) -> Iterator[None]:
    """A name that leads nowhere is told as the option that it was given with. expected: of what is nothing on disk."""
    try:
        yield
    except TaskError as error:
        if error.where != "model":
            raise
        told = expected if error.found.endswith("nothing on disk") else error.expected
        raise TaskError(error.found, where=option, expected=told, remedy=error.remedy) from error


def _refuse_half_an_adapter(place: Path) -> None:
    """Raises InputError for the weights of an adapter in place of its folder, and for a folder that lacks its configuration."""
    weights = place if place.is_file() else place / WEIGHTS
    if weights.name.startswith("adapter_") and weights.is_file():
        lacks = "" if is_adapter(weights.parent) else f" and no {CONFIG} beside it"
        raise InputError(
            f"found {weights.name}{lacks}",
            where=f"--tuned {place}",
            expected="an adapter's folder as PEFT's save_pretrained writes it",
            remedy="Save the adapter anew." if lacks else f"Name the folder: {weights.parent}.",
        )


def _known_by_name(endpoint: str) -> str:
    return (
        f"{endpoint} is known by its address alone: what it answered to the same items before was not asked again. "
        "Serve other weights under another name."
    )


def _winner(folder: Path) -> Path | None:
    return next((place for place in (folder, folder / "winner") if (place / FILE).is_file()), None)


def _of_winner(base: str, tuned: str, folder: Path, here: Path, base_as: str) -> Named:
    system = load_winner(folder)
    kwargs, precision = system.template_kwargs, system.precision
    base_side = _base_side(base, kwargs, here, base_as, precision)
    notes: tuple[str, ...] = ()
    if system.adapter is not None:
        side, _, _, notes = _of_adapter(base, tuned, system.adapter, kwargs, here, precision)
        own_base = settled_name(base, here) == settled_name(system.model, folder)
        side = replace(side, fingerprint=system.fingerprint if own_base else "")
    elif system.tuned_from:
        side = replace(_side(system.model, kwargs, folder, precision, known_as=tuned), fingerprint=system.fingerprint)
    else:
        raise _nothing_tuned(system, folder)
    _refuse_other_than_trained(side, system.trained_rendering, f"the rows that {system.name} was trained on")
    return Named(base_side, side, "winner", system, notes, artefact_sha256(folder))


def _nothing_tuned(system: System, folder: Path) -> InputError:
    return InputError(
        f"the winner {system.name} is a prompt, whose model was not tuned",
        where=str(folder / FILE),
        expected="a run that a tuned model won",
        remedy="There is nothing to gate: the base ships as it is.",
    )


def _refuse_other_than_trained(side: Side, trained: str, rows: str) -> None:
    """Raises InputError where a side is shown other text than it was trained on."""
    if trained and side.rendering and trained != side.rendering:
        raise InputError(
            f"the chat template or the special tokens of {side.name} differ from those of {rows}",
            expected=f"the rendering {trained[:16]} of its training, not {side.rendering[:16]}",
            remedy="Put back the template and chat_template_kwargs that it was trained with, or train it anew.",
        )


def _of_adapter(
    base: str, tuned: str, adapter: Path, template_kwargs: Mapping[str, Any], here: Path, precision: str = "auto"
) -> tuple[Side, Kind, None, tuple[str, ...]]:
    """The base with the adapter on it; where the adapter brings a tokenizer, it tells how the training data was rendered."""
    side = _side(base, template_kwargs, here, precision, adapter=adapter, known_as=tuned)
    if is_endpoint(base):
        return side, "adapter", None, ()
    check_fit(adapter, _weights(base, here), base)
    _refuse_other_than_trained(side, trained_rendering(adapter), f"the rows that {adapter} was trained on")
    told = trained_on(adapter)
    other = bool(told) and not _is_called(Path(told).name, base, here)
    notes = (f"{tuned} says that it was trained on {told}; here it is asked on {base}.",) if other else ()
    return side, "adapter", None, notes


def _side(
    name: str,
    template_kwargs: Mapping[str, Any],
    here: Path,
    precision: str = "auto",
    *,
    adapter: Path | None = None,
    known_as: str = "",
) -> Side:
    settled, kwargs = settled_name(name, here), dict(template_kwargs)

    def opened() -> Any:
        return open_model(settled, base_folder=here, precision=precision, adapter=adapter, template_kwargs=kwargs)

    if is_endpoint(name):
        opened()  # refuses what leads nowhere; no weights are read
        return Side(known_as or name, opened, scores=False)
    own = adapter is not None and (adapter / TOKENIZER).is_file()
    rendering = rendering_of(adapter if own and adapter is not None else _weights(name, here), kwargs)
    return Side(known_as or name, opened, rendering)


def _is_called(told: str, base: str, here: Path) -> bool:
    """Whether a model that goes by this name may be the base: by its own name, its folder's, or that of the file it came from."""
    folder = _weights(base, here).name
    return told in (Path(base).name, folder) or converted_name(folder) in (told, told.removesuffix(".gguf"))


def _weights(name: str, here: Path) -> Path:
    from lastresort.models.loading import weights_folder

    return weights_folder(local_folder(name, here))
