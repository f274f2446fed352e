"""The page over a folder of its own, asked as a browser asks it."""

from __future__ import annotations

from pathlib import Path

from starlette.testclient import TestClient

from lastresort.ui.guard import PageGuard, PageSecrets
from lastresort.ui.site import Site, create_site
from lastresort.ui.workspace import Workspace

CSRF = "the-token-of-this-test"


def site_of(folder: Path) -> Site:
    return Site(Workspace(folder.resolve()), PageSecrets(csrf=CSRF))


def browser(site: Site) -> TestClient:
    """Sends what htmx sends."""
    app = PageGuard(create_site(site), site.secrets)
    headers = {"x-csrf": CSRF, "hx-request": "true"}
    return TestClient(app, base_url="http://127.0.0.1", headers=headers, follow_redirects=False)
