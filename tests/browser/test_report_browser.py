"""The report in Chromium: nothing a model said runs, and nothing sticks out of the page at any width."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

from browser_support import CHROMIUM
from cost_support import costs
from decision_support import decide
from headlines import longest_headlines
from lastresort.report.decision import read_decision
from lastresort.report.html import write_report
from report_support import make, remade

QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *(
        "--disable-component-update",
        "--disable-sync",
        "--virtual-time-budget=4000",
        "--window-size=1400,1000",
        "--dump-dom",
    ),
]
WIDTHS = (360, 768, 1280)

# The report is put into frames of several widths; the page around them measures what the browser made of it.
HARNESS = """<!doctype html><meta charset="utf-8"><body>{frames}<pre id="found"></pre><script>
const lines = (element) => Math.round(
  element.getBoundingClientRect().height / parseFloat(getComputedStyle(element).lineHeight));
window.addEventListener("load", () => {{
  const found = [...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument, root = page.documentElement;
    const wide = [...page.querySelectorAll("main *")].filter((element) =>
      element.getBoundingClientRect().right > root.clientWidth + 1 &&
      !element.closest(".scroll, pre, svg, .visually-hidden") && getComputedStyle(element).position !== "absolute");
    return {{
      width: root.clientWidth, content: root.scrollWidth, wide: wide.map((element) => element.outerHTML.slice(0, 120)),
      cut: [...page.querySelectorAll(".scroll:has(table)")].filter((element) =>
        element.scrollWidth > element.clientWidth).map((element) => element.innerText.slice(0, 120)),
      scripts: page.querySelectorAll("script, img, iframe").length, title: page.title,
      sections: page.querySelectorAll("section").length, headlines: [...page.querySelectorAll("h1")].map(lines),
    }};
  }});
  document.getElementById("found").textContent = JSON.stringify(found);
}});
window.alert = () => {{ document.title = "attacked"; }};
</script>"""


def measured(folder: Path, frames: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    """What the browser makes of these pages, each in a frame of its width. Nothing in them may run."""
    drawn = "".join(
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{escape(page)}"></iframe>'
        for width, page in frames
    )
    (folder / "harness.html").write_text(HARNESS.format(frames=drawn), "utf-8")
    assert CHROMIUM is not None
    command = [CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", (folder / "harness.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "<title>attacked</title>" not in dom
    match = re.search(r'<pre id="found">(.*?)</pre>', dom, re.S)
    assert match is not None
    found: list[dict[str, Any]] = json.loads(unescape(match[1]))
    return found


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_no_headline_is_longer_than_two_lines(tmp_path: Path) -> None:
    answers = longest_headlines()
    report = write_report(make(tmp_path / "run", "sft-met")).read_text("utf-8")
    headlines = "".join(f"<h1>{escape(answer)}</h1>" for answer in answers)
    page, n = re.subn(r"<h1>.*?</h1>", lambda _: headlines, report, flags=re.S)
    assert n == 1
    lines = dict(zip(answers, measured(tmp_path, [(900, page)])[0]["headlines"], strict=True))
    assert {answer: n for answer, n in lines.items() if n not in (1, 2)} == {}


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize(
    "name", ["hostile", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sft-met", "undecided", "costed"))]
)
def test_in_chromium(tmp_path: Path, name: str) -> None:
    report = write_report(make(tmp_path / "run", name)).read_text("utf-8")
    found = measured(tmp_path, [(width, report) for width in WIDTHS])
    assert len(found) == len(WIDTHS)
    for page in found:
        assert page["wide"] == []
        assert page["content"] <= page["width"]
        assert page["scripts"] == 0
        assert page["sections"] >= 5
        assert page["title"].endswith("lastresort")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_desktop_shows_every_price_without_scrolling(tmp_path: Path) -> None:
    seconds: dict[str, Any] = {"per_call_usd": None, "one_off_usd": None, "per_call_machine_s": 0.658}
    prices = costs(currency="machine_seconds", hourly_price=None, prompting=seconds, sft=seconds)
    decide(tmp_path / "run", remade(read_decision(make(tmp_path / "run", "costed")), break_even=prices))
    report = write_report(tmp_path / "run").read_text("utf-8")
    assert "s of this machine" in report
    assert [page["cut"] for page in measured(tmp_path, [(width, report) for width in (1000, 1280)])] == [[], []]
