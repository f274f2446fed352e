"""Axolotl's dataset types: a row in, what is trained out, word for word as the other side writes it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from axolotl_support import answered, entry_row, only_row, pair
from lastresort.errors import TaskError
from lastresort.interop.axolotl.types import NOT_READ, names

CHATML = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
CHATML_SYSTEM = "<|im_start|>system\ns<|im_end|>\n" + CHATML
LLAMA3 = "<|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
LLAMA3_SYSTEM = "<|start_header_id|>system<|end_header_id|>\n\ns<|eot_id|>" + LLAMA3


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(contents)]


MARKED: dict[str, dict[str, Any]] = {
    "": {"instruction": "q", "chosen_response": "good", "rejected_response": "bad"},
    ".default": {"prompt": "q", "input": "other", "chosen": "good", "rejected": "bad"},
    ".intel": {"question": "q", "chosen": "good", "rejected": "bad"},
    ".icr": {"input": "q", "chosen": "good", "rejected": "bad"},
    ".prompt_pairs": {"prompt": "q", "chosen": "good", "rejected": "bad"},
    ".ultra": {"prompt": "q", "chosen": turns("q", "good"), "rejected": turns("q", "bad")},
    ".argilla_chat": {"chosen": turns("q", "good", "later", "last"), "rejected": turns("q", "bad")},
}


@pytest.mark.parametrize("rl", ["dpo", "ipo", "simpo"])
@pytest.mark.parametrize("name", MARKED)
def test_pairs_in_chatml(name: str, rl: str, tmp_path: Path) -> None:
    row = MARKED[name]
    keys: dict[str, Any] = {"rl": rl, "simpo_gamma": 0.5} if rl == "simpo" else {"rl": rl}
    found = only_row(tmp_path, row, f"chatml{name}", **keys)
    assert found == pair(CHATML, "good<|im_end|>", "bad<|im_end|>")
    if name != ".argilla_chat":
        with_system = only_row(tmp_path, {**row, "system": "s"}, f"chatml{name}", **keys)
        assert with_system == pair(CHATML_SYSTEM, "good<|im_end|>", "bad<|im_end|>")


@pytest.mark.parametrize("name", MARKED)
def test_pairs_in_llama_3(name: str, tmp_path: Path) -> None:
    row = MARKED[name]
    assert only_row(tmp_path, row, f"llama3{name}", rl="dpo") == pair(LLAMA3, "good<|eot_id|>", "bad<|eot_id|>")
    if name != ".argilla_chat":
        found = only_row(tmp_path, {**row, "system": "s"}, f"llama3{name}", rl="dpo")
        assert found == pair(LLAMA3_SYSTEM, "good<|eot_id|>", "bad<|eot_id|>")


LABELLED: dict[str, dict[str, Any]] = {
    "argilla": {"instruction": "q", "completion": "yes", "label": True},
    "intel": {"question": "q", "completion": "yes", "label": True},
    "prompt_pairs": {"prompt": "q", "completion": "yes", "label": True},
    "ultra": {"prompt": "q", "completion": "yes", "label": True},
    "argilla_chat": {"completion": turns("q", "yes"), "label": True},
}


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_answers_in_both_markups(name: str, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"rl": "kto", "remove_unused_columns": False}
    found = only_row(tmp_path, LABELLED[name], f"chatml.{name}", **keys)
    assert found == {**answered(CHATML, "yes<|im_end|>"), "label": True}
    found = only_row(tmp_path, {**LABELLED[name], "label": False}, f"llama3.{name}", **keys)
    assert found == {**answered(LLAMA3, "yes<|eot_id|>"), "label": False}


def test_labelled_conversations_keep_what_was_said_before(tmp_path: Path) -> None:
    row = {"completion": turns("a", "b", "q", "yes"), "label": 1}
    found = only_row(tmp_path, row, "chatml.argilla_chat", rl="kto", remove_unused_columns=False)
    before = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
    assert found == {**answered(before + CHATML, "yes<|im_end|>"), "label": 1}


def test_nectar_takes_the_highest_rank_numbers(tmp_path: Path) -> None:
    answers = [{"answer": word, "rank": rank} for word, rank in (("b", 2), ("d", 4), ("a", 1), ("c", 3))]
    random.Random(1).shuffle(answers)
    found = only_row(tmp_path, {"prompt": "q", "answers": answers}, "zephyr.nectar", rl="dpo")
    assert found == pair("<|system|>\n</s>\n<|user|>\nq</s>\n<|assistant|>\n", "d", "c")


def test_pairs_by_the_models_own_template(tmp_path: Path) -> None:
    row = {"messages": turns("a", "b", "q"), "chosen": {"role": "assistant", "content": "good"}, "rejected": "bad"}
    found = only_row(tmp_path, row, "chat_template.default", rl="dpo")
    assert found == {
        "prompt": turns("a", "b", "q"),
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    }
    assert only_row(tmp_path, row, "chat_template", rl="dpo") == found
    text = {"messages": "q", "chosen": turns("q", "good"), "rejected": turns("q", "bad")}
    assert only_row(tmp_path, text, "chat_template.default", rl="dpo")["prompt"] == turns("q")
    conversations = {"chosen": turns("a", "b", "q", "good"), "rejected": turns("a", "b", "q", "bad")}
    assert only_row(tmp_path, conversations, "chat_template.argilla_chat", rl="dpo") == found


def test_columns_properties_and_roles_of_turns_have_names(tmp_path: Path) -> None:
    row = {
        "said": [{"from": "human", "value": "q"}],
        "better": {"from": "gpt", "value": "good"},
        "worse": {"from": "gpt", "value": "bad"},
    }
    entry = {
        "type": "chat_template.default",
        "field_messages": "said",
        "field_chosen": "better",
        "field_rejected": "worse",
        "message_property_mappings": {"role": "from", "content": "value"},
        "roles": {"user": ["human"], "assistant": ["gpt"]},
    }
    found = entry_row(tmp_path, row, entry, rl="dpo")
    assert found["prompt"] == turns("q")
    assert found["chosen"] == [{"role": "assistant", "content": "good"}]


def test_orpo_reads_conversations_in_turn(tmp_path: Path) -> None:
    row = {"system": "s", "chosen": turns("a", "b", "q", "good"), "rejected": turns("a", "b", "q", "bad")}
    found = only_row(tmp_path, row, "chat_template.argilla", rl="orpo")
    assert found["prompt"] == [{"role": "system", "content": "s"}, *turns("a", "b", "q")]
    assert found["rejected"] == [{"role": "assistant", "content": "bad"}]
    with_prompt = {"prompt": "asked", "chosen": turns("q", "good"), "rejected": turns("q", "bad")}
    assert only_row(tmp_path, with_prompt, "chat_template.argilla", rl="orpo")["prompt"] == turns("asked")
    marked = only_row(tmp_path, row, "chat_template.argilla", rl="orpo", chat_template="chatml")
    before = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
    system = "<|im_start|>system\ns<|im_end|>\n"
    assert marked == pair(system + before + CHATML, "good<|im_end|>", "bad<|im_end|>")


@pytest.mark.parametrize("kind", ["passthrough", None])
def test_rows_that_are_in_their_shape_pass(kind: str | None, tmp_path: Path) -> None:
    text = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    assert only_row(tmp_path, text, kind, rl="dpo") == pair("q", "good", "bad")
    messages = {"prompt": turns("q"), "chosen": turns("q", "good")[1:], "rejected": turns("q", "bad")[1:]}
    assert only_row(tmp_path, messages, kind, rl="dpo") == messages


def test_labels_without_a_type_pass(tmp_path: Path) -> None:
    row = {"prompt": "q", "completion": "yes", "label": False}
    found = only_row(tmp_path, row, None, rl="kto", remove_unused_columns=False)
    assert found == {**answered("q", "yes"), "label": False}


def test_user_defined_types(tmp_path: Path) -> None:
    formats = {"prompt_format": "[{system}] {prompt} ->", "chosen_format": "{chosen}!", "field_chosen": "good"}
    row = {"prompt": "q", "system": "s", "good": "yes", "rejected": "no"}
    assert only_row(tmp_path, row, formats, rl="dpo") == pair("[s] q ->", "yes!", "no")
    labels = {
        "field_prompt": "ask",
        "field_completion": "said",
        "field_label": "ok",
        "completion_format": "{completion}.",
    }
    found = only_row(tmp_path, {"ask": "q", "said": "yes", "ok": 1}, labels, rl="kto", remove_unused_columns=False)
    assert found == {**answered("q", "yes."), "label": 1}


def test_user_defined_instructions(tmp_path: Path) -> None:
    words = {
        "system_prompt": "s",
        "system_format": "<{system}>",
        "field_instruction": "ask",
        "field_output": "said",
        "format": "{instruction}|{input}=",
        "no_input_format": "{instruction}=",
    }
    assert only_row(tmp_path, {"ask": "q", "said": "yes"}, words) == answered("<s>q=", "yes")
    assert only_row(tmp_path, {"ask": "q", "input": "i", "said": "yes"}, words) == answered("<s>q|i=", "yes")
    assert only_row(tmp_path, {"ask": "q", "system": "t", "said": "yes"}, words) == answered("<t>q=", "yes")
    bare = only_row(tmp_path, {"instruction": "q", "output": "yes"}, {"field_output": "output"})
    assert bare == answered("q ", "yes")


WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that "
    "appropriately completes the request."
)
WITHOUT = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
CONCISE = (
    "Below is an instruction from a USER that describes a task. The ASSISTANT writes a response that appropriately and concisely "
    "completes the request."
)
CONTEXT = "Use the following contextual information to concisely answer the question."
PLAIN = {"instruction": "q", "input": "", "output": "yes"}
INSTRUCT = f"{WITHOUT}\n\n### Instruction:\nq\n\n### Response:\n"
INSTRUCTIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "alpaca": (PLAIN, INSTRUCT, "yes"),
    "alpaca:chat": (PLAIN, f"SYSTEM: {WITHOUT}\nUSER: q\nASSISTANT:", "yes"),
    "alpaca:chatml": (PLAIN, f"<|im_start|>system\n{WITHOUT}<|im_end|>\n{CHATML}", "yes"),
    "alpaca:phi": (PLAIN, f"<|system|>\n{WITHOUT}<|end|>\n<|user|>\nq<|end|>\n<|assistant|>\n", "yes"),
    "alpaca_instruct": (PLAIN, INSTRUCT, "yes"),
    "alpaca_instruct.load_no_prompt": (PLAIN, "### Instruction:\nq\n\n### Response:\n", "yes"),
    "alpaca_chat": (PLAIN, f"SYSTEM: {WITHOUT}\nUSER: q\nASSISTANT:", "yes"),
    "alpaca_chat.load": (PLAIN, f"SYSTEM: {WITHOUT}\nUSER: q\nASSISTANT:", "yes"),
    "alpaca_chat.load_concise": (PLAIN, f"SYSTEM: {CONCISE}\n\n\nUSER: q\nASSISTANT:", "yes"),
    "alpaca_chat.load_qa": ({"question": "q", "answer": "yes"}, f"SYSTEM: {CONCISE}\n\n\nUSER: q\nASSISTANT:", "yes"),
    "alpaca_chat.load_camel_ai": (
        {"message_1": "q", "message_2": "yes"},
        f"SYSTEM: {CONCISE}\n\n\nUSER: q\nASSISTANT:",
        "yes",
    ),
    "alpaca_chat.load_no_prompt": (PLAIN, "USER: q\nASSISTANT:", "yes"),
    "alpaca_w_system": ({**PLAIN, "system": "s"}, "SYSTEM: s\nUSER: q\nASSISTANT:", "yes"),
    "alpaca_w_system.load_instruct": (
        {**PLAIN, "system": "s"},
        "s\n\n### Instruction:\nq\n\n### Response:\n",
        "yes",
    ),
    "alpaca_w_system.load_open_orca": (
        {"system_prompt": "s", "question": "q", "response": "yes"},
        "### System:\ns\n### Human:\nq\n### Assistant:\n",
        "yes",
    ),
    "alpaca_w_system.load_open_orca_chatml": (
        {"system_prompt": "s", "question": "q", "response": "yes"},
        CHATML_SYSTEM,
        "yes",
    ),
    "orcamini": (
        {"system_prompt": "s", "question": "q", "response": "yes"},
        "### System:\ns\n\n### User:\nq\n\n### Response:\n",
        "yes",
    ),
    "context_qa": (
        {"article": "text", "question": "q", "answer": "yes"},
        f"SYSTEM: {CONTEXT}\n\nUSER: text\n===\nq\nASSISTANT:",
        "yes",
    ),
    "context_qa.load_v2": (
        {"context": "text", "question": "q", "answer": "yes"},
        "Context: text\nQuestion: q\n",
        "Answer: yes",
    ),
    "context_qa.load_404": (
        {"article": "text", "unanswerable_question": "q"},
        f"SYSTEM: {CONTEXT}\n\nUSER: text\n===\nq\nASSISTANT:",
        "The context provided does not contain any information about your inquiry. Therefore, I'm unable to answer your "
        "question based on the given context.",
    ),
    "gpteacher": ({"instruction": "q", "response": "yes"}, INSTRUCT, "yes"),
    "jeopardy": (
        {"question": "q", "category": "c", "answer": "yes"},
        f"{WITH_INPUT}\n\n### Instruction:\nq\n\n### Input:\nc\n\n### Response:\n",
        "what is yes",
    ),
    "oasst": ({"INSTRUCTION": "q", "RESPONSE": "yes"}, INSTRUCT, "yes"),
    "explainchoice": (
        {"question": "q", "choices": ["a", "b"], "explanation": "yes"},
        "Choose the answer that best answers the question. Explain your reasoning.\n\n\n"
        '### Instruction:\nq\n\n### Input:\n- "a"\n- "b"\n\n### Response:\n',
        "yes",
    ),
    "concisechoice": (
        {"question": "q", "choices": ["a", "b"], "solution": "yes"},
        "Choose the answer that best answers the question. Be concise in your response.\n\n"
        'USER: q\n- "a"\n- "b"\nASSISTANT:',
        "yes",
    ),
    "summarizetldr": (
        {"article": "text", "summary": "yes"},
        "USER: Summarize the following article as a TL;DR.\ntext\nASSISTANT:",
        "yes",
    ),
}


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_one_instruction_and_its_answer(name: str, tmp_path: Path) -> None:
    row, prompt, answer = INSTRUCTIONS[name]
    assert only_row(tmp_path, row, name) == answered(prompt, answer)


def test_an_input_stands_below_its_heading(tmp_path: Path) -> None:
    found = only_row(tmp_path, {**PLAIN, "input": "i"}, "alpaca", train_on_inputs=True)
    prompt = f"{WITH_INPUT}\n\n### Instruction:\nq\n\n### Input:\ni\n\n### Response:\n"
    assert found == answered(prompt, "yes", whole=True)


def test_the_conversation_key_of_alpaca_chat_is_its_style(tmp_path: Path) -> None:
    found = entry_row(tmp_path, PLAIN, {"type": "alpaca_chat", "conversation": "chatml"})
    assert found["segments"][0]["text"].endswith(CHATML)


def test_segments_pass(tmp_path: Path) -> None:
    row = {"segments": [{"label": False, "text": "<s>q\n"}, {"label": True, "text": "yes</s>"}]}
    found = only_row(tmp_path, row, "input_output")
    assert found == {"segments": [{"text": "<s>q\n", "train": False}, {"text": "yes</s>", "train": True}]}


def test_completions_are_trained_whole(tmp_path: Path) -> None:
    assert only_row(tmp_path, {"text": "all of it"}, "completion") == {"text": "all of it"}
    assert entry_row(tmp_path, {"body": "all of it"}, {"type": "completion", "field": "body"}) == {"text": "all of it"}
    entries = [{"path": str(tmp_path / "rows.jsonl"), "type": kind} for kind in ("completion", "alpaca")]
    from axolotl_support import imported, rows_of
    from train_support import write_rows

    write_rows(tmp_path / "rows.jsonl", [{"text": "all of it", **PLAIN}])
    first, second = rows_of(imported(tmp_path, datasets=entries))
    assert first == {"segments": [{"text": "all of it", "train": True, "end": True}]}
    assert second == answered(INSTRUCT, "yes")


def test_conversations_by_the_models_own_template(tmp_path: Path) -> None:
    row = {"messages": turns("a", "b", "q", "yes", "and now?")}
    assert only_row(tmp_path, row, "chat_template") == {"messages": turns("a", "b", "q", "yes")}
    named = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "yes"}], "system": "s"}
    entry = {
        "type": "chat_template",
        "field_messages": "conversations",
        "message_property_mappings": {"role": "from", "content": "value"},
    }
    assert entry_row(tmp_path, named, entry) == {"messages": [{"role": "system", "content": "s"}, *turns("q", "yes")]}
    without = entry_row(tmp_path, named, {**entry, "drop_system_message": True})
    assert without == {"messages": turns("q", "yes")}


def test_turns_say_whether_they_are_trained(tmp_path: Path) -> None:
    said = [dict(turn, training=number == 3) for number, turn in enumerate(turns("a", "b", "q", "yes"))]
    entry = {"type": "chat_template", "roles_to_train": [], "message_field_training": "training"}
    found = entry_row(tmp_path, {"messages": said}, entry)["messages"]
    assert found[1] == {"role": "assistant", "content": "b", "weight": 0}
    assert found[3] == {"role": "assistant", "content": "yes"}


def test_thinking_has_a_column_and_a_name(tmp_path: Path) -> None:
    said = [turns("q")[0], {"role": "assistant", "content": "yes", "thought": "hm"}]
    entry = {"type": "chat_template", "field_thinking": "thought", "template_thinking_key": "reasoning_content"}
    found = entry_row(tmp_path, {"messages": said}, entry)["messages"][1]
    assert found == {"role": "assistant", "content": "yes", "reasoning_content": "hm"}


def test_conversations_in_a_named_markup(tmp_path: Path) -> None:
    row = {"messages": turns("q", "yes")}
    found = only_row(tmp_path, row, "chat_template", chat_template="chatml")
    assert found["segments"] == [
        {"text": "<|im_start|>user\nq<|im_end|>\n"},
        {"text": "<|im_start|>assistant\n"},
        {"text": "yes<|im_end|>", "train": True},
        {"text": "\n"},
    ]
    trained = entry_row(
        tmp_path, row, {"type": "chat_template", "chat_template": "llama3", "roles_to_train": ["user", "assistant"]}
    )
    assert [one["text"] for one in trained["segments"] if one.get("train")] == ["q<|eot_id|>", "yes<|eot_id|>"]


@pytest.mark.parametrize(
    ("kind", "keys", "sentence"),
    [
        ("sharegpt.load_multirole", {}, "message_property_mappings: {role: from, content: value}"),
        ("chatml.argilla", {"rl": "dpo"}, "the function is gone there too"),
        ("bradley_terry.chat_template", {}, "trains a reward model"),
        ("alpaca_chat:load_qa", {}, "expected alpaca_chat.load_qa"),
        ("alpacca", {}, 'found the unknown type "alpacca", expected alpaca'),
        ("chatml.intel", {"rl": "orpo"}, "expected chat_template.argilla"),
        ("alpaca", {"rl": "dpo"}, "expected chatml"),
        ({"field_promt": "q"}, {"rl": "dpo"}, 'found the unknown key "field_promt"'),
        ({"prompt_format": "{question}"}, {"rl": "dpo"}, r"a format that cannot be filled \('question'\)"),
        ({"format": "{instruction}"}, {"rl": "orpo"}, "a mapping beside rl: orpo"),
        (None, {}, 'key "type": found nothing'),
    ],
)
def test_a_type_that_is_not_read_is_refused_by_name(
    kind: Any, keys: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(TaskError, match=sentence):
        only_row(tmp_path, PLAIN, kind, **keys)


def test_every_type_that_is_not_read_says_what_to_do(tmp_path: Path) -> None:
    for name, why in NOT_READ.items():
        with pytest.raises(TaskError, match=name) as error:
            only_row(tmp_path, PLAIN, name)
        assert why[1:] in str(error.value)


def test_every_type_has_a_test() -> None:
    tested = {*INSTRUCTIONS, "chat_template", "input_output", "completion"}
    styled = {name for name in names("sft") if ":" in name}
    doubles = {"alpaca_w_system.load_chat"}  # alpaca_w_system by its longer name
    assert set(names("sft")) - styled - doubles <= tested
    assert set(names("pairs")) == {
        *(f"{markup}{name}" for markup in ("chatml", "llama3") for name in MARKED),
        "zephyr.nectar",
        "passthrough",
        "passthrough.default",
        "chat_template",
        "chat_template.default",
        "chat_template.argilla_chat",
    }
    assert set(names("labels")) == {f"{markup}.{name}" for markup in ("chatml", "llama3") for name in LABELLED}
    assert set(names("orpo")) == {"chat_template.argilla"}
