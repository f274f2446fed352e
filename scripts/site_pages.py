"""Hooks of mkdocs.yml: what the site takes from outside docs/, and that no page of it loads anything from elsewhere.

The front page is the README; the changelog and the measurements come from their own files. On the site, a link to a source file
is its name: the site holds the pages, not the tree.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/latest.md": "measured.md",
    "benchmarks/retrieval.md": "measured-retrieval.md",
}
GALLERY, PICTURES = "<!-- pictures of every page -->", "page"
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
# A page loads what these name. A link that a reader follows (a href) is no resource.
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|object|image)\b[^>]*\s(?:src|data|href|xlink:href)=[\"']?(?:https?:)?//"
)
STYLED = re.compile(
    r"<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon|modulepreload))[^>]*\shref=[\"']?(?:https?:)?//"
)
FETCHED = re.compile(r"url\([\"']?(?:https?:)?//|@import\s+[\"'](?:https?:)?//")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are written outside docs/."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they are on the site; those of a page's own file lead on from where that file lies in the tree."""
    source = {name: path for path, name in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return site_links(markdown.replace(GALLERY, gallery(ROOT / "docs" / PICTURES)), source)


def gallery(folder: Path) -> str:
    """The pictures of scripts/page_pictures.py: each page in light and dark, wide and narrow. Nothing where none were made."""
    names = list(dict.fromkeys(path.name.split("-")[0] for path in sorted(folder.glob("*-*-*.png"))))
    shown = []
    for name in names:
        pictures = sorted(folder.glob(f"{name}-*.png"), key=lambda path: (-int(path.stem.split("-")[1]), path.stem))
        links = [f"![{path.stem}]({PICTURES}/{path.name})" for path in pictures]
        shown.append(f"### {name}\n\n" + "\n".join(links))
    return "## Every page in pictures\n\n" + "\n\n".join(shown) if shown else ""


def site_links(markdown: str, source: str) -> str:
    """The Markdown of a file of the tree with its links as the site has them. source: the file, from the root of the tree."""
    folder = PurePosixPath(source).parent

    def moved(found: re.Match[str]) -> str:
        image, words, target, anchor = found[1], found[2], found[3], found[4] or ""
        if not target or ":" in target:
            return found[0]
        path = os.path.normpath(folder / target)
        if path in PAGES:
            return f"{image}[{words}]({PAGES[path]}{anchor})"
        if path.startswith("docs/"):
            return f"{image}[{words}]({path.removeprefix('docs/')}{anchor})"
        return f"`{path}`" if words.strip("`") in (path, target) else words

    return LINK.sub(moved, markdown)


def on_post_build(config: Any) -> None:
    """Raise PluginError where a built page would load something from another host."""
    from mkdocs.exceptions import PluginError

    site = Path(config["site_dir"])
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".css", ".svg") and (
            found := loads_from_elsewhere(path.read_text(encoding="utf-8"))
        ):
            raise PluginError(
                f"{path.relative_to(site)}: found {found}, expected nothing from another host. Ship the file."
            )


def loads_from_elsewhere(text: str) -> str | None:
    """The first place of an HTML page, style sheet or drawing that makes a browser ask another host."""
    found = LOADED.search(text) or STYLED.search(text) or FETCHED.search(text)
    return None if found is None else found[0]
