"""Documents to look things up in: Markdown, HTML, PDF, entries, folders."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import Case

from climb_support import scripted_task
from lastresort.knowledge.chunks import ChunkSettings, chunk_document
from lastresort.knowledge.reading import read_documents

Content = bytes | str | Callable[[], bytes | str]
Make = Callable[[Path], Callable[[], object]]


def put(folder: Path, name: str, content: Content) -> None:
    made = content() if callable(content) else content
    path = folder / "docs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.encode("utf-8", "surrogatepass") if isinstance(made, str) else made)


def reading(folder: Path) -> Callable[[], object]:
    """Reads and cuts the documents, as a climb does before it embeds them."""

    def read() -> None:
        for document in read_documents(folder / "docs").documents:
            chunk_document(document, ChunkSettings(), lambda text: len(text) // 4 + 1)

    return read


def documents(**files: Content) -> Make:
    """Files by name, with __ for the point before the suffix."""

    def make(folder: Path) -> Callable[[], object]:
        for name, content in files.items():
            put(folder, name.replace("__", "."), content)
        return reading(folder)

    return make


def html(content: Content) -> Make:
    return documents(a__html=content)


def md(content: Content) -> Make:
    return documents(a__md=content)


def folder_of(fill: Callable[[Path], object]) -> Make:
    def make(folder: Path) -> Callable[[], object]:
        (folder / "docs").mkdir()
        fill(folder / "docs")
        return reading(folder)

    return make


def nested_folders(docs: Path, depth: int = 1_200) -> None:
    """Deeper than a recursive walk gets. Each is made from the one above, since a path of so many is too long."""
    here = os.open(docs, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    (docs / "a.md").write_text("a")


def deep_links(docs: Path) -> None:
    (docs / "a.md").write_text("a")
    (docs / "x").symlink_to("y")
    (docs / "y").symlink_to("x")


def linked(target: str, name: str = "b.md") -> Callable[[Path], object]:
    def fill(docs: Path) -> None:
        (docs / "a.md").write_text("a")
        (docs / name).symlink_to(target)

    return fill


def fifo(docs: Path) -> None:
    os.mkfifo(docs / "a.md")


def sparse(docs: Path) -> None:
    with (docs / "a.txt").open("wb") as file:
        file.truncate(3 * 2**30)


def many_files(docs: Path) -> None:
    for number in range(2_000):
        (docs / f"{number}.md").write_text("# a\n\nb")


def bad_name(docs: Path) -> None:
    (Path(os.fsdecode(os.fsencode(docs) + b"/\xff.md"))).write_text("a")


def pdf(objects: list[bytes], trailer: bytes = b"/Root 1 0 R") -> bytes:
    """A PDF of these objects, numbered from 1."""
    written, places = io.BytesIO(), []
    written.write(b"%PDF-1.7\n")
    for number, one in enumerate(objects, start=1):
        places.append(written.tell())
        written.write(b"%d 0 obj\n%b\nendobj\n" % (number, one))
    start = written.tell()
    written.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    written.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    written.write(b"trailer\n<</Size %d %b>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start))
    return written.getvalue()


CATALOG, PAGES = b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>"
FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def stream(data: bytes, keys: bytes = b"") -> bytes:
    return b"<</Length %d%b>>stream\n%b\nendstream" % (len(data), keys, data)


def page_of(content: bytes, keys: bytes = b"") -> bytes:
    return pdf([CATALOG, PAGES, PAGE, stream(content, keys), FONT])


def flate_bomb(times: int = 1) -> bytes:
    data = b"(a) Tj " * (40 * 2**20)
    for _ in range(times):
        data = zlib.compress(data, 9)
    return page_of(data, b"/Filter[" + b"/FlateDecode" * times + b"]")


def many_pages(count: int, content: bytes = b"BT (a) Tj ET") -> bytes:
    kids = b" ".join(b"3 0 R" for _ in range(count))
    written = stream(zlib.compress(content, 9), b"/Filter/FlateDecode")
    return pdf([CATALOG, b"<</Type/Pages/Kids[%b]/Count %d>>" % (kids, count), PAGE, written, FONT])


def many_contents(count: int, content: bytes) -> bytes:
    """One page, written of the same stream again and again."""
    page = PAGE.replace(b"/Contents 4 0 R", b"/Contents[%b]" % (b"4 0 R " * count))
    return pdf([CATALOG, PAGES, page, stream(zlib.compress(content, 9), b"/Filter/FlateDecode"), FONT])


def tree_of_forms(depth: int, ways: int) -> bytes:
    """Each form draws the one below it so many times."""
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>>>>>"
    forms = [
        stream(
            b"/X Do " * ways,
            b"/Subtype/Form/BBox[0 0 1 1]/Resources<</XObject<</X %d 0 R>>/Font<</F 4 0 R>>>>" % (6 + n),
        )
        for n in range(depth)
    ]
    last = stream(b"BT (a) Tj ET", b"/Subtype/Form/BBox[0 0 1 1]")
    return pdf([CATALOG, PAGES, page, stream(b"/X Do " * ways), *forms, last])


def entries(value: Any) -> Make:
    return documents(a__json=json.dumps(value))


def command(fill: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    """The dry run of a climb with these documents."""

    def make(folder: Path) -> list[str]:
        (folder / "docs").mkdir()
        fill(folder / "docs")
        scripted_task(
            folder, quality=[{"right": 0.97}], task={"knowledge": "docs", "ladder": ["prompting", "retrieval"]}
        )
        return ["climb", "task.yaml", "--dry-run"]

    return make


def one(name: str, content: str) -> Callable[[Path], object]:
    return lambda docs: (docs / name).write_text(content, encoding="utf-8")


TAGS = (
    "a",
    "b",
    "p",
    "div",
    "ul",
    "ol",
    "li",
    "table",
    "td",
    "tr",
    "pre",
    "h1",
    "span",
    "title",
    "script",
    "svg",
    "textarea",
)
MANY = 20_000
UNITS = (
    "# a\n", "#", "# ", "- a\n", "- ", "1. a\n", "> ", "* ", "*", "_", "**a", "`", "```\n", "~~~\n", "[", "](", "![",
    "[a]: b\n", "<", "<!--", "<![CDATA[", "<a ", "|", "| a ", "|a|\n|-|\n", "---\n", "\\", "&", "&#", "\t", " ",
    "a\n\n", "Dr. ", "a. ", "\u3002", ". A", "a  \n", "\u0301", "\ufeff", "<b>", "</b>", "![a](", "~~", "=\n",
    "a\n=\n", "[^1]: ", "http://", "\\[", "'", "\"", "(", "-\n", "1)\n",
)  # fmt: skip

CASES: dict[str, Case] = {
    "a document": Case(command(one("a.md", "# Returns\n\nWithin 30 days.")), "accepted"),
    "no document": Case(command(lambda docs: None)),
    "a folder of links": Case(command(deep_links), "accepted"),
    "deep folders": Case(command(nested_folders), "accepted"),
    "an FAQ of one title": Case(
        command(
            lambda docs: put(
                docs.parent, "a.json", json.dumps([{"title": "Returns", "text": f"answer {n}"} for n in range(20_000)])
            )
        ),
        "accepted",
    ),
    # what is opened
    "a FIFO": Case(folder_of(fifo)),
    "a FIFO in a command": Case(command(fifo)),
    "a link to a device": Case(folder_of(linked("/dev/zero"))),
    "a link to the environment": Case(folder_of(linked("/proc/self/environ")), named="leads out"),
    "a link out of the folder": Case(folder_of(linked("../outside.md")), named="leads out"),
    "a link to a folder above": Case(folder_of(linked("..", "b")), named="leads out"),
    "a link to its own folder": Case(folder_of(linked(".", "b")), "accepted"),
    "a link to itself": Case(folder_of(linked("b.md")), "accepted"),
    "a loop of links": Case(folder_of(deep_links), "accepted"),
    "deep folders, read": Case(folder_of(nested_folders), "accepted"),
    "3 GiB": Case(folder_of(sparse), named="MiB"),
    "2,000 files": Case(folder_of(many_files), "accepted"),
    "a name that is not UTF-8": Case(folder_of(bad_name), "either"),
    "a name with #": Case(folder_of(one("a#b.md", "a")), "accepted"),
    "a name of 250 letters": Case(folder_of(one("a" * 247 + ".md", "a")), "accepted"),
    # Markdown and text, each in 20,000 characters
    **{f"Markdown of {unit!r}": Case(md(unit * (MANY // len(unit))), "either") for unit in UNITS},
    **{f"text of {unit!r}": Case(documents(a__txt=unit * (MANY // len(unit))), "either") for unit in UNITS},
    **{f"HTML of {unit!r}": Case(html(unit * (MANY // len(unit))), "either") for unit in UNITS},
    "Markdown of 1 MB": Case(md("A sentence of words. " * 50_000), "accepted"),
    "a word of 1 MB": Case(md("a" * 1_000_000), "accepted"),
    "a word of 1 MB in text": Case(documents(a__txt="a" * 1_000_000), "accepted"),
    "a heading of 1 MB": Case(md("# " + "word " * 200_000), "accepted"),
    "a heading of one word of 1 MB": Case(md("# " + "a" * 1_000_000 + "\n\nb"), "accepted"),
    "quotes in quotes": Case(md(">" * 5_000 + " a"), "either"),
    "lists in lists": Case(md("".join(f"{'  ' * n}- a\n" for n in range(300))), "either"),
    "20,000 headings of one title": Case(md("## Returns\n\na\n\n" * 20_000), "accepted"),
    "20,000 titles with numbers": Case(
        md("".join(f"## a-{n}\n\na\n\n## a\n\nb\n\n" for n in range(2, 10_000))), "accepted"
    ),
    "a table of 5,000 columns": Case(
        md("|a" * 5_000 + "|\n" + "|-" * 5_000 + "|\n" + "|b" * 5_000 + "|\n"), "accepted"
    ),
    "front matter": Case(md("---\ntitle: a\n---\nb"), "accepted"),
    "a bomb in the front matter": Case(
        md("---\na0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)) + "---\nb"),
        "either",
    ),
    "front matter of a month 13": Case(md("---\ndate: 2024-13-41\n---\nb"), "either"),
    "front matter of 5,000 digits": Case(md(f"---\na: 1{'0' * 5_000}\n---\nb"), "either"),
    "front matter of 5,000 brackets": Case(md(f"---\na: {'[' * 5_000}\n---\nb"), "either"),
    "front matter that runs code": Case(md("---\na: !!python/object/apply:os.system [ls]\n---\nb"), "either"),
    "front matter of keys that are lists": Case(md("---\n? [a]\n: 1\n---\nb"), "either"),
    "front matter of 2 MB": Case(md("---\n" + "".join(f"k{n}: 1\n" for n in range(100_000)) + "---\nb"), "either"),
    "front matter with a merge of a number": Case(md("---\n<<: 1\n---\nb"), "either"),
    "front matter with infinity": Case(md("---\na: .inf\nb: 0x" + "f" * 4_000 + "\n---\nb"), "either"),
    # bytes
    "UTF-16": Case(documents(a__txt="a\nb".encode("utf-16")), "accepted"),
    "half of UTF-16": Case(documents(a__txt="a\nb".encode("utf-16")[:-1])),
    "Latin-1": Case(documents(a__txt=b"\xe9"), named="UTF-8"),
    "zeros": Case(documents(a__txt=bytes(1_000)), "either"),
    "spaces": Case(documents(a__txt=" \n"), named="no document"),
    "line separators": Case(documents(a__txt="a\u2028b\u2029c\x85d\x0be"), "accepted"),
    "carriage returns": Case(documents(a__txt="a\r" * MANY), "accepted"),
    # HTML
    **{f"20,000 of <{tag}>": Case(html(f"<{tag}>" * MANY + "a"), "either") for tag in TAGS},
    **{f"20,000 of <{tag}>a</{tag}>": Case(html(f"<{tag}>a</{tag}>" * MANY), "either") for tag in TAGS[:12]},
    **{f"20,000 ends of <{tag}>": Case(html(f"a</{tag}>" * MANY), "either") for tag in TAGS},
    **{
        f"an encoding called {name}": Case(html(f'<meta charset="{name}">a'), "either")
        for name in (
            "undefined",
            "idna",
            "punycode",
            "rot13",
            "base64",
            "zlib",
            "hex",
            "uu",
            "utf-7",
            "mbcs",
            "cp65001",
            "x" * 40,
        )
    },
    "an encoding that escapes": Case(html('<meta charset="unicode_escape">a\\ud800\\x00b'), "either"),
    "an encoding that needs all": Case(html('<meta charset="raw_unicode_escape">\\uD800'), "either"),
    "unclosed ends": Case(html("</" * MANY), "either"),
    "unclosed ends of a name": Case(html("</a " * MANY), "either"),
    "one end without an end": Case(html("<p>" + "</a" + " b" * MANY), "either"),
    "unclosed declarations": Case(html("<!" * MANY), "either"),
    "unclosed marked sections": Case(html("<![a[" * MANY), "either"),
    "unclosed instructions": Case(html("<?" * MANY), "either"),
    "unclosed comments": Case(html("<!--" * MANY), "either"),
    "comments that nearly end": Case(html("<!--" + "--!" * MANY), "either"),
    "an attribute without an end": Case(html('<a b="' + "c" * 1_000_000), "either"),
    "20,000 attributes": Case(html("<a " + "b=c " * MANY + ">d</a>"), "either"),
    "20,000 attributes without an end": Case(html("<a " + "b=c " * MANY), "either"),
    "attributes of quotes": Case(html("<a " + "'" * MANY + ">"), "either"),
    "attributes of open quotes": Case(html('<a b="' * MANY), "either"),
    "attributes of slashes": Case(html("<a" + "/" * MANY + ">"), "either"),
    "attributes of equals": Case(html("<a" + "=" * MANY + ">"), "either"),
    "spaces in a tag": Case(html("<a" + " " * MANY), "either"),
    "tags in tags": Case(html("<a<" * MANY), "either"),
    "a name of 1 MB": Case(html("<" + "a" * 1_000_000 + ">"), "either"),
    "references": Case(html("&#1114112;&#xd800;&#x110000;&nosuch;&lt" * 10_000), "either"),
    "a reference of 5,000 digits": Case(html(f"a&#{'9' * 5_000};b"), "either"),
    "an open script": Case(html("<p>a</p><script>" + "</scrip" * MANY), "either"),
    "an open title": Case(html("<title>" + "a<b>" * MANY), "either"),
    "titles": Case(html("<title>a</title>" * MANY), "either"),
    "items without a list": Case(html("<li>a" * MANY), "either"),
    "an item of 20,000 breaks": Case(html("<ul><li>" + "<br>" * MANY + "a</ul>"), "either"),
    "an item of 20,000 paragraphs": Case(html("<ul><li>" + "<p>a" * MANY + "</ul>"), "either"),
    "a cell of 20,000 empty ones": Case(html("<table><tr>" + "<td> " * MANY + "</table>"), "either"),
    "an item of 20,000 spans and breaks": Case(html("<li>" + "<i> </i><br>" * MANY), "either"),
    "headings of one title": Case(html("<h2>Returns</h2><p>a</p>" * 20_000), "accepted"),
    "lists in 50,000 lists": Case(html("<ul><li>a" * 50_000), "either"),
    # entries
    "an FAQ of one title, read": Case(
        entries([{"title": "Returns", "text": f"answer {n}"} for n in range(20_000)]), "accepted"
    ),
    "an FAQ of one id": Case(entries([{"id": "a", "text": f"answer {n}"} for n in range(20_000)]), "accepted"),
    "an FAQ of titles with numbers": Case(
        entries([{"title": t, "text": "b"} for n in range(2, 10_000) for t in (f"a-{n}", "a")]), "accepted"
    ),
    "entries without a text": Case(entries([{}] * 1_000)),
    "an entry of 40,000 keys": Case(entries([{f"k{n}": "a" for n in range(40_000)}]), "accepted"),
    "an object of 40,000 keys": Case(entries({f"k{n}": "a" for n in range(40_000)}), "accepted"),
    "an object of 1,000 lists": Case(entries({f"k{n}": [{"a": 1}] for n in range(1_000)}), "accepted"),
    "a number": Case(entries(5), "accepted"),
    "null": Case(entries(None)),
    "an embedding": Case(entries([{"text": "a", "vector": [0.5] * 5_000}]), "accepted"),
    "90 levels": Case(documents(a__json="[" * 90 + "1" + "]" * 90), "accepted"),
    "keys of 90 levels": Case(documents(a__json='{"a": ' * 90 + "1" + "}" * 90), "accepted"),
    "900 levels": Case(documents(a__json='{"a": ' * 900 + "1" + "}" * 900)),
    "20,000 levels": Case(documents(a__json="[" * MANY + "]" * MANY)),
    "20,000 open brackets": Case(documents(a__json="[" * MANY)),
    "5,000 digits": Case(documents(a__json="1" * 5_000), "either"),
    "NaN": Case(documents(a__json='[{"text": "a", "b": NaN}]'), "either"),
    "half of a pair": Case(documents(a__json='[{"text": "a\\ud800"}]'), "either"),
    "a key twice": Case(documents(a__json='{"a": "b", "a": "c"}'), "either"),
    "a key of 1 MB": Case(entries([{"k" * 1_000_000: "a"}]), "accepted"),
    "a key of 50,000 words": Case(entries([{"Ab" * 50_000: "a"}]), "accepted"),
    "a value of 5 MB": Case(entries([{"text": "word " * 1_000_000}]), "accepted"),
    "broken lines": Case(documents(a__jsonl='{"text": "a"}\n{"text": ')),
    "lines of numbers": Case(documents(a__jsonl="1\n" * 1_000), "accepted"),
    "no lines": Case(documents(a__jsonl="\n\n")),
    "40,000 columns": Case(
        documents(a__csv=",".join(f"c{n}" for n in range(40_000)) + "\n" + "1," * 39_999 + "1\n"), "accepted"
    ),
    "40,000 columns of one name": Case(documents(a__csv="a," * 39_999 + "a\n" + "1," * 39_999 + "1\n"), "either"),
    "cells that are missing": Case(documents(a__csv="a,b\n1\n"), named="1 cells"),
    "an open quote": Case(documents(a__csv='a,b\n"' + "c" * 1_000_000), named="quot"),
    "a cell of 5 MB": Case(documents(a__csv="text\n" + "word " * 1_000_000), "accepted"),
    "a table of a NUL": Case(documents(a__csv="text,b\na\0,c\n"), "either"),
    # PDF
    "a page": Case(documents(a__pdf=page_of(b"BT /F 9 Tf (Hello there) Tj ET")), "accepted"),
    "a PDF of 200 bytes": Case(documents(a__pdf=b"%PDF-1.7\n" + bytes(200)), named="a.pdf"),
    "a PDF that is text": Case(documents(a__pdf="Hello"), named="a.pdf"),
    "an empty PDF": Case(documents(a__pdf=b""), named="a.pdf"),
    "a cut PDF": Case(documents(a__pdf=page_of(b"BT (a) Tj ET")[:200]), named="a.pdf"),
    "a page that unpacks to 280 MB": Case(documents(a__pdf=flate_bomb), named="a.pdf"),
    "a page that unpacks twice": Case(documents(a__pdf=lambda: flate_bomb(2)), named="a.pdf"),
    "100,000 pages that are one": Case(documents(a__pdf=lambda: many_pages(100_000)), "either"),
    "1,000 pages of 20,000 words in 8 KB": Case(
        documents(a__pdf=lambda: many_pages(1_000, b"BT " + b"(a) Tj " * 20_000 + b"ET")), named="takes more than"
    ),
    "5,000 pages of one text of 1 MB": Case(
        documents(a__pdf=lambda: many_pages(5_000, b"BT (" + b"a" * 1_000_000 + b") Tj ET")), named="takes more than"
    ),
    "a page written of one stream 70 times": Case(
        documents(a__pdf=lambda: many_contents(70, b"BT (" + b"a" * 1_000_000 + b") Tj ET")), "either"
    ),
    "300,000 words in 4 KB": Case(documents(a__pdf=lambda: page_of(b"BT " + b"(a) Tj " * 300_000 + b"ET")), "either"),
    "forms in forms": Case(documents(a__pdf=lambda: tree_of_forms(8, 10)), "either"),
    "pages in a circle": Case(documents(a__pdf=pdf([CATALOG, b"<</Type/Pages/Kids[2 0 R]/Count 1>>"])), named="a.pdf"),
    "a page that is its parent": Case(
        documents(
            a__pdf=pdf([CATALOG, b"<</Type/Pages/Kids[3 0 R]/Count 1>>", b"<</Type/Pages/Parent 3 0 R/Kids[2 0 R]>>"])
        ),
        named="a.pdf",
    ),
    "a length of itself": Case(
        documents(a__pdf=pdf([CATALOG, PAGES, PAGE, b"<</Length 4 0 R>>stream\na\nendstream", FONT])), "either"
    ),
    "a length of 10^12": Case(
        documents(a__pdf=pdf([CATALOG, PAGES, PAGE, b"<</Length 1000000000000>>stream\na\nendstream", FONT])), "either"
    ),
    "a page count of 10^12": Case(documents(a__pdf=pdf([CATALOG, b"<</Type/Pages/Kids[]/Count 1000000000000>>"]))),
    "a PDF of 50,000 brackets": Case(documents(a__pdf=pdf([b"[" * 50_000])), named="a.pdf"),
    "a page of 50,000 brackets": Case(documents(a__pdf=page_of(b"[" * 50_000)), "either"),
    "a page of 50,000 dictionaries": Case(documents(a__pdf=page_of(b"<<" * 50_000)), "either"),
    "a text without an end": Case(documents(a__pdf=page_of(b"BT (" + b"(" * 100_000)), "either"),
    "a root that is missing": Case(documents(a__pdf=pdf([CATALOG], b"/Root 9 0 R")), named="a.pdf"),
    "a root that is a number": Case(documents(a__pdf=pdf([b"5"])), named="a.pdf"),
    "an outline in a circle": Case(
        documents(
            a__pdf=pdf(
                [
                    b"<</Type/Catalog/Pages 2 0 R/Outlines 6 0 R>>",
                    PAGES,
                    PAGE,
                    stream(b"BT /F 9 Tf (a b) Tj ET"),
                    FONT,
                    b"<</First 7 0 R>>",
                    b"<</Title(a)/Next 7 0 R/Dest[3 0 R/Fit]>>",
                ]
            )
        ),
        "either",
    ),
    "an outline of itself": Case(
        documents(
            a__pdf=pdf(
                [
                    b"<</Type/Catalog/Pages 2 0 R/Outlines 6 0 R>>",
                    PAGES,
                    PAGE,
                    stream(b"BT /F 9 Tf (a b) Tj ET"),
                    FONT,
                    b"<</First 7 0 R>>",
                    b"<</Title(a)/First 7 0 R>>",
                ]
            )
        ),
        "either",
    ),
    "a form that draws itself": Case(
        documents(
            a__pdf=pdf(
                [
                    CATALOG,
                    PAGES,
                    b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>>>>>",
                    stream(b"/X Do"),
                    stream(b"/X Do /X Do", b"/Subtype/Form/BBox[0 0 1 1]/Resources<</XObject<</X 5 0 R>>>>"),
                ]
            )
        ),
        "either",
    ),
    "an encrypted PDF": Case(
        documents(
            a__pdf=pdf(
                [CATALOG, PAGES, PAGE, stream(b""), FONT],
                b"/Root 1 0 R/Encrypt<</Filter/Standard/V 1/R 2/O(a)/U(b)/P 1>>",
            )
        ),
        named="a.pdf",
    ),
    "an unknown filter": Case(documents(a__pdf=page_of(b"a", b"/Filter/Nobody")), "either"),
    "an LZW bomb": Case(documents(a__pdf=page_of(b"\x80" + b"\xff" * 100_000, b"/Filter/LZWDecode")), "either"),
    "a run length bomb": Case(documents(a__pdf=page_of(b"\x81a" * 1_000_000, b"/Filter/RunLengthDecode")), "either"),
    "a fractional predictor": Case(
        documents(
            a__pdf=page_of(
                zlib.compress(b"abc"), b"/Filter/FlateDecode/DecodeParms<</Predictor 15/Columns 1000000000>>"
            )
        ),
        "either",
    ),
}
