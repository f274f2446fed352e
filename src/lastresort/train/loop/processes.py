"""The processes of one run: what each of them computes, and how they end together.

Every exchange carries each process's error, if it has one, so a process that fails never leaves the others waiting, however many
exchanges ahead they are. A process that dies silently breaks the connection, which is an error too.

FSDP2 shards the frozen base of an adapter, or all weights where all are trained: each process keeps a share of every layer, and all
gather a layer to use it, so all must make the same number of passes; `passes` sees to that. Adapters are small and whole in every
process, trained and saved as without shards. Of weights that are trained in shards FSDP sums the gradients in each backward, and a
process holds its rows of the gradient and of the optimizer's state, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from lastresort.errors import InfrastructureError, InputError, LastresortError
from lastresort.models.quantized import quantized_base_of, separate_scales
from lastresort.train.loop.launch import process_count, shards

if TYPE_CHECKING:
    import torch

    from lastresort.train.settings import TrainingFile


T = TypeVar("T")
_CONNECTION = re.compile(r"gloo|NCCL|connection|peer", re.IGNORECASE)
# For another process, which may be saving a whole model. The backends' own limits are 10 and 30 minutes.
LONGEST_WAIT = timedelta(hours=1)
BUCKET_NUMBERS = 4_000_000  # gradients that are summed in one exchange


class Processes:
    """This process among those of its run. place: 0 is the main one, which alone reports, and writes but for checkpoints in shards.
    count: of all. sharded: each holds a share of the model instead of the whole of it.

    Every method that exchanges something is called by all of them, in the same order.
    """

    def __init__(self, place: int = 0, count: int = 1, *, sharded: bool = False) -> None:
        self.place, self.count, self.sharded = place, count, sharded
        self._layers_in_shards = self.trains_shards = False
        self._known_to_all: LastresortError | None = None

    @property
    def main(self) -> bool:
        return self.place == 0

    def each(self, make: Callable[[], T]) -> list[T]:
        """What make() returns in each process, in their order. What it raises in one is raised in all."""
        with self._failing_together():
            return self._exchange(None, make())

    def from_main(self, make: Callable[[], T]) -> T:
        """What make() returns in the main process, which alone calls it. What it raises is raised in all."""
        made: T | None = self.each(lambda: make() if self.main else None)[0]
        return made  # type: ignore[return-value]  # the first is the main one's

    def main_first(self, make: Callable[[], T]) -> T:
        """make() in every process, in the others once the main one is done: they find what it left on the disk."""
        if self.count == 1:
            return make()
        made_here: list[T] = []
        self.from_main(lambda: made_here.append(make()))
        with self.together():
            return made_here[0] if made_here else make()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is raised inside in one process is raised in all, at the latest at the end of the block."""
        with self._failing_together():
            yield
            self._exchange(None, None)

    def share(self, parts: Sequence[Sequence[int]], compute: Callable[[Sequence[int]], list[T]]) -> list[T]:
        """One result for each thing, by its number. parts: of each process the numbers that it computes, by compute(numbers)."""
        shares = self.each(lambda: compute(parts[self.place]))
        by_number = {
            number: result
            for part, results in zip(parts, shares, strict=True)
            for number, result in zip(part, results, strict=True)
        }
        return [by_number[number] for number in range(len(by_number))]

    @property
    def divided_by(self) -> int:
        """What FSDP divides the sum of the processes' gradients by, which the losses are multiplied by for that."""
        return self.count if self.trains_shards else 1

    @property
    def most(self) -> Callable[[int], int] | None:
        """Number -> the largest of the processes' numbers; None where nobody needs to know."""
        return (lambda own: max(self._exchange(None, own))) if self.sharded else None

    def layers_are_in_shards(self, *, trained: bool) -> None:
        """From here on a process may be waiting for its part of a layer: it hears that another has ended, but not why. trained:
        whether what is in shards is trained, so that no process holds all of what a checkpoint needs.
        """
        self._layers_in_shards, self.trains_shards = True, trained

    def known_to_all(self, error: LastresortError) -> LastresortError:
        """The error, which every process raises by itself, so that none has to tell the others."""
        self._known_to_all = error
        return error

    def reported_by_main(self, error: LastresortError) -> bool:
        """Whether the main process raises the same error as this other one."""
        return not self.main and error is self._known_to_all

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes; a parameter without one in a process counts as 0 there. FSDP has
        summed those of trained shards.
        """
        if self.count == 1 or self.trains_shards:
            return
        import torch

        for bucket in _buckets(parameters):
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            with self.others_alive():
                torch.distributed.all_reduce(flat)
            for parameter, summed in zip(bucket, torch.split(flat, [p.numel() for p in bucket]), strict=True):
                parameter.grad = summed.view_as(parameter).clone()

    def close(self) -> None:
        """At the end of the program, however it ends: threads that still hold connections then would abort it."""
        if self.count > 1:
            import torch

            torch.distributed.destroy_process_group()

    @contextmanager
    def _failing_together(self) -> Iterator[None]:
        try:
            yield
        except LastresortError as error:
            known = error is self._known_to_all or isinstance(error, ProcessLost)
            if not known and not self._layers_in_shards:
                self._exchange(error, None)
            raise

    def _exchange(self, error: LastresortError | None, value: T) -> list[T]:
        if self.count == 1:
            return [value]
        import torch

        answers: list[Any] = [None] * self.count
        with self.others_alive():
            torch.distributed.all_gather_object(answers, (error, value))
        failed = next((there for there, _ in answers if there is not None), None)
        if failed is not None:
            self._known_to_all = failed
            raise failed
        return [answer for _, answer in answers]

    @contextmanager
    def connected(self) -> Iterator[None]:
        """With shards, layers are put together inside, by all processes: a connection that breaks then becomes ProcessLost."""
        try:
            yield
        except RuntimeError as error:
            if self._layers_in_shards and _CONNECTION.search(str(error)):
                raise self._lost(error) from error
            raise

    @contextmanager
    def others_alive(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise self._lost(error) from error

    def _lost(self, error: RuntimeError) -> ProcessLost:
        error.__traceback__ = None  # its frames would hold the connections until Python has ended, which aborts it
        return ProcessLost(
            f"another process of this run has ended, or has not answered for {LONGEST_WAIT.total_seconds() / 60:.0f} minutes",
            where=f"process {self.place} of {self.count}",
            expected="all of them to run to the end",
            remedy="See what that one says.",
        )


class ProcessLost(InfrastructureError):
    """Another process of the run does not answer any more."""


def join() -> Processes:
    """This process among those that it was launched with, connected with them.

    Raises InputError for a launch that this trainer cannot honour.
    """
    sharded = shards(os.environ)
    if process_count(os.environ) == 1:
        return Processes()
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)
    return Processes(state.process_index, state.num_processes, sharded=sharded and state.num_processes > 1)


def _buckets(parameters: Sequence[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Parameters of one precision, as many as are summed at once."""
    bucket: list[torch.nn.Parameter] = []
    for parameter in parameters:
        full = sum(p.numel() for p in bucket) + parameter.numel() > BUCKET_NUMBERS
        if bucket and (full or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


def check_shardable(file: TrainingFile, processes: Processes) -> None:
    """Raise InputError for a training that cannot go on in shards."""
    if not processes.sharded:
        return
    if file.need == "groups":
        raise InputError(
            f"FSDP with objective: {file.objective}, whose answers differ in length among the processes",
            where=str(file.path),
            expected="a training on rows, pairs or labels",
            remedy="Launch with torchrun: each process then holds a whole model.",
        )
    if file.trains_all and file.settings.optimizer != "adamw":
        raise InputError(
            f"FSDP with adapter: full and optimizer: {file.settings.optimizer}, whose state is not cut into shards",
            where=str(file.path),
            expected="optimizer: adamw",
            remedy="Take adamw, or an adapter.",
        )


def into_shards(model: Any, processes: Processes) -> Any:
    """Cut a model into shards; returns it, on its device. Of a PEFT model the frozen weights of every layer: embeddings, the output
    layer and the quantisation scales of a base in 4 bits stay whole. Where all weights are trained, each of them: they are those of
    the main process, and the others may have them on the meta device.

    Raises InputError for a model whose layers are not known.
    """
    if not processes.sharded:
        return model
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    from lastresort.engine.parts import take_apart

    parts = take_apart(model)
    trunk: Any = parts.trunk
    names = set(getattr(parts.causal, "_no_split_modules", None) or ())
    layers = [module for module in trunk.modules() if type(module).__name__ in names]
    unknown = InputError(
        f"the layers of {type(parts.causal).__name__} are not known",
        where="accelerate launch",
        expected="a model in layers that can be cut into shards",
        remedy="Launch with torchrun.",
    )
    if not layers:
        raise unknown
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    mesh = init_device_mesh(device.type, (processes.count,))
    if all(parameter.requires_grad for parameter in model.parameters()):
        for layer in layers:
            _receive(layer, device, processes)
            fully_shard(layer, mesh=mesh)
        _receive(model, device, processes)
        with _as_children(trunk, [child for child in parts.causal.children() if child is not trunk]):
            # Gathered from the trunk's forward to the end of its backward, since the output layer works in between.
            fully_shard(trunk, mesh=mesh, reshard_after_forward=False)
        if not all(isinstance(parameter, DTensor) for parameter in model.parameters()):
            raise unknown  # whose gradient nobody would sum
        processes.layers_are_in_shards(trained=True)
        return model
    if quantized_base_of(model) is not None:
        separate_scales(model, device)
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params={p for p in layer.parameters() if p.requires_grad})
    whole = {p for p in trunk.parameters() if p.requires_grad or not hasattr(p, "device_mesh")}
    fully_shard(trunk, mesh=mesh, ignored_params=whole)
    processes.layers_are_in_shards(trained=False)
    return model.to(device)


def _receive(module: torch.nn.Module, device: torch.device, processes: Processes) -> None:
    """What of the module is not in shards yet becomes whole on the device of every process, as the main process has it."""
    import torch
    from torch.distributed.tensor import DTensor

    tensors = [tensor for tensor in (*module.parameters(), *module.buffers()) if not isinstance(tensor, DTensor)]
    shapes = processes.each(lambda: [tuple(tensor.shape) for tensor in tensors])
    if any(other != shapes[0] for other in shapes):
        raise processes.known_to_all(
            InputError(
                f"the weights of {type(module).__name__} are not those that its config.json describes",
                where="accelerate launch",
                expected="the same in every process, of which the first alone reads them",
                remedy="Launch with torchrun, or save the model once with transformers' save_pretrained.",
            )
        )
    kinds = processes.from_main(lambda: [tensor.dtype for tensor in tensors])
    for tensor, dtype in zip(tensors, kinds, strict=True):
        if tensor.is_meta:
            made = torch.empty(tensor.shape, dtype=dtype, device=device)
            received = torch.nn.Parameter(made) if isinstance(tensor, torch.nn.Parameter) else made
            # In place, so that tied weights stay one.
            torch.utils.swap_tensors(tensor, received)  # type: ignore[no-untyped-call]
        else:
            tensor.data = tensor.data.to(device, dtype)
        with processes.others_alive():
            torch.distributed.broadcast(tensor.data, 0)


@contextmanager
def _as_children(trunk: torch.nn.Module, modules: Sequence[torch.nn.Module]) -> Iterator[None]:
    """The modules belong to the trunk inside, as FSDP gathers for a forward what is below it: the output layer, too."""
    names = [f"outside_{number}" for number in range(len(modules))]
    for name, module in zip(names, modules, strict=True):
        trunk.add_module(name, module)
    try:
        yield
    finally:
        for name in names:
            delattr(trunk, name)
