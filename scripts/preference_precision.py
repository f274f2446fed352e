"""Train the same preferences in several precisions and measure what each learned on pairs held out.

    python -m scripts.preference_precision --out FOLDER --data ../shared/data     trains what is missing, cell by cell
    python -m scripts.preference_precision --out FOLDER --table                   prints the comparison with float32

A cell is one way with one seed: 60 steps of DPO with LoRA on the embedded model. A seed draws the adapter and the order of the
pairs; the pairs held out are the same for all. Every adapter is judged by one model in float32, so that the ways differ in training
alone. Each finished cell is a line of FOLDER/cells.jsonl and is never repeated; one that was cut starts again. Ways take turns
within a seed, so that their times were taken in one run; they are worth no more than the machine was quiet.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from benchmarks.material import Pairs, embedded
from benchmarks.preferences import OPTIONS
from benchmarks.trl_side import TrlSetting, trl_arguments, watch
from torch import nn

from lastresort.engine.forest import Row
from lastresort.engine.logp import score_continuations
from lastresort.train.adapters.adapters import attach_adapter
from lastresort.train.loop.batches import batch_of, pairs
from lastresort.train.settings import Objective, TrainSettings

CELLS = "cells.jsonl"
EXACT = "float32"
NOW, RESIDUAL, LOGITS, BOTH, TRL = "bf16", "bf16, residual", "bf16, logits", "bf16, residual and logits", "TRL's bf16"
WAYS = (NOW, RESIDUAL, LOGITS, BOTH, EXACT, TRL)
SEEDS, STEPS, BATCH, HELD_OUT = 3, 60, 2, 96
PROMPT_WORDS, ANSWER_WORDS = 16, 16
LEARNING_RATE = 1e-4


@dataclass(frozen=True, slots=True)
class Sides:
    train: Pairs
    held_out: Pairs


def read_sides(data: Path, tokenizer: Any) -> Sides:
    """Real pairs from `llamafactory_demo`: the last question's last words, and the first words of two answers to it."""
    rows = json.loads((data / "llamafactory_demo" / "dpo_en_demo.json").read_text("utf-8"))
    texts: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    for row in rows:
        question = " ".join(row["conversations"][-1]["value"].split()[-PROMPT_WORDS:])
        chosen, rejected = (_beginning(row[side]["value"]) for side in ("chosen", "rejected"))
        if question in seen or not chosen or not rejected or chosen == rejected:
            continue
        seen.add(question)
        turns = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        texts.append((prompt, chosen + tokenizer.eos_token, rejected + tokenizer.eos_token))
    random.Random("preference precision").shuffle(texts)
    return Sides(_rows(texts[HELD_OUT:][: STEPS * BATCH], tokenizer), _rows(texts[:HELD_OUT], tokenizer))


def _beginning(answer: str) -> str:
    return " ".join(answer.split()[:ANSWER_WORDS])


def _rows(texts: list[tuple[str, str, str]], tokenizer: Any) -> Pairs:
    sides = (list[Row](), list[Row]())
    for prompt, *answers in texts:
        before = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        for side, answer in zip(sides, answers, strict=True):
            ids = tuple(tokenizer(prompt + answer, add_special_tokens=False)["input_ids"])
            side.append(Row(ids, tuple(i >= before for i in range(len(ids)))))
    return Pairs(texts, *sides)


def settings_of(seed: int) -> TrainSettings:
    return TrainSettings(
        LEARNING_RATE,
        epochs=1,
        batch_size=BATCH,
        objective=Objective("dpo", OPTIONS["dpo"]),
        warmup=0.0,
        seed=seed,
    )


def widened(model: Any, way: str) -> Any:
    """The base with its residual stream in float32 (a sum has the wider precision of the two), its logits, or both."""
    if way in (RESIDUAL, BOTH):
        model.get_input_embeddings().register_forward_hook(lambda _module, _given, found: found.float())
    if way in (LOGITS, BOTH):
        tied = model.get_output_embeddings().weight
        head = nn.Linear(tied.shape[1], tied.shape[0], bias=False)
        head.weight = nn.Parameter(tied.detach().float(), requires_grad=False)
        model.set_output_embeddings(head)
    return model


def train_ours(way: str, seed: int, sides: Sides, folder: Path) -> tuple[Any, list[float], list[float]]:
    """The trained model, the loss of each step, and the end of each step in seconds."""
    from lastresort.train.loop.loop import StepSeen, train

    settings, losses, ends = settings_of(seed), list[float](), list[float]()
    base = widened(embedded("float32" if way == EXACT else "bfloat16").model, way)
    model = attach_adapter(base, settings.adapter, base_name="embedded", seed=seed)

    def on_step(seen: StepSeen) -> None:
        losses.append(seen.loss)
        ends.append(time.perf_counter())

    train(
        model, pairs(sides.train.chosen, sides.train.rejected), settings, folder=folder / "checkpoint", on_step=on_step
    )
    return model, losses, ends


def train_trl(seed: int, sides: Sides, folder: Path) -> tuple[Any, list[float], list[float]]:
    """As `train_ours`, through TRL's trainer: weights in float32, products in bfloat16 by autocast, the same pairs in order."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    settings, ends, logged = settings_of(seed), list[float](), list[dict[str, float]]()
    rows = [dict(zip(("prompt", "chosen", "rejected"), text, strict=True)) for text in sides.train.texts]
    order = [i for step in range(STEPS) for i in batch_of(step, len(rows), BATCH, seed)]
    loaded = embedded("float32")
    trainer = DPOTrainer(
        model=attach_adapter(loaded.model, settings.adapter, base_name="embedded", seed=seed),
        args=DPOConfig(
            **trl_arguments(settings, str(folder), TrlSetting(reduced=True), device="cpu"),
            beta=0.1,
            max_length=1024,
        ),
        train_dataset=Dataset.from_list([rows[i] for i in order]),
        processing_class=loaded.tokenizer,
        callbacks=[watch(ends, logged, "loss", "cpu")],
    )
    trainer._get_train_sampler = lambda *_: None  # in the order given, as ours
    trainer.train()
    return trainer.accelerator.unwrap_model(trainer.model), [logs["loss"] for logs in logged], ends


class Judge:
    """The base in float32, which gets every trained adapter in turn."""

    def __init__(self, held_out: Pairs) -> None:
        adapter = settings_of(0).adapter
        self._model = attach_adapter(embedded(EXACT).model, adapter, base_name="embedded").eval()
        self._prompts = [list(row.prompt) for row in held_out.chosen]
        sides = zip(self._prompts, held_out.chosen, held_out.rejected, strict=True)
        self._answers = [[list(row.ids[len(prompt) :]) for row in both] for prompt, *both in sides]
        self._base = self._apart()

    def _apart(self) -> list[float]:
        """log p(chosen) - log p(rejected) of each pair, in nats."""
        return [
            chosen - rejected for chosen, rejected in score_continuations(self._model, self._prompts, self._answers)
        ]

    def margins(self, trained: Any) -> list[float]:
        """By how much the adapter raised chosen above rejected, pair by pair, in nats."""
        parameters = trained.named_parameters()
        # TRL keeps the adapter as it began beside the trained one, under the name "ref".
        theirs = {name: value for name, value in parameters if ".lora_" in name and ".ref." not in name}
        with torch.no_grad():
            for name, own in self._model.named_parameters():
                if ".lora_" in name:
                    own.copy_(theirs.pop(name))
        assert not theirs, f"adapters without a place: {sorted(theirs)}"
        return [after - before for after, before in zip(self._apart(), self._base, strict=True)]


def run_cell(way: str, seed: int, sides: Sides, judge: Judge) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        trained = train_trl(seed, sides, Path(folder)) if way == TRL else train_ours(way, seed, sides, Path(folder))
    model, losses, ends = trained
    steps = sorted(later - one for one, later in itertools.pairwise(ends))
    return {
        "way": way,
        "seed": seed,
        "losses": losses,
        "step_s": steps[len(steps) // 2],
        "margins": judge.margins(model),
    }


def missing(cells: Sequence[Mapping[str, Any]], ways: Sequence[str], seeds: int) -> Iterator[tuple[str, int]]:
    """Seed by seed, so that a study that is cut has whole comparisons of fewer seeds."""
    done = {(cell["way"], cell["seed"]) for cell in cells}
    for seed in range(seeds):
        yield from ((way, seed) for way in ways if (way, seed) not in done)


def read_cells(out: Path) -> list[dict[str, Any]]:
    path = out / CELLS
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []


def table(cells: Sequence[Mapping[str, Any]]) -> str:
    """One line a way, against float32 on the same pairs and seeds."""
    seeds = sorted({cell["seed"] for cell in cells})
    found = {(cell["way"], cell["seed"]): cell for cell in cells}
    whole = [way for way in WAYS if all((way, seed) in found for seed in seeds)]
    lines = [
        f"seeds: {len(seeds)}, pairs held out: {HELD_OUT}",
        "| way | margin, nats | difference from float32 (95%) | one sign | accuracy | difference (95%) | loss, distance | step |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for way in whole:
        own, exact = ([found[name, seed] for seed in seeds] for name in (way, EXACT))
        margin, against = ([cell["margins"] for cell in side] for side in (own, exact))
        right, against_right = ([[float(m > 0) for m in one] for one in side] for side in (margin, against))
        signs = [fmean(a) - fmean(b) for a, b in zip(margin, against, strict=True)]
        apart = fmean(
            abs(a - b) for x, y in zip(own, exact, strict=True) for a, b in zip(x["losses"], y["losses"], strict=True)
        )
        slower = fmean(x["step_s"] / y["step_s"] for x, y in zip(own, exact, strict=True))
        lines.append(
            f"| {way} | {fmean(map(fmean, margin)):.3f} | {difference(margin, against)} | "
            f"{'yes' if min(signs) > 0 or max(signs) < 0 else 'no'} | {fmean(map(fmean, right)):.1%} | "
            f"{difference(right, against_right)} | {apart:.4f} | {slower:.2f} |"
        )
    return "\n".join(lines)


def difference(own: Sequence[Sequence[float]], exact: Sequence[Sequence[float]]) -> str:
    """Mean difference over pairs, each averaged over the seeds, with its 95% interval by Student's t."""
    from scipy.stats import t

    by_pair = [
        fmean(a - b for a, b in zip(x, y, strict=True))
        for x, y in zip(zip(*own, strict=True), zip(*exact, strict=True), strict=True)
    ]
    mean = fmean(by_pair)
    spread = (sum((one - mean) ** 2 for one in by_pair) / (len(by_pair) - 1) / len(by_pair)) ** 0.5
    half = float(t.ppf(0.975, len(by_pair) - 1)) * spread
    return f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("..") / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    if asked.table:
        print(table(read_cells(asked.out)))
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    sides = read_sides(asked.data, embedded(EXACT).tokenizer)
    judge = Judge(sides.held_out)
    for way, seed in list(missing(read_cells(asked.out), asked.ways, asked.seeds)):
        cell = run_cell(way, seed, sides, judge)
        with (asked.out / CELLS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(cell) + "\n")
        seen = f"loss {cell['losses'][-1]:.4f}, margin {fmean(cell['margins']):.3f}, {cell['step_s']:.2f} s a step"
        print(f"{way}, seed {seed}: {seen}", flush=True)


if __name__ == "__main__":
    main()
