"""Folders of models: config.json, weights, tokenizers, chat templates."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path

from corpus import Case
from model_files import DEEP, TEXTS, VALUES, cut, fifo, gone, keys, linked, merging, planning, put, training

SLOW_ADAPTER = json.dumps({"peft_type": "LORA", "r": 4, "target_modules": "(([a-z_.0-9]+)+)+!"})
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")
SIZES += ("intermediate_size", "max_position_embeddings")


def template(source: str) -> Case:
    return Case(training(put("model/chat_template.jinja", source)), named="chat template")


def header(content: bytes, data: bytes = b"") -> bytes:
    """A safetensors file with this head."""
    return struct.pack("<Q", len(content)) + content + data


def weights(**tensors: object) -> bytes:
    return header(json.dumps(tensors).encode())


WEIGHTS: dict[str, bytes] = {
    "nothing": b"",
    "seven bytes": bytes(7),
    "zeros": bytes(4096),
    "a head of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "a head that is longer than the file": struct.pack("<Q", 10_000) + b"{}",
    "no tensor": header(b"{}"),
    "a head that is a list": header(b"[]"),
    "a head that is no JSON": header(b"{nope}"),
    "a deep head": header(DEEP.encode()),
    "a tensor of 10^18": weights(a={"dtype": "F32", "shape": [10**18], "data_offsets": [0, 4]}),
    "a negative size": weights(a={"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}),
    "offsets beyond the file": weights(a={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}),
    "offsets that go back": weights(a={"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}),
    "an unknown dtype": weights(a={"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}),
    "a tensor without elements": weights(a={"dtype": "F32", "shape": [0, 10**12], "data_offsets": [0, 0]}),
    "a tensor of text": weights(a={"dtype": "F32", "shape": "x", "data_offsets": [0, 4]}),
    "a pickle": b"\x80\x02}q\x00.",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
}
TEMPLATES = {
    "a division by zero": "{{ 1 / 0 }}",
    "a sum of text and number": "{{ 'a' + 1 }}",
    "a call of itself": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "two macros that call each other": (
        "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"
    ),
    "a range beyond the sandbox": "{% for i in range(10 ** 9) %}a{% endfor %}",
    "a long range": "{% for i in range(999999999) %}a{% endfor %}",
    "10 billion letters": "{{ 'a' * 10000000000 }}",
    "letters times a variable": "{% set n = 99999 %}{{ 'a' * n }}",
    "a huge power": "{{ 10 ** 10 ** 10 }}",
    "padding": "{{ 'a'.ljust(10000000000) }}",
    "padding by a filter": "{{ 'a' | center(10000000000) }}",
    "padding by a filter's name": "{{ ['a'] | map('center', 10000000000) | list }}",
    "padding looked up before": "{% set f = 'a'.ljust %}{{ f(10000000000) }}",
    "padding by attr": "{{ ('a' | attr('ljust'))(10000000000) }}",
    "a format with a width": "{{ '{:>9999999999}'.format(1) }}",
    "a format with percent": "{{ '%9999999999d' % 1 }}",
    "replacing letters by the text": "{% set s = 'a' ~ messages %}{{ s.replace('a', s) }}",
    "a thousand letters for one, four times": (
        "{% set n = namespace(x='a') %}{% for i in range(4) %}{% set n.x = n.x.replace('a', '"
        + "a" * 1_000
        + "') %}{% endfor %}{{ n.x }}"
    ),
    "joining by the text": "{% set s = 'a' ~ messages %}{{ s | join(s) }}",
    "indented JSON": "{{ messages | tojson(indent=1000000000) }}",
    "a file that is included": "{% include '/etc/passwd' %}",
    "a file that is imported": "{% import 'os' as os %}{{ os }}",
    "a parent": "{% extends 'base' %}",
    "5,000 digits": "{{ " + "9" * 5_000 + " }}",
    "a large shift by addition": (
        "{% set n = namespace(x=1) %}{% for i in range(99999) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}"
    ),
    "no end of a loop": "{% for m in messages %}a",
    "an unknown tag": "{% nope %}",
    "an unknown filter": "{{ 'a' | nope }}",
    "an open brace": "{{ messages",
    "5,000 brackets": "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    "500 nested ifs": "{% if true %}" * 500 + "{% endif %}" * 500,
    "2 million characters": "{# " + "a" * 2_000_000 + " #}",
    "a class": "{{ ''.__class__.__mro__[1].__subclasses__()[0]() }}",
    "globals of a function": "{{ raise_exception.__globals__['os'].system('true') }}",
    "an exception of its own": "{{ raise_exception('no') }}",
    "an undefined call": "{{ nope() }}",
    "a message that is changed": "{{ messages.append(1) }}",
}


def split(pattern: str) -> dict[str, object]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def replace(text: str, content: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": {"String": text}, "content": content}


def steps(kind: str, *each: object) -> dict[str, object]:
    return {"type": "Sequence", kind: list(each)}


STEPS: dict[str, tuple[str, object]] = {
    "a repeat in a repeat": ("pre_tokenizer", split("(a+)+$")),
    "two repeats in a row": ("pre_tokenizer", split("a*a*b")),
    "a letter's repeat in a repeat": ("pre_tokenizer", split("(x+x+)+y")),
    "three repeats that recur": ("pre_tokenizer", split(r"(.*)(.*)(.*)\1\2\3$")),
    "a repeat in a repeat that is replaced": (
        "normalizer",
        {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"},
    ),
    "a megabyte for a letter": ("normalizer", replace("a", "a" * 1_000_000)),
    "two letters for one, 28 times": ("normalizer", steps("normalizers", *[replace("a", "aa")] * 28)),
    "a megabyte before each text": ("normalizer", {"type": "Prepend", "prepend": "a" * 1_000_000}),
    "100,000 steps": ("pre_tokenizer", steps("pretokenizers", *[split("a")] * 100_000)),
    "a map of letters to a megabyte": (
        "normalizer",
        {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(bytes(8) + b"a" * 1_000_000).decode()},
    ),
    "each text 100,000 times": (
        "post_processor",
        {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 100_000,
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {},
        },
    ),
}
TOKENIZERS: dict[str, str | bytes] = {**TEXTS, "no model": "{}", "an unknown model": '{"model": {"type": "Evil"}}'}


def _two_million_words(folder: Path) -> None:
    """Made by the case alone: whoever collects tests would make them too."""
    words = {f"w{n}": n for n in range(2_000_001)}
    keys("model/tokenizer.json", model={"type": "WordLevel", "vocab": words})(folder)


CASES: dict[str, Case] = {
    "as it is": Case(merging(), "accepted"),
    "as it is, planned": Case(planning(), "accepted"),
    **{f"config.json is {what}": Case(merging(put("model/config.json", text))) for what, text in TEXTS.items()},
    **{
        f"config.json is {what}, planned": Case(planning(put("model/config.json", text)))
        for what, text in TEXTS.items()
    },
    **{
        f"{key} is {what}, planned": Case(planning(keys("model/config.json", **{key: value})), "either")
        for key in SIZES
        for what, value in VALUES.items()
    },
    **{
        f"{key} is {what}": Case(merging(keys("model/config.json", **{key: value})), "either")
        for key in SIZES[:3]
        for what, value in VALUES.items()
    },
    "a billion layers of experts": Case(
        planning(
            keys(
                "model/config.json",
                model_type="qwen2_moe",
                num_experts=4,
                num_experts_per_tok=2,
                decoder_sparse_step=2,
                moe_intermediate_size=8,
                num_hidden_layers=10**9,
            )
        )
    ),
    "a billion layers within text_config": Case(
        merging(keys("model/config.json", model_type="gemma3", text_config={"num_hidden_layers": 10**9}))
    ),
    "an unknown model_type": Case(merging(keys("model/config.json", model_type="evil"))),
    "a model_type that is a list": Case(merging(keys("model/config.json", model_type=["llama"]))),
    "code of its own": Case(
        merging(keys("model/config.json", model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})),
        named="Python code",
    ),
    "an adapter with a pattern that never ends in the same folder": Case(
        merging(put("model/adapter_config.json", SLOW_ADAPTER)), named="both a model and an adapter"
    ),
    "code on the Hub": Case(
        merging(keys("model/config.json", model_type="own", auto_map={"AutoConfig": "a/b--own.OwnConfig"}))
    ),
    "a dtype that is none": Case(merging(keys("model/config.json", dtype="evil")), "either"),
    "rope_scaling that is text": Case(merging(keys("model/config.json", rope_scaling="x")), "either"),
    "weights stored quantised": Case(merging(keys("model/config.json", quantization_config={"bits": 4}))),
    "config.json is a device": Case(merging(linked("model/config.json", "/dev/zero"))),
    "config.json is a FIFO": Case(merging(fifo("model/config.json"))),
    "config.json is the environment": Case(merging(linked("model/config.json", "/proc/self/environ"))),
    "config.json links to itself": Case(merging(linked("model/config.json", "config.json"))),
    "config.json is missing": Case(merging(gone("model/config.json"))),
    **{f"weights: {what}": Case(merging(put("model/model.safetensors", data))) for what, data in WEIGHTS.items()},
    **{
        f"weights cut at {share:.0%}": Case(merging(cut("model/model.safetensors", share)))
        for share in (0.01, 0.5, 0.99)
    },
    "weights that are a FIFO": Case(merging(fifo("model/model.safetensors"))),
    "weights that are a device": Case(merging(linked("model/model.safetensors", "/dev/zero"))),
    "weights that are missing": Case(merging(gone("model/model.safetensors"))),
    "an index of shards that are missing": Case(
        merging(
            put("model/model.safetensors.index.json", '{"weight_map": {"a": "../../x.safetensors"}, "metadata": {}}'),
            gone("model/model.safetensors"),
        )
    ),
    **{f"tokenizer.json is {what}": Case(training(put("model/tokenizer.json", t))) for what, t in TOKENIZERS.items()},
    **{
        f"tokenizer_config.json is {what}": Case(training(put("model/tokenizer_config.json", t)))
        for what, t in TEXTS.items()
    },
    **{
        f"generation_config.json is {what}": Case(merging(put("model/generation_config.json", t)))
        for what, t in TEXTS.items()
    },
    **{
        f"a tokenizer of {what}": Case(training(keys("model/tokenizer.json", **{key: value})), named="tokenizer.json")
        for what, (key, value) in STEPS.items()
    },
    "a tokenizer of words of any length": Case(
        training(
            keys(
                "model/tokenizer.json",
                model={
                    "type": "WordPiece",
                    "unk_token": "<unk>",
                    "continuing_subword_prefix": "##",
                    "max_input_chars_per_word": 10**9,
                    "vocab": {"<unk>": 0, "a": 1, "##a": 2},
                },
            ),
            rows=json.dumps({"input": "a" * 6_000, "output": "b"}) + "\n",
        ),
        named="max_input_chars_per_word",
    ),
    "a tokenizer that pads to 10^9": Case(
        merging(
            keys(
                "model/tokenizer.json",
                padding={
                    "strategy": {"Fixed": 10**9},
                    "direction": "Right",
                    "pad_to_multiple_of": None,
                    "pad_id": 0,
                    "pad_type_id": 0,
                    "pad_token": "<unk>",
                },
                truncation={"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0},
            )
        ),
        "either",
    ),
    "a tokenizer of 2 million words": Case(
        training(_two_million_words),
        named="words and merges",
    ),
    "a tokenizer of 200,000 added tokens": Case(
        training(
            keys(
                "model/tokenizer.json",
                added_tokens=[
                    {
                        "id": n,
                        "content": f"<x{n}>",
                        "single_word": False,
                        "lstrip": False,
                        "rstrip": False,
                        "normalized": False,
                        "special": False,
                    }
                    for n in range(200_000)
                ],
            )
        ),
        named="added_tokens",
    ),
    "tokenizer.json is a device": Case(training(linked("model/tokenizer.json", "/dev/zero"))),
    "tokenizer.json is a FIFO": Case(training(fifo("model/tokenizer.json"))),
    "a tokenizer's own code": Case(
        training(
            keys("model/tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", None]})
        ),
        "either",
    ),
    "chat_template.jinja is a device": Case(training(linked("model/chat_template.jinja", "/dev/zero"))),
    "chat_template.jinja is not UTF-8": Case(training(put("model/chat_template.jinja", b"\xff\xfe{{ 1 }}"))),
    **{f"a template with {what}": template(source) for what, source in TEMPLATES.items()},
}


def _unlink(folder: Path) -> None:
    (folder / "model/chat_template.jinja").unlink()


CASES |= {
    f"chat_template is {what}": Case(training(_unlink, keys("model/tokenizer_config.json", chat_template=value)))
    for what, value in {"a number": 5, "a list of text": ["x"], "a list of numbers": [1], "true": True}.items()
}
CASES |= {
    f"model_max_length is {what}": Case(merging(keys("model/tokenizer_config.json", model_max_length=VALUES[what])))
    for what in ("text", "empty text", "a list", "an object")
}
