"""Files become documents with their structure; what cannot be read is named, and nothing outside the folder is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knowledge_support import markdown, pdf, written
from lastresort.errors import DataError
from lastresort.knowledge.chunks import sections
from lastresort.knowledge.document import Document, text_blocks
from lastresort.knowledge.formats import READERS
from lastresort.knowledge.reading import read_documents


def read(name: str, content: str | bytes) -> Document:
    data = content.encode() if isinstance(content, str) else content
    return READERS[Path(name).suffix](data, name, f"docs/{name}")


def shown(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def test_plain_text_has_paragraphs_lists_code_and_tables() -> None:
    text = "One line\nand more.\n\nSteps:\n1. first\n2. second\n   goes on\n```\na\n\nb\n```\n| a | b |\n| 1 | 2 |\n\n  last  \n"
    assert [(block.kind, text[block.start : block.end]) for block in text_blocks(text)] == [
        ("paragraph", "One line\nand more."),
        ("paragraph", "Steps:"),
        ("list", "1. first\n2. second\n   goes on"),
        ("code", "```\na\n\nb\n```"),
        ("table", "| a | b |\n| 1 | 2 |"),
        ("paragraph", "last"),
    ]


def test_a_fence_that_is_never_closed_holds_the_rest() -> None:
    text = "a\n```\nb\n\nc"
    assert [(block.kind, text[block.start : block.end]) for block in text_blocks(text)] == [
        ("paragraph", "a"),
        ("code", "```\nb\n\nc"),
    ]


def test_markdown_keeps_its_text_and_finds_its_blocks() -> None:
    text = (
        "# The *Handbook*\nIntro.\n\nReturns\n-------\n- a\n\n- b\n  c\n\n```py\n# no heading\n```\n\n"
        "| x | y |\n|---|---|\n| 1 | 2 |\n\n[home]: http://example.org\n\n> quoted\n"
    )
    document = read("handbook.md", text)
    assert document.text == text
    assert document.title == "The Handbook"
    assert shown(document) == [
        ("heading", "# The *Handbook*"),
        ("paragraph", "Intro."),
        ("heading", "Returns\n-------"),
        ("list", "- a\n\n- b\n  c"),
        ("code", "```py\n# no heading\n```"),
        ("table", "| x | y |\n|---|---|\n| 1 | 2 |"),
        ("paragraph", "[home]: http://example.org"),
        ("paragraph", "> quoted"),
    ]
    assert [(b.level, b.title) for b in document.blocks if b.kind == "heading"] == [(1, "The Handbook"), (2, "Returns")]


def test_front_matter_is_read_and_not_text() -> None:
    document = read("a.md", "---\ntitle: Returns & refunds\nversion: 3\ntags: [a]\n---\nText.\n")
    assert (document.title, document.text) == ("Returns & refunds", "Text.\n")
    assert document.metadata == {"format": "markdown", "title": "Returns & refunds", "version": "3"}
    assert read("a.md", "---\n: : [\n---\nText.\n").text.startswith("---")


def test_html_is_read_without_its_machinery() -> None:
    page = """<!doctype html><html><head><title>My  page</title><style>p{}</style><script>var a='<p>no</p>';</script></head>
    <body><nav><ul><li>menu</ul></nav><h1 id=top>Big <b>title</b></h1><p>First para<br>line &amp; two.<p>Second <code>x</code>
    <ul><li>one<li><p>two</p><ul><li>inner</li></ul></li></ul><ol><li>a</li><li>b</li></ol>
    <table><tr><th>A<th>B</tr><tr><td><p>1</p></td><td>2</table><pre>
def f():
    return 1
</pre><h2>Sub</h2>tail<button>press</button>"""
    document = read("page.html", page)
    assert document.title == "My page"
    assert shown(document) == [
        ("heading", "Big title"),
        ("paragraph", "First para\nline & two."),
        ("paragraph", "Second x"),
        ("list", "- one\n- two\n  - inner"),
        ("list", "1. a\n2. b"),
        ("table", "A | B\n1 | 2"),
        ("code", "def f():\n    return 1"),
        ("heading", "Sub"),
        ("paragraph", "tail"),
    ]
    assert [s.name for s in sections(document)] == ["top", "big-title/sub"]


def test_html_declares_its_encoding() -> None:
    page = '<meta charset="iso-8859-1"><p>Größe'
    assert read("a.html", page.encode("latin-1")).text == "Größe"
    with pytest.raises(DataError, match='encoding "klingon"'):
        read("a.html", '<meta charset="klingon"><p>Größe'.encode())


def test_pdf_pages_are_sections_under_the_outline() -> None:
    content = pdf(
        [
            ["ACME manual 1", "Returns are taken within thirty days of pur-", "chase.", "1"],
            ["ACME manual 2", "Repairs take two weeks.", "2"],
            ["ACME manual 3", "Lamps last long.", "3"],
            ["ACME manual 4", "The end.", "4"],
        ],
        title="The manual",
        outline=[("Service", 0), ("Products", 2)],
    )
    document = read("manual.pdf", content)
    assert (document.title, document.metadata["pages"]) == ("The manual", "4")
    assert "ACME" not in document.text
    assert "thirty days of purchase." in document.text
    assert [(s.name, s.headings) for s in sections(document)] == [
        ("page-1", ("Service", "page 1")),
        ("page-2", ("Service", "page 2")),
        ("page-3", ("Products", "page 3")),
        ("page-4", ("Products", "page 4")),
    ]


def test_pdfs_that_cannot_be_read_say_why() -> None:
    whole = pdf([["Some text."]])
    with pytest.raises(DataError, match=r"docs/a\.pdf: found a file that is not a PDF or is damaged"):
        read("a.pdf", b"%PDF-1.7 not really")
    with pytest.raises(DataError, match="not a PDF or is damaged"):
        read("a.pdf", whole[:200])
    from io import BytesIO

    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(BytesIO(whole)))
    writer.encrypt("secret", algorithm="RC4-128")
    file = BytesIO()
    writer.write(file)
    with pytest.raises(DataError, match="protected by a password"):
        read("a.pdf", file.getvalue())


def test_entries_are_sections_with_their_own_names() -> None:
    numbers = ", ".join(["0.5"] * 16)
    rows = """[{"chunk_link": "https://x.org/a#b", "chunk_heading": "First", "text": "Alpha."},
      {"id": 7, "pageContent": "Beta.", "price": 9.50, "tags": ["x", "y"], "vector": [NUMBERS], "more": {"in": {"deep": true}}},
      {"question": "Why?", "answer": "Because."}, "Only text.", {"title": "Alone"}, {"text": "  "}]""".replace(
        "NUMBERS", numbers
    )
    document = read("faq.json", rows)
    found = [
        (s.name, s.headings, [document.text[b.start : b.end] for b in s.blocks if b.start < b.end])
        for s in sections(document)
    ]
    assert found == [
        ("https://x.org/a#b", ("First",), ["Alpha."]),
        ("7", (), ["Beta.", "price: 9.50\ntags: x, y\nmore.in.deep: true"]),
        ("entry-3", (), ["question: Why?\nanswer: Because."]),
        ("entry-4", (), ["Only text."]),
        ("alone", ("Alone",), ["Alone"]),
    ]


def test_json_objects_hold_a_list_of_entries_or_are_entries() -> None:
    listed = read("a.json", '{"version": "3", "chunks": [{"id": "x", "text": "Alpha."}]}')
    assert [(s.name, listed.text[s.blocks[-1].start : s.blocks[-1].end]) for s in sections(listed)] == [
        ("x", "Alpha."),
        ("about", "version: 3"),
    ]
    keyed = read("a.json", '{"Opening hours": "Nine to five.", "Staff": {"cook": "Ann"}}')
    assert [(s.name, s.headings) for s in sections(keyed)] == [
        ("opening-hours", ("Opening hours",)),
        ("staff", ("Staff",)),
    ]
    assert keyed.text == "Nine to five.\n\ncook: Ann"


def test_lines_and_tables_are_entries_too() -> None:
    lines = read("a.jsonl", '{"id": "x", "text": "Alpha."}\n\n{"id": "y", "text": "Beta\\u2028Gamma."}\n')
    assert [s.name for s in sections(lines)] == ["x", "y"]
    table = read("a.csv", 'name;price;text\nLamp;"9;5";"Two\nlines"\nChair;20;\n')
    assert table.text == "Two\nlines\n\nprice: 9;5\n\nprice: 20"
    assert [s.headings for s in sections(table)] == [("Lamp",), ("Chair",)]


def test_names_that_come_again_are_told_apart() -> None:
    document = markdown("a.md", "# T\n## Example\na\n## Other\n### Example\nb\n## Example\nc\n## 2024\nd\n")
    assert [s.name for s in sections(document)] == ["example", "other/example", "example-2", "section-2024"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.md", b"ok\nbad \xff\n", r"docs/a\.md, line 2: found byte 0xff at offset 7, which is not UTF-8"),
        ("a.txt", b"\xef\xbb\xbfgut \xfc", "found byte 0xfc"),
        ("a.json", '{"a": ', r"docs/a\.json, line 1, column 7: found invalid JSON"),
        ("a.jsonl", '{"a": 1}\n{', "line 2, column 2: found invalid JSON"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.csv", "a,b\n1\n", r"row 1: found 1 cells, expected 2, as in the header"),
        ("a.csv", 'a,b\n"x\n', "quoting error"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(name: str, content: str | bytes, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read(name, content)


def test_text_is_tidied() -> None:
    assert read("a.txt", "a\r\nb\rc\0d").text == "a\nb\nc\ufffdd"
    assert read("a.txt", "ü".encode("utf-16")).text == "ü"
    assert read("a.json", '["a\\ud800b"]').text == "a\ufffdb"


def test_a_folder_is_read_below_and_the_rest_is_named(tmp_path: Path) -> None:
    folder = written(
        tmp_path / "docs",
        {
            "b.md": "# B\ntext",
            "a/c#1.TXT": "text",
            ".hidden.md": "x",
            ".git/config.md": "x",
            "a/logo.png": b"\x89PNG",
            "a/empty.md": " \n",
        },
    )
    (folder / "again.md").symlink_to("b.md")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe.md")
    reading = read_documents(folder)
    assert [document.id for document in reading.documents] == ["a/c%231.TXT", "b.md"]
    assert [(skip.path, skip.reason) for skip in reading.skipped] == [
        (".git", "hidden"),
        (".hidden.md", "hidden"),
        ("a/empty.md", "holds no text"),
        ("a/logo.png", 'no document of a known kind (".png")'),
        ("again.md", "a link"),
        ("loop", "a link"),
        ("pipe.md", "not a plain file"),
    ]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, kind: str) -> None:
    folder = written(tmp_path, {"docs/a.md": "a", "docs-2/secret.md": "s"}) / "docs"
    target = tmp_path / "docs-2" / ("secret.md" if kind == "file" else "")
    (folder / "link.md").symlink_to(target)
    with pytest.raises(DataError, match=r"link\.md: found a link that leads out of the folder"):
        read_documents(folder)


def test_paths_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_documents(tmp_path / "docs")
    written(tmp_path, {"a.png": b"x"})
    with pytest.raises(DataError, match=r"found no document, skipped 1: a\.png \(no document of a known kind"):
        read_documents(tmp_path)
    with pytest.raises(DataError, match=r'found the suffix "\.png"'):
        read_documents(tmp_path / "a.png")


def test_one_file_is_a_folder_of_one(tmp_path: Path) -> None:
    written(tmp_path, {"a.md": "# A\ntext"})
    assert [document.id for document in read_documents(tmp_path / "a.md").documents] == ["a.md"]


def test_a_scanned_pdf_holds_no_text(tmp_path: Path) -> None:
    folder = written(tmp_path, {"docs/scan.pdf": pdf([[], []], outline=[("Part", 0)]), "docs/a.md": "Some text."})
    reading = read_documents(folder / "docs")
    assert [document.id for document in reading.documents] == ["a.md"]
    assert [(skipped.path, skipped.reason) for skipped in reading.skipped] == [("scan.pdf", "holds no text")]
    with pytest.raises(DataError, match=r"found no document, skipped 1: scan\.pdf \(holds no text\)"):
        read_documents(folder / "docs" / "scan.pdf")
