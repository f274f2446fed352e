"""The parts of a training script that TRL's and Unsloth's share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lastresort.neighbours.exporting.course import lora_plus, takes_bf16
from lastresort.neighbours.exporting.job import Beside, Job
from lastresort.neighbours.exporting.readme import commented, header
from lastresort.neighbours.trl.settings import EXPERIMENTAL, arguments, source, trainer_of


def script(
    job: Job, title: str, notes: Sequence[str], *, imports: Sequence[str], bf16: str, main: Sequence[str]
) -> str:
    """The whole of it. imports: before those of the trainer and of rewards. bf16: source of whether the device has it, where
    that is decided there. main: lines of its one function.
    """
    lines = [
        *imports,
        _trainer_import(job),
        *_lora_plus_import(job),
        *_rewards_import(job),
        "",
        "HERE = Path(__file__).resolve().parent",
        f"BASE = {_base_name(job)}",
        *([f"BF16 = {bf16}"] if takes_bf16(job) is None else []),
        *_lora_plus(job),
        "",
        "",
        "def main():",
        *main,
        "",
        "",
        'if __name__ == "__main__":',
        "    main()",
    ]
    return _head(job, title, notes) + "\n" + "\n".join(lines) + "\n"


def _head(job: Job, title: str, notes: Sequence[str]) -> str:
    return commented(header(job, title, notes, "The rows are in train.jsonl beside it."))


def _trainer_import(job: Job) -> str:
    name = trainer_of(job)
    return f"from {EXPERIMENTAL.get(name, 'trl')} import {name}Config, {name}Trainer"


def _rewards_import(job: Job) -> list[str]:
    return ["", f"from rewards import {', '.join(job.rewards)}"] if job.rewards else []


def _lora_plus_import(job: Job) -> list[str]:
    return ["from peft.optimizers import create_loraplus_optimizer"] if lora_plus(job) else []


def _lora_plus(job: Job) -> list[str]:
    """A trainer with PEFT's optimizer: no argument of its configuration asks for it."""
    if not lora_plus(job):
        return []
    return [
        "",
        "",
        f"class LoraPlus({trainer_of(job)}Trainer):",
        "    def create_optimizer(self, model=None):",
        "        model = self.model if model is None else model",
        "        if self.optimizer is None:",
        "            kind, options = self.get_optimizer_cls_and_kwargs(self.args, model)",
        "            self.optimizer = create_loraplus_optimizer(",
        "                model,",
        "                kind,",
        f"                loraplus_lr_ratio={number(job.file.loraplus_lr_ratio)},",
        "                loraplus_weight_decay=self.args.weight_decay,",
        "                **options,",
        "            )",
        "        return self.optimizer",
    ]


def _base_name(job: Job) -> str:
    """Source of the base's name; of a folder, wherever the script is started from."""
    return f"str((HERE / {source(job.base.name)}).resolve())" if job.base.is_path else source(job.base.name)


def training(job: Job, *, peft: str | None) -> list[str]:
    """Lines of main() from the rows to the saved model. peft: name of the adapter's configuration, None where there is none."""
    name = trainer_of(job)
    rows = ['    train = load_dataset("json", data_files=str(HERE / "train.jsonl"), split="train")']
    if job.held_out:
        rows.append('    held_out = load_dataset("json", data_files=str(HERE / "eval.jsonl"), split="train")')
    given = {"model": "model", "args": "settings", "train_dataset": "train", "processing_class": "tokenizer"}
    if job.held_out:
        given["eval_dataset"] = "held_out"
    if job.rewards:
        given["reward_funcs"] = f"[{', '.join(job.rewards)}]"
    if peft is not None:
        given["peft_config"] = peft
    return [
        *rows,
        *call(f"    settings = {name}Config", arguments(job)),
        *call(f"    trainer = {'LoraPlus' if lora_plus(job) else f'{name}Trainer'}", given),
        "    trainer.train()",
        f'    trainer.save_model(str(HERE / "out" / {source("model" if job.adapter is None else "adapter")}))',
    ]


def call(before: str, given: Mapping[str, str]) -> list[str]:
    return [f"{before}(", *(f"        {name}={source}," for name, source in given.items()), "    )"]


def number(value: float) -> str:
    return repr(int(value) if float(value).is_integer() else value)


def layers(adapter: Beside) -> str:
    return source(adapter.layers if isinstance(adapter.layers, str) else list(adapter.layers))
