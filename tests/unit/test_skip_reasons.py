"""Reasons for which a rung is skipped or given up that no other test file has, and those that meet in one task."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import scripted_rung
from climb_support import in_words, reason_lines, scripted_task
from lastresort.advice.advise import advise
from lastresort.advice.task_facts import facts_of
from lastresort.app.climb import climb
from lastresort.app.dry_run import dry_run
from lastresort.climb.prepare import prepare
from lastresort.evals.evidence.bar import judge_bar
from lastresort.ladder import RUNGS
from lastresort.records.record import ItemScore
from lastresort.records.rungs import SamplesOutOfReach
from lastresort.report.words.rungs import clause
from lastresort.rungs.preference import samples
from lastresort.rungs.preference.rung import PreferenceRung, why_beyond_mending
from lastresort.rungs.preference.samples import BestOfSamples, SampledPreferences
from lastresort.rungs.prompting.rung import PromptingRung
from lastresort.rungs.race import GIVE_UP_ERROR
from lastresort.rungs.rung import GivenUp, find_rung
from lastresort.rungs.supervised.full import FullRung, pretraining_reason
from lastresort.rungs.supervised.sft import SftRung
from lastresort.spec.task import load_task
from lastresort.stop import Never, Stop
from lastresort.types import Answer, Example, SilentProgress
from tuning_support import pairs, tiny_task

STALE = {"knowledge_changes": "weekly", "retrain_every": "monthly"}


def skipped(rung: Any, folder: Path, n_train: int = 70, **keys: Any) -> str | None:
    task = load_task(tiny_task(folder, ladder=["prompting", "sft", "preference", "full"], **keys))
    return in_words(rung.skip_reason(task, prepare(task).split.train[:n_train]))


@pytest.mark.parametrize(
    ("keys", "n_train", "says"),
    [
        (
            {"model": "openai:large"},
            70,
            "the weights of openai:large are not local; name a model that can be trained under `tune.model`",
        ),
        (
            {"tune": {"method": "full"}},
            70,
            "it trains adapters, but `tune.method` is full; set it to auto, lora or qlora",
        ),
        ({}, 49, "49 training rows are too few (at least 50, better 500 to 5,000)"),
        ({}, 50, None),
    ],
)
def test_why_sft_is_skipped(keys: dict[str, Any], n_train: int, says: str | None, tmp_path: Path) -> None:
    assert skipped(SftRung(), tmp_path, n_train, **keys) == says


def test_prompting_is_never_skipped(tmp_path: Path) -> None:
    assert skipped(PromptingRung(), tmp_path, 0, model="openai:large") is None


def test_a_model_too_large_to_train_whole_is_skipped_by_the_rung_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastresort.rungs.supervised.full.parameter_count", lambda *_: 10**12)
    monkeypatch.setattr("lastresort.rungs.supervised.full.machine_memory_bytes", lambda: 1 << 34)
    assert str(skipped(FullRung(), tmp_path)).startswith("training all 1,000 billion weights takes 14,901 GiB")


def test_every_rung_says_why_it_is_skipped_in_a_sentence_that_goes_on_from_its_name(tmp_path: Path) -> None:
    """`sft skipped: the weights of …`: no capital, no full stop, and what to do where there is something to do."""
    task = load_task(
        scripted_task(tmp_path, quality=[], task={"ladder": ["prompting", "retrieval", "sft", "preference", "full"]})
    )
    train = prepare(task).split.train
    reasons = {name: in_words(find_rung(name).skip_reason(task, train)) for name in task.ladder}
    assert reasons.pop("prompting") is None
    assert set(reasons) == {"retrieval", "sft", "preference", "full"}
    for reason in reasons.values():
        assert reason is not None
        assert reason[0].islower()
        assert not reason.endswith(".")


def docs(folder: Path) -> dict[str, Any]:
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    (folder / "docs" / "a.md").write_text("The ape is red.", encoding="utf-8")
    return {"knowledge": "docs", "use": {"context": "forbidden"}, **STALE}


def test_knowledge_that_may_not_travel_and_changes_often_leaves_a_way_to_go(tmp_path: Path) -> None:
    """Retrieval is forbidden, and weights will be out of date: they are trained all the same, as nothing else could hold it."""
    task = load_task(tiny_task(tmp_path, ladder=list(RUNGS), **docs(tmp_path)))
    rungs = {rung["name"]: rung for rung in dry_run(task).as_json()["rungs"]}
    assert "so only weights can hold it" in rungs["retrieval"]["skipped_because"]["text"]
    assert [name for name in RUNGS if rungs[name]["applies"]] == ["prompting", "sft", "preference", "full"]
    assert pretraining_reason(task, None) == "it may not go into the prompt"
    stances = {step.rung: step.stance for step in advise(facts_of(task).facts).path}
    assert (stances["retrieval"], stances["full"]) == ("NOT", "ONLY_IF")


def test_the_decision_warns_that_such_weights_will_be_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUNGS, "sft", replace(RUNGS["sft"], path=f"{scripted_rung.__name__}:sft"))
    decisions = []
    for name, keys in (("forbidden", docs(tmp_path / "forbidden")), ("plain", {})):
        path = scripted_task(
            tmp_path / name, quality=[{"right": 0.3}, {"right": 0.99, "contains": "sft-way"}], task=keys
        )
        decisions.append(climb(load_task(path), tmp_path / "runs" / name, gate="none").decision.as_json())
    warnings = [
        [why for why in reason_lines(decision) if "out of date until they are retrained" in why]
        for decision in decisions
    ]
    assert [len(found) for found in warnings] == [1, 0]
    assert warnings[0][0].startswith(
        "The knowledge changes weekly and the model would be retrained only monthly, and it may not"
    )


def item(number: int, score: float) -> ItemScore:
    return ItemScore(str(number), score, "a", "b", "c", "stop", None, 1, 1, 0.0, 0.0)


@pytest.mark.parametrize(
    ("scores", "lacking", "given_up"),
    [
        ([1, 0, 0], {"1", "2"}, True),
        ([1, 0, 0], {"0", "1", "2"}, True),
        ([1, 0, 0], {"1"}, False),  # another failure is left to mend
        ([1, 0, 0], set(), False),
        ([1, 0, 0], None, False),  # no retrieval has measured it
        ([1, 1, 1], {"1"}, False),  # nothing fails
    ],
)
def test_preferences_do_not_mend_what_is_all_want_of_knowledge(
    scores: list[float], lacking: set[str] | None, given_up: bool
) -> None:
    found = why_beyond_mending([item(number, score) for number, score in enumerate(scores)], lacking)
    assert (found is not None) is given_up
    if found is not None:
        assert clause(found).startswith("every answer that is wrong on dev (2) was right with the right passage in the")


def searched(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    given: Any = None,
    lacking: Any = None,
    own: Any = None,
    best: BestOfSamples | None = None,
) -> Any:
    """What the rung preference makes of a bench on which one dev item of two is wrong, before anything is trained."""
    monkeypatch.setattr("lastresort.rungs.preference.rung.own_pairs", lambda *_: own)
    monkeypatch.setattr("lastresort.rungs.preference.rung.best_of_samples", lambda *_: best)
    task = load_task(tiny_task(folder))
    bench = SimpleNamespace(
        task=task,
        missed_below=task.bar,
        judged_miss=None,
        record=SimpleNamespace(last=lambda *_: None, lacking_knowledge=lacking),
        models=SimpleNamespace(tuned_name="model"),
        progress=SilentProgress(),
        preferences=given,
        max_new_tokens=6,
        dev=("one", "two"),
        keep=lambda *_: None,
        dev_scores=lambda *_: [item(0, 1.0), item(1, 0.0)],
    )
    return PreferenceRung().search(bench)  # type: ignore[arg-type]


def test_a_search_for_preferences_gives_up_where_knowledge_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = searched(tmp_path, monkeypatch, lacking=frozenset({"1"}))
    assert isinstance(found, GivenUp)
    assert "which preferences do not add" in clause(found.reason)


def test_a_search_for_preferences_gives_up_where_too_few_are_left_without_leaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_task(tmp_path / "whole", preferences=pairs(60))
    given = prepare(load_task(path)).preferences
    assert given is not None
    found = searched(tmp_path, monkeypatch, given=given[:40])
    assert isinstance(found, GivenUp)
    assert clause(found.reason).startswith(
        "40 preference pairs after those in dev or test are left out are too few: below 50"
    )


def test_a_search_for_preferences_gives_up_where_its_own_samples_make_too_few_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = SampledPreferences((), "0 pairs from 0 of 70 prompts")
    found = searched(tmp_path, monkeypatch, own=few, best=BestOfSamples(8, 0.5, 0.9, 30, None))
    assert isinstance(found, GivenUp)
    assert clause(found.reason).startswith(
        "0 preference pairs made of the model's own samples (0 pairs from 0 of 70 prompts) are"
    )


def test_a_search_for_preferences_gives_up_where_the_best_of_its_own_samples_are_below_the_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before pairs are made: `own` is None here."""
    below = judge_bar([0.0] * 30, bar=0.7, alpha=0.05, beta=GIVE_UP_ERROR, binary=True, n_available=60)
    assert below is not None
    found = searched(tmp_path, monkeypatch, best=BestOfSamples(8, 0.0, 0.0, 30, below))
    assert isinstance(found, GivenUp)
    assert isinstance(found.reason, SamplesOutOfReach)
    assert found.reason.best.outcome == "NOT_MET"


def test_samples_are_asked_of_dev_until_the_best_of_them_decide(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each answer scores 1 once in 20 samples, so that the best of 8 are far below the bar."""
    task = load_task(tiny_task(tmp_path))
    dev = [Example(f"question {number}", (), "right") for number in range(200)]
    draw, asked = random.Random(1), list[int]()

    def answers(answerer: Any, rows: Sequence[Example], count: int, *, stop: Stop) -> Iterator[list[Answer]]:
        for _ in range(count):
            asked.append(len(rows))
            yield [Answer("right" if draw.random() < 0.05 else "wrong", 3, 1, "stop") for _ in rows]

    monkeypatch.setattr(samples, "samples_of", answers)
    monkeypatch.setattr(samples, "scores_of", lambda scorer, texts, batch: [float(text == "right") for text in texts])
    kept = list[Any]()
    bench: Any = SimpleNamespace(
        task=SimpleNamespace(bar=0.9, preference=task.preference),
        missed_below=0.9,
        alpha_of_rung=lambda rung: 0.05,
        record=SimpleNamespace(last=lambda *_: kept[-1] if kept else None, append=kept.append),
        models=SimpleNamespace(open=lambda _: SimpleNamespace(batch_size=8)),
        answerer=lambda _: None,
        scorer=SimpleNamespace(binary=True),
        progress=SilentProgress(),
        stop=Never(),
        dev=dev,
        dev_groups=lambda: None,
    )
    start: Any = SimpleNamespace(name="start")
    found = samples.best_of_samples(bench, "preference", start, [])
    assert found.judged is not None
    assert found.judged.outcome == "NOT_MET"
    assert found.samples == samples.BEST_OF
    assert asked == [8] * (found.n // 8 * samples.BEST_OF)
    assert found.n < samples.MOST_ASKED
    assert found.alone < found.best < 0.9
    assert found.out_of_reach(0.9) is not None
    calls = len(asked)
    assert samples.best_of_samples(bench, "preference", start, []) == found
    assert len(asked) == calls  # it is in the record


def test_the_answers_that_a_system_gave_anyway_count_among_its_samples(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No sample is right, and the answers of dev are: nothing is out of reach. By groups all of dev is asked."""
    task = load_task(tiny_task(tmp_path))
    dev = [Example(f"question {number}", (), "right", group=f"{number // 2}") for number in range(100)]
    monkeypatch.setattr(
        samples, "samples_of", lambda answerer, rows, count, *, stop: [[Answer("", 1, 1, "stop")] * len(rows)] * count
    )
    monkeypatch.setattr(samples, "scores_of", lambda scorer, texts, batch: [0.0] * len(texts))
    before = [item(number, 1.0) for number in range(100)]
    start: Any = SimpleNamespace(name="start")
    for grouped in (False, True):
        bench: Any = SimpleNamespace(
            task=SimpleNamespace(bar=0.7, preference=task.preference),
            missed_below=0.7,
            alpha_of_rung=lambda rung: 0.05,
            record=SimpleNamespace(last=lambda *_: None, append=lambda _: None),
            models=SimpleNamespace(open=lambda _: SimpleNamespace(batch_size=8)),
            answerer=lambda _: None,
            scorer=SimpleNamespace(binary=True),
            progress=SilentProgress(),
            stop=Never(),
            dev=[replace(example, id=str(number)) for number, example in enumerate(dev)],
            dev_groups=lambda grouped=grouped: [example.group for example in dev] if grouped else None,
        )
        found = samples.best_of_samples(bench, "preference", start, before)
        assert found.out_of_reach(0.7) is None
        assert found.best == 1.0
        nothing = samples.best_of_samples(bench, "preference", start, [])
        assert nothing.out_of_reach(0.7) is not None
        assert nothing.n <= (100 if grouped else samples.MOST_ASKED)
