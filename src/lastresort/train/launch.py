"""How this process was launched, read from its environment: alone, or as one of several by torchrun, accelerate or MPI."""

from __future__ import annotations

from collections.abc import Mapping

from lastresort.errors import InputError

PLACE = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
SHARDED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}


def speaks(environment: Mapping[str, str]) -> bool:
    """Whether this process tells what happens: the first of several, or the only one."""
    return next((environment[name] for name in PLACE if environment.get(name)), "0") == "0"


def refuse_sharding(environment: Mapping[str, str]) -> None:
    """Raise InputError where accelerate was told to cut the model into shards, which this trainer does not do."""
    for name, what in SHARDED.items():
        if _on(environment, name):
            raise InputError(
                f"accelerate is set to {what}",
                where="accelerate launch",
                expected="data parallel processes, each with a whole model",
                remedy="Launch with torchrun or `accelerate launch --multi_gpu`; adapter: qlora makes the model smaller.",
            )


def unused_settings(environment: Mapping[str, str]) -> list[str]:
    """Settings of accelerate that change nothing here, a sentence each."""
    found = []
    precision = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision != "no":
        found.append(f"accelerate's mixed_precision {precision} is not used: precision in the training file decides")
    steps = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps != "1":
        found.append(f"accelerate's gradient_accumulation_steps {steps} is not used: batch_size is the whole batch")
    if environment.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() != "no":
        found.append("accelerate's dynamo_backend is not used: nothing is compiled")
    if _on(environment, "ACCELERATE_USE_CPU") and "MASTER_ADDR" in environment and "WORLD_SIZE" not in environment:
        found.append(
            "accelerate launch --cpu starts one process, whatever --num_processes says: "
            "torchrun --nproc-per-node N -m lastresort starts several"
        )
    return found


def _on(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "false").lower() in ("1", "true", "yes")
