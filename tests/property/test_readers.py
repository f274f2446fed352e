"""Whatever the bytes of a file, a reader gives a value or one of our errors, whose sentence fits on a screen."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from lastresort.data.answer_schema import schema_fault
from lastresort.data.files import read_rows
from lastresort.data.read import read_examples
from lastresort.errors import LONGEST, LastresortError
from lastresort.foreign import NotJson, parse_json, parse_yaml, read_json, read_yaml
from lastresort.gate.logs.lm_eval import lm_eval_file
from lastresort.hardware.cards import prices_with
from lastresort.knowledge.chunks import ChunkSettings, chunk_document
from lastresort.knowledge.formats import READERS
from lastresort.spec.document import read_document
from lastresort.spec.task import load_task

SEEDS: dict[str, bytes] = {
    "task.yaml": b"task: t\nabout: 'a'\nexamples: rows.jsonl\nscore: {regex: \"(a)\"}\nbar: 0.5\noutput: {choices: [a, b]}\n",
    "a.yaml": b"a: &x [1, 2024-01-02, 0x1f]\nb: *x\n<<: {c: ~}\nd: |\n  e\n",
    "prices.yaml": b"a100-80: 1.50\nl40s: 1\n",
    "a.json": b'[{"input": "a", "output": {"b": [1, 2.5e3, "\\u00e9", null, true]}, "id": 3}]',
    "rows.jsonl": b'{"input": "a", "output": "b"}\n{"messages": [{"role": "user", "content": "x"}]}\n',
    "rows.csv": b'input,output,passages\n"a ""b""",c,"[""d""]"\n',
    "rows.tsv": b"a\tb\nc\tb\n",
    "samples.jsonl": b'{"doc_id": 0, "doc": {}, "target": "a", "resps": [["a"]], "filtered_resps": ["a"], "acc": 1.0}\n',
    "a.md": b"---\ntitle: a\n---\n# A *b*\n\n- b [c](d)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\nx\n```\n[d]: e\n",
    "a.txt": b"One. Dr. Two.\n\n- a\n- b\n\n| a |\n```\nc\n",
    "a.html": b"<!doctype html><meta charset=utf-8><title>a</title><h1 id='x'>b</h1><ul><li>c<ol><li>d</ol></ul><![CDATA[x]]>"
    b'<table><tr><td>1<td>2</table><pre> e </pre>&amp;&#65;<!-- c --><script>f</script><p class="g">h',
    "a.pdf": b"%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[3 0 R]/Count 1>>\nendobj\n"
    b"3 0 obj\n<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>>\nendobj\n4 0 obj\n<</Length 12>>stream\nBT (a) Tj ET\n"
    b"endstream\nendobj\ntrailer\n<</Size 5/Root 1 0 R>>\nstartxref\n9\n%%EOF\n",
    "schema.json": b'{"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"pattern": "^a+$"}}}',
}
TOKENS = [
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b'"',
    b"'",
    b"[",
    b"]",
    b"{",
    b"}",
    b"<",
    b">",
    b"&#",
    b"--",
    b"\n",
    b"\t",
    b",",
    b": ",
    b"*x",
]
TOKENS += [
    b"1e999",
    b"9" * 400,
    b"NaN",
    b"\\ud800",
    b"!!python/name:os.system",
    b"\xe2\x80\xa8",
    b"$ref",
    b"(a",
    b"{99999999999}",
]


def knowledge(path: Path) -> None:
    document = READERS[path.suffix](path.read_bytes(), path.name, str(path))
    chunk_document(document, ChunkSettings(), lambda text: len(text) // 4 + 1)


def schema(path: Path) -> None:
    value = read_json(path)
    if isinstance(value, dict):
        schema_fault(value)


def text_of_json(path: Path) -> None:
    parse_json(path.read_bytes().decode("utf-8", "replace"), lenient=True)


def text_of_yaml(path: Path) -> None:
    parse_yaml(path.read_bytes().decode("utf-8", "replace"), where="a")


READS: dict[str, tuple[Callable[[Path], object], ...]] = {
    "task.yaml": (load_task, read_document),
    "a.yaml": (read_yaml, text_of_yaml),
    "prices.yaml": (lambda path: prices_with((), path),),
    "a.json": (read_json, read_rows, knowledge, text_of_json),
    "rows.jsonl": (read_rows, read_examples, knowledge),
    "rows.csv": (read_rows, read_examples, knowledge),
    "rows.tsv": (read_rows, read_examples, knowledge),
    "samples.jsonl": (lm_eval_file,),
    "a.md": (knowledge,),
    "a.txt": (knowledge,),
    "a.html": (knowledge,),
    "a.pdf": (knowledge,),
    "schema.json": (schema,),
}


def changed(content: bytes, drawn: random.Random) -> bytes:
    """With a few bytes flipped, cut, repeated, moved or put in."""
    data = bytearray(content)
    for _ in range(drawn.randint(1, 6)):
        at, to = sorted((drawn.randrange(len(data) + 1), drawn.randrange(len(data) + 1)))
        match drawn.randrange(5):
            case 0 if at < len(data):
                data[at] = drawn.randrange(256)
            case 1:
                del data[at : min(to, at + 8)]
            case 2:
                data[at:at] = drawn.choice(TOKENS)
            case 3:
                data[at:at] = data[at:to] * drawn.randint(1, 3)
            case 4:
                data[at:to] = data[at:to][::-1] if drawn.random() < 0.1 else data[at:to]
    return bytes(data)


def refusal(read: Callable[[Path], object], path: Path) -> LastresortError | None:
    try:
        read(path)
    except NotJson:
        return None
    except LastresortError as error:
        return error
    return None


@pytest.mark.parametrize("name", SEEDS)
def test_any_bytes_are_a_value_or_one_of_our_errors(name: str, tmp_path: Path) -> None:
    drawn, path = random.Random(name), tmp_path / name
    for number in range(60):
        path.write_bytes(SEEDS[name] if number == 0 else changed(SEEDS[name], drawn))
        for read in READS[name]:
            error = refusal(read, path)
            assert error is None or (error.exit_code in (2, 3) and 0 < len(str(error)) <= LONGEST + 100)


def test_changed_gzip_is_rows_or_one_of_our_errors(tmp_path: Path) -> None:
    drawn, path = random.Random(5), tmp_path / "rows.jsonl.gz"
    packed = gzip.compress(b"".join(json.dumps({"input": str(n), "output": "a"}).encode() + b"\n" for n in range(200)))
    for _ in range(100):
        path.write_bytes(changed(packed, drawn))
        error = refusal(read_rows, path)
        assert error is None or error.exit_code == 2


def test_changed_parquet_is_rows_or_one_of_our_errors(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    drawn, path = random.Random(6), tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"input": ["a", "b"] * 50, "output": [["c"], []] * 50}), path)
    packed = path.read_bytes()
    for _ in range(100):
        path.write_bytes(changed(packed, drawn))
        error = refusal(read_rows, path)
        assert error is None or error.exit_code == 2
