"""The report in Chromium: nothing a model said runs, and nothing sticks out of the page at any width."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

from lastresort.report.html import write_report
from report_support import make

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
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
window.addEventListener("load", () => {{
  const found = [...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument, root = page.documentElement;
    const wide = [...page.querySelectorAll("main *")].filter((element) =>
      element.getBoundingClientRect().right > root.clientWidth + 1 &&
      !element.closest(".scroll, pre, svg, .visually-hidden") && getComputedStyle(element).position !== "absolute");
    return {{
      width: root.clientWidth, content: root.scrollWidth, wide: wide.map((element) => element.outerHTML.slice(0, 120)),
      scripts: page.querySelectorAll("script, img, iframe").length, title: page.title,
      sections: page.querySelectorAll("section").length,
    }};
  }});
  document.getElementById("found").textContent = JSON.stringify(found);
}});
window.alert = () => {{ document.title = "attacked"; }};
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("name", ["sft-met", "hostile", "undecided", "costed"])
def test_in_chromium(tmp_path: Path, name: str) -> None:
    report = write_report(make(tmp_path / "run", name)).read_text("utf-8")
    frames = "".join(
        f'<iframe style="width:{w}px;height:900px;border:0" srcdoc="{escape(report)}"></iframe>' for w in WIDTHS
    )
    (tmp_path / "harness.html").write_text(HARNESS.format(frames=frames), "utf-8")
    assert CHROMIUM is not None
    address = (tmp_path / "harness.html").as_uri()
    command = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", address]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    match = re.search(r'<pre id="found">(.*?)</pre>', dom, re.S)
    assert match is not None
    found = json.loads(unescape(match[1]))
    assert len(found) == len(WIDTHS)
    for page in found:
        assert page["wide"] == []
        assert page["content"] <= page["width"]
        assert page["scripts"] == 0
        assert page["sections"] >= 5
        assert page["title"].endswith("lastresort")
    assert "<title>attacked</title>" not in dom
