"""`recheck RUN --model NEW`: the frozen test set of a finished run, put to a newer model or a new prompt."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from climb_support import scripted_task
from decision_support import decide
from lastresort.after.recheck.models import Replacement, _with_new
from lastresort.app.climb import climb
from lastresort.app.console import LineProgress
from lastresort.errors import DataError, InfrastructureError, InputError, TaskError
from lastresort.records.events.run import RecheckCounted
from lastresort.records.events.search import RungTested, SystemFrozen
from lastresort.records.record import Record
from lastresort.report.decision import read_decision
from lastresort.report.recheck import RecheckDocument, recheck_text
from lastresort.report.words.wording import interval
from lastresort.rungs.open_models import OpenModels
from lastresort.spec.task import load_task
from lastresort.systems.files import artefact_sha256, folder_sha256
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding
from recheck_support import asked, copied, newer, rechecked, right, scripted, tuned_run, untouched


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned_run(tmp_path_factory.mktemp("tuned"), rungs=("sft",))


@pytest.fixture
def run(tuned: Path, tmp_path: Path) -> Path:
    return copied(tuned, tmp_path)


def task_of(run: Path) -> Path:
    return run.parent.parent / "task"


def test_the_run_was_won_by_what_was_tuned(tuned: Path) -> None:
    decision = json.loads((tuned / "decision.json").read_text())
    assert (decision["stopped_at"], decision["winner"]["kind"]) == ("sft", "adapter")


def test_a_newer_model_that_fails_leaves_the_tuned_one_needed(run: Path) -> None:
    before = untouched(run)
    found = rechecked(run, new=newer(task_of(run), **right(0.6)))
    assert RecheckDocument.model_validate(found).as_json() == found
    assert (found["verdict"], found["yes"]) == ("STILL_NEEDED", True)
    assert "scripted:newer.json misses the bar of 80%" in found["answer"]
    (one,) = found["tried"]
    assert (one["rung"], one["test"]["verdict"]) == ("prompting", "NOT_MET")
    assert json.loads((run / "recheck-1.json").read_text()) == found
    assert untouched(run) == before


def test_the_table_shows_every_figure_at_80_columns(run: Path) -> None:
    found = rechecked(run, new=newer(task_of(run), **right(0.6)), quick=True)
    (one,) = found["tried"]
    found["winner"]["rung"] = "prompting"
    found["tried"] = [one | {"cost": one["cost"] | {"seconds": 82.0, "usd": 1.25}}]
    out = io.StringIO()
    Console(file=out, width=80, no_color=True).print(recheck_text(RecheckDocument.model_validate(found)))
    assert "…" not in out.getvalue()
    for figure in ("prompting (the run's winner)", interval(one["test"]["interval"]), "1 min 22 s", "$1.25"):
        assert figure in out.getvalue().replace("\u00a0", " ")


def test_both_answer_the_whole_test_set_and_are_compared_item_by_item(run: Path) -> None:
    recorded = json.loads((run / "decision.json").read_text())["rungs"][1]["test"]["n_used"]
    found = rechecked(run, new=newer(task_of(run), **right(0.6)))
    compared, winner = found["tried"][0]["compared"], found["winner"]
    assert (compared["n"], compared["whole"]) == (120, True)
    assert winner["recorded"] >= recorded
    assert winner["recorded"] + winner["answered_now"] == 120
    assert winner["answered_now"] > 0  # it had stopped early
    assert compared["winner_score"] > 0.95
    assert compared["difference"] == pytest.approx(compared["score"] - compared["winner_score"])
    assert compared["interval"][0] <= compared["difference"] <= compared["interval"][1] < 0
    assert compared["p_worse"] < 1e-6
    assert compared["confidence"] == pytest.approx(0.975)  # one system in the first look: half of 5% is its error
    assert asked(task_of(run)) == 120


def test_a_newer_model_that_meets_the_bar_makes_it_needless(run: Path) -> None:
    found = rechecked(run, new=newer(task_of(run), **right(0.97)))
    assert (found["verdict"], found["yes"]) == ("NO_LONGER_NEEDED", False)
    assert found["answer"].startswith("No, the tuned model is no longer needed: scripted:newer.json meets the bar")


def test_what_is_near_the_bar_cannot_be_told(run: Path) -> None:
    found = rechecked(run, new=newer(task_of(run), **right(0.76)))
    assert (found["verdict"], found["yes"]) == ("CANNOT_TELL", None)
    assert "test items would settle it" in found["answer"]


def test_the_prompt_is_the_one_that_the_run_chose_and_scored_as_there(run: Path) -> None:
    """A model that answers as the old one does comes to the old one's verdict at the same item."""
    quality = json.loads((task_of(run) / "script.json").read_text())["quality"]
    found = rechecked(run, new=newer(task_of(run), quality=quality, default="never asked for"), quick=True)
    old = json.loads((run / "decision.json").read_text())["rungs"][0]
    (one,) = found["tried"]
    assert (one["name"], one["test"]["verdict"]) == (old["chosen"], "NOT_MET")
    for key in ("score", "n_used", "n_available"):
        assert one["test"][key] == old["test"][key]


def test_quick_asks_no_more_than_the_verdict_needs(run: Path) -> None:
    found = rechecked(run, new=newer(task_of(run), **right(0.3)), quick=True)
    compared = found["tried"][0]["compared"]
    assert found["verdict"] == "STILL_NEEDED"
    assert asked(task_of(run)) < 60
    assert found["winner"]["answered_now"] == 0
    assert (compared["whole"], compared["interval"], compared["p_worse"]) == (False, None, None)
    assert any("descriptive, not a test" in why for why in found["reasons"])


def test_every_new_model_is_another_look_with_less_of_the_error(run: Path) -> None:
    looks = [rechecked(run, new=newer(task_of(run), f"new-{n}.json", **right(n / 10)), quick=True) for n in (1, 2, 3)]
    assert [found["number"] for found in looks] == [1, 2, 3]
    assert [found["look"]["number"] for found in looks] == [1, 2, 3]
    assert [found["look"]["alpha"] for found in looks] == pytest.approx([0.05 / 2, 0.05 / 6, 0.05 / 12])
    assert any("This is look 3 at the frozen test set" in why for why in looks[2]["reasons"])
    assert "already been used in" in looks[0]["test_reuse"]["text"]


def test_the_same_again_is_the_same_look_and_asks_nothing(run: Path) -> None:
    first = rechecked(run, new=newer(task_of(run), **right(0.6)))
    before = asked(task_of(run))
    again = rechecked(run, new=newer(task_of(run), **right(0.6)))
    assert asked(task_of(run)) == before
    assert again == first
    assert sorted(path.name for path in run.glob("recheck-*.json")) == ["recheck-1.json"]


def test_an_endpoint_that_fails_stops_it_and_the_same_call_goes_on(run: Path) -> None:
    failing = {**right(0.6), "faults": {"fail_at": [50]}}
    with pytest.raises(InfrastructureError, match=r"scripted endpoint is down.*Give the same command again"):
        rechecked(run, new=newer(task_of(run), **failing))
    found = rechecked(run, new=newer(task_of(run), **failing))
    assert found["verdict"] == "STILL_NEEDED"
    assert asked(task_of(run)) == 121  # 120 items, and the call that failed
    assert found["look"]["number"] == 1


def test_a_new_prompt_is_put_to_the_runs_own_model(tmp_path: Path) -> None:
    quality = [{"right": 0.5}, {"right": 0.99, "contains": "sft-way"}, {"right": 0.98, "contains": "Weigh every word"}]
    run = tuned_run(tmp_path, quality=quality)
    found = rechecked(run, new=Replacement(prompt="Weigh every word."))
    assert found["verdict"] == "NO_LONGER_NEEDED"
    assert found["tried"][0]["name"].endswith(", new prompt")
    assert "the new prompt meets the bar" in found["answer"]
    assert found["new"]["prompt"] == "Weigh every word."


def test_of_a_run_that_a_prompt_won_the_question_is_whether_it_still_does(tmp_path: Path) -> None:
    run = tuned_run(tmp_path, quality=[{"right": 0.97}])
    found = rechecked(run, new=newer(task_of(run), **right(0.5)))
    assert (found["verdict"], found["yes"], found["winner"]["kind"]) == ("BELOW_BAR", False, "prompt")
    assert "the run needed no tuned model" in found["answer"]


def test_of_a_run_that_nobody_won_it_is_whether_the_new_one_would(tmp_path: Path) -> None:
    run = tuned_run(tmp_path, quality=[{"right": 0.4}])
    found = rechecked(run, new=newer(task_of(run), **right(0.97)))
    assert (found["verdict"], found["yes"], found["winner"]) == ("MEETS_BAR", True, None)
    assert found["tried"][0]["compared"] is None
    assert "which no rung of the run was shown to meet" in found["answer"]


def test_a_ladder_without_prompting_is_asked_by_the_plain_prompt(tmp_path: Path) -> None:
    run = tuned_run(tmp_path, task={"ladder": ["sft"]})
    found = rechecked(run, new=newer(task_of(run), **right(0.3)))
    assert (found["verdict"], found["tried"][0]["name"]) == ("STILL_NEEDED", "zero-shot")


def test_groups_count_as_in_the_climb(tmp_path: Path) -> None:
    data = [{"input": f"case {i} of client {i // 3}", "output": ("billing", "delivery")[i % 2]} for i in range(360)]
    path = scripted_task(tmp_path / "task", quality=[], task={"split": {"dev": 60, "test": 210, "group_by": "client"}})
    lines = [json.dumps({**row, "client": f"client {i // 3}"}) for i, row in enumerate(data)]
    (path.parent / "rows.jsonl").write_text("\n".join(lines) + "\n")
    (path.parent / "script.json").write_text(
        json.dumps({"answers_from": ["rows.jsonl"], "wrong": ["unknown"], "quality": [{"right": 0.99}]})
    )
    with scripted("prompting"):
        run = climb(load_task(path), tmp_path / "runs" / "routing-1", until="prompting", gate="none").run
    found = rechecked(run, new=newer(path.parent, **right(0.2)))
    (one,) = found["tried"]
    assert (one["test"]["unit"], one["compared"]["unit"]) == ("group", "group")
    assert one["compared"]["n"] == one["test"]["n_available"] <= 75
    assert found["verdict"] == "BELOW_BAR"


def test_a_form_that_the_new_model_cannot_enforce_is_tried_without(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lastresort.errors import CandidateError
    from lastresort.models.scripted import ScriptedModel

    def check(self: ScriptedModel, decoding: Decoding) -> None:
        if decoding.grammar is not None:
            raise CandidateError("it takes no form")

    frozen = run / "candidates" / "prompting"
    decision = read_decision(run)
    with Record.open(run) as record:
        noted = record.last(SystemFrozen, "prompting")
        assert noted is not None
        system = frozen / noted.name / "system.yaml"
        system.write_text(
            system.read_text().replace("grammar: null", "grammar:\n    choices: [billing, delivery, repairs]")
        )
        # As if the run had been climbed with that form.
        record.append(noted.model_copy(update={"sha256": artefact_sha256(system.parent)}))
    decide(run, decision)
    monkeypatch.setattr(ScriptedModel, "check_decoding", check)
    found = rechecked(run, new=newer(task_of(run), **right(0.3)), quick=True)
    assert found["tried"][0]["name"].endswith(", form not enforced")
    assert any("could not be tried: it takes no form" in note for note in found["notes"])


def test_the_models_of_the_run_may_be_gone_where_it_is_quick(run: Path) -> None:
    """The winner is opened only where it has items left to answer."""
    with Record.open(run, read_only=True) as record:
        name = next(m.candidate for m in record.measurements() if m.rung == "sft" and m.split == "test")
    before, system = read_decision(run), run / "winner" / "system.yaml"
    lines = [
        "model: scripted:/nowhere/script.json" if line.startswith("model:") else line
        for line in system.read_text().splitlines()
    ]
    system.write_text("\n".join(lines) + "\n")
    assert before.winner is not None
    # As if the run had been climbed with that model.
    decide(run, before.replaced(winner=before.winner.replaced(sha256=folder_sha256(run / "winner"))))
    found = rechecked(run, new=newer(task_of(run), **right(0.3)), quick=True)
    assert (found["verdict"], found["winner"]["name"]) == ("STILL_NEEDED", name)
    with pytest.raises(TaskError, match=r"nowhere/script\.json"):
        rechecked(run, new=newer(task_of(run), **right(0.3)))


def test_rows_that_changed_since_are_refused(run: Path) -> None:
    rows = task_of(run) / "rows.jsonl"
    rows.write_text(rows.read_text().replace("repairs", "billing", 1))
    with pytest.raises(DataError, match=r"rows\.jsonl changed since the run, expected the frozen test set"):
        rechecked(run, new=newer(task_of(run), **right(0.6)))
    assert not list(run.glob("recheck-*.json"))
    rows.unlink()
    with pytest.raises(TaskError, match=r"rows\.jsonl"):
        rechecked(run, new=Replacement("scripted:x", "scripted:/x"))


def test_a_task_file_that_was_edited_or_moved_changes_nothing(run: Path, tmp_path: Path) -> None:
    """The run is asked by the task that it noted; the file only says where the examples lie."""
    path = task_of(run) / "task.yaml"
    path.write_text(path.read_text().replace("bar: 0.8", "bar: 0.2"))
    assert rechecked(run, new=newer(task_of(run), **right(0.6)), quick=True)["bar"] == 0.8
    moved = task_of(run).rename(tmp_path / "elsewhere")
    with pytest.raises(TaskError, match=r"no such file.*Name it with --task FILE"):
        rechecked(run, new=newer(moved, **right(0.6)), quick=True)
    assert rechecked(run, new=newer(moved, **right(0.6)), quick=True, task_file=moved / "task.yaml")["verdict"]


def test_a_run_that_does_not_say_where_its_task_is_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastresort.app.climb.record_origin", lambda *_: None)
    run = tuned_run(tmp_path)
    new = newer(task_of(run), **right(0.6))
    with pytest.raises(DataError, match="does not say where its task file is"):
        rechecked(run, new=new, quick=True)
    assert rechecked(run, new=new, quick=True, task_file=task_of(run) / "task.yaml")["verdict"] == "STILL_NEEDED"


def test_a_run_that_is_not_finished_is_refused(run: Path) -> None:
    with Record.open(run) as record:
        tested = record.last(RungTested)
        assert tested is not None
        last = record.append(tested)
    with pytest.raises(DataError, match=r"has gone on since, expected a run with a decision\. Finish it with"):
        rechecked(run, new=newer(task_of(run), **right(0.6)))
    with Record.open(run, read_only=True) as record:
        assert list(record.since(last)) == [], "refused, it leaves the record as it was"


def test_the_runs_own_model_without_a_new_prompt_is_nothing_new(run: Path) -> None:
    name = json.loads((run / "decision.json").read_text())["model"]
    same = Replacement(name, f"scripted:{task_of(run).resolve() / 'script.json'}")
    with pytest.raises(InputError, match=r"is the model of the run.*--prompt FILE"):
        rechecked(run, new=same)


def test_openai_is_not_given_the_arguments_of_a_chat_template() -> None:
    """It refuses them, and the task that the run noted cannot leave them out."""
    system = System("plain", "a", PromptDesign("Do."), Decoding(8), template_kwargs={"enable_thinking": False})
    assert _with_new(system, "a", Replacement("openai:x", "openai:x")).template_kwargs == {}
    assert _with_new(system, "a", Replacement("b", "b")).template_kwargs == {"enable_thinking": False}


@pytest.mark.parametrize(("model", "effort"), [("openai:other", "low"), ("embedded", None)])
def test_a_new_model_that_runs_here_is_given_no_effort(model: str, effort: str | None) -> None:
    system = System("s", "openai:m", PromptDesign(""), Decoding(4, reasoning_effort="low"))
    assert _with_new(system, "openai:m", Replacement(model, model)).decoding.reasoning_effort == effort


def test_a_model_that_leads_nowhere_is_no_look(run: Path) -> None:
    with pytest.raises(TaskError, match="nothing on disk"):
        rechecked(run, new=Replacement("./nowhere", str(task_of(run) / "nowhere")))
    with Record.open(run, read_only=True) as record:
        assert record.all(RecheckCounted) == []


def test_a_test_set_that_was_asked_too_often_is_worn_out(tmp_path: Path) -> None:
    """At a bar of 95% even 120 right answers show nothing at the error of a fourth look."""
    run = tuned_run(tmp_path, quality=[{"right": 0.5}], task={"bar": 0.95})
    for number in (1, 2, 3):
        rechecked(run, new=newer(task_of(run), f"new-{number}.json", **right(number / 10)), quick=True)
    with pytest.raises(
        DataError, match=r"a test set of 120 items: .* left for look 4 .*worn out: climb again with fresh items"
    ):
        rechecked(run, new=newer(task_of(run), "new-4.json", **right(0.4)), quick=True)
    assert asked(task_of(run), "new-4.json") == 0
    with Record.open(run, read_only=True) as record:
        assert len(record.all(RecheckCounted)) == 3


def test_progress_hears_of_the_prompts_that_are_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them the first answer of a batch, for which all its prompts were read, would set the pace."""
    given = list[object]()

    class Kept(OpenModels):
        def __init__(self, *_: Any, on_read: object, **more: Any) -> None:
            given.append(on_read)
            super().__init__(*_, **more)

    monkeypatch.setattr("lastresort.after.recheck.models.OpenModels", Kept)
    shown = LineProgress()
    rechecked(run, progress=shown, new=newer(task_of(run), **right(0.6)), quick=True)
    assert shown.read in given
