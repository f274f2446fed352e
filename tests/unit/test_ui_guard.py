"""The border of the page: who is answered, and what a browser may do with the answer."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import pytest
from starlette.testclient import TestClient

from lastresort.records.atomic import held
from lastresort.ui import drafts, guard
from lastresort.ui.children import children_of
from lastresort.ui.guard import PageGuard
from lastresort.ui.pages.train import BegunTrainings
from lastresort.ui.site import create_site
from lastresort.ui.start import reached_at, serve_page
from lastresort.ui.workspace import NotThere, Workspace
from train_support import training_file
from ui_support import HERE, finished_run, page_of


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """One page with a run, for all requests that change nothing of it."""
    folder = tmp_path_factory.mktemp("workspace")
    finished_run(folder)
    return page_of(folder)[1]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:7860", 200),
        ("[::1]:80", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("", 400),
    ],
)
def test_only_requests_that_name_this_machine_are_answered(page: TestClient, host: str, status: int) -> None:
    """Else a page on the web whose name leads here could read everything."""
    assert page.get("/", headers={"host": host}).status_code == status


def test_two_pages_of_one_process_share_nothing(tmp_path: Path) -> None:
    """They share their routes, which know the page only by the request: also where it is refused, and where it fails."""
    with_run, without = tmp_path / "with", tmp_path / "without"
    finished_run(with_run)
    without.mkdir()
    (site, client), (other_site, other) = page_of(with_run), page_of(without)
    for _ in range(2):
        assert client.get("/runs/routing-1").status_code == 200
        assert other.get("/runs/routing-1").status_code == 404
        assert "routing-1" in client.get("/").text
        assert "routing-1" not in other.get("/").text
        assert site.secrets.csrf in client.get("/none").text
        assert other_site.secrets.csrf in other.get("/none").text
    for one in (site, other_site):
        training_file(one.workspace.tasks / "rows", "sft")
    site.own(BegunTrainings, BegunTrainings)["rows", "train"] = cast(Any, SimpleNamespace(poll=lambda: None))
    marks = [page.get("/train/rows/train/mark").text.partition("-")[0] for page in (client, other)]
    assert marks == ["running", "idle"], "a process belongs to the page that started it"


def test_every_answer_says_what_a_browser_may_do(tmp_path: Path) -> None:
    _, client = page_of(tmp_path)
    for path in ("/", "/static/page.css", "/runs/none", "/none"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'"), path
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_a_report_is_served_so_that_nothing_in_it_runs(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    _, client = page_of(tmp_path)
    found = client.get(f"/runs/{run.name}/report.html")
    assert found.status_code == 200
    policy = found.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert found.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "headers",
    [
        {guard.CSRF_HEADER: ""},
        {guard.CSRF_HEADER: "a guess"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_page_changes_nothing(page: TestClient, headers: dict[str, str]) -> None:
    assert page.post("/runs/routing-1/stop", headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("fetched", "status"),
    [
        (("cross-site", "navigate", "document"), 200),
        (("cross-site", "navigate", "iframe"), 403),
        (("cross-site", "no-cors", "image"), 403),
        (("same-site", "cors", "empty"), 403),
        (("same-origin", "cors", "empty"), 200),
        (("none", "navigate", "document"), 200),
    ],
)
def test_another_site_may_lead_here_and_ask_nothing(
    page: TestClient, fetched: tuple[str, str, str], status: int
) -> None:
    headers = dict(zip(("sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"), fetched, strict=True))
    assert page.get("/", headers=headers).status_code == status
    refused = fetched[0] in ("cross-site", "same-site")
    assert (page.head("/", headers=headers).status_code == 403) is refused


def test_who_only_opens_an_address_starts_no_process_and_writes_nothing(tmp_path: Path) -> None:
    finished_run(tmp_path)
    (tmp_path / "tasks" / "routing" / "train.yaml").write_text("model: embedded\nobjective: sft\ndata: rows.jsonl\n")
    before = sorted(tmp_path.rglob("*"))
    site, client = page_of(tmp_path)
    del client.headers[guard.CSRF_HEADER]
    parts = [f"/new/routing/{part}" for part in ("data", "masks", "advice", "forecast?begin=true")]
    for path in ("/machine", "/plan?gpu=cpu", "/train/routing/train/export?to=trl", *parts):
        assert client.get(path).status_code == (404 if "export" in path else 200), path
    assert not children_of(site)._known
    assert sorted(tmp_path.rglob("*")) == before
    again = client.get("/machine", headers={guard.CSRF_HEADER: "of a page opened earlier"})
    assert (again.status_code, "Reload the page" in again.text) == (422, True)
    assert "hx-get" in client.get("/machine", headers={guard.CSRF_HEADER: site.secrets.csrf}).text
    assert children_of(site)._known
    site.close()


def test_this_page_may(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    _, client = page_of(tmp_path)
    own = {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}
    assert client.post(f"/runs/{run.name}/stop", headers=own).status_code == 200


def test_from_another_machine_the_link_alone_opens_the_page(tmp_path: Path) -> None:
    """The token stands in a cookie afterwards, and in no address."""
    _, client = page_of(tmp_path, token="a-long-token")
    client.follow_redirects = False
    named = {"host": "machine.example"}
    assert client.get("/", headers=named).status_code == 401
    assert client.get("/?token=wrong", headers=named).status_code == 401
    admitted = client.get("/runs/x?a=1&token=a-long-token", headers=named)
    assert (admitted.status_code, admitted.headers["location"]) == (303, "/runs/x?a=1")
    cookie = admitted.headers["set-cookie"]
    assert cookie.startswith("lastresort-80="), "a page on another port must not take its place"
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert client.get("/", headers={**named, "cookie": "lastresort-80=a-long-token"}).status_code == 200
    assert client.get("/", headers={**named, "cookie": "lastresort-80=another"}).status_code == 401
    for other in ('a={"x":1}', "x", "sess/id=1", 'a="b c"', "a=b@[c]", "caf\xe9", "a=b,c", "lastresort-80=", ""):
        for cookies in (f"{other}; lastresort-80=a-long-token", f"lastresort-80=a-long-token;{other}"):
            assert client.get("/", headers={**named, "cookie": cookies.encode("latin-1")}).status_code == 200, cookies
    for other in (
        "lastresort-80",
        "a=lastresort-80=a-long-token",
        "lastresort-8080=a-long-token",
        "lastresort-80=a-long-tokens",
    ):
        assert client.get("/", headers={**named, "cookie": other}).status_code == 401, other


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("//evil.example/", b"/"),
        ("/\\evil.example/", b"/%5Cevil.example/"),
        ("/a\r\nset-cookie: b", b"/a%0D%0Aset-cookie%3A%20b"),
    ],
)
def test_the_link_leads_to_no_other_site(tmp_path: Path, path: str, to: bytes) -> None:
    """Not through a client, which would take two slashes for a host."""
    site, client = page_of(tmp_path, token="a-long-token")
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"token=a-long-token",
             "headers": [(b"host", b"machine.example")], "server": ("127.0.0.1", 80)}  # fmt: skip
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    asyncio.run(PageGuard(client.app, site.secrets)(scope, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 303
    assert dict(sent[0]["headers"])[b"location"] == to


@pytest.mark.parametrize("says_its_length", [True, False])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("path", ["/new/routing/text", "/new/upload", "/new/example"])
def test_a_body_has_a_largest_size(
    page: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, kind: str, says_its_length: bool
) -> None:
    """Whoever reads it, and whether it says its length beforehand or not."""
    monkeypatch.setattr(guard, "LARGEST_BODY", 3 * guard.MiB)
    monkeypatch.setattr(guard, "LARGEST_FORM", guard.MiB)

    def answer(size: int) -> int:
        start = (
            b""
            if "urlencoded" in kind
            else b'--b\r\ncontent-disposition: form-data; name="file"; filename="x.csv"\r\n\r\n'
        )
        parts = [start, *[b"a" * guard.MiB] * size]
        content = b"".join(parts) if says_its_length else iter(parts)
        return page.post(path, content=content, headers={"content-type": kind}).status_code

    is_upload = "multipart" in kind
    assert answer(4 if is_upload else 2) == 413
    assert answer(2 if is_upload else 0) != 413


@pytest.mark.parametrize("name", ["%2e%2e", "%2e%2e%2f%2e%2e%2felsewhere", ".lastresort", "-x"])
def test_no_name_leads_out_of_the_workspace(tmp_path: Path, name: str) -> None:
    """A run is there, under each of these names, and is none of this page."""
    folder = tmp_path / "ws"
    run = finished_run(folder)
    shutil.copytree(run, folder / "runs" / unquote(name), dirs_exist_ok=True)
    assert (folder / "runs" / unquote(name) / "record.sqlite").is_file()
    _, client = page_of(folder)
    for path in ("now", "body", "report.html", "items"):
        assert client.get(f"/runs/routing-1/{path}").status_code == 200
        assert client.get(f"/runs/{name}/{path}").status_code == 404


@pytest.mark.parametrize("name", ["a%00b", "a" * 300, "none"])
def test_a_name_that_no_folder_can_have_is_not_found(tmp_path: Path, name: str) -> None:
    finished_run(tmp_path)
    _, client = page_of(tmp_path)
    for path in ("now", "body", "report.html", "live"):
        assert client.get(f"/runs/{name}/{path}").status_code == 404


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../runs/routing-1", "/etc", "a\0b", "a\nb"])
def test_only_a_plain_name_is_that_of_a_run(tmp_path: Path, name: str) -> None:
    finished_run(tmp_path)
    workspace = Workspace(tmp_path)
    with pytest.raises(NotThere):
        workspace.run(name)
    with pytest.raises(NotThere):
        workspace.task_folder(name)


def test_a_link_to_a_run_elsewhere_is_no_run(tmp_path: Path) -> None:
    elsewhere = finished_run(tmp_path / "elsewhere")
    (tmp_path / "here" / "runs").mkdir(parents=True)
    (tmp_path / "here" / "runs" / "linked-1").symlink_to(elsewhere)
    _, client = page_of(tmp_path / "here")
    assert client.get("/runs/linked-1").status_code == 404
    assert "linked-1" not in client.get("/").text


def test_a_fault_of_ours_is_a_page_and_a_traceback_in_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Workspace) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Workspace, "states", fail)
    site, _ = page_of(tmp_path)
    client = TestClient(PageGuard(create_site(site), site.secrets), base_url=HERE, raise_server_exceptions=False)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "lastresort failed" in answer.text
    assert "secret detail" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert "RuntimeError: secret detail" in capsys.readouterr().err


def test_who_opens_the_link_at_once_is_not_refused(tmp_path: Path) -> None:
    class Tried(Exception):
        pass

    def open_it(link: str) -> None:
        found = urlsplit(link)
        socket.create_connection((str(found.hostname), int(found.port or 0)), timeout=10).close()
        raise Tried

    with pytest.raises(Tried):
        serve_page(tmp_path, "127.0.0.1", 0, on_ready=open_it)


def test_the_link_names_this_machine_only_where_no_address_was_given() -> None:
    assert reached_at("10.0.0.0:7860") == "10.0.0.0:7860"
    assert reached_at("[::1]:80") == "[::1]:80"
    assert reached_at("0.0.0.0:7860") == reached_at("[::]:7860") == f"{socket.gethostname()}:7860"


def test_a_browser_asks_each_time_whether_its_scripts_are_these(tmp_path: Path) -> None:
    """Or those of an older version would run in pages of a newer one."""
    _, client = page_of(tmp_path)
    found = client.get("/static/page.js")
    assert found.headers["cache-control"] == "no-cache"
    known = {"if-none-match": found.headers["etag"]}
    same, other = (client.get(f"/static/{name}", headers=known) for name in ("page.js", "talk.js"))
    assert (same.status_code, same.content, other.status_code) == (304, b"", 200)


def test_no_two_scripts_of_a_page_declare_one_name() -> None:
    """They share one scope, and the second of the two would not run at all."""
    scripts = [
        one.read_text("utf-8")
        for one in Path(str(files("lastresort.ui") / "static")).glob("*.js")
        if ".min." not in one.name
    ]
    declared = [
        name for text in scripts for name in re.findall(r"^(?:const|let|(?:async )?function)\s+(\w+)", text, re.M)
    ]
    assert len(declared) > 20
    assert len(declared) == len(set(declared)), sorted(name for name in set(declared) if declared.count(name) > 1)


def test_the_border_lets_the_largest_upload_pass() -> None:
    assert drafts.LARGEST_UPLOAD == guard.LARGEST_UPLOAD < guard.LARGEST_BODY
    assert str(guard.LARGEST_UPLOAD // guard.MiB) in guard._too_large(guard.LARGEST_BODY).detail


def test_a_page_can_ask_whether_it_is_still_served(tmp_path: Path) -> None:
    _, client = page_of(tmp_path)
    answer = client.get("/alive")
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_page_can_ask_whether_its_runs_are_as_they_were(tmp_path: Path) -> None:
    _, client = page_of(tmp_path)
    assert client.get("/alive?of=routing-1").status_code == 404
    marks = [client.get("/alive?of=").text]
    run = finished_run(tmp_path)
    marks += [client.get("/alive?of=").text, client.get("/alive?of=routing-1").text]
    assert f'data-mark="{marks[1]}"' in client.get("/").text
    assert f'data-mark="{marks[2]}"' in client.get("/runs/routing-1").text
    with held(run, "somebody climbs", expected="nobody", remedy="Wait."):
        marks += [client.get("/alive?of=").text, client.get("/alive?of=routing-1").text]
    assert [len(set(marks[:2])), len(set(marks[1:3])), len(set(marks))] == [2, 1, 3]
    assert [mark.partition("-")[0] for mark in marks] == ["idle"] * 3 + ["running"] * 2
