"""The ladder in the terminal and as Markdown: golden where the shape matters, safe where text comes from outside."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from gate_report_support import HELD, gate_found, gated
from lastresort.records.decision import RunView
from lastresort.records.events.base import Stage
from lastresort.records.gate import ClimbGate
from lastresort.records.ledger import ItemReuse
from lastresort.records.measurement import BarTest
from lastresort.records.reasons import PromptingLeftOut
from lastresort.records.record import Record
from lastresort.report.charts.scale import Scale
from lastresort.report.decision import read_decision
from lastresort.report.gate import lines as gate_lines
from lastresort.report.html import page
from lastresort.report.markdown import markdown, sentence
from lastresort.report.notebook import ladder_html
from lastresort.report.story import RungStory, gather
from lastresort.report.terminal import ladder_table, progress_bar, run_at_work, sparkline, strip
from lastresort.report.words.answer import of_reason
from lastresort.report.words.data import of_reuse
from lastresort.report.words.next_step import next_step
from lastresort.report.words.progress import forecast_line, limit_line, long_rung_line, rate_line
from report_support import HOSTILE, SAMPLES, make, remade, stated


def printed(decision: RunView, width: int = 80, colour: bool = False) -> str:
    return printed_of(ladder_table(decision), width, colour)


def printed_of(shown: RenderableType, width: int = 80, colour: bool = False) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=width, no_color=not colour, force_terminal=colour, color_system="standard" if colour else None
    )
    console.print(shown)
    return out.getvalue().replace("\u00a0", " ")


def lines_of(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


SFT_MET = """\
Fine-tune? Yes: SFT reaches 93.3% against a bar of 85%.

rung       score                bar 85%    items  verdict          cost
───────────────────────────────────────────────────────────────────────
prompting  61.9%  ··━━━━━━━━×━━━━━·┃····      42  × NOT MET  2 min 39 s
                  39.3–80.3%              of 300
retrieval      –                                  skipped
sft        93.3%  ·················┃━●━━     180  ● MET       7 min 5 s
                  85.4–97.1%              of 300

Retrieval was skipped: the task names no knowledge to retrieve from."""


def test_the_ladder_at_80_columns(tmp_path: Path) -> None:
    assert lines_of(printed(read_decision(make(tmp_path / "run", "sft-met")))) == SFT_MET.splitlines()


def test_groups_are_called_groups(tmp_path: Path) -> None:
    decision = read_decision(make(tmp_path / "run", "grouped"))
    assert " groups  verdict" in printed(decision)
    assert "| test groups | verdict |" in markdown(decision)
    assert "items" not in printed(decision)


def test_an_open_verdict_says_what_it_needs(tmp_path: Path) -> None:
    decision = read_decision(make(tmp_path / "run", "undecided"))
    text = " ".join(printed(decision).split())
    assert "◇ UNDECIDED" in text
    assert (
        "Prompting is undecided. Label about 1,090 fresh items (1,240 test items in all) to decide it with 80% probability "
        "if the score seen is the true one." in text
    )
    said = "Next: label about 1,090 fresh items and go on with the same test: `lastresort climb TASK --resume RUN --more FILE`."
    assert next_step(decision) == said


FAR = (
    "The test has come 12% of the way. But the score seen may be luck. Allowing for that, the probabilities are: "
    "with 150 fresh items (as many again), MET 31% and NOT MET under 1%; with 1,090 fresh items, MET 72% and NOT MET 4%. "
    "You may already claim a true score of at least 74.1%, at 99.2% confidence: a limit, read after seeing the score, not the test "
    "of a new bar. The interval starts lower, at 72.4%. Both are valid: the interval must hold after every item, and this limit is "
    "the best one over all steps."
)


def test_an_open_verdict_says_how_far_it_is(tmp_path: Path) -> None:
    decision = read_decision(make(tmp_path / "run", "undecided"))
    assert FAR in " ".join(printed(decision).split())
    assert FAR in markdown(decision).replace("\\", "")


def test_an_open_verdict_far_from_any_says_so(tmp_path: Path) -> None:
    decision = read_decision(make(tmp_path / "run", "undecided")).as_json()
    decision["rungs"][0]["test"]["outlook"] = {
        "seen_share": None,
        "after": [{"n": 150, "met": 0.0, "not_met": 0.995}],
        "claimable": 0.0004,
        "error": 0.05,
    }
    text = " ".join(printed(RunView.model_validate(decision)).split())
    assert "The test has come less than 10% of the way." in text
    assert (
        "with 150 fresh items (as many again), MET under 1% and NOT MET over 99%. No score can be claimed now at 95.0%"
        in text
    )


def test_a_verdict_says_nothing_of_how_far_it_is(tmp_path: Path) -> None:
    decision = read_decision(make(tmp_path / "run", "sft-met"))
    assert "of the way" not in printed(decision) + markdown(decision)
    assert all(rung.test is None or rung.test.outlook is None for rung in decision.rungs)


def test_an_open_verdict_at_the_bar_says_how_many_items_it_takes_at_least_and_what_to_do(tmp_path: Path) -> None:
    decision = read_decision(make(tmp_path / "run", "undecided")).as_json()
    decision["rungs"][0]["test"]["n_needed"] = None
    open_still = RunView.model_validate(decision)
    text = " ".join(printed(open_still).split())
    assert "More than 1,500 test items would decide it: the score is too close to the bar." in text
    assert next_step(open_still) == (
        "Next: settle for the answer above. Or improve the prompt, the training examples or the model until the score is clear of "
        "the bar, and test that on new test items. At this score, more than 1,500 test items would be needed."
    )


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_is_cut_at_80_columns(tmp_path: Path, name: str) -> None:
    text = printed(read_decision(make(tmp_path / "run", name)))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_widest_row_fits_80_columns(tmp_path: Path) -> None:
    decision = read_decision(make(tmp_path / "run", "none-met")).as_json()
    rung = next(rung for rung in decision["rungs"] if rung["test"])
    rung["name"] = "preference"
    rung["test"] |= {
        "verdict": "UNDECIDED",
        "n_used": 10_000,
        "n_available": 10_000,
        "score": 1.0,
        "interval": [0.999, 1.0],
    }
    rung["cost"] |= {"seconds": 3_599, "usd": 1234.5}
    text = printed(RunView.model_validate(decision))
    assert "…" not in text
    for words in ("10,000", "◇ UNDECIDED", "59 min 59 s", "$1,234.50", "100.0%"):
        assert words in text


def test_control_characters_cannot_repaint_the_terminal(tmp_path: Path) -> None:
    decision = read_decision(make(tmp_path / "run", "hostile"))
    decision = remade(decision, answer="No.\x1b[2K\x1b]0;x\x07 [red]Yes[/red]")
    text = printed(decision)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]Yes[/red]" in text


def test_colour_adds_nothing_but_colour(tmp_path: Path) -> None:
    import re

    decision = read_decision(make(tmp_path / "run", "sft-met"))
    coloured = printed(decision, colour=True)
    assert "\x1b[32m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == printed(decision)


@pytest.mark.parametrize(
    ("score", "low", "high", "verdict", "expected"),
    [
        (0.25, 0.1, 0.4, "NOT_MET", "·━×━━···┃·"),
        (0.95, 0.85, 1.0, "MET", "········┃●"),
        (0.80, 0.6, 0.9, "UNDECIDED", "······━━◇━"),
        (0.00, 0.0, 0.1, "NOT_MET", "×━······┃·"),
    ],
)
def test_strip(score: float, low: float, high: float, verdict: str, expected: str) -> None:
    decided = None if verdict == "UNDECIDED" else {"by": "sequence", "error": 0.05, "limit": 0.8}
    test = {"score": score, "interval": [low, high], "verdict": verdict, "n_used": 9, "n_available": 9, "unit": "item"}
    made = BarTest.model_validate({**test, "decided": decided, "n_needed": None})
    assert strip(made, 0.8, Scale(0.0, 1.0, ()), width=10) == expected


MARKDOWN = """\
## Yes: SFT reaches 93.3% against a bar of 85%.

**MET** · task ticket-routing · model embedded · bar 85% · confidence 95% · winner adapter

| rung | system | score | interval | test items | verdict | time | money |
|---|---|--:|--:|--:|---|--:|--:|
| prompting | nearest-5+constrained | 61.9% | 39.3–80.3% | 42 of 300 | NOT MET | 2 min 39 s | $0 |
| retrieval | | | | | the task names no knowledge to retrieve from | – | – |
| sft | lora-lr0.0003-epoch3 | 93.3% | 85.4–97.1% | 180 of 300 | MET | 7 min 5 s | $0 |
"""


def test_markdown(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", "sft-met")
    text = markdown(read_decision(folder))
    assert text.startswith(MARKDOWN)
    assert "\n4. SFT meets the bar, and every higher rung costs more.\n" in text
    assert text.endswith("None of the 300 test items was used by an earlier run in this workspace.\n")


def test_markdown_of_an_open_verdict(tmp_path: Path) -> None:
    text = markdown(read_decision(make(tmp_path / "run", "undecided")))
    assert "**UNDECIDED**, provisional · task claims-triage" in text
    assert (
        "- Prompting is undecided. Label about 1,090 fresh items (1,240 test items in all) to decide it with 80% probability "
        "if the score seen is the true one." in text
    )


def test_markdown_ends_the_argument_with_what_would_change_it(tmp_path: Path) -> None:
    decision = read_decision(make(tmp_path / "run", "sft-met"))
    assert f"What would change this answer:\n\n- {decision.would_change[0].text}" in markdown(decision)
    assert "would change" not in markdown(remade(decision, would_change=[]))


def test_a_prompt_that_was_not_tested_is_said_directly_below_the_answer(tmp_path: Path) -> None:
    decision, reason = read_decision(make(tmp_path / "run", "sft-met")), of_reason(PromptingLeftOut())
    found = remade(decision, reasons=[reason.as_json()])
    assert lines_of(printed(found, 200))[1] == markdown(found).split("\n\n")[2] == reason.text
    said = reason.text.replace("'", "&#39;")
    assert said in ladder_html(found)
    assert reason.text not in printed(decision, 200) + markdown(decision)
    with Record.open(tmp_path / "run", read_only=True) as record:
        header, _, why = page(gather(record, found)).partition("</header>")
    assert f'<div class="note"><p>{said}</p></div>' in header
    assert f"<li>{said}</li>" in why


def test_a_key_or_a_command_in_a_sentence_is_code_in_markdown() -> None:
    said = sentence("set `use.hourly_price` in <b>*your*</b> task, or a ` b `` `<i>`")
    assert said == "set `use.hourly_price` in \\<b\\>\\*your\\*\\</b\\> task, or a \\` b \\`\\` `<i>`"


def test_markdown_cannot_be_injected(tmp_path: Path) -> None:
    decision = read_decision(make(tmp_path / "run", "hostile"))
    hostile = (HOSTILE, "a | b\n# heading\n![x](http://example.org/x.png) @someone")
    text = markdown(remade(decision, reasons=[stated(reason) for reason in hostile]))
    assert "<script>" not in text
    assert "\\<script\\>" in text
    assert "\n# heading" not in text
    assert "![x](" not in text
    assert "a \\| b \\# heading" in text
    rows = [line for line in text.splitlines() if line.startswith("| prompting")]
    assert len(rows) == 1
    assert rows[0].replace("\\|", "").count("|") == 9


def test_a_judge_is_named_in_the_terminal_and_in_markdown(tmp_path: Path) -> None:
    decision = read_decision(make(tmp_path / "run", "judged"))
    shown = " ".join(printed(decision).split())
    assert (
        "the judge openai:some-judge, which agreed with people on 85.0% of 60 labelled cases (the judge took 3 min 10 s, $1.25)."
        in shown
    )
    assert "| the judge | openai:some-judge | | | | | 3 min 10 s | $1.25 |" in markdown(decision)
    assert "judge" not in printed(read_decision(make(tmp_path / "plain", "prompting-met")))


def test_the_terminal_says_when_test_items_were_used_before(tmp_path: Path) -> None:
    decision = read_decision(make(tmp_path / "run", "sft-met"))
    assert "test items" not in printed(decision)
    used = remade(decision, test_reuse=of_reuse(ItemReuse(3, 2, 2)).as_json())
    assert "2 of 3 test items have already been used in earlier runs, up to 2 times each." in " ".join(
        printed(used).split()
    )


def test_scores_and_their_difference_add_up_as_they_are_shown() -> None:
    found = gate_found()
    found["suites"][0] |= {"base": 457 / 688, "tuned": 436 / 688, "difference": -21 / 688}
    line = gate_lines(ClimbGate.model_validate(found))[1]
    assert line == "◇ general: 66.42% to 63.37% (−3.05 points), UNDERPOWERED"
    found["suites"][0] |= {"base": 6 / 688, "tuned": 1 / 688, "difference": -5 / 688}
    line = gate_lines(ClimbGate.model_validate(found))[1]
    assert line == "◇ general: 0.9% to 0.1% (−0.7 points), UNDERPOWERED", "a second decimal would not help"


def test_a_gate_is_its_verdict_and_a_line_a_measure(tmp_path: Path) -> None:
    decision = RunView.model_validate(gated(read_decision(make(tmp_path / "run", "sft-met")).as_json()))
    text = printed(decision)
    lines = lines_of(text)
    place = next(number for number, line in enumerate(lines) if line.startswith("The gate says HOLD: "))
    assert " ".join(lines[place : place + 2]) == f"The gate says HOLD: {HELD}."
    assert lines[place + 2 : place + 6] == [
        "  ● target: 61.0% to 92.0% (+31.0 points), MET",
        "  ◇ general: 61.0% to 57.0% (−4.0 points), UNDERPOWERED",
        "  ○ yielding: UNINFORMATIVE",
        "  ● leaking: 99.0% to 99.5% (+0.5 points), NON INFERIOR",
    ]
    assert "Systems: prompting: " in text
    told = markdown(decision)
    assert "gate **HOLD**" in told
    assert "(held)" in told
    assert "To settle the HOLD: gate it on fresh items with `lastresort gate TASK --tuned RUN --seed 2`" in told
    assert "- ◇ general: 61.0% to 57.0% (−4.0 points), UNDERPOWERED" in told


AT_WORK = """\
sft, learning rate 0.001: training
━━━━━━━━──────────── 48 of 120 · 0.8 steps a second · about 1 min 26 s left
loss ██▇▇▆▆▅▅▅▄▄▄▄▃▃▃▃▃▂▂▂▂▂▂▁▁▁▁▁▁ 0.412
12 min 3 s so far · $0 spent

Not decided yet: so far prompting was tested.

rung       score                 bar 85%   items  verdict           cost
────────────────────────────────────────────────────────────────────────
prompting  61.9%  ···━━━━━━━━×━━━━━━━·┃·      42  × NOT MET   2 min 39 s
                  39.3–80.3%              of 300
retrieval      –                                  skipped
sft            –                                  unfinished

Retrieval was skipped: the task names no knowledge to retrieve from.
SFT has not been tested; best so far on dev: lora-lr0.0003-epoch3, 92.0% of 100
items."""


def test_a_rung_at_work_shows_the_best_of_the_candidates_with_most_dev_items(tmp_path: Path) -> None:
    found = at_work(tmp_path / "run").as_json()
    scores = {"early": (1.0, 24), "nearest-8": (0.77, 100), "nearest-3": (0.57, 100), "last": (0.0, 0)}
    found["rungs"][2]["candidates"] = [
        {"name": name, "dev": {"score": score, "n": n}, "prompt_tokens": 9.0} for name, (score, n) in scores.items()
    ]
    said = "has not been tested; best so far on dev: nearest-8, 77.0% of 100 items"
    unfinished = RunView.model_validate(found)
    assert lines_of(printed(unfinished))[-1] == f"SFT {said}."
    assert f"unfinished: it {said} |" in markdown(unfinished)
    story = RungStory("sft", "", unfinished.rungs[2])
    assert story.why_not == f"it {said}"
    found["rungs"][2]["chosen"] = "nearest-3"
    assert "dev: nearest-3, 57.0% of 100 items." in printed(RunView.model_validate(found))


def at_work(folder: Path) -> RunView:
    """The ladder while SFT is trained."""
    decision = read_decision(make(folder / "run", "sft-met")).as_json()
    decision["rungs"][-1]["test"] = None
    return RunView.model_validate(
        decision | dict.fromkeys(["verdict", "answer", "answer_code", "winner", "stopped_at"])
    )


TRAINING = Stage(
    label="sft, learning rate 0.001: training",
    rung="sft",
    candidate="lr0.001",
    split="train",
    done=48,
    total=120,
    loss=0.412,
    losses=tuple(2.4 * 0.96**step for step in range(48)),
    eta_s=86.4,
    spent_s=723.0,
    spent_usd=0.0,
)


def test_a_run_at_work_at_80_columns(tmp_path: Path) -> None:
    shown = run_at_work(at_work(tmp_path), TRAINING.model_copy(update={"note": "loss 0.412"}))
    assert lines_of(printed_of(shown)) == AT_WORK.splitlines()
    assert max(map(len, printed_of(shown, width=60).splitlines())) <= 60


def test_a_stage_shows_what_is_known_of_it() -> None:
    assert printed_of(run_at_work(None, None)).strip() == ""
    assert lines_of(printed_of(run_at_work(None, Stage(label="opening the model")))) == ["opening the model"]
    measuring = Stage(label="testing", split="test", done=64, total=300, eta_s=2360.0)
    assert lines_of(printed_of(run_at_work(None, measuring.model_copy(update={"note": "0.83"})))) == [
        "testing",
        "━━━━──────────────── 64 of 300 · 10 s an item · about 39 min 20 s left · 0.83",
    ]
    note = "; ".join(f"sft, 40 examples, seed {seed}: step 12 of 60" for seed in range(4))
    shown = printed_of(run_at_work(None, Stage(label="4 training runs on workers", note=note)))
    assert " ".join(shown.split()) == f"4 training runs on workers {note}", "of several trainings none is cut off"
    assert rate_line(Stage(label="x", done=9, total=9, eta_s=0.0)) == "9 of 9"
    assert rate_line(Stage(label="x", done=10, total=510, eta_s=10.0)).replace("\u00a0", " ") == (
        "10 of 510 · 50 items a second · about 10 s left"
    )


def test_a_sparkline_goes_from_the_largest_to_the_smallest_value() -> None:
    assert sparkline([4, 3, 2, 1]) == "█▆▃▁"
    assert sparkline([1.0, float("nan"), 2.0]) == "▁█"
    assert sparkline([1, 1]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([*[0] * 50, *[1] * 50], width=10) == "▁▁▁▁▁█████"


def test_a_bar_is_full_only_at_the_end() -> None:
    assert progress_bar(0, 3, 6) == "──────"
    assert progress_bar(299, 300, 6) == "━━━━━─"
    assert progress_bar(300, 300, 6) == "━━━━━━"
    assert progress_bar(5, None, 6) == ""


@pytest.mark.parametrize(
    ("left_s", "said"),
    [
        (
            120.0,
            "2 min, less than the 2 min 30 s forecast up to the end of prompting: the climb may stop during prompting.",
        ),
        (1500.0, "25 min, less than the 27 min 30 s forecast up to the end of SFT: SFT may be skipped."),
        (1650.0, "27 min 30 s, enough for these rungs, which take about 27 min 30 s together."),
        (
            0.0,
            "0.0 s, less than the 2 min 30 s forecast up to the end of prompting: the climb may stop during prompting.",
        ),
    ],
)
def test_a_time_limit_that_cuts_the_forecast_says_where(left_s: float, said: str) -> None:
    found = limit_line({"prompting": 150.0, "sft": 1500.0}, left_s).replace("\u00a0", " ")
    assert found.startswith(f"The time limit (limits.hours) leaves {said}")
    assert ("Raise the limit, or leave rungs out with --until." in found) == ("enough" not in found)


@pytest.mark.parametrize(
    ("gate_s", "unknown", "said"),
    [
        (60.0, (), ", enough for these rungs, which take about 4 min together; with the gate about 5 min."),
        (
            6780.0,
            ("the judge",),
            ". These rungs take about 4 min together; with the gate about 1 h 57 min, which is more: the climb may stop before "
            "its end. Raise the limit; --resume then continues.",
        ),
        (None, ("a gate",), ". These rungs take about 4 min of it together, and a gate counts too."),
        (
            60.0,
            ("preference", "the judge"),
            ". The rungs with a forecast take about 4 min of it together; with the gate about 5 min, and preference tuning and the "
            "judge count too.",
        ),
        (None, (), ", enough for these rungs, which take about 4 min together."),
    ],
)
def test_a_time_limit_is_enough_only_with_the_gate_and_where_all_is_known(
    gate_s: float | None, unknown: tuple[str, ...], said: str
) -> None:
    others = {} if gate_s is None else {"the gate": gate_s}
    found = limit_line({"prompting": 60.0, "sft": 180.0}, 1800.0, others, unknown=unknown).replace("\u00a0", " ")
    assert found == f"The time limit (limits.hours) leaves 30 min{said}"


def test_a_forecast_names_each_rung_and_a_long_one_says_how_to_shorten_it() -> None:
    plain = forecast_line({"prompting": 150.0, "sft": 1500.0}, gated=False).replace("\u00a0", " ")
    assert plain == (
        "Forecast for this machine: about 2 min 30 s for prompting and 25 min for SFT. "
        "The climb stops at the first rung that meets the bar."
    )
    gated = forecast_line({"prompting": 150.0, "sft": 1500.0}, gated=True).replace("\u00a0", " ")
    assert gated == f"{plain} The gate of a tuned model comes on top; --dry-run forecasts it."
    assert long_rung_line("sft", 1500.0).replace("\u00a0", " ") == (
        "sft: this may take 25 min. To shorten it, name fewer sft.learning_rates or lower sft.epochs, or stop before it "
        "with --until."
    )
