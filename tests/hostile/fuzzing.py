"""Coverage-guided fuzzing of the readers, with atheris (Linux).

    python tests/hostile/fuzzing.py html --seconds 3600      one reader
    python tests/hostile/fuzzing.py all --seconds 3600       each in turn, in a fork: imports take longer than a short fuzzing

Whatever the bytes, a reader returns a value or raises one of our errors. What fails is written to tests/hostile/found/<reader>/
and stays there: the quick tests read it again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

FOUND = Path(__file__).parent / "found"
LONGEST_INPUT, LONGEST_S = 20_000, 10
PLAIN = {
    "task": b"task: t\nabout: a\nexamples: rows.jsonl\nscore: exact\nbar: 0.5\n",
    "json": b'{"a": [1, 2.5e3, "\\u00e9", null, true]}',
    "yaml": b"a: &x [1, 2024-01-02, 0x1f]\nb: *x\n<<: {c: ~}\n",
    "jsonl": b'{"input": "a", "output": "b"}\n{"messages": [{"role": "user", "content": "x"}]}\n',
    "rows": b'[{"prompt": "a", "completion": "b", "label": true}]',
    "csv": b'input,output\n"a ""b""",c\n',
    "tsv": b"a\tb\nc\tb\n",
    "markdown": b"---\ntitle: a\n---\n# A\n\n- b [c](d)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "html": b"<!doctype html><title>a</title><h1 id='x'>b</h1><![CDATA[x]]><table><tr><td>1</table>&amp;<!-- c -->",
    "entries": b'[{"title": "a", "text": "b", "tags": ["c"]}]',
    "schema": b'{"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"pattern": "^a+$"}}}',
    "reply": b'{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}',
    "axolotl": b"base_model: m\ndatasets:\n  - path: rows.jsonl\n    type: alpaca\nadapter: lora\n",
    "llamafactory": b"model_name_or_path: m\nstage: sft\ndataset: a\nfinetuning_type: lora\n",
    "gguf": b"GGUF\x03\0\0\0" + bytes(16),
    "request": b'{"model": "a", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "n": 2, "stop": ["b"], '
    b'"response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": {"type": "object"}}}}',
    "adapter": b'{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}',
}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


_FOLDER = tempfile.TemporaryDirectory()  # one for all inputs: making one takes longer than reading


def _file(data: bytes, name: str, read: Callable[[Path], object]) -> None:
    path = Path(_FOLDER.name) / name
    path.write_bytes(data)
    read(path)


def read_once(reader: str, data: bytes) -> None:
    """Read bytes with one of the readers. Only what is not one of our errors is raised."""
    from lastresort.errors import LastresortError
    from lastresort.foreign import NotJson
    from lastresort.models.calls import TransientFailure
    from lastresort.serve.refusals import Refusal

    with suppress(LastresortError, NotJson, TransientFailure, Refusal):
        _read(reader, data)


def _read(reader: str, data: bytes) -> None:
    from lastresort import foreign
    from lastresort.data.answer_schema import schema_fault
    from lastresort.data.files import read_rows
    from lastresort.hardware.find import config_of_gguf
    from lastresort.interop.reading import read as read_foreign
    from lastresort.knowledge.formats import READERS
    from lastresort.models.api.replies import read_reply
    from lastresort.serve.refusals import read_request
    from lastresort.serve.schema import ChatRequest, CompletionRequest
    from lastresort.spec.task import load_task
    from lastresort.train.adapters.folder import read_adapter

    match reader:
        case "json":
            foreign.parse_json(_text(data))
        case "yaml":
            foreign.parse_yaml(_text(data), where="fuzz")
        case "task":
            _file(data, "task.yaml", load_task)
        case "jsonl" | "csv" | "tsv":
            _file(data, f"rows.{reader}", read_rows)
        case "rows":
            _file(data, "rows.json", read_rows)
        case "markdown" | "html":
            READERS[{"markdown": ".md"}.get(reader, ".html")](data, "a", "a")
        case "entries":
            READERS[".json"](data, "a", "a")
        case "schema":
            value = foreign.parse_json(_text(data))
            if isinstance(value, dict):
                schema_fault(value)
        case "reply":
            read_reply(_text(data))
        case "request":
            read_request(data, CompletionRequest if b'"prompt"' in data else ChatRequest)
        case "axolotl" | "llamafactory":
            _file(data, "foreign.yaml", read_foreign)
        case "gguf":
            _file(data, "model.gguf", config_of_gguf)
        case "adapter":
            _file(data, "adapter_config.json", lambda path: read_adapter(path.parent))


def imported(readers: Iterable[str]) -> None:
    """What the readers need, in the form that shows which lines were run."""
    import atheris

    with atheris.instrument_imports(include=["lastresort"]):
        for reader in readers:
            read_once(reader, PLAIN[reader])


def fuzz(reader: str, seconds: int) -> None:
    """Does not return: the process ends, with another exit code than 0 where something was found."""
    import atheris

    imported([reader])
    found = FOUND / reader
    found.mkdir(parents=True, exist_ok=True)
    seeds = Path(tempfile.mkdtemp())
    (seeds / "plain").write_bytes(PLAIN[reader])
    words = [f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", f"-timeout={LONGEST_S}", "-rss_limit_mb=4096"]
    words += [f"-artifact_prefix={found}/", "-print_final_stats=1", str(seeds), str(found)]
    atheris.Setup([sys.argv[0], *words], lambda data: read_once(reader, data))
    atheris.Fuzz()


def fails(reader: str, seconds: int) -> bool:
    """In a fork."""
    global _FOLDER
    if (child := os.fork()) == 0:
        _FOLDER = tempfile.TemporaryDirectory()
        fuzz(reader, seconds)
    return os.waitpid(child, 0)[1] != 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("reader", choices=("all", *PLAIN))
    parser.add_argument("--seconds", type=int, default=10)
    asked = parser.parse_args()
    if asked.reader != "all":
        fuzz(asked.reader, asked.seconds)
    imported(PLAIN)
    failed = [reader for reader in PLAIN if fails(reader, asked.seconds)]
    print(json.dumps({"failed": failed}))
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
