"""The documents that come with the program, rendered for the page: inside the package in a wheel, next to it in a checkout."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from lastresort.foreign import read_content, read_text
from lastresort.ui.workspace import NotThere

_PACKAGE = Path(__file__).resolve().parents[1]
PLACES = (_PACKAGE / "docs", _PACKAGE.parent.parent / "docs")
ADDRESS = "/docs"
PICTURES = {".svg": "image/svg+xml", ".png": "image/png"}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_COMMENT = re.compile("<!--.*?-->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ShownDocument:
    """name: of its file, without the suffix. title: its first heading."""

    name: str
    title: str
    html: Markup


def folder_of_documents() -> Path | None:
    return next((place for place in PLACES if (place / "task.md").is_file()), None)


@cache
def titles() -> dict[str, str]:
    """By name, in the order of the titles; {} where none came with the program."""
    folder = folder_of_documents()
    if folder is None:
        return {}
    found = {path.stem: _title(read_text(path), path.stem) for path in folder.glob("*.md")}
    return dict(sorted(found.items(), key=lambda one: one[1].lower()))


@cache
def document(name: str) -> ShownDocument:
    """Raises NotThere for a name that is none of a document."""
    folder = folder_of_documents()
    if folder is None or name not in titles():
        raise NotThere("There is no such document.")
    return ShownDocument(name, titles()[name], rendered(_COMMENT.sub("", read_text(folder / f"{name}.md"))))


def picture(name: str) -> tuple[bytes, str]:
    """A picture of the documents and its kind. Raises NotThere."""
    folder, path = folder_of_documents(), PurePosixPath(name)
    if folder is not None and path.suffix in PICTURES and _NAME.fullmatch(path.stem):
        for place in (folder / name, folder / "studies" / name):
            if place.is_file():
                return read_content(place), PICTURES[path.suffix]
    raise NotThere("There is no such picture.")


def rendered(text: str) -> Markup:
    """Markdown as HTML. HTML in it is text; links lead to other documents, or to where they say on the web."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    slugs: dict[str, int] = {}
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _slug(tokens[at + 1].content, slugs))
        elif token.type in ("th_open", "td_open"):
            token.attrs.pop("style", None)  # the policy forbids inline styles
            if not tokens[at + 1].content:  # the corner of a table is no heading
                token.tag = tokens[at + 2].tag = "td"
        elif token.type == "inline":
            _change_links(token.children or [])
    html = parser.renderer.render(tokens, parser.options, {})
    html = html.replace("<table>", '<div class="scroll"><table class="list">').replace("</table>", "</table></div>")
    return Markup(html.replace("<pre>", '<pre tabindex="0">'))


def _change_links(tokens: list[Token]) -> None:
    dropped = 0  # links that lead nowhere here, open now
    for token in tokens:
        if token.type == "link_open":
            address = _address(str(token.attrGet("href") or ""))
            if address is None:
                token.type, token.tag, token.attrs, dropped = "text", "", {}, dropped + 1
            else:
                token.attrSet("href", address)
        elif token.type == "link_close" and dropped:
            token.type, token.tag, dropped = "text", "", dropped - 1
        elif token.type == "image":
            source = PurePosixPath(urlsplit(str(token.attrGet("src") or "")).path).name
            token.attrSet("src", f"{ADDRESS}/pictures/{source}")


def _address(href: str) -> str | None:
    """None for a link that leads nowhere here."""
    found = urlsplit(href)
    if found.scheme or found.netloc:
        return href if found.scheme in ("http", "https") else None
    path = PurePosixPath(unquote(found.path))
    anchor = f"#{found.fragment}" if found.fragment else ""
    if not found.path:
        return anchor or None
    if path.suffix == ".md" and len(path.parts) == 1 and path.stem in titles():
        return f"{ADDRESS}/{path.stem}{anchor}"
    return None


def _title(text: str, name: str) -> str:
    first = next((line for line in text.splitlines() if line.startswith("# ")), "")
    return re.sub(r"[`*]", "", first.removeprefix("# ").strip()) or name


def _slug(heading: str, seen: dict[str, int]) -> str:
    """As the site's own anchors are made, so that links between documents hold."""
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    slug = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())
    number = seen.get(slug, 0)
    seen[slug] = number + 1
    return slug if not number else f"{slug}_{number}"
