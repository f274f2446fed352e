"""Open a model by the name that a task file gives it, and tell its size without loading it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lastresort.embedded import MODEL_FILE, embedded_folder, embedded_gguf
from lastresort.errors import InputError, TaskError, UnknownModelError
from lastresort.hardware.find import parameters_of, parameters_of_gguf
from lastresort.hardware.threads import ThreadChoice, Threads
from lastresort.model_heads import model_config
from lastresort.models.calls import RetryPolicy
from lastresort.models.endpoint import Approve, approved, nobody_to_ask, parse_endpoint
from lastresort.models.protocol import Model, OnRead, Pay, is_endpoint
from lastresort.types import JsonObject

if TYPE_CHECKING:
    from lastresort.models.local import LocalModel

EMBEDDED = "embedded"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_KINDS = "embedded, a folder, a .gguf file, a hub id (org/name), openai:NAME or http://host/v1#NAME"
_IN_NAME = re.compile(r"(?<![\dx.])(\d+(?:\.\d+)?)([mb])(?![a-z0-9])", re.IGNORECASE)


def open_model(
    name: str,
    *,
    base_folder: Path,
    precision: str = "auto",
    adapter: Path | None = None,
    prompt_price: float = 0.0,
    output_price: float = 0.0,
    template_kwargs: JsonObject | None = None,
    on_threads: Callable[[ThreadChoice], None] | None = None,
    on_read: OnRead | None = None,
    on_lost: Pay = lambda usd: None,
    named: bool = True,
    approve: Approve = nobody_to_ask,
    patience: RetryPolicy | None = None,
) -> Model:
    """Open the model of this name. base_folder: what relative paths are relative to. Prices: USD per million tokens. on_threads:
    called when a local model computes with another number of threads. on_read: see `LocalModel`. on_lost: given what calls may have
    cost that gave no answer. named: whether the user's own file or option gives the name. If a run gives it, `approve` asks about
    an endpoint, and a script may write only next to itself. patience: with an endpoint, None for the usual one.

    Raises TaskError if there is no such model, PrerequisiteError if a package or key is missing, InputError for an endpoint that
    only a run names.
    """
    if name.startswith("scripted:"):
        from lastresort.models.scripted import ScriptedModel, read_script, writes_elsewhere

        path = base_folder / name.removeprefix("scripted:")
        script = read_script(path)
        if not named and writes_elsewhere(path, script):
            raise TaskError(
                f"a script that writes its calls to {script.calls}, and a run names it, which may be somebody else's",
                where=name,
                expected="a script that writes next to itself, or not at all",
                remedy="Change calls in the script, or name it as the model in your own task file.",
            )
        return ScriptedModel(script, name=name, adapter=adapter, prompt_price=prompt_price, output_price=output_price)
    if is_endpoint(name):
        from lastresort.models.api.model import ApiModel

        endpoint = parse_endpoint(name)
        if adapter is not None:
            raise TaskError(
                f"an endpoint cannot load an adapter ({adapter})",
                where=name,
                remedy="Serve the adapter there, under its own name.",
            )
        return ApiModel(
            endpoint,
            prompt_price=prompt_price,
            output_price=output_price,
            template_kwargs=template_kwargs,
            on_lost=on_lost,
            named=named or approved(endpoint, os.environ, approve),
            patience=patience,
        )
    weights = local_weights(name, base_folder)

    from lastresort.models.loading import load_local, round_adapter, weights_folder
    from lastresort.models.local import LocalModel
    from lastresort.models.tokenizer import refuse_other_tokenizer

    if adapter is not None:
        refuse_other_tokenizer(adapter, weights_folder(weights), template_kwargs or {})
    loaded = load_local(weights, precision=precision, adapter=adapter, template_kwargs=template_kwargs)
    if adapter is not None:
        loaded = round_adapter(loaded)
    threads = Threads(loaded.model, on_choice=on_threads)
    return LocalModel(loaded, name=name, template_kwargs=template_kwargs, threads=threads, on_read=on_read)


@dataclass(frozen=True, slots=True)
class ModelOpening:
    """Which model to open, and how: as a value, so that another process can open the same. Fields: as of `open_model`."""

    name: str
    base_folder: Path
    precision: str = "auto"
    adapter: Path | None = None
    prompt_price: float = 0.0
    output_price: float = 0.0
    template_kwargs: JsonObject = field(default_factory=dict)
    named: bool = True

    def open(
        self,
        *,
        on_threads: Callable[[ThreadChoice], None] | None = None,
        on_read: OnRead | None = None,
        on_lost: Pay = lambda usd: None,
        approve: Approve = nobody_to_ask,
    ) -> Model:
        """Raises as `open_model` does."""
        return open_model(
            self.name,
            base_folder=self.base_folder,
            precision=self.precision,
            adapter=self.adapter,
            prompt_price=self.prompt_price,
            output_price=self.output_price,
            template_kwargs=self.template_kwargs,
            on_threads=on_threads,
            on_read=on_read,
            on_lost=on_lost,
            named=self.named,
            approve=approve,
        )


def local_model(model: Model) -> LocalModel | None:
    """The model if it computes here, else None. Where none was opened, torch is not loaded to find that out."""
    if "lastresort.models.local" not in sys.modules:
        return None
    from lastresort.models.local import LocalModel

    return model if isinstance(model, LocalModel) else None


def local_weights(name: str, base_folder: Path) -> Path | str:
    """Where the weights are: a path on disk, or a hub id as text. The embedded model is converted on first use.

    A folder that exists takes precedence over a hub id of the same name. Raises TaskError for a name that is neither.
    """
    if is_endpoint(name):
        raise TaskError(
            "this model has no local weights", where=name, expected="a local model or a hub id", remedy="Name one."
        )
    if name == EMBEDDED:
        return embedded_folder()
    path = base_folder / Path(name).expanduser()
    if path.exists():
        return path
    if looks_like_a_path(name) or not _HUB_ID.fullmatch(name):
        raise UnknownModelError(
            f'found "{name}", which is nothing on disk', where="model", expected=_KINDS, remedy=_hint(name, path)
        )
    return name


def refuse_no_weights(name: str, base_folder: Path) -> None:
    """As `local_weights`, without a conversion of the embedded model. Raises PrerequisiteError where its package is missing."""
    if name == EMBEDDED:
        embedded_gguf()
    else:
        local_weights(name, base_folder)


def absolute_name(name: str, base_folder: Path) -> str:
    """The name with its path made absolute, so that it works from any folder. Other names stay as they are."""
    if name.startswith("scripted:"):
        return f"scripted:{(base_folder / name.removeprefix('scripted:')).resolve()}"
    if is_endpoint(name) or name == EMBEDDED:
        return name
    path = base_folder / Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def parameter_count(model: str, folder: Path) -> int | None:
    """Parameters of the model: from its config.json, else from its name (`…-7B-…`), else from the head of its GGUF. None if
    unknown. folder: what relative paths are relative to.
    """
    if is_endpoint(model):
        return None
    path = folder / Path(model).expanduser()
    try:
        if (path / "config.json").is_file():
            counted = parameters_of(model_config(path / "config.json"))
            if counted is not None:
                return counted
        named = _IN_NAME.search(MODEL_FILE if model == EMBEDDED else Path(model).name)
        if named is not None:
            return round(float(named[1]) * {"m": 1e6, "b": 1e9}[named[2].lower()])
        return parameters_of_gguf(path) if path.suffix == ".gguf" and path.is_file() else None
    except (OSError, InputError):  # damaged: a climb says so
        return None


def looks_like_a_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.endswith((".gguf", "/")) or "\\" in name or name.count("/") > 1


def _hint(name: str, path: Path) -> str:
    from difflib import get_close_matches

    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(name, [EMBEDDED], 1, 0.7) or get_close_matches(path.name, siblings, 1, 0.7)
    return f'Did you mean "{near[0]}"?' if near else "Correct the name or the path."
