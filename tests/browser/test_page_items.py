"""Items and rating in Chromium: filters without a reload and back again, items and marks by keyboard, hostile rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser_support import CHROMIUM, TOO_WIDE, WIDTHS, at_rest, opened
from climb_support import scripted_task
from lastresort.records.events.run import TaskRead
from lastresort.records.record import Record
from lastresort.spec.task import load_task
from record_support import edit
from report_support import HOSTILE
from ui_support import finished_run, item, recorded, served_page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]

RTL = "\u202eevil\u2066\x1b[31mred"
PLAIN = [item(f"{number:02}", float(number % 3 > 0), f"plain {number}") for number in range(60)]
SHOTS = [item(f"{number:02}", float(number % 2), f"shots {number}") for number in range(60)]
LABELS = ("billing", "delivery", "repairs", "returns", "an order that was cancelled")
ODD = [item("a", 0.0, HOSTILE, input=HOSTILE, expected="W" * 4000), item("b", 0.0, "x" * 1_000_000, input=RTL)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    recorded(folder / "runs" / "mail", ("zero-shot", "dev", PLAIN), ("few-shot-3", "dev", SHOTS))
    recorded(folder / "runs" / "odd", ("zero-shot", "dev", ODD), (HOSTILE, "dev", ODD))
    task = load_task(scripted_task(folder / "task", quality=[])).resolved()
    for run, labels in (("few", LABELS), ("long", LABELS * 4)):
        choices = [f"{label} {n // len(LABELS) or ''}".strip() for n, label in enumerate(labels)]
        wants = [choices[n % len(choices)] for n in range(60)]
        items = [
            item(f"{n:02}", float(n % 3 > 0), want if n % 3 else choices[0], expected=want)
            for n, want in enumerate(wants)
        ]
        with Record.open(recorded(folder / "runs" / run, ("zero-shot", "dev", items))) as record:
            record.append(TaskRead(task={**task, "output": {**task["output"], "choices": choices}}))
    return folder


@pytest.fixture(scope="module")
def link(workspace: Path) -> Iterator[str]:
    with served_page(workspace) as (found, _):
        yield found


def test_filters_change_the_list_alone_and_the_browser_goes_back_through_them(
    browser: playwright.Browser,
    link: str,
) -> None:
    with opened(browser, f"{link}runs/mail/items") as seen:
        page = seen.page
        page.evaluate("window.stays = true")
        page.select_option("#with", "prompting/zero-shot")
        page.wait_for_selector("text=regressed >> nth=0")
        page.fill("#text", "shots 7")
        page.wait_for_selector("text=1 to 1 of 1")
        assert page.evaluate("window.stays") is True
        assert "text=shots%207" in page.url
        page.reload()
        page.wait_for_selector("text=1 to 1 of 1")
        page.go_back()
        page.wait_for_selector("text=1 to 50 of 60")


@pytest.mark.parametrize("run", ["few", "long"])
def test_the_table_of_labels_comes_later_in_the_room_that_is_kept_for_it(
    browser: playwright.Browser, link: str, run: str
) -> None:
    """Open from the start where the labels are few, else folded away; what a reader opened meanwhile stays open."""
    with opened(browser, link) as seen:
        page, top = seen.page, "document.querySelector('table.items').getBoundingClientRect().top"
        with seen.held("**/items/labels?*"):
            page.goto(f"{link}runs/{run}/items", wait_until="load")
            before = page.evaluate(top)
            assert page.is_visible("text=Counting the answers") is (run == "few")
            assert page.eval_on_selector("details.labels", "one => one.open") is (run == "few")
            if run == "long":
                page.click("details.labels > summary")
                page.wait_for_selector("text=Counting the answers")
        page.wait_for_selector("text=Most often mistaken")
        at_rest(page)
        assert page.eval_on_selector("details.labels", "one => one.open")
        if run == "long":
            page.click("details.labels > summary")
        assert page.evaluate(top) == pytest.approx(before, abs=2)
        page.eval_on_selector("details.labels", "one => { one.open = true }")
        page.click("table.confusion td.miss a >> nth=0")
        page.wait_for_selector("text=Only items that expect")


def test_a_table_of_labels_that_does_not_come_says_so_and_is_a_page_without_scripts(
    browser: playwright.Browser, link: str, workspace: Path
) -> None:
    with opened(browser, link) as seen:
        seen.page.route(
            "**/items/labels?*", lambda route: route.fulfill(status=422, body='<p class="note refusal">It failed.</p>')
        )
        seen.page.goto(f"{link}runs/few/items")
        seen.page.wait_for_selector("#labels >> text=It failed.")
        assert seen.page.is_visible("text=1 to 50 of 60")
        seen.faults.clear()  # Chromium's own word on the status
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{link}runs/few/items")
    assert not page.is_visible("text=Counting the answers")
    page.click("text=The table on a page of its own")
    assert page.is_visible("table.confusion")
    context.close()


def test_the_keyboard_goes_through_the_items_of_the_list(browser: playwright.Browser, link: str) -> None:
    with opened(browser, f"{link}runs/mail/items?system=prompting/zero-shot&kind=wrong") as seen:
        page = seen.page
        page.click("table.items a >> nth=0")
        page.wait_for_selector("h1 >> text=00")
        for key, name in (("j", "03"), ("j", "06"), ("k", "03")):
            at_rest(page)
            page.keyboard.press(key)
            page.wait_for_selector(f"h1 >> text={name}")
        page.wait_for_selector("text=cannot be rebuilt")


def test_the_keyboard_and_a_tap_open_what_is_listed(browser: playwright.Browser, link: str) -> None:
    with opened(browser, f"{link}runs/mail/items?system=prompting/zero-shot&kind=wrong") as seen:
        page = seen.page
        at_rest(page)
        for key in "jjk":
            page.keyboard.press(key)
        assert page.evaluate("document.activeElement.textContent") == "00"
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_selector("h1 >> text=03")
        page.go_back()
        at_rest(page)
        page.click("td >> text=message 06")
        page.wait_for_selector("h1 >> text=06")
        page.wait_for_selector("text=cannot be rebuilt")


def test_marks_by_keyboard_are_in_the_file_and_a_reload_goes_on(
    browser: playwright.Browser,
    link: str,
    workspace: Path,
) -> None:
    with opened(browser, f"{link}runs/mail/rate?system=prompting/zero-shot&with=prompting/few-shot-3") as seen:
        page = seen.page
        for marked, key in enumerate("abt", 1):
            at_rest(page)
            page.keyboard.press(key)
            page.wait_for_selector(f"text=of {marked} pair")
        at_rest(page)
        page.reload()
        page.wait_for_selector("text=4 of 60 drawn")
        at_rest(page)
        page.keyboard.press("u")
        page.wait_for_selector("text=of 2 pairs")
    rows = [json.loads(line) for line in (workspace / "tasks/mail/rated_pairs.jsonl").read_text().splitlines()]
    assert [(row["label"] == row["shown_first"]) for row in rows] == [True, False]


def test_marks_are_within_reach_on_a_phone_and_a_choice_acts_at_once(browser: playwright.Browser, link: str) -> None:
    with opened(browser, f"{link}runs/odd/rate?system=prompting/zero-shot", width=390) as seen:
        page = seen.page
        at_rest(page)
        box = page.locator("button >> text=wrong").bounding_box()
        assert box is not None
        assert 0 < box["y"] < box["y"] + box["height"] <= 900, (
            "without scrolling, though the input fills several screens"
        )
        assert page.evaluate("document.documentElement.scrollHeight") > 900
        page.goto(f"{link}runs/mail/rate?system=prompting/zero-shot")
        at_rest(page)
        page.select_option("#with", "prompting/few-shot-3")
        page.wait_for_selector("button >> text=A is better")
        assert "same text are skipped" in page.inner_text("#card h2.small >> nth=0")


def test_a_key_pressed_as_soon_as_the_next_pair_is_there_marks_it(
    browser: playwright.Browser, link: str, workspace: Path
) -> None:
    with opened(browser, f"{link}runs/mail/rate?system=prompting/few-shot-3&with=prompting/zero-shot&seed=1") as seen:
        at_rest(seen.page)
        seen.page.evaluate("""() => {
            const press = () => document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "b", bubbles: true }));
            new MutationObserver((_, once) => { once.disconnect(); press(); })
                .observe(document.getElementById("card"), { childList: true });
        }""")
        seen.page.keyboard.press("a")
        seen.page.wait_for_selector("text=of 2 pairs")
        assert "mark=" not in seen.page.url


def test_a_key_that_comes_while_a_mark_is_saved_marks_nothing_and_says_so(
    browser: playwright.Browser, link: str, workspace: Path
) -> None:
    """It would mark an answer that nobody has seen."""
    with opened(browser, f"{link}runs/mail/rate?system=prompting/few-shot-3") as seen:
        page, marked = seen.page, workspace / "tasks/mail/rated_answers.jsonl"
        at_rest(page)
        with seen.held("**/rate/mark"):
            page.keyboard.press("r")
            page.keyboard.press("w")
            assert "marked nothing. Press it again" in page.inner_text("#early")
            assert page.eval_on_selector("#card .actions", "one => getComputedStyle(one).opacity") == "0.5"
        page.wait_for_selector("text=of 1 answer")
        assert "marked nothing" in page.inner_text("#early"), "until the next key"
        at_rest(page)
        page.keyboard.press("w")
        page.wait_for_selector("text=of 2 answers")
        assert page.inner_text("#early") == ""
    grades = [json.loads(line)["grade"] for line in marked.read_text().splitlines()]
    assert grades == ["yes", "no"]


@pytest.mark.sampled_slow(2)
@pytest.mark.parametrize(
    "path",
    [
        "runs/odd/items?system=all",
        "runs/few/items",
        "runs/long/items",
        "runs/few/items/labels",
        "runs/odd/items?system=prompting/zero-shot&with=prompting/zero-shot",
        "runs/odd/items/1/0",
        pytest.param("runs/odd/items/1/1", marks=pytest.mark.release),
        "runs/odd/items/gate",
        pytest.param("runs/odd/rate?system=prompting/zero-shot", marks=pytest.mark.release),
    ],
)
def test_hostile_rows_run_nothing_fit_the_window_and_keep_nobody_out(
    browser: playwright.Browser,
    link: str,
    path: str,
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with opened(browser, link) as seen:
        seen.page.on("dialog", lambda dialog: seen.faults.append(dialog.message) or dialog.dismiss())
        for width in WIDTHS:
            seen.page.set_viewport_size({"width": width, "height": 900})
            seen.page.goto(link + path, wait_until="networkidle")
            assert seen.page.evaluate(TOO_WIDE) == [], f"at {width}"
        found = axe.run(seen.page).response["violations"]
        assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == []


def test_an_open_page_of_answers_that_are_changed_shows_them_no_more(
    browser: playwright.Browser, tmp_path: Path
) -> None:
    run = recorded(tmp_path / "runs" / "mail", ("zero-shot", "dev", PLAIN))
    with served_page(tmp_path) as (link, _), opened(browser, f"{link}runs/mail/items") as seen:
        seen.page.wait_for_selector("text=Answers checked.", timeout=30_000)
        edit(run, "UPDATE item SET answer = 'forged' WHERE position = 0")
        seen.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # else it asks within seconds
        seen.page.wait_for_selector("text=was changed", timeout=30_000)
        assert not seen.page.is_visible("text=1 to 50 of 60")
        seen.faults.clear()  # Chromium's own word on the status


def test_the_scripts_of_a_page_do_not_clash(browser: playwright.Browser, tmp_path: Path) -> None:
    """Each declares its names for the whole page: two of one name, and the second script does not run at all."""
    finished_run(tmp_path)
    with served_page(tmp_path) as (link, _):
        for at in ("items/1/0", "rate", "talk", ""):
            with opened(browser, f"{link}runs/routing-1/{at}".rstrip("/")) as seen:
                at_rest(seen.page)
                assert len(seen.page.query_selector_all("script[src]")) >= 3 + bool(at)
