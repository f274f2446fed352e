"""The page in Chromium: nothing leaves this machine, nothing fails in the console, and it follows what processes do."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from browser_support import CHROMIUM, TOO_WIDE, WIDTHS, Watched, at_rest, opened
from climb_support import rows, scripted_task, unfinish
from lastresort.app.climb import climb
from lastresort.app.dry_run import dry_run
from lastresort.records.atomic import held
from lastresort.records.clock import worked_s
from lastresort.records.events.base import Stage
from lastresort.records.record import Record
from lastresort.report.forecast import cells, head, notes_of, others, power_of
from lastresort.report.words.progress import LATE, SOON
from lastresort.report.words.wording import duration
from lastresort.spec.task import load_task
from lastresort.ui.children import CommandOutput
from lastresort.ui.site import templates
from train_support import training_file
from ui_support import MET, change_task, command, end, finished_run, served_page, slow_task, until

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
Upload = Callable[..., Watched]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    finished_run(folder)
    finished_run(folder, "routing-2")
    (folder / "tasks" / "routing" / "train.yaml").write_text("model: embedded\nobjective: sft\ndata: rows.jsonl\n")
    return folder


@pytest.fixture(scope="module")
def link(workspace: Path) -> Iterator[str]:
    with served_page(workspace) as (found, _):
        yield found


PAGES = (
    "",
    "runs/routing-1",
    "compare?run=routing-1&run=routing-2",
    "runs/none",
    "runs/routing-1/items",
    "runs/routing-1/talk",
    "runs/routing-1/rate",
    "new",
    "new?from=routing-1",
    "new/routing",
    "new/routing/columns",
    "plan",
    "train",
    "train/routing",
    "machine",
    "docs/page",
)


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_its_window(browser: playwright.Browser, link: str, path: str) -> None:
    with opened(browser, link) as seen:
        for width in WIDTHS:
            seen.page.set_viewport_size({"width": width, "height": 900})
            seen.page.goto(link + path)
            assert seen.page.evaluate(TOO_WIDE) == [], f"at {width}"
        assert not [fault for fault in seen.faults if "404" not in fault]
        seen.faults.clear()


@pytest.mark.sampled_slow(3, each="path")
@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)], ids=["light", "dark", "phone"])
@pytest.mark.parametrize("path", PAGES)
def test_no_page_keeps_anybody_out(browser: playwright.Browser, link: str, path: str, width: int, dark: bool) -> None:
    """By the rules of axe: contrast, names, roles, order, and on a phone what scrolls sideways."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with opened(browser, link + path, width=width, dark=dark) as seen:
        found = axe.run(seen.page).response["violations"]
        assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == []
        seen.faults[:] = [fault for fault in seen.faults if "404" not in fault]


@pytest.mark.slow
def test_an_open_talk_fits_its_window_and_keeps_nobody_out(browser: playwright.Browser, tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    finished_run(tmp_path)
    with served_page(tmp_path) as (link, _), opened(browser, f"{link}runs/routing-1/talk") as seen:
        page = seen.page
        page.click("button >> text=Open the model")
        page.fill("#message", "x" * 300, timeout=60_000)
        page.click("button >> text=Send")
        page.wait_for_selector("text=Keep as an example", timeout=60_000)
        page.click("summary >> text=Keep as an example")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate(TOO_WIDE) == [], f"at {width}"
        found = axe.run(page).response["violations"]
        assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == []
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="New conversation", exact=True).click()
        page.wait_for_selector("#exchange-0", state="detached")


@pytest.mark.release
def test_an_item_is_copied_and_sent_in_talk(browser: playwright.Browser, tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    with Record.open(run, read_only=True) as record:
        [part, *_] = record.parts()
        found = record.item(part.number, 1)
    assert found is not None
    with served_page(tmp_path) as (link, _), opened(browser, f"{link}runs/routing-1/items/{part.number}/1") as seen:
        page = seen.page
        at_rest(page)
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.click("button >> text=Copy the input")
        page.wait_for_selector("button >> text=Copied")
        assert page.evaluate("navigator.clipboard.readText()") == found.item.input
        page.click("text=Send it in Talk")
        page.wait_for_selector("button >> text=Open the model")
        at_rest(page)
        page.click("button >> text=Open the model")
        page.wait_for_selector("#message", timeout=60_000)
        page.wait_for_function("said => document.getElementById('message').value === said", arg=found.item.input)


# An answer as it is drawn while it comes: of a scripted model it may be whole before it is drawn.
STILL_GROWS = """() => {
    const answer = document.querySelector("#exchange-0 .answer");
    const at = answer.querySelector("form").getAttribute("hx-post").replace(/[/]keep$/, "");
    Object.assign(answer.dataset, { grows: `${at}/live`, whole: at.replace(/[/]0$/, "") });
    growAll();
}"""


@pytest.mark.slow
def test_a_message_that_is_refused_while_an_answer_comes_is_kept_and_the_refusal_ends_with_the_answer(
    browser: playwright.Browser, tmp_path: Path
) -> None:
    finished_run(tmp_path)
    refusal = '<p class="note refusal">Still coming.</p>'
    with served_page(tmp_path) as (link, _), opened(browser, f"{link}runs/routing-1/talk") as seen:
        page = seen.page
        page.click("button >> text=Open the model")
        page.fill("#message", "first", timeout=60_000)
        page.press("#message", "Enter")
        page.wait_for_selector("#exchange-0 >> text=Keep as an example", timeout=60_000)
        page.wait_for_selector(".growing", state="detached")  # the other answer would end the refusal
        assert page.input_value("#message") == ""
        page.route("**/say", lambda route: route.fulfill(status=422, content_type="text/html", body=refusal))
        page.fill("#message", "second")
        page.press("#message", "Enter")
        page.wait_for_selector("#refused .refusal")
        page.wait_for_function("document.activeElement.id === 'message'")
        assert page.input_value("#message") == "second"
        page.evaluate(STILL_GROWS)
        page.wait_for_selector("#refused .refusal", state="detached")
        assert page.input_value("#message") == "second"
        seen.faults.clear()  # the console lists what was refused


@pytest.mark.slow  # starts a browser
def test_what_a_page_loads_is_small(browser: playwright.Browser, link: str) -> None:
    with opened(browser, "about:blank") as seen:
        sizes: list[int] = []
        seen.page.on("response", lambda response: sizes.append(len(response.body())))
        seen.page.goto(link, wait_until="networkidle")
        assert sum(sizes) < 200_000
        assert len(sizes) >= 5


@pytest.mark.release
def test_two_browsers_follow_one_run_through_a_reload(browser: playwright.Browser, tmp_path: Path) -> None:
    task = slow_task(tmp_path, delay_s=0.03)
    process = command(tmp_path, "climb", str(task), "--run", "runs/routing-1")
    try:
        until(lambda: (tmp_path / "runs/routing-1/record.sqlite").is_file(), "the run has a record")
        with served_page(tmp_path) as (link, _), opened(browser, link) as first:
            first.page.click("text=routing-1")
            first.page.wait_for_selector("section.now.running progress")
            with opened(browser, f"{link}runs/routing-1", width=390) as second:
                first.page.reload()
                for one in (first, second):
                    one.page.wait_for_selector("section.now.finished", timeout=120_000)
                    one.page.wait_for_selector("h1 >> text=No: prompting")
    finally:
        end(process)


@pytest.fixture
def new_task(browser: playwright.Browser, tmp_path: Path) -> Iterator[Upload]:
    """A page that is asked for a new task; returns the function that uploads cases.csv there, with a last line of one's own."""
    lines = "".join(f'"{row["input"]}",{row["output"]}\n' for row in rows())
    (tmp_path / "later.csv").write_text(f"words,team\n{lines}")
    with served_page(tmp_path) as (link, _), opened(browser, f"{link}new") as seen:

        def upload(more: str = "") -> Watched:
            (tmp_path / "cases.csv").write_text(f"text,team\n{lines}{more}")
            seen.page.set_input_files("#file", tmp_path / "cases.csv")
            seen.page.click("button >> text=Upload")
            if not more:
                seen.page.wait_for_selector("h1 >> text=cases")
                at_rest(seen.page)
            return seen

        yield upload


@pytest.mark.slow
def test_another_file_is_read_by_the_text_as_it_was_typed(new_task: Upload, tmp_path: Path) -> None:
    page = new_task().page
    page.fill("textarea[name=text]", page.input_value("textarea[name=text]") + "# mine\n")
    page.click("summary >> text=Use another file")
    page.set_input_files("#file", tmp_path / "later.csv")
    page.click("button >> text=Replace the data")
    page.wait_for_selector("text=Rows from later.csv")
    text = page.input_value("textarea[name=text]")
    assert "examples: later.csv" in text
    assert text.endswith("# mine\n")
    page.wait_for_selector('text=later.csv has no column "text"', timeout=60_000)


@pytest.mark.slow
def test_a_wrong_field_is_marked_where_it_stands_and_a_refused_start_goes_there(new_task: Upload) -> None:
    seen = new_task()
    page = seen.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.fill("#field-bar", "1.2")
    page.press("#field-bar", "Tab")
    page.wait_for_selector("#field-bar[aria-invalid=true]")
    shown = (
        "(one) => { const { top, bottom } = one.getBoundingClientRect(); return 0 <= top && bottom <= innerHeight; }"
    )
    assert page.eval_on_selector("#field-bar-fault:not(:empty)", shown)
    assert page.evaluate("document.activeElement.id") != "field-bar"
    page.click("button >> text=Start the climb")
    page.wait_for_selector("#field-bar:focus")
    assert page.eval_on_selector("#field-bar-fault", shown)
    page.wait_for_selector("#refused:not(:empty)")
    page.evaluate("document.getElementById('data-fault').textContent = 'of the text before'")
    page.fill("#field-bar", "0.9")
    assert page.inner_text("#refused") + page.inner_text("#data-fault") == "", "what was said of another text"
    page.press("#field-bar", "Tab")
    page.wait_for_selector("#field-bar:not([aria-invalid])")
    seen.faults[:] = [fault for fault in seen.faults if "422" not in fault]


@pytest.mark.slow
def test_empty_rows_are_left_out_and_a_rung_stays(new_task: Upload) -> None:
    """The browser sends the file again; the last tick goes back to what the text says."""
    seen = new_task("one,\ntwo,\n")
    page = seen.page
    page.click("button >> text=Leave out 2 rows without an answer")
    page.wait_for_selector("text=Rows from cases-complete.csv")
    at_rest(page)
    ticks = page.locator("input[name=ladder]:checked")
    names = [ticks.nth(at).get_attribute("value") for at in range(ticks.count())]
    for name in names:
        page.click(f"#field-ladder-{name}")
        at_rest(page)
    page.wait_for_selector("#fault >> text=Choose at least one")
    assert page.is_checked(f"#field-ladder-{names[-1]}")
    assert f"ladder: [{names[-1]}]" in page.input_value("textarea[name=text]")
    seen.faults[:] = [fault for fault in seen.faults if "422" not in fault]


@pytest.mark.slow
def test_compared_runs_are_cards_on_a_phone(browser: playwright.Browser, tmp_path: Path) -> None:
    """Nothing is wider than the window, the picture is one for its width, and every figure has its name."""
    finished_run(tmp_path)
    finished_run(tmp_path, "routing-2", bar=0.5)
    names = ["Verdict", "Score", "Bar", "Test items", "Rung", "Gate"]
    with served_page(tmp_path) as (link, _):
        address = f"{link}compare?run=routing-1&run=routing-2"
        with opened(browser, address, width=390) as seen:
            over = "all => all.map(one => one.scrollWidth - one.clientWidth)"
            assert set(seen.page.eval_on_selector_all(".scroll", over)) == {0}
            assert seen.page.inner_text(".chart ol").split() == ["routing-1", "routing-2"], "of the numbers"
            assert [one.is_visible() for one in seen.page.query_selector_all(".chart svg")] == [False, True]
            labels = "all => all.map(one => getComputedStyle(one, '::before').content.slice(1, -1))"
            assert seen.page.eval_on_selector_all("table.cards:not(.settings) td[data-label]", labels) == names * 2
            placed = "all => all.map(one => getComputedStyle(one, '::before').position)"
            assert set(seen.page.eval_on_selector_all("table.settings td[data-label]", placed)) == {"static"}, (
                "the name of a run is above its value, however long it is"
            )
        with opened(browser, address, width=1280) as seen:
            assert [one.is_visible() for one in seen.page.query_selector_all(".chart svg")] == [True, False]
            assert seen.page.inner_text("table.cards th >> nth=3") == "Score"
            assert seen.page.eval_on_selector("table.cards td", "one => getComputedStyle(one).display") == "table-cell"


def test_a_forecast_is_cards_on_a_phone(browser: playwright.Browser, link: str, tmp_path: Path) -> None:
    found = dry_run(load_task(scripted_task(tmp_path / "forecast", quality=MET)))
    words = {"cells": cells, "head": head, "notes": notes_of, "power": power_of, "others": others}
    asked = CommandOutput("")
    part = templates().get_template("new_forecast.html.j2")
    text = part.render(name="routing", unready="", begun=True, asked=asked, found=found, words=words, at=None)
    with opened(browser, link, width=390) as seen:
        seen.page.evaluate("text => { document.querySelector('main').innerHTML = text; }", text)
        over = "all => all.map(one => one.scrollWidth - one.clientWidth)"
        assert seen.page.eval_on_selector_all(".scroll", over) == [0]
        assert seen.page.evaluate(TOO_WIDE) == []
        labels = "all => all.map(one => getComputedStyle(one, '::before').content.slice(1, -1))"
        names = seen.page.eval_on_selector_all("tr:last-child td[data-label]", labels)
        assert names == ["Tokens in", "Tokens out", "Trained on", "About", "USD"]


@pytest.mark.release
def test_the_run_goes_on_when_the_page_is_killed(browser: playwright.Browser, tmp_path: Path) -> None:
    """Stopped and resumed in the page, so that the process is one that the page started."""
    task = slow_task(tmp_path, delay_s=0.05)
    process = command(tmp_path, "climb", str(task), "--run", "runs/routing-1")
    try:
        until(lambda: (tmp_path / "runs/routing-1/record.sqlite").is_file(), "the run has a record")
        with served_page(tmp_path) as (link, page), opened(browser, f"{link}runs/routing-1") as seen:
            seen.page.click("button >> text=Stop")
            seen.page.wait_for_selector("section.now.stopped", timeout=60_000)
            script = task.parent / "script.json"
            script.write_text(json.dumps(json.loads(script.read_text()) | {"delay_s": 0.01}))
            seen.page.click("button >> text=Resume")
            seen.page.wait_for_selector("section.now.running", timeout=60_000)
            os.kill(page.pid, signal.SIGKILL)
            page.communicate(timeout=60)
            seen.faults.clear()  # what the browser says of a server that is gone
    finally:
        end(process)
    until(lambda: (tmp_path / "runs/routing-1/decision.json").is_file(), "the run has decided")


@pytest.mark.slow
def test_a_page_without_its_server_says_that_it_is_stale(browser: playwright.Browser, tmp_path: Path) -> None:
    task = slow_task(tmp_path, delay_s=0.2)
    process = command(tmp_path, "climb", str(task), "--run", "runs/routing-1")
    try:
        until(lambda: (tmp_path / "runs/routing-1/record.sqlite").is_file(), "the run has a record")
        with served_page(tmp_path) as (link, page), opened(browser, f"{link}runs/routing-1") as seen:
            seen.page.wait_for_selector("section.now.running")
            assert not seen.page.is_visible("#stale")
            os.kill(page.pid, signal.SIGKILL)
            page.communicate(timeout=60)
            seen.page.wait_for_selector("#stale", state="visible", timeout=60_000)
            seen.faults.clear()
    finally:
        end(process)


@pytest.mark.slow
def test_the_clock_of_a_run_at_work_goes_on_between_its_events(browser: playwright.Browser, tmp_path: Path) -> None:
    """In the browser alone, in the words of the report, and wherever the page says how long it took."""
    run = finished_run(tmp_path)
    unfinish(run)
    with Record.open(run) as record:
        record.now(Stage(label="testing", done=3, total=9, eta_s=5000.0, spent_s=worked_s(record)))
    at_work = held(run, "held", expected="", remedy="")
    with at_work, served_page(tmp_path) as (link, _), opened(browser, f"{link}runs/routing-1") as seen:
        page, asked = seen.page, list[str]()
        page.wait_for_timeout(2500)  # whoever begins to follow a run draws it once more
        page.on("request", lambda request: asked.append(request.url))
        before = page.inner_text("#now [data-took-s]")
        page.wait_for_function("was => document.querySelector('#now .took').textContent !== was", arg=before)
        page.evaluate("() => { document.querySelector('#now .took').dataset.since -= 7300; }")
        page.wait_for_function("() => document.querySelector('#report [data-took]').textContent.includes('h')")
        page.evaluate("() => { document.querySelector('#now .left').dataset.until -= 4000; }")
        page.wait_for_function(
            "() => /^about 1[0-6].min.* left$/.test(document.querySelector('#now .left').textContent)"
        )
        page.evaluate("() => { document.querySelector('#now .left').dataset.until -= 4000; }")
        page.wait_for_selector(f"#now .left >> text={LATE}")
        now_s = "performance.now() / 1000"
        soon = f"() => {{ const one = document.querySelector('#now .left'); one.dataset.until = {now_s} + 0.5; tick(); "
        assert page.evaluate(f"{soon}return one.textContent; }}") == SOON
        assert asked == []
        for seconds in (0.44, 9.96, 42.4, 59.7, 60, 1450, 3599.6, 3600, 11_520, 7_170):
            assert page.evaluate(f"duration({seconds})") == duration(seconds), seconds


@pytest.mark.slow
def test_the_loss_of_a_training_fits_a_phone(browser: playwright.Browser, tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    unfinish(run)
    with Record.open(run) as record:
        losses = (2.0, 1.5, 1.25)
        record.now(Stage(label="sft: training", rung="sft", split="train", done=3, total=9, loss=1.25, losses=losses))
    at_work = held(run, "held", expected="", remedy="")
    with at_work, served_page(tmp_path) as (link, _), opened(browser, f"{link}runs/routing-1", width=390) as seen:
        assert seen.page.locator(".spark svg").count() == 1
        assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
        assert seen.page.evaluate(TOO_WIDE) == []


@pytest.mark.slow
def test_the_memory_of_a_plan_is_read_on_a_phone(browser: playwright.Browser, link: str) -> None:
    """Letters keep their size, nothing leaves the picture, and no label is written over another."""
    boxes = """all => all.map((one) => {
      const { left, right, top, bottom } = one.getBoundingClientRect(); return [left, right, top, bottom];
    })"""
    for width in (390, 1280):
        with opened(browser, f"{link}plan", width=width) as seen:
            seen.page.wait_for_selector(".plan-chart svg")
            [(left, right, top, bottom)] = seen.page.eval_on_selector_all(".plan-chart svg", boxes)
            texts = seen.page.eval_on_selector_all(".plan-chart text", boxes)
            assert all(left <= a and b <= right and top <= c and d <= bottom for a, b, c, d in texts), width
            assert all(d - c >= 11 for *_, c, d in texts), "as high as elsewhere"
            over = [
                (one, other)
                for at, one in enumerate(texts)
                for other in texts[:at]
                if min(one[1], other[1]) > max(one[0], other[0]) and min(one[3], other[3]) > max(one[2], other[2]) + 2
            ]
            assert over == [], width


@pytest.mark.slow
def test_each_strip_of_a_ladder_has_its_axis_on_a_phone(browser: playwright.Browser, link: str) -> None:
    """One axis below all rungs would be a screen away, and its first label would leave the text."""
    placed = """all => all.map((one) => {
      const { left, right, top, bottom } = one.getBoundingClientRect(); return { left, right, top, bottom };
    })"""
    for width in (390, 1280):
        with opened(browser, f"{link}runs/routing-1", width=width) as seen:
            strips = seen.page.eval_on_selector_all(".ladder .strip", placed)
            axes = seen.page.eval_on_selector_all(".ladder .axis:has(text:nth-child(2))", placed)
            axes = [one for one in axes if one["bottom"] > one["top"]]
            labels = seen.page.eval_on_selector_all(".ladder .axis:has(text:nth-child(2)) text", placed)
            edge = strips[0]["left"], strips[0]["right"]
            assert all(edge[0] - 1 <= one["left"] and one["right"] <= edge[1] + 1 for one in labels if one["right"])
            if width == 390:
                assert [one["top"] for one in axes] == pytest.approx([one["bottom"] for one in strips], abs=2)
            else:
                assert len(axes) == 1


@pytest.mark.release
def test_an_answer_to_the_advice_changes_text_and_form(browser: playwright.Browser, tmp_path: Path) -> None:
    lines = "".join(f'"{row["input"]}",{row["output"]}\n' for row in rows())
    (tmp_path / "cases.csv").write_text(f"text,team\n{lines}")
    with served_page(tmp_path) as (link, _), opened(browser, f"{link}new", width=390) as seen:
        page = seen.page
        page.set_input_files("#file", tmp_path / "cases.csv")
        page.click("button >> text=Upload")
        page.click("summary >> text=would change this", timeout=60_000)
        asked = page.locator("#answer-best_prompt_score")
        send = ".questions form:has(#answer-best_prompt_score) button"
        asked.fill("much")
        page.click(send)
        page.wait_for_selector("#answered >> text=expected a number")
        page.wait_for_function(f"() => document.activeElement === document.querySelector('{send}')")
        asked.fill("81%")
        page.click(send)
        page.wait_for_function("() => document.querySelector('#text').value.includes('best_prompt_score: 0.81')")
        assert page.inner_text("#answered") == ""
        page.wait_for_selector("#answer-best_prompt_score", state="detached", timeout=60_000)
        page.wait_for_selector("details.questions[open]")
        page.wait_for_function("() => document.activeElement === document.querySelector('#questions summary')")
        assert page.inner_text("#fault").startswith("The text is valid.")
        assert page.evaluate(TOO_WIDE) == []
        seen.faults[:] = [fault for fault in seen.faults if "422" not in fault]


FOCUSED = "() => document.activeElement.textContent"
DRAWN_AGAIN = """(id) => new Promise((done, failed) => {
  setTimeout(failed, 60000);
  document.addEventListener("htmx:afterSettle", (event) => { if (event.detail.target.id === id) done(); });
})"""
LOOKED_AT = """() => { document.dispatchEvent(new Event("visibilitychange")); }"""
OPENING = """<section hx-get="/runs/routing-1/talk/state" hx-trigger="every 1s" hx-target="#talk">Loading the model.</section>"""
HIDDEN = """(hidden) => {
  Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.mark.slow
def test_the_focus_stays_where_it_is_while_a_page_is_drawn_again(browser: playwright.Browser, tmp_path: Path) -> None:
    process = command(tmp_path, "climb", str(slow_task(tmp_path, delay_s=0.4)), "--run", "runs/routing-1")
    try:
        until(lambda: (tmp_path / "runs/routing-1/record.sqlite").is_file(), "the run has a record")
        with served_page(tmp_path) as (link, _), opened(browser, f"{link}runs/routing-1") as seen:
            page = seen.page
            for where, what in (("#now", "button >> text=Stop"), ("#now", "a >> text=Clone"), ("#report", "summary")):
                page.wait_for_selector(f"{where} {what}", timeout=60_000)
                page.focus(f"{where} {what}")
                before = page.evaluate(FOCUSED)
                page.evaluate(DRAWN_AGAIN, where[1:])
                assert page.evaluate(FOCUSED) == before
            page.goto(link)
            page.focus("#run-routing-1 a")
            page.evaluate(DRAWN_AGAIN, "runs")
            assert page.evaluate(FOCUSED) == "routing-1"
    finally:
        end(process)


@pytest.mark.slow
def test_windows_that_nobody_sees_hold_no_connection_and_catch_up(browser: playwright.Browser, tmp_path: Path) -> None:
    task = slow_task(tmp_path, delay_s=0.4)
    process = command(tmp_path, "climb", str(task), "--run", "runs/routing-1")
    try:
        until(lambda: (tmp_path / "runs/routing-1/record.sqlite").is_file(), "the run has a record")
        with served_page(tmp_path) as (link, _), opened(browser, f"{link}runs/routing-1") as seen:
            context, hidden = seen.page.context, []
            for _ in range(6):
                one = context.new_page()
                one.goto(f"{link}runs/routing-1", wait_until="domcontentloaded")
                one.wait_for_selector("section.now.running")
                one.evaluate(HIDDEN, True)
                hidden.append(one)
            seen.page.goto(f"{link}plan", timeout=20_000)
            end(process)
            hidden[0].wait_for_timeout(2_000)
            assert hidden[0].is_visible("section.now.running")
            hidden[0].evaluate(HIDDEN, False)
            hidden[0].wait_for_selector("section.now.stopped")
    finally:
        end(process)


@pytest.mark.slow
def test_a_training_is_followed_while_somebody_looks_also_where_it_goes_on_in_a_terminal(
    browser: playwright.Browser, tmp_path: Path
) -> None:
    path = training_file(tmp_path / "tasks" / "rows", "sft")
    output, asked = path.parent / "out", list[str]()
    output.mkdir()
    (output / "begun.json").write_text("{}")
    with served_page(tmp_path) as (link, _), opened(browser, f"{link}train/rows/train") as seen:
        page = seen.page
        page.wait_for_selector("section.now.stopped")
        page.evaluate(HIDDEN, True)
        with held(output, "held", expected="x", remedy="x"):
            page.evaluate(HIDDEN, False)
            page.wait_for_selector("section.now.running")
            page.evaluate(HIDDEN, True)
            page.on("request", lambda request: asked.append(request.url))
            (output / "log.jsonl").write_text('{"step": 7, "loss": 1.0}\n')
            page.wait_for_timeout(5_000)
            assert asked == []
            page.evaluate(HIDDEN, False)
            page.wait_for_selector("text=step 7")
        page.wait_for_selector("section.now.stopped")


def asks_only_while_seen(page: playwright.Page, asked: list[str]) -> None:
    """Whether a window that is hidden asks nothing, and asks again once it is seen. asked: the addresses so far."""
    page.evaluate(HIDDEN, True)
    page.wait_for_timeout(500)
    asked.clear()
    page.wait_for_timeout(3_000)
    assert asked == []
    page.evaluate(HIDDEN, False)
    until(lambda: page.wait_for_timeout(200) or asked, "the page asks again")


@pytest.mark.slow
def test_a_hidden_window_does_not_ask_whether_a_model_is_open(browser: playwright.Browser, link: str) -> None:
    asked: list[str] = []
    with opened(browser, f"{link}runs/routing-1/talk") as seen:
        page = seen.page
        page.route("**/talk/open", lambda route: route.fulfill(body=OPENING, headers={"hx-retarget": "#talk"}))
        page.route("**/talk/state", lambda route: asked.append(route.request.url) or route.fulfill(body=OPENING))
        page.click("button >> text=Open the model")
        page.wait_for_selector("text=Loading the model")
        until(lambda: page.wait_for_timeout(200) or asked, "the page asks")
        asks_only_while_seen(page, asked)


@pytest.mark.slow
def test_a_hidden_window_does_not_ask_how_far_a_forecast_is(browser: playwright.Browser, link: str) -> None:
    asked: list[str] = []
    with opened(browser, f"{link}new/routing") as seen:
        page = seen.page
        page.on("request", lambda request: asked.append(request.url) if "/forecast" in request.url else None)
        page.click("#forecast button")
        page.wait_for_selector("#forecast >> text=Forecasting each rung")
        asks_only_while_seen(page, asked)


@pytest.mark.slow
def test_a_run_that_was_removed_is_not_taken_for_a_lost_server(browser: playwright.Browser, tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    with served_page(tmp_path) as (link, _), opened(browser, f"{link}runs/routing-1") as seen:
        at_rest(seen.page)
        shutil.rmtree(run)
        seen.page.evaluate(LOOKED_AT)
        seen.page.wait_for_selector('text=There is no run "routing-1" here.')
        seen.faults[:] = [fault for fault in seen.faults if "404" not in fault]


@pytest.mark.slow
def test_what_could_not_be_drawn_is_drawn_the_next_time(browser: playwright.Browser, tmp_path: Path) -> None:
    """Though nothing has changed since the page heard that it had."""
    with served_page(tmp_path) as (link, _), opened(browser, link) as seen:
        page, failed = seen.page, list[str]()
        page.wait_for_selector("text=There are no runs yet")
        at_rest(page)
        page.route(link, lambda route: failed.append(route.request.url) or route.fulfill(status=500, body="failed"))
        finished_run(tmp_path)
        page.evaluate(LOOKED_AT)
        until(lambda: page.wait_for_timeout(200) or failed, "the list is asked for")
        page.unroute(link)
        page.evaluate(LOOKED_AT)
        page.wait_for_selector("#run-routing-1")
        seen.faults.clear()


@pytest.mark.release
def test_pages_show_a_run_that_begins_and_one_that_goes_on_in_a_terminal(
    browser: playwright.Browser, tmp_path: Path
) -> None:
    task = slow_task(tmp_path, delay_s=0.4)
    arguments = ("climb", str(task), "--run", "runs/routing-1")
    with served_page(tmp_path) as (link, _), opened(browser, link) as seen:
        page = seen.page
        page.wait_for_selector("text=There are no runs yet")
        process = command(tmp_path, *arguments)
        try:
            page.wait_for_selector("#run-routing-1 .running", timeout=60_000)
            end(process)
            page.goto(f"{link}runs/routing-1")
            page.wait_for_selector("section.now.stopped")
            process = command(tmp_path, "climb", str(task), "--resume", "runs/routing-1")
            page.wait_for_selector("section.now.running progress", timeout=60_000)
        finally:
            end(process)
        page.wait_for_selector("section.now.stopped", timeout=60_000)


@pytest.mark.slow
def test_a_run_that_is_killed_says_so_without_a_reload(browser: playwright.Browser, tmp_path: Path) -> None:
    task = slow_task(tmp_path, delay_s=0.2)
    process = command(tmp_path, "climb", str(task), "--run", "runs/routing-1")
    until(lambda: (tmp_path / "runs/routing-1/record.sqlite").is_file(), "the run has a record")
    with served_page(tmp_path) as (link, _), opened(browser, f"{link}runs/routing-1") as seen:
        seen.page.wait_for_selector("section.now.running")
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        seen.page.wait_for_selector("text=It died before", timeout=60_000)
        assert seen.page.is_visible("button >> text=Resume")


@pytest.mark.slow
def test_from_a_file_to_a_winner_that_answers(new_task: Upload, tmp_path: Path) -> None:
    """Upload, proposals, the form and the text in step, the climb, its items, and a talk; the scripted model answers."""
    page = new_task().page
    shutil.copy(_script(tmp_path), tmp_path / "tasks" / "cases" / "script.json")
    page.fill("[name=model]", "scripted:script.json")
    page.press("[name=model]", "Tab")
    page.wait_for_function("() => document.querySelector('textarea[name=text]').value.includes('scripted:script.json')")
    page.wait_for_selector("text=The text is valid")
    page.wait_for_selector("#data dl.pairs", timeout=60_000)
    page.select_option("#until", "prompting")
    page.wait_for_selector("#typed >> text=--until prompting")
    assert page.input_value("#until") == "prompting"
    page.click("button >> text=Start the climb")
    page.wait_for_url("**/runs/cases-1", timeout=60_000)
    page.wait_for_selector("section.now.finished", timeout=120_000)
    page.wait_for_selector(".badge.MET")
    page.click("a >> text=Items")
    page.wait_for_selector("table.list tbody tr")
    page.goto(f"{page.url.partition('/items')[0]}/talk")
    page.click("button >> text=Open the model")
    page.fill("#message", rows()[0]["input"], timeout=60_000)
    page.click("button >> text=Send")
    page.wait_for_selector(f"#exchange-0 pre >> text={rows()[0]['output']}", timeout=60_000)


def _script(folder: Path) -> Path:
    """The script of the scripted model, whose right answers are those of the rows."""
    path = scripted_task(folder / "elsewhere", quality=MET).parent / "script.json"
    script = json.loads(path.read_text())
    script["answers"] = {row["input"]: row["output"] for row in rows()}
    path.write_text(json.dumps({key: value for key, value in script.items() if key not in ("answers_from", "calls")}))
    return path


@pytest.mark.slow
def test_what_a_model_and_a_file_say_is_text(browser: playwright.Browser, tmp_path: Path) -> None:
    """Markup, scripts, marks that turn the direction of reading, escape codes and a cell of 1 MB, wherever they are shown."""
    attack = '<img src=x onerror="document.title=\'attacked\'"><script>document.title="attacked"</script>'
    hostile = [attack, "\u202eright to left", "\x1b[31mred", "word " * 200_000, "</textarea></pre></table>" + attack]
    path = scripted_task(tmp_path / "tasks" / "routing", quality=MET, task={"ladder": ["prompting"]})
    examples = path.parent / "rows.jsonl"
    lines = [json.loads(line) for line in examples.read_text().splitlines()]
    for number, line in enumerate(lines):
        line["input"] = f"{line['input']} {hostile[number % len(hostile)][:2000]}"
        line["output"] = f"{line['output']} {hostile[number % 3]}"
    lines[7]["input"] += hostile[3]
    examples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    change_task(path, score="exact", output=None, about=f"Route it. {attack}")
    run = climb(load_task(path), tmp_path / "runs" / "routing-1").run
    with served_page(tmp_path) as (link, _), opened(browser, link) as seen:
        shown = (
            "",
            f"runs/{run.name}",
            f"runs/{run.name}/items",
            f"runs/{run.name}/rate",
            "new?from=routing-1",
            "train",
        )
        for place in shown:
            seen.page.goto(link + place)
            assert "attacked" not in seen.page.title()
            assert seen.page.query_selector("img[src=x]") is None
            assert seen.page.evaluate(TOO_WIDE) == [], place
            assert "\u202e" not in seen.page.content()
        seen.page.goto(f"{link}runs/{run.name}/items")
        seen.page.click("table.list tbody tr a")
        seen.page.wait_for_selector("h1")
        assert "attacked" not in seen.page.title()
        assert seen.page.query_selector("img[src=x]") is None


@pytest.mark.slow
def test_runs_that_are_ticked_stay_ticked_when_the_list_is_drawn_again(browser: playwright.Browser, link: str) -> None:
    with opened(browser, link) as seen:
        page = seen.page
        page.check("#compare-routing-2")
        page.evaluate("document.querySelector('#runs tr[id]').dataset.old = 'yes'")
        page.evaluate("htmx.ajax('GET', '/', '#runs')")
        page.wait_for_selector("#runs tr[data-old]", state="detached")
        assert [page.is_checked(f"#compare-routing-{n}") for n in (1, 2)] == [False, True]


WHILE_IT_IS_SENT = """([first, id, value]) => {
  const change = (id, value) => {
    const one = document.getElementById(id);
    one.value = id === "text" ? one.value + value : value;
    for (const name of ["input", "change"]) one.dispatchEvent(new Event(name, {bubbles: true}));
  };
  const begun = (event) => {
    if (event.detail.elt.id !== first[0]) return;
    document.removeEventListener("htmx:beforeRequest", begun);
    change(id, value);
  };
  document.addEventListener("htmx:beforeRequest", begun);
  change(...first);
}"""


def late(route: playwright.Route) -> None:
    time.sleep(0.8)  # longer than the page waits for more to be typed
    route.continue_()


@pytest.mark.slow
@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("first", ["text", "field-bar"])
def test_neither_text_nor_field_is_lost_while_the_other_is_sent(
    browser: playwright.Browser, tmp_path: Path, first: str, slow: bool
) -> None:
    """Where a server is slow, the second change waits in the queue when the answer to the first one comes."""
    changes = [["text", "# typed\n"], ["field-bar", "0.77"]]
    changes = changes if first == "text" else changes[::-1]
    with served_page(tmp_path) as (link, _), opened(browser, f"{link}new") as seen:
        page = seen.page
        page.click("button >> text=Try it")
        page.wait_for_selector("#editor")
        at_rest(page)
        if slow:
            page.route(re.compile(r"/new/[^/]+/(text|field)"), late)
        page.evaluate(WHILE_IT_IS_SENT, [changes[0], *changes[1]])
        page.wait_for_function(
            "() => ['bar: 0.77', '# typed'].every((one) => document.getElementById('text').value.includes(one))"
        )
        draft = next((tmp_path / "tasks").glob("*/draft.yaml"))
        until(lambda: all(one in draft.read_text() for one in ("bar: 0.77", "# typed")), "both are kept")
        assert page.input_value("#field-bar") == "0.77"
        assert "another window" not in page.inner_text("#fault")


@pytest.mark.slow
def test_a_page_on_which_nothing_moves_says_that_its_server_is_gone(browser: playwright.Browser, link: str) -> None:
    with opened(browser, link) as seen:
        page = seen.page
        ask = "document.dispatchEvent(new Event('visibilitychange'))"
        page.route("**/alive*", lambda route: route.fulfill(status=500))
        page.evaluate(ask)
        page.wait_for_selector("#stale", state="visible")
        page.unroute("**/alive*")
        page.evaluate(ask)
        page.wait_for_selector("#stale", state="hidden")
        seen.faults.clear()


@pytest.mark.slow
def test_a_command_and_a_text_are_copied_by_keyboard_and_the_page_says_so(new_task: Upload) -> None:
    """What is copied is what is there now; a browser that allows no clipboard gets it selected."""
    page = new_task().page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copied = "navigator.clipboard.readText()"
    command = page.get_by_role("button", name="Copy the command")
    command.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#told >> text=Copied")
    assert command.count() == 0, "the button says it too"
    assert page.evaluate("document.activeElement.textContent").startswith("Copied")
    assert page.evaluate(copied) == "lastresort climb tasks/cases/draft.yaml"
    page.select_option("#gate", "quick")
    page.wait_for_selector("#typed >> text=--gate quick")
    page.get_by_role("button", name="the command").press("Space")
    page.wait_for_function("() => navigator.clipboard.readText().then((text) => text.endsWith('--gate quick'))")
    page.fill("#text", page.input_value("#text") + "# mine\n")
    page.get_by_role("button", name="Copy task.yaml").click()
    page.wait_for_function("() => navigator.clipboard.readText().then((text) => text.endsWith('# mine\\n'))")
    assert page.evaluate(copied) == page.input_value("#text")
    page.wait_for_function("() => document.getElementById('told').textContent === ''")
    page.get_by_role("button", name="Copy the command").wait_for()
    page.evaluate(
        "() => { document.execCommand = () => false; navigator.clipboard.writeText = () => Promise.reject(); }"
    )
    page.get_by_role("button", name="Copy the command").click()
    page.wait_for_selector("#told >> text=Selected, not copied")
    assert page.evaluate("getSelection().toString()") == page.inner_text("#typed")


@pytest.mark.slow
def test_what_a_finished_run_and_rate_name_is_copied(browser: playwright.Browser, link: str) -> None:
    with opened(browser, f"{link}runs/routing-1") as seen:
        page = seen.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        copied = []
        for at, path in ((0, "runs/routing-1"), (1, "runs/routing-1"), (0, "runs/routing-1/rate")):
            if not page.url.endswith(path):
                page.goto(link + path)
            page.locator("main .command .copy").nth(at).click()
            page.wait_for_selector("#told >> text=Copied")
            copied.append(page.evaluate("navigator.clipboard.readText()"))
            page.wait_for_function("() => document.getElementById('told').textContent === ''")
        assert copied == [
            "lastresort chat runs/routing-1",
            "lastresort serve runs/routing-1",
            "score: {judge: {model: MODEL, rubric: WHAT IS GOOD, scale: yes-no, labelled: rated_answers.jsonl}}",
        ]


@pytest.mark.slow
def test_the_fields_of_a_task_come_in_the_order_of_a_first_reading_and_none_is_clipped(new_task: Upload) -> None:
    page = new_task().page
    headings = page.locator(".form-group").all_inner_texts()
    assert headings == ["Data", "Task", "Score and bar", "Model", "Ladder", "Limits and use"]
    natural = """all => all.filter((one) => {
      const alone = one.cloneNode(); alone.append(one.selectedOptions[0].cloneNode(true)); alone.style.width = "auto";
      one.after(alone); const wanted = alone.offsetWidth; alone.remove();
      return wanted > one.offsetWidth;
    }).map((one) => one.id)"""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.eval_on_selector_all("main select", natural) == [], width
    assert page.eval_on_selector("#text", "one => one.scrollHeight <= one.clientHeight"), (
        "the text is as high as it needs"
    )


@pytest.mark.slow
def test_the_text_keeps_the_height_that_it_was_dragged_to(new_task: Upload) -> None:
    """A handle sets an inline style, which the policy refuses where a script sets it as an attribute."""
    page = new_task().page
    page.eval_on_selector("#text", "one => { one.style.height = '333px'; }")
    for bar in ("0.7", "0.8"):
        page.fill("#field-bar", bar)
        page.press("#field-bar", "Tab")
        page.wait_for_function(f"() => document.getElementById('text').value.includes('bar: {bar}')")
        at_rest(page)
        assert page.eval_on_selector("#text", "one => one.offsetHeight") == 333


@pytest.mark.release
def test_an_older_check_of_the_data_says_that_it_is_older_and_keeps_open_what_was_opened(
    browser: playwright.Browser, tmp_path: Path
) -> None:
    slow_task(tmp_path, delay_s=0.0)
    with served_page(tmp_path) as (link, _), opened(browser, f"{link}new/routing") as seen:
        page = seen.page
        asked: list[str] = []
        page.wait_for_selector("#data summary >> text=The first rows", timeout=60_000)
        page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/data") else None)
        page.click("#data summary >> text=The first rows")
        page.fill("#field-bar", "0.7")
        page.press("#field-bar", "Tab")
        until(lambda: page.wait_for_timeout(200) or asked, "the page asks whether that changes what was found")
        at_rest(page)
        assert page.locator("#data .older").count() == 0
        assert len(asked) == 1, "nothing is checked again"
        page.fill("#field-about", "Say which team a case is for.")
        page.press("#field-about", "Tab")
        page.wait_for_selector("#data .older >> text=It is being checked again")
        until(lambda: page.wait_for_timeout(200) or len(asked) >= 4, "it is drawn again while the check goes on")
        assert page.locator("#data details[open] >> text=The first rows").count() == 1
        page.wait_for_selector("#data .older", state="detached", timeout=60_000)
        assert page.locator("#data details[open] >> text=The first rows").count() == 1
