"""The plan as sliders move: what the command says, checked as it is typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lastresort.app.plan import PlanRequest, make_plan
from lastresort.ui.children import Children
from lastresort.ui.pages import plan
from lastresort.ui.pages.plan import FIELDS, command_of, values_of
from ui_support import htmx_page_of


@pytest.fixture
def page(tmp_path: Path) -> TestClient:
    return htmx_page_of(tmp_path)[1]


def test_the_page_says_what_the_command_says(page: TestClient) -> None:
    found = make_plan(PlanRequest("qwen2.5-7b", gpu="l40s", rows=2000, tokens=2048))
    shown = page.get("/plan?model=qwen2.5-7b&gpu=l40s&rows=2000&tokens=2048").text
    assert found.answer in shown
    assert "lastresort plan --model qwen2.5-7b --gpu=l40s --tokens=2048 --rows=2000" in shown
    assert "<svg" in shown
    assert "<style" not in shown, "the policy forbids inline styles"
    assert "`" not in shown


def test_what_the_trainer_cannot_do_is_said_with_code_as_code(page: TestClient) -> None:
    shown = page.get("/plan?model=qwen2.5-72b&objective=grpo").text
    assert "Not with <code>train</code>: <code>lastresort train</code> does not shard a model for objectives" in shown
    assert "`" not in shown


def test_the_whole_page_holds_the_form_with_what_the_address_says(page: TestClient) -> None:
    shown = page.get("/plan?tokens=4096&method=qlora", headers={"hx-request": ""}).text
    assert 'name="tokens" type="text" inputmode="numeric" value="4096"' in shown
    assert "<option selected>qlora</option>" in shown
    assert 'value="48" data-moves="plan-tokens"' in shown  # 2 ** (48 / 4) tokens


@pytest.mark.parametrize(
    ("query", "cheapest"),
    [
        ("rows=1000", "Cheapest GPU for this job"),
        ("rows=", "Cheapest GPU per hour"),
        ("model=llama-3.1-405b&batch=64&tokens=32768", "Cheapest GPU per hour"),  # it fits on none
    ],
)
def test_both_tables_say_what_the_cheapest_card_is_cheapest_by(page: TestClient, query: str, cheapest: str) -> None:
    shown = page.get(f"/plan?gpu=l40s&{query}").text
    assert shown.count(f"<th>{cheapest}</th>") == shown.count("<th>Cheapest") == 2


@pytest.mark.sampled(7)
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("tokens=many", "Longest row in tokens: found &#34;many&#34;"),
        ("tokens=0", "Longest row in tokens: found 0, expected a number of at least 1"),
        ("tokens=99999999999999", "expected at most 1,000,000,000,000 tokens"),
        ("epochs=nan", "a number above 0"),
        ("epochs=1e999", "a number above 0"),
        ("method=lorra", "Did you mean"),
        ("method=lorra", "Method: found"),
        ("gpu=rtx-9999", "rtx-9999"),
        ("model=<script>", "&lt;script&gt;"),
        ("model=<script>", "Model: found"),
        ("model=%00", "&#34;"),
        ("price=free", "free"),
        ("shared_tokens=5000", "fewer shared tokens"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_sentence(page: TestClient, query: str, said: str) -> None:
    found = page.get(f"/plan?gpu=l40s&{query}" if "gpu" not in query else f"/plan?{query}")
    assert found.status_code == 200
    assert "refusal" in found.text
    assert said in found.text
    assert "<svg" not in found.text


def test_a_slider_stands_where_its_number_is() -> None:
    tokens = next(field for field in FIELDS if field.name == "tokens")
    assert [tokens.at(value) for value in ("64", "1024", "32768", "10000000", "many")] == [24, 40, 60, 60, 24]


@pytest.mark.slow
def test_the_command_is_read_as_the_form_says(tmp_path: Path) -> None:
    values = values_of(
        {"model": "embedded", "checkpointing": "off", "answer_tokens": "128", "price": "2.5", "gpu": "t4"}
    )
    words = command_of(values)
    assert words == (
        "plan", "--model", "embedded", "--gpu=t4", "--rows=1000", "--answer-tokens=128", "--no-checkpointing", "--price=2.5",
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "lastresort", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_question_to_this_machine_has_a_picture_of_its_own_and_few_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def printed(self: Children, question: object, state: object, arguments: list[str], *, begin: bool) -> None:
        path = Path(arguments[arguments.index("--picture") + 1])
        path.write_text("<svg/>")
        os.utime(path, (len(asked), len(asked)))
        asked.append(path.name)

    monkeypatch.setattr(Children, "printed", printed)
    monkeypatch.setattr(plan, "MOST_KEPT", 1)
    _, page = htmx_page_of(tmp_path)
    for tokens in ("512", "1024", "2048", "512"):
        page.get(f"/plan?gpu=cpu&tokens={tokens}")
    assert len(set(asked)) == 3
    assert asked[3] == asked[0]
    page.get("/plan?gpu=cpu&tokens=4096")
    kept = {path.name for path in (tmp_path / "runs" / ".lastresort" / "plans").iterdir()}
    assert kept == {asked[2], asked[3], asked[4]}
