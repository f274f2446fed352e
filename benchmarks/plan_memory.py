"""The plan's memory against trainings as they ran: `python -m benchmarks.plan_memory` measures, fits, checks, and writes the table
of docs/plan.md; with `--figures` it does so from what was measured before.

Every run is a process of its own: a model of set shape with random weights (or the embedded one), written to disk and loaded as a
training loads it, and two optimizer steps of one pass each, of which the second has everything in memory. Its peak is what of
the process was resident from the end of loading on. The constants that no shape tells, what the libraries take and the allocator's
gaps, are fitted to every second run; the others are forecast with them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lastresort.hardware.cards import GIB, Card
from lastresort.hardware.memory import PeakMemory
from lastresort.hardware.plan.memory import Memory, training_memory
from lastresort.hardware.plan.setup import Cards, Method, Setup
from lastresort.hardware.shape import ModelShape, shape_of
from lastresort.types import SilentProgress

MEASURED = Path(__file__).with_name("plan_memory.json")
PAGE = Path(__file__).parent.parent / "docs" / "plan.md"
MARKS = re.compile(r"(<!-- measured memory: [^>]*-->\n).*?(<!-- end of measured memory -->)", re.DOTALL)
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")
STEPS = 2
ALLOWED = 0.15  # how far a forecast may lie from the peak
PROCESSOR = Cards(Card("cpu", 1 << 50))


def _config(kind: str, hidden: int, inner: int, layers: int, heads: int, key_heads: int) -> Mapping[str, Any]:
    """As the families have it: Llama unties a small vocabulary, Qwen ties a large one; Qwen3 norms each head."""
    qwen = kind.startswith("qwen")
    return {
        "model_type": kind,
        "vocab_size": 151_936 if qwen else 32_000,
        "tie_word_embeddings": qwen,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "head_dim": hidden // heads,
    }


CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "llama-23m": _config("llama", 256, 768, 8, 4, 2),
    "llama-134m": _config("llama", 768, 2048, 12, 12, 12),
    "llama-405m": _config("llama", 1024, 3584, 24, 16, 8),
    "qwen2-180m": _config("qwen2", 640, 2560, 14, 10, 2),
    "qwen3-227m": _config("qwen3", 768, 2304, 16, 12, 4),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One training. rows: in its one pass (dpo: pairs). tokens: of a row, of which the first `shared` are the same in all and the
    last `answer` are trained. held: they are rows of replay, held to the base's distribution; of pairs the last is two such rows.
    """

    model: str
    method: Method
    objective: Literal["sft", "dpo", "orpo", "kto"]
    precision: Literal["float32", "bfloat16"]
    rows: int
    tokens: int
    shared: int = 0
    answer: int = 64
    target: Literal["attention", "all-linear"] = "attention"
    checkpointing: bool = False
    held: bool = False

    @property
    def setup(self) -> Setup:
        return Setup(
            self.method,
            learning="dpo" if self.objective in ("dpo", "orpo") else "sft",
            row_tokens=self.tokens,
            batch=self.rows,
            shared_tokens=self.shared,
            checkpointing=self.checkpointing,
            target=self.target,
            compute=self.precision,
            replay_loss="kl" if self.held else "likelihood",
        )


# Of those whose loss is no divergence, every second one is fitted to; the others are forecast.
RUNS = (
    Run("embedded", "lora", "sft", "bfloat16", 1, 1024),
    Run("embedded", "lora", "sft", "bfloat16", 4, 512),
    Run("embedded", "lora", "sft", "bfloat16", 16, 315, shared=280, answer=25),
    Run("embedded", "lora", "sft", "float32", 2, 512, target="all-linear"),
    Run("embedded", "lora", "sft", "bfloat16", 4, 512, target="all-linear", checkpointing=True),
    Run("embedded", "lora", "dpo", "bfloat16", 2, 300, shared=0),
    Run("embedded", "full", "sft", "float32", 1, 512),
    Run("embedded", "full", "dpo", "float32", 1, 256),
    Run("llama-23m", "lora", "sft", "float32", 8, 512),
    Run("llama-23m", "full", "sft", "float32", 4, 512, checkpointing=True),
    Run("llama-134m", "lora", "orpo", "float32", 2, 384, target="all-linear"),
    Run("llama-134m", "full", "sft", "float32", 2, 512),
    Run("llama-134m", "qlora", "sft", "bfloat16", 2, 512, target="all-linear"),
    Run("llama-405m", "qlora", "sft", "bfloat16", 1, 768, checkpointing=True),
    Run("llama-405m", "lora", "sft", "bfloat16", 2, 512),
    Run("llama-405m", "lora", "sft", "float32", 1, 1024, target="all-linear", checkpointing=True),
    Run("qwen2-180m", "lora", "kto", "bfloat16", 4, 256),
    Run("qwen2-180m", "full", "sft", "float32", 1, 384, checkpointing=True),
    Run("qwen3-227m", "lora", "dpo", "float32", 2, 256, target="all-linear"),
    Run("qwen3-227m", "lora", "sft", "bfloat16", 8, 384, shared=256, target="all-linear"),
    Run("embedded", "lora", "sft", "float32", 1, 512, answer=480, held=True),
    Run("embedded", "lora", "sft", "bfloat16", 4, 256, answer=96, held=True),
    Run("embedded", "lora", "dpo", "bfloat16", 2, 300, held=True),
    Run("embedded", "full", "sft", "float32", 1, 512, answer=480, held=True),
    Run("llama-405m", "qlora", "sft", "bfloat16", 1, 768, checkpointing=True, held=True),
    Run("qwen2-180m", "lora", "sft", "float32", 2, 256, answer=192, held=True),
    Run("qwen2-180m", "full", "sft", "float32", 1, 384, checkpointing=True, held=True),
)  # fmt: skip
FITTED = tuple(run for run in RUNS[::2] if not run.held)


def forecast(run: Run) -> Memory:
    return training_memory(shape(run.model), run.setup, PROCESSOR)


def shape(model: str) -> ModelShape:
    if model != "embedded":
        return shape_of(CONFIGS[model], model)
    from lastresort.hardware.find import shape_named

    return shape_named("smollm2-135m")


def passing_bytes(memory: Memory) -> int:
    """What comes and goes: all but what is held and the context."""
    return memory.of("activations", "logits", "buffers", "cache")


def fitted(measured: Sequence[int]) -> tuple[float, float]:
    """Bytes of the libraries, and the share of what comes and goes that the allocator's gaps take, by the runs of FITTED."""
    known = []
    for run, peak in zip(RUNS, measured, strict=True):
        if run in FITTED:
            memory = forecast(run)
            known.append((memory.per_card_bytes - memory.of("context"), passing_bytes(memory), peak))
    return least_squares(known)


def least_squares(known: Sequence[tuple[int, int, int]]) -> tuple[float, float]:
    """The bytes, and the share of what comes and goes, that the plan lacks: least squares of its relative errors.

    known: of each run the bytes that its shape gives, those of them that come and go, and its peak.
    """
    import numpy as np

    rows = [[1 / peak, passing / peak] for _, passing, peak in known]
    wanted = [(peak - planned) / peak for planned, _, peak in known]
    (more, share), *_ = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)
    return float(more), float(share)


def error(run: Run, peak: int) -> float:
    """Of the forecast, as a share of what was measured."""
    return forecast(run).per_card_bytes / peak - 1


def measure(run: Run, folder: Path) -> dict[str, int]:
    """Train in this process. resident_bytes: after loading; checked_bytes: the most up to the first step; peak_bytes: the most."""
    import torch

    from lastresort.embedded import embedded_folder
    from lastresort.models.local import load_local
    from lastresort.train.adapters.adapters import attach_adapter
    from lastresort.train.loop.loop import train
    from lastresort.train.settings import AdapterSettings, Objective, TrainSettings

    torch.manual_seed(0)
    place = embedded_folder() if run.model == "embedded" else folder / run.model
    loaded = load_local(place, precision=run.precision, quantize="nf4" if run.method == "qlora" else "auto")
    kind: Any = "none" if run.method == "full" else "lora"
    adapter = AdapterSettings(kind, target=run.target, quantize="nf4" if run.method == "qlora" else None)
    model = attach_adapter(loaded.model, adapter, base_name=run.model)
    items = items_of(run, loaded.model.config.vocab_size)
    settings = TrainSettings(
        1e-5,
        epochs=STEPS,
        batch_size=len(items),
        adapter=adapter,
        objective=Objective(run.objective),
        warmup=0.0,
        max_pass_tokens=run.setup.computed_tokens,
        checkpointing=run.checkpointing,
    )
    peak = PeakMemory()
    watch, resident = Watch(peak), resident_bytes()
    train(model, items, settings, folder=folder / "checkpoint", progress=watch)
    found = peak.read_bytes()
    if found is None:
        raise SystemExit("this system does not let a peak be measured anew (/proc/self/clear_refs)")
    return {"resident_bytes": resident, "checked_bytes": watch.checked_bytes, "peak_bytes": found}


class Watch(SilentProgress):
    """Progress that notes the peak when the steps begin."""

    def __init__(self, peak: PeakMemory) -> None:
        self._peak, self.checked_bytes = peak, 0

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        if label == "training":
            self.checked_bytes = self._peak.read_bytes() or 0


def items_of(run: Run, vocabulary: int) -> list[Any]:
    from lastresort.engine.forest import Row
    from lastresort.train.loop.batches import completions, labelled, pairs, replayed

    draw = random.Random(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(draw.randrange(vocabulary) for _ in range(n))

    shared = ids(run.shared)

    def row(beginning: tuple[int, ...]) -> Row:
        whole = (*beginning, *ids(run.tokens - len(beginning)))
        return Row(whole, tuple(i >= run.tokens - run.answer for i in range(run.tokens)))

    if run.objective in ("dpo", "orpo"):
        own = run.rows - run.held
        items = pairs([row(shared) for _ in range(own)], [row(shared) for _ in range(own)])
        return [*items, *replayed([row(shared), row(shared)], held=True)] if run.held else items
    rows = [row(shared) for _ in range(run.rows)]
    if run.held:
        return replayed(rows, held=True)
    return labelled(rows, [i % 2 == 0 for i in range(run.rows)]) if run.objective == "kto" else completions(rows)


def write_model(name: str, folder: Path) -> None:
    """Random weights in bfloat16, and a tokenizer of bytes, which only has to be there."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    config = AutoConfig.for_model(**CONFIGS[name])
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(str(folder / name))
    inner = Tokenizer(models.BPE(vocab={chr(65 + i): i for i in range(26)}, merges=[]))
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="A", pad_token="A").save_pretrained(str(folder / name))


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measured_apart(numbers: Sequence[int]) -> dict[int, dict[str, int]]:
    """Each run in a process of its own."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for number in numbers:
            model = RUNS[number].model
            if model in CONFIGS and not (Path(name) / model).is_dir():
                _child("write", model, name)
            found[number] = json.loads(_child("run", str(number), name).splitlines()[-1])
            print(f"  {number} {RUNS[number]}: {found[number]}", file=sys.stderr, flush=True)
    return found


def _child(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.plan_memory", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{arguments} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def told(run: Run) -> str:
    """What the run is, in words: its key among the figures that are kept."""
    shape_, what = shape(run.model), {"lora": "LoRA", "qlora": "QLoRA", "full": "all weights"}[run.method]
    family = {"embedded": "SmolLM2"}.get(run.model, run.model.partition("-")[0].capitalize())
    layers = "" if run.method == "full" else " on all linear layers" if run.target == "all-linear" else " on attention"
    rows = f"{run.rows} {'pairs' if run.objective in ('dpo', 'orpo') else 'rows'} of {run.tokens}"
    rows = rows if run.rows > 1 else rows.replace("rows", "row").replace("pairs", "pair")
    shared = f", {run.shared} shared" if run.shared else ""
    again = (", checkpointing" if run.checkpointing else "") + (", held to the base" if run.held else "")
    size = f"{shape_.parameters / 1e6:,.0f}M"
    return f"{family} {size}, {run.objective}, {what}{layers}, {run.precision}, {rows}{shared}{again}"


def kept_peaks() -> list[int]:
    """Of all runs in their order, as they were measured last."""
    known = json.loads(MEASURED.read_text(encoding="utf-8"))["runs"]
    return [int(known[told(run)]["peak_bytes"]) for run in RUNS]


def keep(found: Mapping[int, Mapping[str, int]]) -> None:
    """Beside what was measured before."""
    known = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {"runs": {}}
    runs = known["runs"] | {told(RUNS[number]): dict(figures) for number, figures in found.items()}
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    ordered = {told(run): runs[told(run)] for run in RUNS if told(run) in runs}
    body = {"machine": machine, "versions": versions, "runs": ordered}
    MEASURED.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


def page_table() -> str:
    lines = ["| run | measured | planned | off | |", "|---|---|---|---|---|"]
    for run, peak in zip(RUNS, kept_peaks(), strict=True):
        planned, use = forecast(run).per_card_bytes, "fitted" if run in FITTED else "forecast"
        off = f"{100 * error(run, peak):+.0f}%".replace("-", "−")
        lines.append(f"| {told(run)} | {peak / GIB:.2f} | {planned / GIB:.2f} | {off} | {use} |")
    return "\n".join(lines)


def page_with(table: str) -> str:
    """docs/plan.md with this table between its marks."""
    return MARKS.sub(lambda found: f"{found[1]}{table}\n{found[2]}", PAGE.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_memory", description=__doc__)
    parser.add_argument(
        "part", nargs="*", help="run NUMBER FOLDER | write MODEL FOLDER: what the processes are started with"
    )
    parser.add_argument("--only", nargs="*", type=int, help="numbers of runs to measure anew")
    parser.add_argument("--figures", action="store_true", help="measure nothing: fit and write the table")
    chosen = parser.parse_args()
    if chosen.part:
        print(json.dumps(_in_this_process(*chosen.part)))
        return
    if not chosen.figures:
        keep(measured_apart(chosen.only or range(len(RUNS))))
    libraries, gaps = fitted(kept_peaks())
    print(f"fitted: {libraries / GIB:.3f} GiB for the libraries, {gaps:.3f} of what comes and goes for gaps")
    missed = [told(run) for run, peak in zip(RUNS, kept_peaks(), strict=True) if abs(error(run, peak)) > ALLOWED]
    print(f"beyond {ALLOWED:.0%}: {'; '.join(missed) or 'none'}")
    PAGE.write_text(page_with(page_table()), encoding="utf-8")


def _in_this_process(part: str, what: str, folder: str) -> dict[str, int]:
    if part == "write":
        write_model(what, Path(folder))
        return {}
    with tempfile.TemporaryDirectory(dir=folder) as own:
        for model in Path(folder).iterdir():
            if model.name in CONFIGS:
                (Path(own) / model.name).symlink_to(model)
        return measure(RUNS[int(what)], Path(own))


if __name__ == "__main__":
    main()
