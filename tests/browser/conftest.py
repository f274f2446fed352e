"""The browser of these tests, one a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from browser_support import ARGUMENTS, CHROMIUM

if TYPE_CHECKING:
    from playwright import sync_api as playwright


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()
