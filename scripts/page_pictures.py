"""Pictures of every page of `lastresort ui`, light and dark, at two widths: what the documents show, and what a reviewer looks at.

    python -m scripts.page_pictures docs/page                    of a run of the scripted model, made here in seconds
    python -m scripts.page_pictures FOLDER --workspace MINE      of the newest run of a workspace

Needs Chromium and playwright. Without them it says so and makes none.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser_support import ARGUMENTS, CHROMIUM  # noqa: E402

WIDTHS = (1280, 390)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
HEIGHT = 900
SETTLE_MS = 400
PAGES = {
    "runs": "",
    "run": "runs/{run}",
    "items": "runs/{run}/items",
    "talk": "runs/{run}/talk",
    "rate": "runs/{run}/rate",
    "new": "new?from={run}",
    "plan": "plan",
    "train": "train",
    "machine": "machine",
}


def pictures(workspace: Path, run: str, out: Path) -> list[Path]:
    """Serve the workspace, and draw each page into `out` as NAME-WIDTH-SCHEME.png."""
    from playwright.sync_api import sync_playwright

    from ui_support import served_page

    out.mkdir(parents=True, exist_ok=True)
    made = []
    with served_page(workspace) as (link, _), sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for width in WIDTHS:
            for scheme in SCHEMES:
                context = browser.new_context(
                    viewport={"width": width, "height": HEIGHT}, color_scheme=scheme, reduced_motion="reduce"
                )
                page = context.new_page()
                for name, path in PAGES.items():
                    page.goto(link + path.format(run=run))
                    page.wait_for_timeout(SETTLE_MS)
                    made.append(out / f"{name}-{width}-{scheme}.png")
                    page.screenshot(path=made[-1])
                context.close()
        browser.close()
    return made


@contextmanager
def scripted_workspace() -> Iterator[tuple[Path, str]]:
    from ui_support import finished_run

    with tempfile.TemporaryDirectory() as folder:
        finished_run(Path(folder), "routing-2")
        yield Path(folder), finished_run(Path(folder)).name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workspace", type=Path)
    given = parser.parse_args()
    if CHROMIUM is None or find_spec("playwright") is None:
        print("No pictures of the page: Chromium or playwright is not installed.", file=sys.stderr)
        return
    if given.workspace is not None:
        runs = (path.parent for path in (given.workspace / "runs").glob("*/record.sqlite"))
        newest = max(runs, key=lambda run: run.stat().st_mtime)
        made = pictures(given.workspace, newest.name, given.out)
    else:
        with scripted_workspace() as (workspace, run):
            made = pictures(workspace, run, given.out)
    print(f"{len(made)} pictures in {given.out}")


if __name__ == "__main__":
    main()
