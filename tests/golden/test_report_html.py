"""The page: whole, escaped, readable without colour or script, with the numbers of the run in it."""

from __future__ import annotations

import itertools
import re
import shlex
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pydantic import JsonValue

from climb_support import scripted_task
from cost_support import costs
from decision_support import decide
from gate_report_support import HELD, gated
from lastresort.cli.options import parse_settings
from lastresort.errors import DataError
from lastresort.records.decision import Failures, RunView
from lastresort.records.events.after_test import GateChosen, WaysChosen
from lastresort.records.events.run import ItemsAdded, OptionsChosen, TaskPlaced, TaskRead
from lastresort.records.events.search import RungSearched, RungTested, SearchedCandidate
from lastresort.records.ledger import ItemReuse
from lastresort.records.measurement import Cost, DevScore, ItemScore, Measurement
from lastresort.records.record import Record
from lastresort.report.commands import commands, resume_command
from lastresort.report.decision import read_decision
from lastresort.report.html import code, page, write_report
from lastresort.report.markdown import markdown
from lastresort.report.story import gather
from lastresort.report.words.data import of_reuse
from lastresort.report.words.rungs import of_selection_bias
from lastresort.report.words.titles import of_cost, of_failures, took_less, took_line
from lastresort.report.words.verdicts import of_band, shared_by, shared_error
from lastresort.report.words.wording import percent
from lastresort.spec.task import load_task
from lastresort.types import Judgement, Selection
from report_support import DATA, HOSTILE, SAMPLES, make

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """What a browser sees: tags, attributes, text; notes a tag that is closed out of order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.misplaced: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.misplaced.append(tag)

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split()).replace("\u00a0", " ")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def drawn(folder: Path, name: str) -> tuple[str, Page, dict]:
    text = write_report(make(folder, name)).read_text("utf-8")
    return text, Page(text), read_decision(folder).as_json()


@pytest.fixture(scope="module", params=SAMPLES)
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page, dict]:
    return drawn(tmp_path_factory.mktemp("run") / request.param, request.param)


def test_the_page_is_well_formed(sample: tuple[str, Page, dict]) -> None:
    _, page, _ = sample
    assert page.misplaced == []
    assert page.open == []
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert [name for name, times in ids.items() if times > 1] == []
    assert {attributes["aria-labelledby"] for attributes in page.all("section")} <= set(ids)


def test_the_page_stands_alone(sample: tuple[str, Page, dict]) -> None:
    text, page, _ = sample
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"script", "iframe", "object", "embed", "link", "img", "form", "base", "a"})
    attributes = [pair for _, found in page.tags for pair in found.items()]
    assert [name for name, _ in attributes if name.startswith("on")] == []
    assert [name for name, _ in attributes if name in ("src", "href", "action", "srcset")] == []
    assert "url(" not in text
    assert "@import" not in text
    assert page.all("meta")[2]["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_the_answer_comes_first_and_is_the_only_h1(sample: tuple[str, Page, dict]) -> None:
    text, page, decision = sample
    headings = [tag for tag, _ in page.tags if tag in ("h1", "h2", "h3", "h4")]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    steps = [int(heading[1]) for heading in headings]
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(steps))
    if "script" not in decision["answer"]:
        assert f"<h1>{decision['answer']}</h1>" in text


def test_every_rung_has_a_row_and_every_test_its_numbers(sample: tuple[str, Page, dict]) -> None:
    _, page, decision = sample
    rows = [a for a in page.all("div") if a.get("role") == "row"]
    assert len(rows) == 1 + 5  # the head, and the ladder of the task with or without a test
    labels = [a["aria-label"] or "" for a in page.all("svg") if "strip" in (a.get("class") or "")]
    for rung in decision["rungs"]:
        if rung["test"] is None:
            assert rung["skipped_because"]["text"][1:] in page.text
            continue
        test = rung["test"]
        words = {"MET": "MET", "NOT_MET": "NOT MET", "UNDECIDED": "UNDECIDED"}[test["verdict"]]
        score = percent(test["score"]).replace("\u00a0", " ")
        assert f"was frozen and tested once: {score} on" in page.text
        assert any(score in label.replace("\u00a0", " ") and label.endswith(words) for label in labels)
        for candidate in rung["candidates"]:
            assert percent(candidate["dev"]["score"]).replace("\u00a0", " ") in page.text
    assert len(labels) == sum(rung["test"] is not None for rung in decision["rungs"])


def test_tables_name_their_columns(sample: tuple[str, Page, dict]) -> None:
    _, page, _ = sample
    assert page.all("table")
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))


def test_reasons_reuse_and_origin_are_there(sample: tuple[str, Page, dict]) -> None:
    _, page, decision = sample
    for reason in decision["reasons"]:
        if reason["text"] != HOSTILE:
            assert reason["text"] in page.text
    assert "What would change this answer" in page.text
    assert all(change["text"] in page.text for change in decision["would_change"])
    assert decision["test_reuse"]["text"] in page.text
    assert decision["provenance"]["hashes"]["model"] in page.text
    assert "3.11.9" in page.text


def test_test_items_that_were_used_before_are_named_in_the_header_beside_the_confidence(tmp_path: Path) -> None:
    decision = read_decision(make(tmp_path / "run", "sft-met"))
    used = RunView.model_validate(decision.as_json() | {"test_reuse": of_reuse(ItemReuse(300, 300, 1)).as_json()})
    with Record.open(tmp_path / "run", read_only=True) as record:
        fresh, again = (page(gather(record, one)) for one in (decision, used))
    assert used.test_reuse is not None
    warning = code(used.test_reuse.text)
    header, _, rest = again.partition("</header>")
    assert warning in header
    assert "TEST ITEMS REUSED" in header
    assert "<dt>Confidence</dt><dd>95% <small>that no MET is false; too high: test items reused; shared by " in header
    assert warning not in rest
    assert "reused" not in fresh.partition("</header>")[0].lower().partition("<body>")[2]
    said = markdown(used)
    assert said.index("All 300 test items have") < said.index("| rung |")
    assert said.count("test items have") == 1


def test_the_confidence_names_the_tests_that_share_it(tmp_path: Path) -> None:
    header = write_report(make(tmp_path / "run", "sft-met")).read_text("utf-8").partition("</header>")[0]
    rungs = "prompting, retrieval, SFT, preference tuning, full fine-tuning"
    assert f"<small>that no MET is false, shared by 6 tests: of {rungs} and a repaired system</small>" in header
    assert shared_by(1, ("prompting",)) == "for the test of prompting"
    assert shared_by(2, ("prompting", "retrieval")) == "shared by 2 tests: of prompting and retrieval"
    assert shared_by(3, ()) == "shared by 3 tests"
    assert shared_by(1, ("prompting",), {"prompting": 0.05}) == "for the test of prompting"
    assert shared_by(1, ("retrieval",), {}) == "no rung can be tested"
    shares = {"prompting": 0.025, "sft": 0.023, "sft repair": 0.002}
    told = "prompting 2.5%, SFT 2.3% and a repair 0.2%"
    assert shared_by(3, ("prompting", "sft"), shares) == f"shared by 3 tests, with error rates of {told}"
    repair = "A repair is a milder version of a tuned model that the gate did not clear."
    assert shared_error(shares) == f"The error rate of 5% is split over 3 tests of the bar: {told}. {repair}"


def test_the_band_speaks_of_the_same_confidence_as_the_head_of_the_page() -> None:
    """Before any test it gives no figure, as the rungs have different shares."""
    assert "Each of the two limits holds at 95% confidence, the confidence of a MET." in of_band({"prompting": 0.05})
    said = of_band({"prompting": 0.025, "sft": 0.023})
    assert "holds at the confidence of a MET of its rung: prompting 97.5% and SFT 97.7%." in said
    assert not re.search(r"\d\.|90%", of_band({}))
    assert "1 minus the error rate of that test" in of_band({})
    assert of_band({}, (0.025, 0.025)).count("%") == 2


def test_the_band_of_a_corrected_score_says_what_the_labels_spend() -> None:
    """A share of 1.25%: the test has .625%, the labels 2.5% on each side."""
    said = of_band({"sft": 0.0125}, (0.025, 0.025))
    assert "with a probability of at most 3.1% and 3.1%: half of the error rate" in said
    assert "holds at" not in said
    assert "7.5% and 5% for prompting and 6.5% and 4% for SFT" in of_band(
        {"prompting": 0.05, "sft": 0.03}, (0.05, 0.025)
    )
    four = {"sft": 0.025, "full": 0.023, "sft repair": 0.001, "full repair": 0.001}
    assert ": SFT 2.5%, full fine-tuning 2.3% and each repair 0.1%. A repair is" in shared_error(four)
    assert "repair" not in shared_error({"sft": 0.025, "full": 0.025})
    assert shared_error({"sft": 0.05}) == "The test of SFT has the whole error rate of 5%."
    assert shared_error({}) == "No rung can be tested."


def test_a_correction_of_the_best_dev_score_is_said_where_it_changes_it() -> None:
    candidates = tuple(
        SearchedCandidate(name=name, dev=DevScore(score=score, n=n), prompt_tokens=1.0, seconds=1.0)
        for name, score, n in (("a", 0.9, 10), ("b", 0.8667, 75), ("c", 0.8, 75))
    )

    def said(corrected: float | None, chosen: str = "b") -> str:
        why = Selection(chosen, "HIGHEST", 0.8667, 75)
        return of_selection_bias(
            RungSearched(
                rung="sft", candidates=candidates, chosen=chosen, why=why, findings=(), bias_corrected=corrected
            )
        )

    assert said(None) == said(0.8668) == said(0.88) == "", (
        "a corrected score that is higher says nothing of an inflated one"
    )
    assert said(0.851) == said(0.851, chosen="c"), "it is the score of the highest, not of a cheaper one that is chosen"
    assert said(0.851) == (
        "The highest dev score, the 86.7% of b, is inflated by being the highest of several; corrected for that, it is 85.1%."
    )


def test_code_is_marked_and_the_data_is_told_in_words(sample: tuple[str, Page, dict]) -> None:
    text, _, _ = sample
    sentences = re.sub(r"(?s)<pre.*?</pre>|<article.*?</article>", "", text)
    assert "`" not in sentences[sentences.index("<body>") :]
    names = re.findall(r"<dt>([^<]*)</dt>", text[text.index('id="data"') : text.index('id="origin"')])
    assert names[0] == "examples"
    assert names[-1] == "findings"
    assert {"ok", "counts", "severity"}.isdisjoint(names)


def test_code_in_a_sentence_is_escaped() -> None:
    assert code("set `a<b>` & go") == "set <code>a&lt;b&gt;</code> &amp; go"


@pytest.mark.parametrize(
    ("failures", "wrong", "graded", "said"),
    [
        ((0, None, 8), 8, False, "8 of 60 dev answers are wrong: all have the right format but the wrong content"),
        ((5, None, 3), 8, False, "8 of 60 dev answers are wrong: 5 have the wrong format"),
        ((0, 1, 0), 1, False, "1 of 60 dev answers is wrong: it lacks knowledge"),
        ((1, None, 3), 4, True, "4 of 60 dev answers fall short: 3 have the right format"),
    ],
)
def test_failures_are_told_in_one_sentence(
    failures: tuple[int, int | None, int], wrong: int, graded: bool, said: str
) -> None:
    kinds = Failures(format=failures[0], knowledge=failures[1], other=failures[2])
    assert of_failures(kinds, wrong, 60, graded=graded) == said


def test_the_band_says_its_level_where_it_stands_next_to_the_confidence(tmp_path: Path) -> None:
    """A run of six tests with equal shares: 95% for all of them, which is 99.2% each."""
    page = write_report(make(tmp_path / "run", "sft-met")).read_text("utf-8")
    assert "Each of the two limits holds at 99.2% confidence" in page
    assert "98.3%" not in page.partition("</header>")[2].partition("Why</h2>")[0]


def test_the_band_has_the_error_at_which_its_score_was_tested(tmp_path: Path) -> None:
    """Also where a MET below handed its own on, and nothing where the record does not say."""
    run = make(tmp_path / "run", "sft-met")
    decision = read_decision(run)
    tested = [rung.name for rung in decision.rungs if rung.test is not None]
    shares = {name: 0.001 * (number + 1) for number, name in enumerate(tested)} | {"prompting": 0.03}
    judgement = Judgement("MET", 0.9, 100, 300, (0.8, 1.0))
    with Record.open(run) as record:
        for outcome, error in (("NOT_MET", shares["sft"]), ("MET", 0.03)):
            record.append(RungTested(rung="prompting", system="one", judgement=replace(judgement, outcome=outcome)))
            assert gather(record, decision.replaced(shares=shares)).errors["sft"] == error
        assert gather(record, decision.replaced(shares={"sft": 0.01, "prompting": 0.03})).errors.keys() == {
            "prompting",
            "sft",
        }


def test_what_ran_and_what_was_reused_are_told_apart() -> None:
    total = Cost(tokens_in=1, tokens_out=1, seconds=900.0, usd=0.0)
    said = of_cost(total, {}, 60.0).replace("\u00a0", " ")
    assert said == "The climb took 1 min for work that takes 15 min and made no paid call"
    assert of_cost(total, {}, 2000.0).replace("\u00a0", " ") == "The climb took 33 min 20 s and made no paid call"


def test_a_climb_that_goes_on_has_not_taken_its_time_yet() -> None:
    total = Cost(tokens_in=1, tokens_out=1, seconds=60.0, usd=0.0)
    assert of_cost(Cost(tokens_in=0, tokens_out=0, seconds=0.0, usd=0.0), {}, 27.0, over=False) == (
        "No part of the climb is done yet"
    )
    said = of_cost(total, {"prompting": 60.0}, 90.0, over=False).replace("\u00a0", " ")
    assert said == "The parts of the climb that are done took 1 min and made no paid call"
    assert took_line(total, 90.0, over=False).startswith("The climb has taken")
    assert took_line(total, 90.0).startswith("The climb took")


def test_costs_that_add_up_to_more_than_the_run_took_are_explained_next_to_them() -> None:
    total = Cost(tokens_in=0, tokens_out=0, seconds=351.0, usd=0.0)
    said = "The run took 2 min 20 s: answers reused from an earlier run, or made at once, count in full above."
    assert took_less(total, 140.0) == said
    assert took_less(total, 351.0) is None
    assert took_less(total, None) is None


def test_candidates_with_fewer_items_are_explained_once_their_race_is_over(tmp_path: Path) -> None:
    task = load_task(scripted_task(tmp_path / "task", quality=[])).resolved()
    why, said = Selection("five", "HIGHEST", 0.9, 2), "A candidate with fewer dev items was dropped early"
    with Record.create(tmp_path / "run") as record:
        record.append(TaskRead(task=task))
        for name, n in (("zero-shot", 1), ("five", 2)):
            items = [ItemScore(str(i), 1.0, "x", "x", "i", "stop", None, 10, 2, 0.1, 0.0) for i in range(n)]
            record.add_measurement(Measurement("prompting", name, f"dev[0:{n}]", n, tuple(items)))
    assert "The tick marks the bar." in write_report(tmp_path / "run").read_text("utf-8")
    assert said not in write_report(tmp_path / "run").read_text("utf-8")
    with Record.open(tmp_path / "run") as record:
        tried = tuple(
            SearchedCandidate(name=name, dev=DevScore(score=1.0, n=n), prompt_tokens=10, seconds=0.1)
            for name, n in (("zero-shot", 1), ("five", 2))
        )
        record.append(
            RungSearched(rung="prompting", candidates=tried, chosen="five", why=why, findings=(), bias_corrected=None)
        )
    assert said in write_report(tmp_path / "run").read_text("utf-8")


def test_numbers_of_the_climb(tmp_path: Path) -> None:
    _, page, decision = drawn(tmp_path / "run", "sft-met")
    total = sum(rung["cost"]["tokens_in"] for rung in decision["rungs"])
    assert f"{total:,}" in page.text
    assert "SFT meets the bar of 85%; prompting misses it" in page.text
    assert "174,420 tokens were computed for 758,880 tokens of rows" in page.text
    assert "Training loss falls from" in page.text
    chart = next(a for a in page.all("svg") if a.get("class") == "chart")
    assert "the best of 3 learning rates" in (chart["aria-label"] or "")
    assert len(list(page.all("polyline"))) == 3
    assert page.text.count("Not reached: the climb stopped below it.") == 2
    assert "lastresort report runs/run" in page.text


def test_failures_are_counted_and_shown_from_dev_only(tmp_path: Path) -> None:
    text, page, decision = drawn(tmp_path / "run", "sft-met")
    failures = decision["rungs"][2]["failures"]
    assert failures["format"] > 0
    assert f"format {failures['format']} does not parse" in page.text
    assert "not measured: no retrieval" in page.text
    shown = re.findall(r"<code>([^<]*)</code>", text)
    assert len(shown) == 5 + 5  # five a tested rung
    assert all(name.startswith("dev-") for name in shown)
    assert "test-1" not in text
    assert '<pre dir="auto" class="got">' in text
    assert "<mark>" in text


def test_undecided_says_in_words_what_would_decide(tmp_path: Path) -> None:
    _, page, _ = drawn(tmp_path / "run", "undecided")
    assert "PROVISIONAL" in page.text
    assert (
        "Label about 1,090 fresh items (1,240 test items in all) to decide it with 80% probability if the score seen is the "
        "true one." in page.text
    )
    assert "The test has come 12% of the way." in page.text
    assert (
        "at least 74.1%, at 99.2% confidence: a limit, read after seeing the score, not the test of a new bar."
        in page.text
    )
    assert "which includes the bar of 80%" in page.text
    said = "Next: label about 1,090 fresh items and go on with the same test: "
    assert f"{said}lastresort climb task.yaml --resume runs/run --more FILE" in page.text


def test_groups_are_called_groups_and_the_rule_that_decided_is_named(tmp_path: Path) -> None:
    _, page, decision = drawn(tmp_path / "run", "grouped")
    assert "72.0% on all 100 groups" in page.text
    assert "Test set 100 groups" in page.text
    assert "Test groups" in page.text
    low, high = decision["rungs"][0]["test"]["interval"]
    assert low < 0.8 < high
    assert "The exact test on all items puts the true score at 79.6% or less; the interval is wider" in page.text
    assert "share of test answers" not in page.text
    assert "Mark: mean score of the test groups used." in page.text


def test_money_is_shown_where_it_was_spent(tmp_path: Path) -> None:
    _, page, decision = drawn(tmp_path / "run", "prompting-met")
    spent = decision["rungs"][0]["cost"]["usd"]
    assert f"and cost ${spent:.2f}" in page.text


def test_a_judge_has_its_figures_and_its_own_line_of_cost(tmp_path: Path) -> None:
    _, page, decision = drawn(tmp_path / "run", "judged")
    assert (
        "Scores come from the judge openai:some-judge, which agreed with people on 85.0% of 60 labelled cases"
        in page.text
    )
    assert "260 answers compared with the reference, in both orders" in page.text
    assert "85.0% of 60 labelled cases (73.9–91.9%); kappa 0.71 (0.50 to 0.84; 0 is chance)" in page.text
    assert (
        "160 won in both orders, 20 lost in both, 24 tied in both, 36 changed with order and 20 identical to the"
        in page.text
    )
    assert (
        "in 15.0% of 240 comparisons (11.0–20.0%) the order alone changed the verdict: 25 times in favour of the"
        in page.text
    )
    assert "4 of 480 verdicts" in page.text
    assert "self-preference the judge is the model it judges" in page.text
    assert "the judge 212,345 960 3 min 10 s $1.25" in page.text
    total = decision["rungs"][0]["cost"]["usd"] + 1.25
    assert f"and cost ${total:.2f}" in page.text


def test_a_judge_that_nobody_checked_is_called_so(tmp_path: Path) -> None:
    _, page, _ = drawn(tmp_path / "run", "hostile")
    assert "not checked against people" in page.text
    assert "agreement with people not measured: the task sets no score.judge.labelled" in page.text
    assert "10 × 1, 20 × 2, 30 × 3, 100 × 4 and 100 × 5" in page.text
    assert "spent an unknown amount" in page.text
    assert "effect of the order" not in page.text


def test_what_a_model_said_stays_text(tmp_path: Path) -> None:
    text, page, _ = drawn(tmp_path / "run", "hostile")
    assert "&lt;script&gt;alert" in text
    assert '<script>alert("x")</script><img src=x onerror=alert(1)>' in page.text
    assert "49" not in page.words[page.words.index("Why") + 1 :][2]  # no template runs in it
    assert "{{ 7 * 7 }}" in page.text
    assert not set(text) & {"\x00", "\u202e"}


def test_unicode_and_half_surrogates_survive(tmp_path: Path) -> None:
    from lastresort.records.data_report import Finding
    from lastresort.records.events.run import DataChecked
    from lastresort.records.record import Record

    folder = make(tmp_path / "run", "none-met")
    with Record.open(folder) as record:
        details = ("half \ud83d of a pair", "条項 مادة 📦")
        finding = Finding(kind="labels_unseen", severity="warning", says="2 labels", count=2, details=details)
        record.append(DataChecked(report=DATA.replaced(findings=(finding,))))
    page = Page(write_report(folder).read_text("utf-8"))
    assert "half \ufffd of a pair" in page.text
    assert "条項 مادة 📦" in page.text


def test_the_page_is_drawn_again_from_the_folder_alone(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", "sft-met")
    first = write_report(folder).read_bytes()
    (folder / "report.html").unlink()
    (tmp_path / "copy").mkdir()
    moved = folder.rename(tmp_path / "copy" / "run")
    assert write_report(moved).read_bytes() == first
    assert sorted(path.name for path in moved.iterdir()) == ["decision.json", "record.sqlite", "report.html"]


def test_a_record_that_holds_little_still_makes_a_page(tmp_path: Path) -> None:
    """A record without events, such as one of which only the decision was kept, loses detail and nothing else."""
    from lastresort.records.record import Record

    decision = read_decision(make(tmp_path / "full", "sft-met"))
    Record.create(tmp_path / "bare").close()
    decide(tmp_path / "bare", decision)
    page = Page(write_report(tmp_path / "bare").read_text("utf-8"))
    assert page.misplaced == []
    assert decision.answer in page.text


def gated_page(folder: Path, verdict: str) -> tuple[str, Page]:
    run = make(folder / "run", "sft-met")
    found = gated(read_decision(run).as_json(), verdict) | {"break_even": costs()}
    decide(run, RunView.model_validate(found))
    text = write_report(run).read_text("utf-8")
    return text, Page(text)


def test_a_gate_and_a_break_even_are_shown(tmp_path: Path) -> None:
    text, page = gated_page(tmp_path, "HOLD")
    assert page.misplaced == []
    assert f"The gate says HOLD: {HELD}" in page.text
    assert "GATE: HOLD" in page.text
    assert "HELD" not in page.text, "the gate says so"
    assert "a quick gate: bounded in items, with less statistical power" in page.text
    assert "needs 1,100" in page.text
    assert "Needs: the items that would decide a measure with 80% probability" in page.text
    assert "To settle the HOLD: gate it on fresh items with lastresort gate TASK --tuned RUN --seed 2" in page.text
    assert "UNDERPOWERED" in page.text
    assert "about 1,100 items would decide it; 400 were used" in page.text
    assert "against prompting (nearest-5+constrained)" in page.text
    assert "SFT meets the bar with 93.3% on 180 test items, but the gate holds it" in page.text.replace("\u00a0", " ")
    assert "SFT becomes cheaper than prompting after 1,000 calls" in page.text
    assert 'aria-label="Difference −4.0 points, interval −7.0 to −1.0, margin −3.0: UNDERPOWERED"' in text
    strips = text.count('class="strip') - text.count('class="strip dumbbell')
    assert strips == 2 + 2  # two rungs were tested; of the measures one has nothing to draw


def test_what_changed_most_stands_side_by_side_and_is_text(tmp_path: Path) -> None:
    text, page = gated_page(tmp_path, "REJECT")
    assert "<details open><summary>What changed most, side by side</summary>" in text
    assert "got worse letters/2/0/17 scored 100% before and 0% after: “right is three”" in page.text
    assert "improved letters/2/0/17 scored 0% before and 100% after" in page.text
    assert "<script>" not in text
    assert '<script>alert("x")</script>' in page.text
    assert "letters/2" in page.text
    assert "the gate rejects it" in page.text


def test_the_time_of_the_gate_is_in_the_total(tmp_path: Path) -> None:
    with Record.open(make(tmp_path / "run", "sft-met"), read_only=True) as record:
        decision = read_decision(tmp_path / "run")
        before = gather(record, decision).total
        after = gather(record, RunView.model_validate(gated(decision.as_json()))).total
    assert after.seconds == pytest.approx(before.seconds + 88.5)


def test_a_missing_part_is_one_sentence(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", "undecided")
    (folder / "record.sqlite").unlink()
    with pytest.raises(DataError, match=r"found no record\.sqlite"):
        write_report(folder)


@pytest.mark.parametrize(
    ("path", "run", "task", "place"),
    [
        ("../../mine.yaml", "runs/mine-1", "mine.yaml", "runs/mine-1"),
        ("../../tasks/mine.yaml", "../runs/mine-1", "tasks/mine.yaml", "runs/mine-1"),
        ("../../../../../home/somebody/mine.yaml", "../../../mnt/data/a/b/mine-1", "mine.yaml", "mine-1"),
        ("/other/drive/mine.yaml", "/runs/mine-1", "mine.yaml", "mine-1"),
    ],
)
def test_the_commands_make_the_run_again(tmp_path: Path, path: str, run: str, task: str, place: str) -> None:
    with Record.create(tmp_path / "mine-1") as record:
        record.append(TaskPlaced(path=path, run=run))
        given = {"bar": 0.9, "ladder": ["prompting", "sft"], "tune.method": "lora", "about": "yes"}
        record.append(OptionsChosen(settings=given, until="sft"))
        record.append(GateChosen(mode="quick"))
        record.append(WaysChosen(names=("lora", "merged"), seeds=3))
        climb, report = commands(record)
    settings = """--set bar=0.9 --set 'ladder=["prompting", "sft"]' --set tune.method=lora --set 'about="yes"'"""
    chosen = "--until sft --gate quick --compare lora,merged --compare-seeds 3"
    assert climb == f"lastresort climb {task} {settings} {chosen}"
    assert report == f"lastresort report {place}"
    words = shlex.split(climb)
    assert parse_settings([word for before, word in itertools.pairwise(words) if before == "--set"]) == given


def test_the_commands_say_nothing_of_the_machine(tmp_path: Path) -> None:
    with Record.create(tmp_path / "mine-1") as record:
        record.append(TaskPlaced(path="../task.yaml", run="runs/mine-1"))
        given = {
            "model": "/home/ann/models/small/",
            "knowledge": "docs/",
            "judge": {"model": "http://gpu7.example:8000/v1#m"},
        }
        record.append(OptionsChosen(settings=given, until=None))
        climb, _ = commands(record)
    assert "--set model=PATH/small --set knowledge=docs/ " in climb
    assert '{"model": "ENDPOINT#m"}' in climb
    assert "ann" not in climb
    assert "gpu7" not in climb


@pytest.mark.parametrize(
    ("settings", "again", "stand_ins"),
    [
        ({"knowledge": "/home/ann/docs", "bar": 0.9, "about": "Say `red`."}, "", ()),
        ({"model": "http://localhost:8000/v1#m"}, "", ()),
        ({"model": "openai:gpt-5", "bar": 0.9}, "--set model=openai:gpt-5", ()),
        ({"model": "http://gpu7.example:8000/v1#m"}, "--set 'model=ENDPOINT#m'", ("ENDPOINT",)),
        ({"score": {"python": "own.py:score"}}, """--set 'score={"python": "own.py:score"}'""", ()),
        ({"reward": [{"python": "~/r.py:f"}]}, """--set 'reward=[{"python": "PATH/r.py:f"}]'""", ("PATH",)),
        ({"score.python": "C:\\ann\\own.py:f"}, "--set 'score.python=\"PATH/own.py:f\"'", ("PATH",)),
        ({"general": ["lm_eval:/ann/a.yaml"]}, """--set 'general=["lm_eval:PATH/a.yaml"]'""", ("PATH",)),
        ({"general": ["lm_eval:`a`"]}, r"""--set 'general=["lm_eval:\u0060a\u0060"]'""", ()),
        (
            {"score": {"judge": {"model": "https://ann.example/v1#j", "labelled": "/ann/x.jsonl"}}},
            """--set 'score={"judge": {"model": "ENDPOINT#j", "labelled": "PATH/x.jsonl"}}'""",
            ("ENDPOINT", "PATH"),
        ),
    ],
)
def test_a_resume_names_again_what_a_run_does_not_keep(
    tmp_path: Path, settings: dict[str, JsonValue], again: str, stand_ins: tuple[str, ...]
) -> None:
    with Record.create(tmp_path / "mine-1") as record:
        record.append(TaskPlaced(path="../../task.yaml", run="runs/mine-1"))
        record.append(OptionsChosen(settings=settings, until=None))
        record.append(ItemsAdded(path="../../more.jsonl", sha256="1", n=1))
        found, went_on = resume_command(record), commands(record)[1]
    assert found.text == f"lastresort climb task.yaml --resume runs/mine-1 {again}".rstrip()
    assert found.stand_ins == stand_ins
    assert went_on == f"lastresort climb task.yaml --resume --more more.jsonl {again}".rstrip()
    words = shlex.split(found.text)
    read = parse_settings([word for before, word in itertools.pairwise(words) if before == "--set"])
    assert read.keys() <= settings.keys()


def test_a_sentence_says_what_to_write_in_place_of_what_it_hides(tmp_path: Path) -> None:
    make(tmp_path / "run", "undecided")
    with Record.open(tmp_path / "run") as record:
        record.append(OptionsChosen(settings={"model": "http://gpu7.example/v1#m", "about": "`"}, until=None))
    text = write_report(tmp_path / "run").read_text("utf-8")
    shown = "<code>lastresort climb task.yaml --resume runs/run --set &#39;model=ENDPOINT#m&#39; --more FILE</code>"
    assert f"{shown}, replacing ENDPOINT with what the run was started with." in text
    assert "gpu7" not in text
