"""How this process was launched, read from its environment: alone, or as one of several by torchrun, accelerate or MPI."""

from __future__ import annotations

from collections.abc import Mapping

from lastresort.errors import InputError

PLACE = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
COUNT = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
LOCAL_PLACE = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK")
OTHER_TRAINERS = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}
SEVERAL_PROCESS_COMMANDS = ("train",)
FSDP, FSDP_VERSION = "ACCELERATE_USE_FSDP", "FSDP_VERSION"


def process_count(environment: Mapping[str, str]) -> int:
    """How many processes were started together, this one included. Raises InputError for what is no positive whole number."""
    name = next((name for name in COUNT if environment.get(name)), "")
    value = environment.get(name, "1")
    if not value.isdecimal() or int(value) < 1:
        raise InputError(
            f'found "{value}"',
            where=name,
            expected="the number of processes",
            remedy="Launch with torchrun, or unset it.",
        )
    return int(value)


def leads(environment: Mapping[str, str]) -> bool:
    """Whether this process tells what happens: the first of several, or the only one."""
    return next((environment[name] for name in PLACE if environment.get(name)), "0") == "0"


def refused_command(environment: Mapping[str, str], command: str) -> InputError | None:
    """What to say where a command that does not divide its work was started several times at once by torchrun, accelerate or MPI;
    None where it was not. A pod of a training job knows its number too, but there nothing started the others for this command.
    """
    if (
        command in SEVERAL_PROCESS_COMMANDS
        or not any(environment.get(name) for name in LOCAL_PLACE)
        or process_count(environment) == 1
    ):
        return None
    return InputError(
        f"started in {process_count(environment)} processes at once",
        where=f"lastresort {command}",
        expected="one process, since only `lastresort train` divides its work",
        remedy="Start it without torchrun, accelerate or MPI.",
    )


def shards(environment: Mapping[str, str]) -> bool:
    """Whether the model is to be cut into shards, one a process (FSDP2). Raises InputError for other ways to share a model."""
    for name, what in OTHER_TRAINERS.items():
        if _on(environment, name):
            raise _refused(f"accelerate is set to {what}")
    if not _on(environment, FSDP):
        return False
    version = environment.get(FSDP_VERSION, "1")
    if version != "2":
        raise _refused(f"accelerate is set to FSDP {version}")
    return True


def _refused(found: str) -> InputError:
    return InputError(
        found,
        where="accelerate launch",
        expected="data parallel processes, or FSDP 2",
        remedy="Launch with torchrun, `accelerate launch --multi_gpu`, or `accelerate launch --use_fsdp --fsdp_version 2`.",
    )


def unused_settings(environment: Mapping[str, str]) -> list[str]:
    """Settings of accelerate that change nothing here, a sentence each."""
    lines = []
    precision = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision != "no":
        lines.append(f"accelerate's mixed_precision {precision} is not used: precision in the training file decides")
    steps = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    if steps != "1":
        lines.append(f"accelerate's gradient_accumulation_steps {steps} is not used: batch_size is the whole batch")
    if environment.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() != "no":
        lines.append("accelerate's dynamo_backend is not used: nothing is compiled")
    if _on(environment, FSDP) and _on(environment, "FSDP_ACTIVATION_CHECKPOINTING"):
        lines.append(
            "accelerate's fsdp_activation_checkpointing is not used: checkpointing in the training file decides"
        )
    if _on(environment, FSDP) and _on(environment, "FSDP_OFFLOAD_PARAMS"):
        lines.append("accelerate's fsdp_offload_params is not used: shards stay on their device")
    if _on(environment, "ACCELERATE_USE_CPU") and "MASTER_ADDR" in environment and "WORLD_SIZE" not in environment:
        lines.append(
            "accelerate launch --cpu starts one process, whatever --num_processes says: "
            "torchrun --nproc-per-node N -m lastresort starts several"
        )
    return lines


def _on(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "false").lower() in ("1", "true", "yes")
