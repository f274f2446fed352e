"""Ways of training beside each other on the page, in Markdown, in the terminal, and what no decision may say of them."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from comparison_sample import compared_ways, entry, typed_ways
from decision_support import decide, validate_decision
from gate_report_support import gate_found
from lastresort.errors import ContractError
from lastresort.records.decision import RunView
from lastresort.records.record import Record
from lastresort.report import comparison
from lastresort.report.decision import read_decision
from lastresort.report.html import page
from lastresort.report.markdown import markdown
from lastresort.report.story import gather
from lastresort.report.terminal import ladder_table
from report_support import HOSTILE, make, remade

FINDING = "QLoRA scores lower than LoRA; no other method is shown to differ"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = make(tmp_path / "run", "sft-met")
    decide(folder, remade(read_decision(folder), compare=compared_ways()))
    return folder


def html_of(folder: Path, decision: RunView) -> str:
    with Record.open(folder, read_only=True) as record:
        return page(gather(record, decision)).replace("\u00a0", " ")


def test_the_title_says_who_scores_otherwise() -> None:
    assert comparison.finding(typed_ways()) == FINDING
    better = [entry("lora", 0.5), entry("full", 0.7, 0.2, interval=[0.1, 0.3], verdict="NON_INFERIOR")]
    assert comparison.finding(typed_ways(better)) == "Training of all weights scores higher than LoRA"
    lora, _, merged, nf4, full = typed_ways()
    assert comparison.finding([lora, merged, nf4]) == "No method is shown to differ from LoRA"
    assert comparison.finding([lora, full]) == "No method could be compared with LoRA"


def test_the_page_draws_every_way_that_was_compared(run: Path) -> None:
    decision = read_decision(run)
    text = html_of(run, decision)
    section = text[text.index('<section aria-labelledby="comparison">') :]
    section = section[: section.index("</section>")]
    assert f'<h2 id="comparison">{FINDING}</h2>' in section
    assert section.count('<svg class="strip ') == 3
    assert (
        'class="strip NOT_MET" role="img" aria-label="Difference −4.0 points, interval −4.7 to −3.3, margin −3.0: REGRESSED"'
        in section
    )
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>\n(.*?)</tr>", section, re.DOTALL)
    assert [name for name, _ in rows] == [
        "LoRA",
        "QLoRA",
        "The merged adapter",
        "The adapter on a 4-bit base",
        "Training of all weights",
    ]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", rows[1][1])
    assert cells == ["89.0%", "89.0 89.0 89.0", "0.0003", "2.34 GB", "3 min 4 s", "812", "1.12 GB", "41 s"]
    assert "with 3 seeds and the winner&#39;s settings to epoch 3, and answered all 300 test items" in section
    assert "90% confidence interval over items and seeds" in section
    before = html_of(run, remade(decision, compare=[]))
    assert 'id="comparison"' not in before
    assert text.count("the comparison<small>") == 5
    spent = re.compile(r"<tfoot>.*?</tfoot>", re.DOTALL)
    assert len(spent.findall(text)) == len(spent.findall(before)) > 0
    assert spent.findall(text)[0] != spent.findall(before)[0]


def test_the_terminal_has_a_line_a_way(run: Path) -> None:
    out = io.StringIO()
    Console(file=out, width=80, no_color=True).print(ladder_table(read_decision(run)))
    text = " ".join(out.getvalue().split())
    assert f"{FINDING}." in text
    assert (
        "× QLoRA costs 4.0 points (3.3 to 4.7) against LoRA on this task; more. (training: peak 2.34 GB, 3 min 4 s per seed)"
        in text
    )
    assert "● merged was tried. (answering: peak 1.12 GB, 41 s per seed)" in text
    assert "– full was tried." in text
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_markdown_has_a_table(run: Path) -> None:
    text = markdown(read_decision(run))
    assert f"{FINDING}.\n\n| method | score |" in text
    assert "| QLoRA | 89.0% | 89.0 89.0 89.0 | −4.0 | −4.7 to −3.3 | 2.34 GB | 3 min 4 s | 1.12 GB | 41 s |" in text
    assert "| Training of all weights | – | – – – | – | – | – | – | – | – |" in text


def test_a_repaired_winner_is_not_what_was_trained_in_several_ways(run: Path) -> None:
    decision = read_decision(run)
    assert "before its repair" not in markdown(decision)
    assert "these are the settings before its repair." in markdown(remade(decision, first_gate=gate_found()))


def test_what_was_said_cannot_become_markup(run: Path) -> None:
    decision = remade(read_decision(run), compare=compared_ways(HOSTILE))
    assert "<script>alert" not in html_of(run, decision)
    assert "<script>" not in markdown(decision)


def faulty(change: Callable[[list[dict[str, Any]]], Any]) -> list[dict[str, Any]]:
    found = copy.deepcopy(compared_ways())
    change(found)
    return found


FAULTS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "a way alone": lambda ways: ways.__delitem__(slice(1, None)),
    "a way twice": lambda ways: ways.append(ways[1]),
    "a way that is none": lambda ways: ways[1].update(way="dora"),
    "the first less itself": lambda ways: ways[0].update(difference=0.0, interval=[0.0, 0.0], verdict="NON_INFERIOR"),
    "a difference without its interval": lambda ways: ways[1].update(interval=None),
    "made of what is not there": lambda ways: ways.__delitem__(0),
    "one seed": lambda ways: ways[1].update(seeds=ways[1]["seeds"][:1]),
    "a score above 1": lambda ways: ways[1].update(score=1.2),
    "no word of what was spent": lambda ways: ways[1].pop("training"),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_decision_says_so(run: Path, fault: str) -> None:
    decision = read_decision(run).as_json()
    validate_decision(decision)
    with pytest.raises(ContractError, match=r"decision\.json: found"):
        validate_decision(decision | {"compare": faulty(FAULTS[fault])})
