"""The weights that are trained, as the adapter that a server answers with: written, loaded there, the one before taken away.

Each version has a name of its own that holds a hash of its weights. vLLM finds its cached prefixes by an adapter's name, so
that other weights under one name can be answered with keys and values of the earlier ones (vllm-project/vllm, issue 42125);
its `load_inplace` is therefore not used. And where a name is loaded already, by a run that was killed, it is these weights.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from lastresort.errors import InputError, StoppedError
from lastresort.models.replies import Denied
from lastresort.models.retry import Patience
from lastresort.records.atomic import replace_folder
from lastresort.train.adapters import save_adapter

FOLDER = "served"
ONCE = Patience(attempts=1)


class Commands(Protocol):
    """A server that can be told what to serve: `models.api.ApiModel`."""

    name: str

    def command(self, path: str, body: Mapping[str, Any], *, patience: Patience | None = None) -> Denied | None: ...


class ServedAdapter:
    """The adapter below `output`, loaded by the server before every `every`-th step and wherever it has none of this run yet.

    name: what versions are called, before their step. seen_as: `output` as the server sees it, None for the same path.
    """

    def __init__(
        self, server: Commands, output: Path, *, name: str = "policy", every: int = 1, seen_as: str | None = None
    ) -> None:
        self._server, self._folder, self._name, self._every = server, output / FOLDER, name, every
        self._seen_as = str(output) if seen_as is None else seen_as.rstrip("/")
        self._served: tuple[str, int] | None = None

    def bring(self, step: int, model: Any) -> tuple[str, int]:
        """The name of the adapter to ask for in step `step`, and the step whose weights it holds.

        Raises InputError where the server cannot load it, InfrastructureError where it cannot be reached or the disk refuses.
        """
        if self._served is None or step % self._every == 0:
            name = self._written(step, model)
            self.load(name)
            self._served = (name, step)
            self._drop_others(name)
        return self._served

    def load(self, name: str) -> None:
        """Have the server load a version that was written, unless it has it. Raises as `bring` does."""
        body = {"lora_name": name, "lora_path": f"{self._seen_as}/{FOLDER}/{name}"}
        denied = self._server.command("/load_lora_adapter", body)
        if denied is not None and not (denied.status == 400 and "already" in denied.said):
            raise _refused(denied, self._server.name, body["lora_path"])

    def close(self) -> None:
        """Leave nothing of the run in the server or on the disk; what is served is in the checkpoint too."""
        with suppress(StoppedError):  # a server that is gone serves nothing
            self._drop_others("")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _written(self, step: int, model: Any) -> str:
        fresh = self._folder / ".new"
        shutil.rmtree(fresh, ignore_errors=True)
        save_adapter(model, fresh)
        digest = hashlib.sha256()
        for path in sorted(fresh.iterdir()):
            digest.update(path.read_bytes())
        name = f"{self._name}-{step}-{digest.hexdigest()[:12]}"
        replace_folder(fresh, self._folder / name)
        return name

    def _drop_others(self, name: str) -> None:
        """Unload earlier versions, those of a run that was killed too. What the server says is of no matter: none is asked for."""
        for folder in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            if folder.name != name:
                self._server.command("/unload_lora_adapter", {"lora_name": folder.name}, patience=ONCE)
                shutil.rmtree(folder, ignore_errors=True)


def _refused(denied: Denied, where: str, path: str) -> InputError:
    said = f"{denied.status}: {denied.said}" if denied.said else str(denied.status)
    if denied.status in (404, 405) and "adapter" not in denied.said.lower():
        return InputError(
            f"the server loads no adapters while it runs ({said})",
            where=where,
            expected="vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True",
            remedy="Start it so, or write sync: never below server; its answers then come from another policy than the "
            "one that is trained.",
        )
    return InputError(
        f"the server does not load the adapter at {path} ({said})",
        where=where,
        expected="a server that sees this folder and takes an adapter of this kind and rank",
        remedy="Share the folder and name it as the server sees it in server.output_seen_as, or start vLLM with what it asks for, "
        "such as --max-lora-rank.",
    )
