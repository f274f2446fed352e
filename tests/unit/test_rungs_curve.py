"""Whether a training still points at the bar after its first third: what is drawn, how often it errs, and what is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lastresort.app.climb import climb
from lastresort.errors import StopRequestedError
from lastresort.records.events.search import RungGoneOn, RungSearched
from lastresort.records.events.training import CurveSeen
from lastresort.records.record import Record
from lastresort.rungs.supervised import curve
from lastresort.rungs.supervised.curve import straight_on
from lastresort.spec.task import load_task
from lastresort.stop import Stop
from page_tables import allowed
from tuning_support import Scissors, tiny_task


def test_the_line_goes_from_the_untrained_score_through_the_third() -> None:
    now, before = [1.0] * 30 + [0.0] * 70, [1.0] * 20 + [0.0] * 80
    assert straight_on(now, before, 0.9, seed=1).end == pytest.approx(0.2 + 3 * 0.1)
    assert straight_on(now, None, 0.9, seed=1).end == pytest.approx(0.9)
    assert straight_on(now, before, 0.9, seed=1).below
    assert not straight_on(now, None, 0.9, seed=1).below
    assert not straight_on(now, before, 0.6, seed=1).below, (
        "an end of 50% on 100 items does not show that 60% is missed"
    )


def test_a_curve_that_fell_is_not_drawn_below_where_it_is() -> None:
    now, before = [1.0] * 80 + [0.0] * 20, [1.0] * 100
    assert not straight_on(now, before, 0.75, seed=1).below


@pytest.mark.sampled(3)
@pytest.mark.parametrize("before", [0.0, 0.2, 0.4])
def test_a_line_that_reaches_the_bar_is_seldom_called_below_it(before: float) -> None:
    """The bar is exactly where the line of the true scores ends."""
    generator, called, trials, n = np.random.default_rng(9), 0, 400, 96
    third, bar = before + 0.1, before + 0.3
    for trial in range(trials):
        luck = generator.random(n)
        scores = [(luck < rate).astype(float).tolist() for rate in (third, before)]
        called += straight_on(scores[0], scores[1], bar, seed=trial).below
    assert called / trials <= allowed(0.05, trials)
    assert called > 0


@pytest.mark.slow
def test_where_the_first_third_does_not_point_at_the_bar_it_is_said_and_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run, asked, said = (
        tiny_task(tmp_path / "task", ladder=["sft"], score="exact", bar=0.85),
        tmp_path / "run",
        [],
        [],
    )
    whole = climb(load_task(path), tmp_path / "whole", gate="none", progress=Scissors())
    monkeypatch.setattr(curve, "LONG_REST_S", 0.0)

    def answering(answer: bool) -> None:
        def ask(question: str, stop: Stop) -> bool:
            asked.append(question)
            return answer

        shown = Scissors()
        try:
            climb(load_task(path), run, gate="none", progress=shown, go_on=ask)
        finally:
            said.extend(shown.said)

    with pytest.raises(StopRequestedError, match="the answer was no"):
        answering(False)
    answering(True)
    answering(False)  # it is decided, and nobody is asked
    assert len(asked) == 2
    assert "at most 5.0% of cases. This is a warning, not a verdict. Train the rest" in asked[0]
    assert "below the bar of 85.0%. If the line did reach it" in asked[0]
    assert any("This is a warning, not a verdict" in line for line in said)
    with Record.open(run, read_only=True) as record:
        (seen,), (gone_on,) = record.all(CurveSeen), record.all(RungGoneOn)
        search = record.last(RungSearched, "sft")
    assert (seen.step, seen.n, seen.before, gone_on.about) == (round(seen.steps / 3), 20, None, "curve")
    assert search is not None
    assert "drawn straight on from 0, that ends at 0.0%, below the bar of 85.0%" in search.in_words
    again = climb(load_task(path), run, gate="none").decision.as_json()["rungs"][0]
    assert again["test"] == whole.decision.as_json()["rungs"][0]["test"], "a look changes nothing of what is trained"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "started"), [(None, True), ({"choices": ["red", "blue", "green"]}, False)], ids=["plain", "choices"]
)
def test_the_line_starts_from_a_score_only_where_that_had_the_prompt_that_is_tuned(
    output: Any, started: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The untrained model may score far more with the choices in its prompt, and a line that starts there would end too low."""
    monkeypatch.setattr(curve, "LONG_REST_S", 0.0)
    more = {} if output is None else {"output": output}
    path = tiny_task(tmp_path / "task", ladder=["prompting", "sft"], score="exact", bar=0.85, **more)

    def nobody(question: str, stop: Stop) -> bool:
        raise AssertionError(question)

    run = tmp_path / "run"
    climb(load_task(path, {"limits.hours": 9}), run, gate="none", go_on=nobody)
    with Record.open(run, read_only=True) as record:
        (seen,) = record.all(CurveSeen)
        assert len(record.dev_items("prompting", "zero-shot")) == 20
    assert seen.below, "what is asked about without limits.hours"
    assert (seen.before is not None) is started
