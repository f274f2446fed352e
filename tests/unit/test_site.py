"""The site's links and pages, and the recording of a run, without mkdocs: `make docs` builds the site itself."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from scripts.pictures import recording
from scripts.site_pages import PAGES, loads_from_elsewhere, site_links

from climb_support import scripted_task
from lastresort.app.start import ClimbRequest, start_climb
from lastresort.types import SilentProgress

ROOT = Path(__file__).parent.parent.parent
SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def test_every_page_stands_once_in_the_order_of_reading() -> None:
    shown = [page for part in SETTINGS["nav"] for pages in part.values() for entry in pages for page in entry.values()]
    written = {path.name for path in (ROOT / "docs").glob("*.md")} | set(PAGES.values())
    assert sorted(shown) == sorted(written), "name each page of docs/ once in mkdocs.yml"


@pytest.mark.parametrize(
    ("markdown", "source", "on_the_site"),
    [
        ("[gate](docs/gate.md#repairs)", "README.md", "[gate](gate.md#repairs)"),
        ("![a [small] picture](docs/ladder.png)", "README.md", "![a [small] picture](ladder.png)"),
        ("[CHANGELOG](CHANGELOG.md)", "README.md", "[CHANGELOG](changelog.md)"),
        ("[benchmarks/latest.md](../benchmarks/latest.md)", "docs/speed.md", "[benchmarks/latest.md](measured.md)"),
        ("[forest.py](../src/lastresort/forest.py)", "docs/engine.md", "forest.py"),
        ("[task](task.md#knowledge)", "docs/ladder.md", "[task](task.md#knowledge)"),
        ("[here](#kernels), [there](https://example.org/a)", "docs/engine.md", "[here](#kernels), [there](https://example.org/a)"),
    ],
)  # fmt: skip
def test_links_lead_to_pages_of_the_site(markdown: str, source: str, on_the_site: str) -> None:
    assert site_links(markdown, source) == on_the_site


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/a.js"></script>',
        "<img alt='a' src=//example.org/a.png>",
        '<link href="https://fonts.example/css" rel="stylesheet">',
        "@font-face { src: url(https://fonts.example/a.woff2) }",
        '@import "//example.org/a.css"',
    ],
)
def test_what_another_host_would_be_asked_for_is_found(text: str) -> None:
    assert loads_from_elsewhere(text) is not None


def test_links_that_a_reader_follows_are_no_resources() -> None:
    page = '<link rel="canonical" href="https://example.org/"><a href="https://example.org">a</a><img src="a.png">'
    assert loads_from_elsewhere(page) is None


def test_a_recording_shows_the_command_each_event_and_the_ladder(tmp_path: Path) -> None:
    task = scripted_task(tmp_path, quality=[{"right": 1.0}])
    start_climb(ClimbRequest(task, run=tmp_path / "run"), SilentProgress())
    drawn = recording(tmp_path / "run", "lastresort climb <task>")
    shown = ["".join(group.itertext()) for group in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}g")]
    assert shown[0] == "$ lastresort climb <task>"
    assert any(line.startswith("prompting: zero-shot scores") for line in shown)
    assert any("MET" in line and "100.0%" in line for line in shown[-4:])
    seconds = [float(delay) for delay in re.findall(r"animation-delay: ([\d.]+)s", drawn)]
    assert seconds == sorted(seconds)
    assert loads_from_elsewhere(drawn) is None
