"""A browser under test: nothing leaves this machine, and no error of its console is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright import sync_api as playwright

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WIDTHS = (390, 768, 1280, 1600)
TOO_WIDE = """() => {
  const root = document.documentElement;
  return [...document.querySelectorAll("main *, header.site *")].filter((element) =>
    element.getBoundingClientRect().right > root.clientWidth + 1 && !element.closest(".scroll, pre, svg, .visually-hidden")
  ).map((element) => element.outerHTML.slice(0, 160));
}"""


class Watched:
    """A browser page of which every request that leaves this machine, every error and every console error is kept."""

    def __init__(self, page: playwright.Page) -> None:
        self.page, self.faults = page, list[str]()
        page.route("**/*", self._pass)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("console", lambda said: self.faults.append(f"console: {said.text}") if said.type == "error" else None)

    @contextmanager
    def held(self, pattern: str) -> Iterator[None]:
        """Meanwhile requests to these addresses wait."""
        waiting: list[playwright.Route] = []
        self.page.route(pattern, lambda route: waiting.append(route))  # not the method: it gets an attribute
        yield
        self.page.unroute(pattern)
        for route in waiting:
            route.continue_()

    def _pass(self, route: playwright.Route) -> None:
        host = urlsplit(route.request.url).hostname
        if host in ("127.0.0.1", "localhost"):
            route.continue_()
        else:
            self.faults.append(f"asked for {route.request.url}")
            route.abort()


def at_rest(page: playwright.Page) -> None:
    """Waits until the page hears what is typed and pressed, and nothing that was sent is still on its way.

    A heading is there before the scripts are: what is typed then is heard by nobody.
    """
    page.wait_for_load_state()
    page.wait_for_function("() => window.htmx && !document.querySelector('.htmx-request')")


@contextmanager
def opened(browser: playwright.Browser, url: str, *, width: int = 1280, dark: bool = False) -> Iterator[Watched]:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    watched = Watched(context.new_page())
    watched.page.goto(url)
    yield watched
    assert watched.faults == [], watched.faults
    context.close()
