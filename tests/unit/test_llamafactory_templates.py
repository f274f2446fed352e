"""Named templates as text: what is written, what of it is trained, and where thoughts stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lastresort.interop.llamafactory.rendering import shown
from llamafactory_support import data_set, imported, remarks, rows_of
from tiny_model import save_tiny_model

TALK = [
    {"from": "human", "value": "A?"},
    {"from": "gpt", "value": "<think>\nhm\n</think>\n\na"},
    {"from": "human", "value": "B?"},
    {"from": "gpt", "value": "b"},
]
NO_THOUGHT = "<think>\n\n</think>\n\n"


def lines(segments: list[dict[str, Any]]) -> list[str]:
    """# for a segment that is trained, $ for the end-of-text token."""
    return [f"{'#' if s.get('train') else '.'} {s['text']}{'$' if s.get('end') else ''}" for s in segments]


def of_talk(folder: Path, template: str, **keys: Any) -> list[str]:
    data = data_set(folder, [{"conversations": TALK}], formatting="sharegpt")
    [row] = rows_of(imported(folder, data, keys, template=template))
    return lines(row["segments"])


@pytest.mark.parametrize(
    ("template", "written"),
    [
        ("llama3", [". <|start_header_id|>user<|end_header_id|>\n\nQ\nmore<|eot_id|>"
                    "<|start_header_id|>assistant<|end_header_id|>\n\n",
                    "# A<|eot_id|>"]),
        ("qwen", [". <|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n",
                  ". <|im_start|>user\nQ\nmore<|im_end|>\n<|im_start|>assistant\n", "# A<|im_end|>\n"]),
        ("chatml", [". <|im_start|>user\nQ\nmore<|im_end|>\n<|im_start|>assistant\n", "# A<|im_end|>\n"]),
        ("mistral", [". [INST] Q\nmore[/INST]", "#  A$"]),
        ("gemma", [". <start_of_turn>user\nQ\nmore<end_of_turn>\n<start_of_turn>model\n", "# A<end_of_turn>\n"]),
        ("phi4", [". <|im_start|>user<|im_sep|>Q\nmore<|im_end|><|im_start|>assistant<|im_sep|>", "# A<|im_end|>"]),
        ("default", [". Human: Q\nmore$", ". \nAssistant:", "# A$", "# \n"]),
        ("empty", [". Q\nmore", "# A"]),
    ],
)  # fmt: skip
def test_a_row_as_each_template_writes_it(tmp_path: Path, template: str, written: list[str]) -> None:
    keys = data_set(tmp_path, [{"instruction": "Q", "input": "more", "output": "A"}])
    [row] = rows_of(imported(tmp_path, keys, template=template))
    assert lines(row["segments"]) == written


def test_the_system_of_a_row_goes_before_the_default(tmp_path: Path) -> None:
    columns = {"prompt": "instruction", "response": "output", "system": "system"}
    keys = data_set(tmp_path, [{"instruction": "Q", "output": "A", "system": "S"}], columns=columns)
    [row] = rows_of(imported(tmp_path, keys, template="qwen"))
    assert lines(row["segments"])[0] == ". <|im_start|>system\nS<|im_end|>\n"
    [row] = rows_of(imported(tmp_path, keys, template="gemma"))
    assert lines(row["segments"])[0] == ". <start_of_turn>user\nS\n\nQ<end_of_turn>\n<start_of_turn>model\n"
    keys = data_set(tmp_path)
    row = rows_of(imported(tmp_path, keys, template="qwen", default_system="Other"))[0]
    assert lines(row["segments"])[0] == ". <|im_start|>system\nOther<|im_end|>\n"


def test_prompts_and_earlier_turns_are_trained_as_the_keys_say(tmp_path: Path) -> None:
    marks = {"": "", "train_on_prompt": "", "mask_history": ""}
    for key in marks:
        written = of_talk(tmp_path, "chatml", **({key: True} if key else {}))
        marks[key] = "".join(line[0] for line in written)
    assert marks == {"": ".#.#", "train_on_prompt": "####", "mask_history": "...#"}


def test_thoughts_of_a_reasoning_template(tmp_path: Path) -> None:
    ask = [
        ". <|im_start|>user\nA?<|im_end|>\n<|im_start|>assistant\n",
        ". <|im_start|>user\nB?<|im_end|>\n<|im_start|>assistant\n",
    ]
    thought = "# <think>\nhm\n</think>\n\na<|im_end|>\n"
    assert of_talk(tmp_path, "qwen3") == [ask[0], thought, ask[1], f"# {NO_THOUGHT}", "# b<|im_end|>\n"]
    assert of_talk(tmp_path, "qwen3", enable_thinking=False) == [
        ask[0], f". {NO_THOUGHT}", "# a<|im_end|>\n", ask[1], f". {NO_THOUGHT}", "# b<|im_end|>\n"
    ]  # fmt: skip
    assert of_talk(tmp_path, "qwen3", mask_history=True) == [
        ask[0], ". a<|im_end|>\n", ask[1], f"# {NO_THOUGHT}", "# b<|im_end|>\n"
    ]  # fmt: skip
    assert of_talk(tmp_path, "qwen3", mask_history=True, preserve_thinking=True)[1] == f".{thought[1:]}"
    assert of_talk(tmp_path, "qwen3_nothink") == [ask[0], thought, ask[1], "# b<|im_end|>\n"]


def test_pairs_and_labels_behind_one_prompt(tmp_path: Path) -> None:
    row = {
        "conversations": TALK[:3],
        "chosen": TALK[3],
        "rejected": {"from": "gpt", "value": "<think>\nx\n</think>\n\nc"},
    }
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    keys = data_set(tmp_path, [row], formatting="sharegpt", ranking=True, columns=columns) | {"stage": "dpo"}
    [pair] = rows_of(imported(tmp_path, keys, template="qwen3"))
    assert lines(pair["segments"])[1] == ". a<|im_end|>\n"  # without its thought
    assert lines(pair["chosen_segments"]) == [f"# {NO_THOUGHT}", "# b<|im_end|>\n"]
    assert lines(pair["rejected_segments"]) == ["# <think>\nx\n</think>\n\nc<|im_end|>\n"]
    columns = {"messages": "conversations", "kto_tag": "good"}
    keys = data_set(tmp_path, [{"conversations": TALK, "good": True}], formatting="sharegpt", columns=columns)
    [labelled] = rows_of(imported(tmp_path, keys, stage="kto", template="chatml"))
    assert labelled["label"] is True
    assert "".join(line[0] for line in lines(labelled["segments"])) == "...#"


def test_a_template_that_the_model_has_not_is_a_trap(tmp_path: Path) -> None:
    keys = data_set(tmp_path) | {"model_name_or_path": str(save_tiny_model(tmp_path / "model"))}
    assert "template" not in remarks(imported(tmp_path, keys, template="chatml"), "trap")
    said = remarks(imported(tmp_path, keys, template="llama3"), "trap")["template"]
    assert "<|start_header_id|>" in said
    assert "<|im_start|>" in said
    assert "chat and the gate use the model's own" in said
    assert "serve" not in said


def test_both_texts_are_shown_whole_with_their_first_special_token(tmp_path: Path) -> None:
    """Of the embedded model, and others of ChatML, <|im_start|> is also what the tokenizer calls its begin-of-text token."""
    model = save_tiny_model(tmp_path / "model")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": "<|im_start|>"}))
    said = remarks(
        imported(tmp_path, data_set(tmp_path), model_name_or_path=str(model), template="llama3"),
        "trap",
    )["template"]
    assert 'asks "<|im_start|>' in said


def test_of_long_texts_what_is_around_the_first_difference_is_shown() -> None:
    one, other = "same " * 60 + "here " + "a" * 300, "same " * 60 + "there"
    at = len("same " * 60)
    assert "same here aaa" in shown(one, at)
    assert shown(one, at).startswith('…"')
    assert shown(one, at).endswith('"…')
    assert shown(other, at).endswith('same there"')


def test_a_cutoff_beyond_the_context_of_the_model(tmp_path: Path) -> None:
    keys = data_set(tmp_path) | {"model_name_or_path": str(save_tiny_model(tmp_path / "model"))}
    found = imported(tmp_path, keys, cutoff_len=4096)
    assert found.document["max_tokens"] == 2048
    said = [remark.sentence for remark in found.remarks if remark.key == "cutoff_len"]
    assert "4096 exceeds the model's context" in said[0]
