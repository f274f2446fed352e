"""Checkpoints: trained weights and optimizer state as safetensors, written whole or not at all.

A run that goes on from one ends with the same weights as a run that was never cut: the order of rows is a function of the
step, and the optimizer's state is kept exactly. On a GPU up to rounding, as no two runs are the same there: the backward of
flash and of efficient attention, and `index_add`, add in no fixed order.

What every process holds whole, the main one writes. Of weights that are trained in shards each process writes the rows that it
holds, `weights-1-of-2.safetensors`, and the main one the state, when all have written: nothing is gathered. Any number of processes
goes on from them, since each reads its rows from whichever files hold them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from pydantic_core import to_jsonable_python
from torch import Tensor

from lastresort.engine.parts import in_shards
from lastresort.errors import DataError, InfrastructureError, InputError
from lastresort.foreign import opened, read_json
from lastresort.hardware.memory import give_back_freed_memory
from lastresort.records.atomic import disk_errors, replace_folder, settle_folder, sync_file
from lastresort.records.training import FirstBatch
from lastresort.train.adapters.adapters import trainable
from lastresort.train.loop.processes import Processes
from lastresort.types import Progress

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

STATE, OPTIMIZER, WEIGHTS = "state.json", "optimizer.safetensors", "weights.safetensors"
NUMBER = "|number"
TRAINED_FOR_SAVED = 9  # seconds of training for each that a checkpoint takes: saving is at most a tenth of the time


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """How far a run is. step: optimizer steps done. run: fingerprint of settings and items, so that no other run continues
    it. check: what the first batch showed, so that a run goes on by the path it began with. threads: that compute it, on a
    processor, since their number changes sums by rounding."""

    step: int
    run: str
    computed_tokens: int
    nominal_tokens: int
    seconds: float
    check: FirstBatch | None = None
    threads: int | None = None

    def after(
        self, computed_tokens: int, nominal_tokens: int, seconds: float, check: FirstBatch | None
    ) -> CheckpointState:
        """One step later; the tokens are those of the step."""
        computed, nominal = self.computed_tokens + computed_tokens, self.nominal_tokens + nominal_tokens
        return CheckpointState(self.step + 1, self.run, computed, nominal, seconds, check, self.threads)


class Checkpoints:
    """The checkpoint of one run in `folder`, renewed every so many seconds, or less often where it takes long to save; with 0 after
    each step. All processes call alike, though the main one alone may write, and all read it.
    """

    def __init__(
        self,
        folder: Path,
        model: torch.nn.Module,
        optimizer: Any,
        run: str,
        processes: Processes,
        every_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._folder, self._model, self._optimizer, self._run = folder, model, optimizer, run
        self._processes, self._every_s, self._clock = processes, every_s, clock
        self._saved_at, self._rest_s = clock(), every_s

    def load(self, progress: Progress) -> CheckpointState:
        """How far the run is, its weights and its optimizer's state restored; step 0 without a checkpoint. A checkpoint of another
        run is reported, since this run will replace it.

        Raises DataError where its files are cut short, where the processes see different ones, or where each has to write a part
        and they have no folder in common.
        """
        if self._processes.trains_shards:
            _require_one_folder(self._folder, self._processes)
        loaded = self._processes.main_first(
            lambda: load_checkpoint(self._folder, self._model, self._optimizer, self._run)
        )
        if loaded is None and self._processes.main and (self._folder / STATE).is_file():
            progress.say(f"{self._folder} holds a checkpoint of other settings, data or weights: training starts over")
        state = loaded or CheckpointState(0, self._run, 0, 0, 0.0)
        steps = self._processes.each(lambda: state.step)
        if len(set(steps)) > 1:
            raise DataError(
                f"the processes found checkpoints of steps {', '.join(map(str, steps))}",
                where=str(self._folder),
                expected="one folder that all of them see",
                remedy="Put the output on a disk that all machines share.",
            )
        self._saved_at = self._clock()
        return state

    @property
    def due(self) -> bool:
        due = self._clock() - self._saved_at > self._rest_s
        return self._processes.from_main(lambda: due) if self._processes.trains_shards else due

    def save(self, state: CheckpointState) -> None:
        began, parts = self._clock(), self._processes.trains_shards
        if parts or self._processes.main:
            writers = self._processes if parts else Processes()
            save_checkpoint(self._folder, self._model, self._optimizer, state, writers)
            give_back_freed_memory()
        self._saved_at = self._clock()
        if self._every_s:
            self._rest_s = max(self._every_s, TRAINED_FOR_SAVED * (self._saved_at - began))


def _require_one_folder(folder: Path, processes: Processes) -> None:
    """Each process leaves a file where checkpoints are written, which the main one looks for: without it no checkpoint in `folder`
    would ever be whole. What a killed one has left there, `load_checkpoint` removes.
    """
    own_files: list[Path] = []
    fresh = _fresh(folder)

    def leave() -> None:
        with disk_errors(folder.parent):
            fresh.mkdir(parents=True, exist_ok=True)
            number, name = mkstemp(dir=fresh, prefix="seen-")
            os.close(number)
            own_files.append(Path(name))

    try:
        left = processes.each(lambda: (_refused(leave), [path.name for path in own_files]))
        if (error := next((refused for refused, _ in left if refused is not None), None)) is not None:
            raise processes.known_to_all(error)
        names = [name for _, process_names in left for name in process_names]
        missing = processes.from_main(
            lambda: [place for place, name in enumerate(names) if not (fresh / name).is_file()]
        )
    finally:
        for path in own_files:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # another process has not removed its own yet
            fresh.rmdir()
    if missing:
        raise processes.known_to_all(
            DataError(
                f"the first process does not see what process {missing[0]} writes there",
                where=str(folder.parent),
                expected="one folder that all of them see, since each writes its part of a checkpoint",
                remedy="Put the output on a disk that all machines share.",
            )
        )


def save_checkpoint(
    folder: Path,
    model: torch.nn.Module,
    optimizer: Any,
    state: CheckpointState,
    writers: Processes | None = None,
) -> None:
    """Replace the checkpoint in `folder` by the present state. writers: processes that each hold a part, all of which call this;
    None for this one, which holds all. Raises InfrastructureError when the disk refuses: what was written by then, up to a whole
    model, is then removed, so that it does not keep the disk full.
    """
    writers, fresh = writers or Processes(), _fresh(folder)

    def write_part() -> None:
        _write_part(folder, trainable(model), optimizer, writers)

    def take_place() -> None:
        if writers.main:
            with disk_errors(folder):
                (fresh / STATE).write_text(
                    json.dumps(to_jsonable_python(state, inf_nan_mode="constants")), encoding="utf-8"
                )
            replace_folder(fresh, folder)

    try:
        writers.from_main(lambda: shutil.rmtree(fresh, ignore_errors=True))
        for work in (write_part, take_place):  # what the disk says of either, all hear when none writes any more
            refused = writers.each(partial(_refused, work))
            if (error := next(filter(None, refused), None)) is not None:
                raise writers.known_to_all(error)
    finally:
        if writers.main:
            shutil.rmtree(fresh, ignore_errors=True)


def _write_part(
    folder: Path, named: Sequence[tuple[str, torch.nn.Parameter]], optimizer: Any, writers: Processes
) -> None:
    fresh = _fresh(folder)
    with disk_errors(folder):
        fresh.mkdir(parents=True, exist_ok=True)
        save_part(fresh / WEIGHTS, {name: parameter.detach() for name, parameter in named}, writers)
        save_part(fresh / OPTIMIZER, _optimizer_state(optimizer, named), writers)
        if writers.count > 1:  # of another machine the main process cannot do this before the folder gets its name
            for path in (fresh / WEIGHTS, fresh / OPTIMIZER):
                sync_file(part_of(path, writers.place, writers.count))


def _refused(work: Callable[[], None]) -> InfrastructureError | None:
    """What the disk says of the work."""
    try:
        work()
    except InfrastructureError as error:
        return error
    return None


def _fresh(folder: Path) -> Path:
    return folder.with_name(folder.name + ".new")


def save_part(path: Path, tensors: Mapping[str, Tensor], writers: Processes, run: str | None = None) -> None:
    """Write what this process holds of the tensors: of those in shards its rows. run: what they belong to, see `KeptTensors.run`.

    Raises OSError or SafetensorError where the disk refuses.
    """
    from safetensors.torch import save_file

    held = {name: own_rows(tensor).contiguous() for name, tensor in tensors.items()}
    more = {} if run is None else {"metadata": {"run": run}}
    save_file(held, str(part_of(path, writers.place, writers.count)), **more)


def own_rows(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if in_shards(tensor) else tensor


def part_of(path: Path, place: int, count: int) -> Path:
    """Where a process among so many writes its part."""
    return path if count == 1 else path.with_name(f"{path.stem}-{place + 1}-of-{count}{path.suffix}")


def parts_of(path: Path) -> Iterator[Path]:
    """The files that should hold what `path` holds of one process, in the order of their rows; `path` itself where none does."""
    firsts = [] if path.is_file() else path.parent.glob(f"{path.stem}-1-of-*{path.suffix}")
    counts = [first.stem.rpartition("-")[2] for first in firsts]
    count = max((int(number) for number in counts if number.isdecimal()), default=1)
    return (part_of(path, place, count) for place in range(count))


def remove_parts(path: Path) -> None:
    """Of any number of processes."""
    for old in (path, *path.parent.glob(f"{path.stem}-*-of-*{path.suffix}")):
        old.unlink(missing_ok=True)


class KeptTensors:
    """Tensors by name, of which one file holds all, or several the rows of one process each."""

    def __init__(self, files: Sequence[Any]) -> None:
        self._files = files
        self.names: list[str] = list(files[0].keys())

    @property
    def run(self) -> str | None:
        """What all of them belong to; None where they do not say the same."""
        runs = {(file.metadata() or {}).get("run") for file in self._files}
        return runs.pop() if len(runs) == 1 else None

    def get(self, name: str, like: Tensor | None = None) -> Tensor:
        """In shards where `like` is so, of which no more is read than this process holds. What has no rows, such as a number of
        steps, is whole in each file.
        """
        if not self._files[0].get_slice(name).get_shape():
            number: Tensor = self._files[0].get_tensor(name)
            return number
        if like is None or not in_shards(like):
            pieces = [file.get_tensor(name) for file in self._files]
            return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        from torch.distributed.tensor import DTensor

        held = own_rows(like)
        rows = torch.cat([torch.empty(0, *like.shape[1:], dtype=like.dtype), *self._pieces(name, *_rows_held(like))])
        return DTensor.from_local(
            rows.to(held.device),
            like.device_mesh,
            like.placements,
            run_check=False,
            shape=like.shape,
            stride=like.stride(),
        )

    def _pieces(self, name: str, begin: int, end: int) -> Iterator[Tensor]:
        """The rows from `begin` to before `end`, from one file after the other."""
        first = 0
        for file in self._files:
            part = file.get_slice(name)
            rows = part.get_shape()[0]
            if begin < first + rows and first < end:
                yield part[max(begin - first, 0) : min(end - first, rows)]
            first += rows


def _rows_held(tensor: DTensor) -> tuple[int, int]:
    """The first and the end of those that this process holds, as FSDP cuts them."""
    rows, count = tensor.shape[0], tensor.device_mesh.size()
    begin = min(tensor.device_mesh.get_local_rank() * -(-rows // count), rows)
    return begin, begin + own_rows(tensor).shape[0]


@contextmanager
def kept_tensors(path: Path) -> Iterator[KeptTensors]:
    """What `save_part` wrote there. Raises OSError, InputError or SafetensorError where a file is missing or cut short."""
    from safetensors import safe_open

    with ExitStack() as stack:
        files = []
        for part in parts_of(path):
            stack.enter_context(opened(part))  # a FIFO would be waited for
            files.append(stack.enter_context(safe_open(str(part), framework="pt")))
        yield KeptTensors(files)


def _optimizer_state(optimizer: Any, named: Sequence[tuple[str, torch.nn.Parameter]]) -> dict[str, torch.Tensor]:
    """By the parameter's name and the value's own. An optimizer of 8 bits counts its steps by a plain number, and its parameters
    share the tables of what 8 bits mean, which safetensors refuses to write twice.
    """
    tensors: dict[str, torch.Tensor] = {}
    written: set[int] = set()
    for name, parameter in named:
        for key, value in optimizer.state.get(parameter, {}).items():
            if not isinstance(value, torch.Tensor):
                tensors[f"{name}|{key}{NUMBER}"] = torch.tensor(value)
                continue
            tensor = own_rows(value).contiguous()
            tensors[f"{name}|{key}"] = tensor.clone() if tensor.data_ptr() in written else tensor
            written.add(tensor.data_ptr())
    return tensors


def load_checkpoint(folder: Path, model: torch.nn.Module, optimizer: Any, run: str) -> CheckpointState | None:
    """Put the checkpoint's weights and optimizer state back. None if there is none, or if it belongs to another run.

    A `save_checkpoint` that was killed half way is undone first. Raises DataError where its files are cut short.
    """
    with disk_errors(folder):
        settle_folder(folder)
    shutil.rmtree(_fresh(folder), ignore_errors=True)
    if not (folder / STATE).is_file():
        return None
    state = _read_state(folder / STATE)
    if state.run != run:
        return None
    load_weights(folder, model)
    with _checked(folder / OPTIMIZER) as tensors:
        _restore(optimizer, trainable(model), tensors)
    return state


def load_weights(folder: Path, model: torch.nn.Module) -> None:
    """Put the weights of the checkpoint into the model. Raises DataError where their file is cut short."""
    with torch.no_grad(), _checked(folder / WEIGHTS) as weights:
        for name, parameter in trainable(model):
            parameter.copy_(weights.get(name, parameter))


def whole_weights(folder: Path, model: torch.nn.Module) -> dict[str, Tensor]:
    """Everything that a file of the model holds, its trained weights as the checkpoint has them. model: in shards; no other process
    is asked. Raises DataError where a file is cut short.
    """
    with _checked(folder / WEIGHTS) as weights:
        trained = {name: weights.get(name) for name, _ in trainable(model)}
    others = {name: value for name, value in model.state_dict().items() if not in_shards(value)}
    return {**others, **trained}


def _read_state(path: Path) -> CheckpointState:
    try:
        fields = read_json(path, lenient=True)  # a loss may be NaN
        check = fields.pop("check", None)
        return CheckpointState(**fields, check=None if check is None else FirstBatch(**check))
    except (InputError, ValidationError, TypeError, AttributeError, OSError) as error:
        raise _damaged(path) from error


@contextmanager
def _checked(path: Path) -> Iterator[KeptTensors]:
    from safetensors import SafetensorError

    try:
        with kept_tensors(path) as tensors:
            yield tensors
    except (SafetensorError, InputError, OSError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> DataError:
    return DataError(
        "the checkpoint is cut short or damaged",
        where=str(path),
        expected="the file that training wrote",
        remedy=f"Copy it again, or remove the folder {path.parent} to train from the start.",
    )


def _restore(optimizer: Any, named: Sequence[tuple[str, torch.nn.Parameter]], kept: KeptTensors) -> None:
    """Hand the state to the optimizer, which puts each value where it needs it: a fused one its step on the device too. On a
    processor it would keep what safetensors maps of the file, which then takes room on the disk after the next checkpoint, too.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = {id(parameter): number for number, parameter in enumerate(parameters)}
    state: dict[int, dict[str, Any]] = {}
    for name, parameter in named:
        for key in (key for key in kept.names if key.startswith(f"{name}|")):
            value, what = kept.get(key, parameter), key.removeprefix(f"{name}|")
            values = state.setdefault(numbers[id(parameter)], {})
            if what.endswith(NUMBER):
                values[what.removesuffix(NUMBER)] = value.item()
            else:
                values[what] = value.clone() if parameter.device.type == "cpu" else value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
