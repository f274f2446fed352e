"""FSDP2 for the frozen base of an adapter: each process keeps a share of every layer, and puts a layer together to use it.

The adapters are whole in every process, small as they are: what changes them, keeps them and saves them is what it is without
shards. A layer is put together by all processes at once, so all of them must make as many passes; `passes` sees to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lastresort.errors import InputError
from lastresort.models.quantized import note_of

if TYPE_CHECKING:
    from lastresort.train.processes import Processes
    from lastresort.train.training_file import TrainingFile


def check_shardable(file: TrainingFile, processes: Processes) -> None:
    """Raise InputError for a training that cannot go on a sharded base."""
    if not processes.sharded:
        return
    kind = "an adapter" if file.start_from is not None else file.adapter.kind
    found = {"full": "adapter: full", "qlora": "adapter: qlora"}.get(kind)
    if file.need == "groups":
        found = f"objective: {file.objective}, whose answers differ in length among the processes"
    if found is not None:
        raise InputError(
            f"FSDP with {found}",
            where=str(file.path),
            expected="adapter: lora, rslora or dora, trained on rows, pairs or labels",
            remedy="Launch with torchrun: each process then holds a whole model.",
        )


def shard_base(model: Any, processes: Processes) -> Any:
    """Cut the frozen weights of every layer of a PEFT model's base into shards; returns the model, on its device.

    Embeddings and the output layer stay whole. Raises InputError for a model whose layers are not known, or that is in 4 bits.
    """
    if not processes.sharded:
        return model
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from lastresort.engine.parts import take_apart

    parts = take_apart(model)
    trunk: Any = parts.trunk
    names = set(getattr(parts.causal, "_no_split_modules", None) or ())
    layers = [module for module in trunk.modules() if type(module).__name__ in names]
    if not layers or note_of(model) is not None:
        raise InputError(
            "FSDP on a base in 4 bits" if layers else f"the layers of {type(parts.causal).__name__} are not known",
            where="accelerate launch",
            expected="a base in 16 or 32 bits, in layers",
            remedy="Launch with torchrun.",
        )
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    mesh = init_device_mesh(device.type, (processes.count,))
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params={p for p in layer.parameters() if p.requires_grad})
    whole = {p for p in trunk.parameters() if p.requires_grad or not hasattr(p, "device_mesh")}
    fully_shard(trunk, mesh=mesh, ignored_params=whole)
    processes.layers_are_in_shards()
    return model.to(device)
