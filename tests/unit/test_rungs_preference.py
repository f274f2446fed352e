"""The rung preference before it trains: what the data allow, when it is skipped, what it may look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from climb_support import in_words
from lastresort.app.climb import climb
from lastresort.app.dry_run import dry_run
from lastresort.climb.prepare import prepare
from lastresort.data.preferences import PreferenceRow, read_preferences, without_leaks
from lastresort.errors import DataError, TaskError
from lastresort.records.reasons import RowsLeftOut
from lastresort.report.words.rungs import preference_plan
from lastresort.rungs.preference.items import course_of, plan_of, with_instruction
from lastresort.rungs.preference.rung import PreferenceRung, why_too_few
from lastresort.spec.task import Task, load_task
from lastresort.systems.system import PromptDesign
from lastresort.types import Example, Message
from tuning_support import labels, pairs, questions, tiny_task, write_jsonl


def task_of(folder: Path, **keys: Any) -> Task:
    return load_task(tiny_task(folder, **keys))


def skipped(folder: Path, n_train: int = 70, **keys: Any) -> str | None:
    task = task_of(folder, **keys)
    return in_words(PreferenceRung().skip_reason(task, prepare(task).split.train[:n_train]))


REWARD = [{"exact": {}, "weight": 1.0}]


@pytest.mark.parametrize(
    ("kind", "reward", "on_sft", "objective", "says"),
    [
        ("pairs", False, True, "dpo", "from the adapter of sft, which is the reference too"),
        ("pairs", False, False, "orpo", "since there is no supervised adapter to start from"),
        ("pairs", True, True, "dpo", "the reward is not used"),
        ("labels", False, True, "kto", "from the adapter of sft"),
        ("labels", False, False, "kto", "from the base"),
        (None, True, True, "grpo", "on the task's reward"),
        (None, False, True, "dpo", "pairs of the model's own samples, ranked by the scorer python"),
        (None, False, False, "dpo", "from the base"),
    ],
)
def test_the_data_choose_the_objective(
    kind: Any, reward: bool, on_sft: bool, objective: str, says: str, tmp_path: Path
) -> None:
    task = task_of(tmp_path, **({"reward": REWARD} if reward else {}))
    plan = plan_of(task, kind, on_sft=on_sft)
    assert plan.objective == objective
    assert says in preference_plan(plan)


def test_auto_is_what_is_usual_and_beta_goes_where_the_objective_has_it(tmp_path: Path) -> None:
    section = task_of(tmp_path, preference={}).preference
    assert course_of(section, "dpo").option is None
    assert course_of(section, "orpo").learning_rates[0] > course_of(section, "dpo").learning_rates[0]
    assert course_of(section, "grpo").epochs == 1
    given = task_of(tmp_path, preference={"beta": 0.3, "epochs": 5, "batch_size": 4}).preference
    found = {name: course_of(given, name).option for name in ("dpo", "kto", "orpo", "grpo")}  # type: ignore[arg-type]
    assert found == {"dpo": ("beta", 0.3), "kto": ("beta", 0.3), "orpo": ("weight", 0.3), "grpo": ("kl_weight", 0.3)}
    assert (course_of(given, "dpo").epochs, course_of(given, "dpo").batch_size) == (5, 4)


@pytest.mark.parametrize(
    ("epochs", "steps", "stops"), [(3, 12, (4, 8, 12)), (1, 12, (4, 8, 12)), (2, 7, (4, 7)), (1, 2, (1, 2))]
)
def test_a_candidate_is_kept_after_every_epoch_or_every_third_of_one(
    epochs: int, steps: int, stops: tuple[int, ...], tmp_path: Path
) -> None:
    section = task_of(tmp_path, preference={"epochs": epochs}).preference
    assert course_of(section, "dpo").stops(steps) == stops


def test_it_applies_with_pairs_labels_a_reward_or_a_scorer_that_ranks(tmp_path: Path) -> None:
    assert skipped(tmp_path / "a", preferences=pairs()) is None
    assert skipped(tmp_path / "b", preferences=labels()) is None
    assert skipped(tmp_path / "c", reward=REWARD) is None
    assert skipped(tmp_path / "d") is None


@pytest.mark.parametrize(
    ("keys", "n_train", "says"),
    [
        ({"model": "openai:large", "ladder": ["preference"]}, 70, "the weights of openai:large are not local"),
        ({"tune": {"method": "full"}, "ladder": ["preference", "full"]}, 70, "`tune.method` is full"),
        ({"preferences": pairs(49)}, 70, "49 preference pairs are too few: below 50, a few more or less decide"),
        ({"preferences": labels(49)}, 70, "49 labelled answers are too few"),
        (
            {"preferences": [{**row, "label": n > 8} for n, row in enumerate(labels(60))]},
            70,
            "51 good and 9 bad answers do not show the difference (at least 10 of each)",
        ),
        ({"reward": REWARD}, 15, "15 training rows are too few prompts (at least 16)"),
        ({}, 49, "49 training rows are too few prompts to make pairs of the model's own samples"),
        (
            {"score": {"judge": "openai:judge"}},
            70,
            "its scorer is a judge: pairs of its verdicts would teach the model",
        ),
    ],
)
def test_why_it_is_skipped(keys: dict[str, Any], n_train: int, says: str, tmp_path: Path) -> None:
    found = skipped(tmp_path, n_train, **keys)
    assert found is not None
    assert says in found


def test_a_judge_may_score_where_pairs_are_given(tmp_path: Path) -> None:
    assert skipped(tmp_path, preferences=pairs(), score={"judge": "openai:judge"}) is None


def test_preferences_that_hold_dev_or_test_inputs_are_left_out_and_said(tmp_path: Path) -> None:
    path = tiny_task(tmp_path, preferences=pairs())
    split = prepare(load_task(path)).split
    leaking = [{**pairs()[0], "prompt": example.input_text} for example in (split.dev[0], split.test[0])]
    write_jsonl(tmp_path / "preferences.jsonl", [*pairs(), *leaking])
    prepared = prepare(load_task(path))
    assert prepared.preferences is not None
    assert len(prepared.preferences) == 60
    assert RowsLeftOut("preferences", "in dev or test", 2) in prepared.notes


def asked(text: str) -> PreferenceRow:
    return PreferenceRow((Message("user", text),), ((Message("assistant", "a"),), (Message("assistant", "b"),)), "row")


def test_a_held_out_input_inside_a_longer_prompt_is_a_leak() -> None:
    held = "the parcel for Oslo never arrived and nobody answers the telephone"
    test = [Example("t", (Message("user", held),), "x")]
    kept, left = without_leaks([asked(f"Route this: {held}"), asked("Route this: a lamp is broken in Turin")], (), test)
    assert left == 1
    assert [one.prompt_text for one in kept] == ["Route this: a lamp is broken in Turin"]


def test_a_plain_prompt_is_shown_below_the_tasks_instruction() -> None:
    design = PromptDesign("Name it.")
    plain = (Message("user", "ape"),)
    assert with_instruction(design, plain) == (Message("system", "Name it."), *plain)
    own = (Message("system", "Be kind."), *plain)
    assert with_instruction(design, own) == (Message("system", "Name it.\n\nBe kind."), *plain)
    there = (Message("user", "Name it.\n\nape"),)
    assert with_instruction(design, there) == there


def test_a_file_of_neither_kind_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    path = tiny_task(tmp_path, preferences=questions(60))
    with pytest.raises(DataError, match=r'preferences\.jsonl.*expected \{"prompt", "chosen", "rejected"\}'):
        climb(load_task(path), tmp_path / "run", gate="none")


def test_a_reward_that_misses_a_column_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    tmp_path.joinpath("reward.py").write_text("def close(completion, colour):\n    return 1.0\n", encoding="utf-8")
    with pytest.raises(DataError, match=r'no column "colour"'):
        prepare(task_of(tmp_path, reward=[{"python": "reward.py:close"}]))


def test_a_reward_may_use_the_columns_of_the_examples(tmp_path: Path) -> None:
    tmp_path.joinpath("reward.py").write_text(
        "def close(completion, input, output):\n    return 1.0\n", encoding="utf-8"
    )
    prepare(task_of(tmp_path, reward=[{"python": "reward.py:close"}]))


def test_changed_preferences_are_another_task(tmp_path: Path) -> None:
    path = tiny_task(tmp_path, preferences=pairs())
    first = prepare(load_task(path)).files
    write_jsonl(tmp_path / "preferences.jsonl", pairs(61))
    changed = prepare(load_task(path)).files
    assert {name for name in first if first[name] != changed[name]} == {"preferences.jsonl"}


def test_the_forecast_counts_what_the_data_ask_for(tmp_path: Path) -> None:
    def lines(**keys: Any) -> str:
        found = dry_run(task_of(tmp_path, ladder=["preference"], **keys)).as_json()
        return "\n".join(found["rungs"][0]["forecast"]["lines"])

    assert "orpo, 2 learning rates: 60 rows" in lines(preferences=pairs())
    assert "kto, 2 learning rates: 60 rows" in lines(preferences=labels())
    assert "groups: " in lines(reward=REWARD)
    assert "samples: 560 x" in lines()


def test_a_file_named_as_settings_says_which_key_was_meant(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="Write preferences: FILE"):
        task_of(tmp_path, preference="pairs.jsonl")


def test_pairs_of_a_file_are_read_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(pairs(1)[0]) + "\n", encoding="utf-8")
    (found,) = read_preferences(path)
    assert found.label is None
    assert "row 1" in found.place
    assert why_too_few([found] * 50, "given") is None


def test_the_forecast_counts_what_a_judge_of_the_reward_is_asked(tmp_path: Path) -> None:
    def forecast(**judge: Any) -> dict[str, Any]:
        reward = [{"judge": {"model": "http://host/v1#m", **judge}}]
        found: dict[str, Any] = dry_run(task_of(tmp_path, ladder=["preference"], reward=reward)).as_json()["rungs"][0][
            "forecast"
        ]
        return found

    priced = forecast(prompt_price=1000, output_price=0)
    groups, _, verdicts = priced["lines"][:3]
    answers = int(groups.split()[1])
    assert verdicts.startswith(f"verdicts of the reward: {2 * answers} x (")  # in both orders
    tokens = int(verdicts.split("(")[1].split()[0])
    assert priced["usd"] == pytest.approx(2 * answers * tokens / 1000, rel=0.01)
    assert forecast()["usd"] is None
    assert f"verdicts of the reward: {answers} x (" in forecast(rubric="It is short.")["lines"][2]
