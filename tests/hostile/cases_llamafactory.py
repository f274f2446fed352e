"""Training files of LLaMA-Factory, their dataset_info.json, and the rows of these data sets."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from corpus import Case
from model_files import DEEP, TEXTS, VALUES, lay

Make = Callable[[Path], list[str]]
ROWS: list[Any] = [{"instruction": f"Question {n}?", "input": "", "output": f"Answer {n}."} for n in range(4)]
EXPORT = ["export", "lf.yaml", "--to", "trl", "--out", "out"]
LEAST = {
    "model_name_or_path": "nobody/nothing",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "dataset_dir": "data",
    "dataset": "mine",
    "template": "llama3",
}


def write(folder: Path, entry: Any, rows: Any, keys: dict[str, Any]) -> list[str]:
    (folder / "data").mkdir()
    (folder / "data" / "mine.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "data" / "dataset_info.json").write_text(json.dumps({"mine": entry}), encoding="utf-8")
    found = {key: value for key, value in {**LEAST, **keys}.items() if value is not None}
    (folder / "lf.yaml").write_text(yaml.safe_dump(found), encoding="utf-8")
    return EXPORT


def file(rows: Any = ROWS, entry: dict[str, Any] | None = None, **keys: Any) -> Make:
    return lambda folder: write(folder, {"file_name": "mine.json", **(entry or {})}, rows, keys)


def entry(**values: Any) -> Make:
    return file(entry=values)


def info(text: str | bytes) -> Make:
    def make(folder: Path) -> list[str]:
        arguments = write(folder, {}, ROWS, {})
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        (folder / "data" / "dataset_info.json").write_bytes(data)
        return arguments

    return make


def source(text: str | bytes) -> Make:
    def make(folder: Path) -> list[str]:
        arguments = write(folder, {"file_name": "mine.json"}, ROWS, {})
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        (folder / "lf.yaml").write_bytes(data)
        return arguments

    return make


def added(lines: str) -> Case:
    return Case(source(yaml.safe_dump(LEAST) + lines))


def prepared(prepare: Callable[[Path], object], **values: Any) -> Make:
    def make(folder: Path) -> list[str]:
        arguments = write(folder, {"file_name": "mine.json", **values}, ROWS, {})
        prepare(folder / "data")
        return arguments

    return make


def conversation(*turns: Any, **columns: Any) -> Make:
    """Rows of sharegpt with these turns."""
    names = {"messages": "conversations", **{name: name for name in columns}}
    rows = [{"conversations": list(turns), **columns}]
    return file(rows, {"formatting": "sharegpt", "columns": names})


def openai(**message: Any) -> Make:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", **message}]
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    given = {"formatting": "openai", "columns": {"messages": "messages"}, "tags": tags}
    return file([{"messages": turns}], given)


def with_model(tools: list[str]) -> Make:
    """Rows with tools of their own, which the model's template writes."""

    def make(folder: Path) -> list[str]:
        lay(folder, "model")
        turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
        rows = [{"conversations": turns, "tools": one} for one in tools]
        columns = {"messages": "conversations", "tools": "tools"}
        given = {"file_name": "mine.json", "formatting": "sharegpt", "columns": columns}
        return write(folder, given, rows, {"model_name_or_path": "./model", "template": None})

    return make


def two(**keys: Any) -> Make:
    """Two data sets that are mixed."""

    def make(folder: Path) -> list[str]:
        arguments = write(folder, {}, ROWS, {"dataset": "mine,other", **keys})
        entries = {name: {"file_name": "mine.json"} for name in ("mine", "other")}
        (folder / "data" / "dataset_info.json").write_text(json.dumps(entries), encoding="utf-8")
        return arguments

    return make


def _link(folder: Path, target: str) -> None:
    (folder / "x.json").symlink_to(target)


HUMAN, GPT = {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}
KEYS = ("model_name_or_path", "stage", "dataset", "dataset_dir", "template", "cutoff_len", "max_samples", "lora_rank")
KEYS += ("lora_target", "learning_rate", "num_train_epochs", "val_size", "output_dir", "seed")
ENTRY = ("file_name", "formatting", "ranking", "num_samples", "columns", "tags", "subset", "split", "folder")
THOUGHTS = "<think>\n" * 50_000

CASES: dict[str, Case] = {
    "as it is": Case(file(), "accepted"),
    **{f"{key} is {what}": Case(file(**{key: value}), "either") for key in KEYS for what, value in VALUES.items()},
    **{f"an entry's {key} is {what}": Case(entry(**{key: v}), "either") for key in ENTRY for what, v in VALUES.items()},
    **{f"a file of {what}": Case(source(text)) for what, text in TEXTS.items()},
    **{f"dataset_info.json is {what}": Case(info(text)) for what, text in TEXTS.items()},
    "a date that is none": added("seed: 2024-13-45\n"),
    "5,000 digits": added(f"seed: 1{'0' * 5_000}\n"),
    "a set that holds itself": added("seed: &a !!set {? *a}\n"),
    "an alias bomb": added("x0: &x0 [1, 1]\n" + "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 40))),
    "5,000 brackets": added(f"seed: {DEEP}\n"),
    "entries in the file itself": Case(file(dataset_dir={"mine": 5})),
    "entries of Hub names": Case(file(dataset_dir={"mine": {"hf_hub_url": ["x"]}})),
    **{f"a column is {what}": Case(entry(columns={"prompt": v}), "either") for what, v in VALUES.items()},
    **{
        f"a tag is {what}": Case(entry(formatting="sharegpt", tags={"role_tag": v}), "either")
        for what, v in VALUES.items()
    },
    "100 million samples": Case(entry(num_samples=10**8)),
    "10^18 samples": Case(entry(num_samples=10**18)),
    "a million samples of four rows": Case(entry(num_samples=10**6 + 1)),
    "10 samples of four rows": Case(entry(num_samples=10), "accepted"),
    "a chance of 10^-300": Case(two(mix_strategy="interleave_over", interleave_probs="1e-300,1")),
    "a chance that is not a number": Case(two(mix_strategy="interleave_over", interleave_probs="nan,1"), "either"),
    "an infinite chance": Case(two(mix_strategy="interleave_over", interleave_probs="inf,1"), "either"),
    "a folder in a home that nobody has": Case(file(dataset_dir="~nobody-of-this-name/data")),
    "a file in a home that nobody has": Case(entry(file_name="~nobody-of-this-name/rows.json")),
    "a model in a home that nobody has": Case(file(model_name_or_path="~nobody-of-this-name/model"), "either"),
    "a file of the environment": Case(entry(file_name="/proc/self/environ")),
    "a device": Case(entry(file_name="/dev/zero")),
    "a file with NUL in its name": Case(entry(file_name="a\0b.json")),
    "a name of 300 letters": Case(entry(file_name="a" * 300 + ".json")),
    "a FIFO": Case(prepared(lambda folder: os.mkfifo(folder / "x.json"), file_name="x.json")),
    "a link to a device": Case(prepared(lambda folder: _link(folder, "/dev/zero"), file_name="x.json")),
    "a link to itself": Case(prepared(lambda folder: _link(folder, "x.json"), file_name="x.json")),
    "an empty folder": Case(prepared(lambda folder: (folder / "x").mkdir(), file_name="x")),
    "a text that is not UTF-8": Case(
        prepared(lambda folder: (folder / "x.txt").write_bytes(b"\xff\xfe"), file_name="x.txt")
    ),
    "rows that are a number": Case(file(5)),
    "rows that are numbers": Case(file([1, 2])),
    "rows that are empty": Case(file([{}])),
    "rows of nulls": Case(file([dict.fromkeys(("instruction", "input", "output"))]), "either"),
    "turns that are a number": Case(conversation(5)),
    "turns that are lists": Case(conversation([1])),
    "a turn from a list": Case(conversation({"from": ["human"], "value": "a"}, GPT)),
    "a turn from an object": Case(conversation({"from": {"a": 1}, "value": "a"}, GPT)),
    "a turn of a number": Case(conversation({"from": "human", "value": 5}, GPT), "either"),
    "tools that are no JSON": Case(conversation(HUMAN, GPT, tools="{nope")),
    "tools that are deep": Case(conversation(HUMAN, GPT, tools=DEEP)),
    "tools that are a number": Case(conversation(HUMAN, GPT, tools=5), "either"),
    "a call that is no JSON": Case(conversation(HUMAN, {"from": "function_call", "value": "{nope"})),
    "a call that is deep": Case(conversation(HUMAN, {"from": "function_call", "value": DEEP})),
    "a call of 5,000 digits": Case(
        conversation(HUMAN, {"from": "function_call", "value": '{"name": "a", "arguments": 1' + "0" * 5_000 + "}"})
    ),
    "calls that are a number": Case(openai(tool_calls=5)),
    "calls that are text": Case(openai(tool_calls="x")),
    "calls without a function": Case(openai(tool_calls=[{}])),
    "other tools that are no JSON": Case(with_model(["{nope", "[]", '[{"a": 1}]'])),
    "other tools that are deep": Case(with_model([DEEP, '[{"a": 1}]'])),
    "other tools that are numbers": Case(with_model(["5", "6"]), "either"),
    "other tools": Case(with_model(['[{"name": "a"}]', '[{"name": "b"}]']), "either"),
    "50,000 open thoughts": Case(
        file([{"instruction": "a", "output": THOUGHTS}], template="qwen3", enable_thinking=False), "accepted"
    ),
}
