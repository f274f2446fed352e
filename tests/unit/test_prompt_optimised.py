"""An optimised prompt in the prompting rung: when it is tried, what it may see, what it may cost, and what enters the race."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from climb_support import TEAMS, calls, comparable, rows, scripted_task, unfinish
from lastresort.app.climb import climb
from lastresort.app.dry_run import dry_run
from lastresort.app.start import ClimbRequest, check_models, start_climb
from lastresort.climb.prepare import prepare
from lastresort.errors import InfrastructureError, PrerequisiteError, TaskError
from lastresort.models.scripted import ScriptedModel
from lastresort.records.events.run import AnswersJudged, JudgedAnswer, TaskRead
from lastresort.records.events.search import PromptOptimised, RungSearched
from lastresort.records.measurement import ItemScore, Measurement
from lastresort.records.record import Record
from lastresort.report.decision import view_in
from lastresort.report.markdown import markdown
from lastresort.rungs.prompting import optimise
from lastresort.rungs.prompting.reflection import reflection_record
from lastresort.rungs.prompting.spending import Spending
from lastresort.rungs.prompting.with_gepa import rows_of
from lastresort.rungs.race import Race
from lastresort.spec.output import Output
from lastresort.spec.task import load_task
from lastresort.types import Example, Message, SilentProgress
from tuning_support import Cut, CutAt, cut_after_the_search, write_jsonl

BETTER = "Billing is about money, delivery about transport."
WORDS = "about money, delivery about"
LEVELS = [{"right": 0.3}, {"right": 0.5, "min_shots": 3}, {"right": 0.95, "contains": WORDS}]


def reflecting(folder: Path, *texts: str) -> str:
    """A scripted model that proposes these instructions, as good as it can one after the other; its name."""
    folder.mkdir(parents=True, exist_ok=True)
    rules: list[dict[str, Any]] = [
        {"match": "(?s)^An assistant follows", "answer": f"```\n{text}\n```", "probability": 1.0} for text in texts
    ]
    script = {"rules": rules, "calls": "reflections.jsonl"}
    (folder / "reflector.json").write_text(json.dumps(script), encoding="utf-8")
    return "scripted:reflector.json"


def optimising(folder: Path, *texts: str, task: dict[str, Any] | None = None, **keys: Any) -> Path:
    """A task that a better instruction solves, and a reflecting model that knows one."""
    settings = {"reflect": reflecting(folder, *(texts or (BETTER,))), "calls": 150, **keys}
    return scripted_task(folder, quality=LEVELS, task={"prompting": settings, **(task or {})})


def climbed(path: Path, run: Path, **arguments: Any) -> dict[str, Any]:
    found = climb(load_task(path), run, until="prompting", gate="none", **arguments)
    decision: dict[str, Any] = found.decision.as_json()
    return decision


def noted(run: Path) -> tuple[PromptOptimised | None, str]:
    """What was optimised, and what the search says."""
    with Record.open(run, read_only=True) as record:
        search = record.last(RungSearched, "prompting")
        assert search is not None
        return record.last(PromptOptimised, "prompting"), search.in_words


def test_the_optimised_prompt_wins_the_race_and_the_report_says_how_it_differs(tmp_path: Path) -> None:
    decision = climbed(optimising(tmp_path / "task"), tmp_path / "run")
    rung = decision["rungs"][0]
    assert decision["verdict"] == "MET"
    assert rung["chosen"].startswith("optimised")
    dev = {one["name"]: one["dev"]["n"] for one in rung["candidates"]}
    assert dev["optimised"] == max(dev.values())  # as many items as the finalists
    rewritten = {one["name"]: one["facts"]["prompt"]["rewritten"] for one in rung["candidates"]}
    assert {name for name, by_model in rewritten.items() if by_model} == {n for n in dev if "optimised" in n}
    found, said = noted(tmp_path / "run")
    assert found is not None
    assert (found.plain, found.best) == ("Route the case to a team.", BETTER)
    assert rung["optimised"]["best"] == BETTER
    assert "optimistic" in said
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<ins>" in html
    assert "money, delivery about transport" in html


@pytest.mark.sampled(3, each="says")
@pytest.mark.parametrize(("parameters", "says"), [(135_000_000, True), (None, False), (7_000_000_000, False)])
def test_a_small_model_that_reflects_is_said_to_be_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parameters: int | None, says: bool
) -> None:
    monkeypatch.setattr(optimise, "parameter_count", lambda *_: parameters)
    said = list[str]()
    monkeypatch.setattr(SilentProgress, "say", lambda self, text: said.append(text))
    climbed(optimising(tmp_path / "task"), tmp_path / "run", progress=SilentProgress())
    assert any("0.14 billion weights, but about 7 are advised" in line for line in said) == says


class Asked:
    """Every prompt that any scripted model gets."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.last: list[str] = []


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    spy, generate = Asked(), ScriptedModel.generate

    def spied(self: ScriptedModel, prompts: Sequence[Any], *rest: Any, **named: Any) -> Any:
        spy.prompts += ["\n".join(turn.content for turn in prompt) for prompt in prompts]
        spy.last += [prompt[-1].content for prompt in prompts]
        return generate(self, prompts, *rest, **named)

    monkeypatch.setattr(ScriptedModel, "generate", spied)
    return spy


def test_it_learns_from_rows_of_train_alone(tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row of dev or test is answered with a new instruction before that enters the race, or shown to the reflecting model."""
    before: list[int] = []
    join = Race.join

    def joined(self: Race, systems: Sequence[Any]) -> None:
        before.extend(len(asked.prompts) for system in systems[:1] if system.name == "optimised")
        join(self, systems)

    monkeypatch.setattr(Race, "join", joined)
    path = optimising(tmp_path / "task")
    climbed(path, tmp_path / "run")
    split = prepare(load_task(path)).split
    held_out = {example.input_text for example in (*split.dev, *split.test)}
    reflections = [prompt for prompt in asked.prompts if prompt.startswith("An assistant follows")]
    answered = {
        last for prompt, last in zip(asked.prompts[: before[0]], asked.last, strict=False) if WORDS in prompt
    } - set(reflections)
    assert reflections
    assert len(answered) > 10
    assert answered <= {example.input_text for example in split.train}
    assert not [text for text in held_out for prompt in reflections if text in prompt]


@pytest.mark.parametrize("size", [1, 3, 50])
def test_rows_of_a_group_are_not_divided(size: int) -> None:
    """Whoever chose among instructions by rows of a customer whom the reflecting model knows would choose by what it remembers."""
    rows = [Example(str(i), (Message("user", f"row {i}"),), "x", group=f"customer {i // size}") for i in range(150)]
    found = rows_of(rows, 150, 0)
    assert not {row.group for row in found.learned} & {row.group for row in found.kept}
    assert 12 < len(found.kept) <= 15
    assert len(found.learned) > 80
    assert len({row.id for row in (*found.learned, *found.kept)}) == len(found.learned) + len(found.kept)


def test_rows_of_one_group_are_divided_as_if_they_had_none() -> None:
    rows = [Example(str(i), (Message("user", f"row {i}"),), "x", group="all") for i in range(60)]
    found = rows_of(rows, 150, 0)
    assert (len(found.learned), len(found.kept)) == (45, 15)


def test_without_a_right_answer_a_reflection_sees_the_score() -> None:
    """Such as under a rubric."""
    item = ItemScore("a", 0.0, "Hello.", "", "Greet.", "stop", None, 1, 1, 0.0, 0.0)
    found = reflection_record(item, Output())
    assert "Right answer" not in found
    assert found["Feedback"] == "The score is 0.00 of 1."


def test_a_reflection_sees_the_right_answer_and_what_is_wrong(tmp_path: Path, asked: Asked) -> None:
    climbed(optimising(tmp_path / "task"), tmp_path / "run")
    first = next(prompt for prompt in asked.prompts if prompt.startswith("An assistant follows"))
    assert "Route the case to a team." in first
    assert "## Right answer" in first
    assert "not among the labels" in first
    assert f"The labels are: {', '.join(TEAMS)}." in first


def test_calls_bound_both_models(tmp_path: Path) -> None:
    """Also where no proposal is good enough to be accepted, and the search goes on to the end."""
    texts = "Look at the thing.", "Look at the place."
    path = optimising(tmp_path / "task", *texts, calls=60)
    climbed(path, tmp_path / "run")
    found, said = noted(tmp_path / "run")
    assert found is not None
    assert found.stopped == "calls"
    assert 40 < found.calls <= 60
    assert found.reflections == len((tmp_path / "task" / "reflections.jsonl").read_text().splitlines()) > 0
    assert found.best == found.plain
    assert "none scored higher" in said
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "No optimised instruction was better than the plain one" in html
    assert "Optimistic" not in html  # nothing was chosen


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("label", "steps"), [("optimising the prompt", 1), ("optimising the prompt", 9), ("optimised, dev", 1)]
)
def test_a_climb_that_is_cut_repeats_no_call_and_finds_the_same_prompt(tmp_path: Path, label: str, steps: int) -> None:
    whole = climbed(optimising(tmp_path / "whole"), tmp_path / "whole" / "runs" / "run")
    path, run = optimising(tmp_path / "cut"), tmp_path / "cut" / "runs" / "run"
    with pytest.raises(Cut):
        climbed(path, run, progress=CutAt(f"prompting: {label}", steps))
    assert 0 < len(calls(tmp_path / "cut")) < len(calls(tmp_path / "whole"))
    again = climbed(path, run)
    assert again["rungs"][0]["optimised"] is not None
    assert comparable(again) == comparable(whole)
    for log in ("calls.jsonl", "reflections.jsonl"):
        lines = [(tmp_path / name / log).read_text().splitlines() for name in ("cut", "whole")]
        keys = [json.loads(line)["key"] for line in lines[0]]
        assert len(keys) == len(lines[1])
        assert len(set(keys)) == len(keys)


@pytest.mark.slow
def test_a_failing_reflection_stops_the_climb_and_is_not_taken_for_a_bad_proposal(tmp_path: Path) -> None:
    path = optimising(tmp_path / "task")
    script = json.loads((tmp_path / "task" / "reflector.json").read_text())
    (tmp_path / "task" / "reflector.json").write_text(json.dumps(script | {"faults": {"fail_first": 1}}))
    with pytest.raises(InfrastructureError):
        climbed(path, tmp_path / "run")
    assert climbed(path, tmp_path / "run")["rungs"][0]["chosen"].startswith("optimised")


def without(name: str) -> Any:
    """`find_spec` on a machine on which this package is not installed."""
    return lambda asked: None if asked == name else find_spec(asked)


def test_without_gepa_auto_says_what_to_install_and_on_stops_before_anything_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimise, "find_spec", without("gepa"))
    climbed(optimising(tmp_path / "auto"), tmp_path / "auto" / "runs" / "run")
    found, said = noted(tmp_path / "auto" / "runs" / "run")
    assert found is None
    assert "No prompt was optimised: gepa is not installed (run pip install 'lastresort[prompts]')." in said
    with pytest.raises(PrerequisiteError, match=r"pip install 'lastresort\[prompts\]'"):
        climbed(optimising(tmp_path / "on", optimise="on"), tmp_path / "on" / "runs" / "run")
    assert not calls(tmp_path / "on")


def test_without_gepa_on_is_refused_before_a_folder_is_made_unless_the_prompt_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, run = optimising(tmp_path / "task", optimise="on"), tmp_path / "task" / "runs" / "run"
    with pytest.raises(Cut):
        climbed(path, run, progress=CutAt("prompting: optimised, dev", 1))
    monkeypatch.setattr(optimise, "find_spec", without("gepa"))
    assert [line for line in dry_run(load_task(path), until="prompting").missing if "lastresort[prompts]" in line]
    with pytest.raises(PrerequisiteError, match="gepa is not installed"):
        start_climb(ClimbRequest(path, run=tmp_path / "new", gate="none"), SilentProgress())
    assert not (tmp_path / "new").exists()
    start_climb(ClimbRequest(path, run=run, resume=True, until="prompting", gate="none"), SilentProgress())
    assert noted(run)[0] is not None


def test_a_reflecting_model_without_a_key_is_refused_before_a_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = optimising(tmp_path / "task", reflect="openai:large")
    with pytest.raises(PrerequisiteError, match="no key for openai:large"):
        start_climb(ClimbRequest(path, run=tmp_path / "run", gate="none"), SilentProgress())
    assert not (tmp_path / "run").exists()
    check_models(load_task(path, {"prompting.optimise": "off"}))
    monkeypatch.setattr(optimise, "find_spec", without("gepa"))
    check_models(load_task(path))


LEVEL = [{"right": 0.5}]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("quality", "keys", "script", "said"),
    [
        (LEVELS, {"reflect": None}, {}, "scripted:script.json is of unknown size, and a model of about 7 billion"),
        (
            LEVEL,
            {},
            {"wrong": [*TEAMS]},
            "no hand-made prompt differs significantly from the plain one on dev (7 compared",
        ),
        ([{"right": 0.5}, {"right": 0.97, "min_shots": 3}], {}, {}, "is likely to meet the bar as it is ("),
    ],
)
def test_auto_says_why_no_prompt_is_optimised(
    tmp_path: Path, quality: list[dict[str, Any]], keys: dict[str, Any], script: dict[str, Any], said: str
) -> None:
    settings = {"reflect": reflecting(tmp_path, BETTER), **keys}
    climbed(scripted_task(tmp_path, quality=quality, script=script, task={"prompting": settings}), tmp_path / "run")
    found, words = noted(tmp_path / "run")
    assert found is None
    assert said in words
    assert not (tmp_path / "reflections.jsonl").exists()


@pytest.mark.parametrize("small", [True, False])
def test_the_tasks_own_model_reflects_if_it_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    monkeypatch.setattr(optimise, "parameter_count", lambda name, folder: 500_000_000 if small else 7_000_000_000)
    script = {"rules": [{"match": "(?s)^An assistant follows", "answer": f"```\n{BETTER}\n```"}]}
    climbed(
        scripted_task(tmp_path, quality=LEVELS[:2], script=script, task={"prompting": {"calls": 100}}), tmp_path / "run"
    )
    found, said = noted(tmp_path / "run")
    assert ("scripted:script.json has 0.5 billion weights" in said) == small
    assert (found is None) == small


def test_on_asks_neither_for_size_nor_for_headroom_and_off_says_nothing(tmp_path: Path) -> None:
    """YAML reads both words as truth values."""
    found = {}
    for switch in ("on", "off"):
        path = scripted_task(tmp_path / switch, quality=LEVEL, script={"wrong": [*TEAMS]})
        keys = f"prompting: {{optimise: {switch}, calls: 60}}\n"
        path.write_text(path.read_text(encoding="utf-8") + keys, encoding="utf-8")
        climbed(path, tmp_path / switch / "runs" / "run")
        found[switch] = noted(tmp_path / switch / "runs" / "run")
    assert found["on"][0] is not None
    assert found["off"][0] is None
    assert "optimised" not in found["off"][1]


def test_an_instruction_that_copies_training_rows_is_refused(tmp_path: Path) -> None:
    path = optimising(tmp_path / "task", calls=60)
    train = prepare(load_task(path)).split.train
    listed = " ".join(f"{row.input_text} means {row.output}." for row in train[:60])
    reflecting(tmp_path / "task", f"{WORDS} {listed}")
    decision = climbed(path, tmp_path / "run")
    found, said = noted(tmp_path / "run")
    assert found is not None
    assert [one.refused for one in found.proposed] == ["shares words"]
    assert found.proposed[0].copied
    assert found.best == found.plain
    assert "refused 1 that copied training rows" in said
    assert "optimised" not in {one["name"] for one in decision["rungs"][0]["candidates"]}


PRICES = {"prompt_price": 1000.0, "output_price": 10.0}


@pytest.mark.slow
def test_money_bounds_the_search_and_counts_in_the_rung(tmp_path: Path) -> None:
    whole = climbed(optimising(tmp_path / "whole", task={"use": PRICES}, **PRICES), tmp_path / "whole" / "runs" / "run")
    found, _ = noted(tmp_path / "whole" / "runs" / "run")
    assert found is not None
    assert found.priced
    bound = round(0.8 * found.usd, 4)
    path = optimising(tmp_path / "bound", task={"use": PRICES}, usd=bound, **PRICES)
    climbed(path, tmp_path / "bound" / "runs" / "run")
    less, said = noted(tmp_path / "bound" / "runs" / "run")
    assert less is not None
    assert less.stopped == "usd"
    assert 0 < less.usd <= bound
    assert "until the next step could have passed `prompting.usd`" in said
    off = optimising(tmp_path / "off", task={"use": PRICES}, optimise="off")
    plain = climbed(off, tmp_path / "off" / "runs" / "run")["rungs"][0]["cost"]
    assert whole["rungs"][0]["cost"]["usd"] > plain["usd"] + found.usd


@pytest.mark.slow
def test_the_limits_may_be_raised_while_the_prompt_is_optimised_and_change_nothing_later(tmp_path: Path) -> None:
    path, run = optimising(tmp_path / "task", calls=60), tmp_path / "task" / "runs" / "run"
    with pytest.raises(Cut):
        climbed(path, run, progress=CutAt("prompting: optimising the prompt", 1))
    more = optimising(tmp_path / "task", calls=100)
    climbed(more, run)
    found, _ = noted(run)
    assert found is not None
    assert 60 < found.calls <= 100
    with Record.open(run, read_only=True) as record:
        read = record.last(TaskRead)
        assert read is not None
        assert read.task["prompting"]["calls"] == 100
    unfinish(run)
    climbed(optimising(tmp_path / "task", calls=140), run)
    assert noted(run)[0] == found
    with Record.open(run, read_only=True) as record:
        assert record.last(TaskRead) == read
    with pytest.raises(TaskError, match="differs from the one this run began with, in prompting"):
        climbed(optimising(tmp_path / "task", optimise="on"), run)


@pytest.mark.slow
def test_money_for_less_than_a_step_is_not_spent(tmp_path: Path) -> None:
    """Also not on the rows kept for choosing, which the plain prompt answers first."""
    path = optimising(tmp_path / "task", task={"use": PRICES}, usd=1e-6, **PRICES)
    climbed(path, tmp_path / "task" / "runs" / "run")
    found, said = noted(tmp_path / "task" / "runs" / "run")
    assert found is None
    assert "No prompt was optimised: `prompting.usd` of 1e-06 is too small for one step, which may cost" in said
    off = optimising(tmp_path / "off", task={"use": PRICES}, optimise="off")
    climbed(off, tmp_path / "off" / "runs" / "run")
    assert len(calls(tmp_path / "task")) == len(calls(tmp_path / "off"))


RACED = Measurement("prompting", "plain", "dev", 0, ())


def test_verdicts_of_a_judge_count_towards_the_money(tmp_path: Path) -> None:
    task = load_task(optimising(tmp_path / "task", task={"use": PRICES}, usd=5, **PRICES))
    spent = {"calls": 2, "tokens_in": 9, "tokens_out": 2, "seconds": 0.0, "paid_usd": 0.0}
    verdict = JudgedAnswer(id="a", answer="x", score=1, said=("A", "B"), usd=1.0, **spent)
    with Record.create(tmp_path / "run") as record:
        record.append(AnswersJudged(items=(verdict,)))
        record.add_measurement(RACED)
        spending = Spending(task, record, [], prompt_tokens=0)
        before = spending.start_usd(8)
        assert before >= 8 + 16
        record.append(AnswersJudged(items=(verdict, verdict)))  # what came from the cache, too
        spending.answered([])
    assert spending.usd == 0
    assert spending.fits(3.0)
    assert not spending.fits(3.01)


def test_a_killed_search_does_not_know_its_own_verdicts_when_it_starts_again(tmp_path: Path) -> None:
    """Else a step that fitted the first time would not fit, and the search would end elsewhere."""
    task = load_task(optimising(tmp_path / "task", task={"use": PRICES}, usd=5, **PRICES))
    spent = {"calls": 2, "tokens_in": 9, "tokens_out": 2, "seconds": 0.0, "paid_usd": 0.0}
    raced, cheap, dear = (
        AnswersJudged(items=(JudgedAnswer(id=row, answer="x", score=1, said=("A", "B"), usd=usd, **spent),))
        for row, usd in (("1", 0.01), ("1", 0.01), ("2", 0.2))  # ids are unique within a file alone
    )
    with Record.create(tmp_path / "run") as record:
        record.append(raced)
        record.add_measurement(RACED)
        steps = []
        for _ in range(2):  # the second time, the record also holds what the first one was told
            spending = Spending(task, record, [], prompt_tokens=0)
            before = spending.start_usd(8), spending.step_usd(8)
            for told in (cheap, dear):
                record.append(told)
                spending.answered([])
                before += spending.step_usd(8), spending.fits(4.8), spending.fits(4.7)
            steps.append(before)
    assert steps[0] == steps[1]
    assert steps[0][2] < steps[0][5]


USD = 8.0  # enough for the first step by the verdicts of the race, and too little by those of the search


def judged_task(folder: Path) -> Path:
    """Verdicts on rows of train cost more than those of the race, as the inputs are longer. Each file counts its own ids."""
    judge = {"model": "scripted:judge.json", "rubric": "It is right.", "scale": "yes-no", "prompt_price": 1000.0}
    keys = {"score": {"judge": judge | {"output_price": 0.0}}, "output": {}, "use": PRICES, "split": {}}
    keys["examples"] = {part: f"{part}.jsonl" for part in ("train", "dev", "test")}
    path = optimising(folder, task=keys, usd=USD, optimise="on", **PRICES)
    grading = {"rules": [{"match": "unknown", "answer": "no"}], "default": "yes"}
    (folder / "judge.json").write_text(json.dumps(grading), encoding="utf-8")
    data = rows()
    longer = [
        row | {"input": f"{row['input']} {' '.join(map(str, range(n, n + 150)))}"} for n, row in enumerate(data[:80])
    ]
    for name, part in (("train", longer), ("dev", data[80:140]), ("test", data[140:])):
        write_jsonl(folder / f"{name}.jsonl", [row | {"id": str(n)} for n, row in enumerate(part)])
    write_jsonl(folder / "rows.jsonl", longer + data[80:])
    return path


@pytest.mark.slow
def test_a_search_that_is_cut_goes_the_same_way_where_the_verdicts_of_a_judge_grow_dearer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut when it has paid for all its verdicts and before its result is in the record."""
    path, run, first = judged_task(tmp_path), tmp_path / "runs" / "run", cut_after_the_search(monkeypatch)
    with pytest.raises(Cut):
        climbed(path, run)
    assert first[0].stopped == "usd"
    with Record.open(run, read_only=True) as record:
        judged = [item.usd for batch in record.all(AnswersJudged) for item in batch.items]
    assert judged[-1] > 2 * judged[0]
    climbed(path, run)
    assert noted(run)[0] == first[0]


@pytest.mark.parametrize("reflect", [None, "scripted:script.json"])
def test_a_price_that_nothing_reads_is_refused(tmp_path: Path, reflect: str | None) -> None:
    path = scripted_task(
        tmp_path,
        quality=LEVELS,
        task={"prompting": {"reflect": reflect, "output_price": 1}} if reflect else {"prompting": {"output_price": 1}},
    )
    with pytest.raises(TaskError, match=r"prompting\.output_price.*found a price of scripted:script\.json"):
        load_task(path)


def test_money_for_verdicts_without_a_price_is_refused(tmp_path: Path) -> None:
    judge = {"score": {"judge": "openai:judge"}, "output": {}, "prompting": {"usd": 1}}
    with pytest.raises(TaskError, match=r"the judge openai:judge, whose calls have no known price"):
        load_task(scripted_task(tmp_path, quality=LEVELS, task=judge))


def test_money_without_a_price_is_refused(tmp_path: Path) -> None:
    path = scripted_task(
        tmp_path, quality=LEVELS, task={"prompting": {"reflect": "openai:large", "usd": 1, "prompt_price": 1}}
    )
    with pytest.raises(
        TaskError, match=r"reflect openai:large, whose calls have no known price.*prompting\.output_price"
    ):
        load_task(path)
    assert load_task(path, {"prompting.output_price": 2}).reflect_price_known
    assert load_task(path, {"prompting.optimise": "off"}).prompting.optimise == "off"


def test_a_dry_run_names_the_stage_and_its_calls(tmp_path: Path) -> None:
    path = optimising(tmp_path)
    lines = dry_run(load_task(path), until="prompting").rungs[0].forecast.lines  # type: ignore[union-attr]
    assert any("GEPA, unless the hand-made prompts leave no room: at most 150 calls" in line for line in lines)
    assert any(line.startswith("GEPA, reflections by scripted:reflector.json: 27 x") for line in lines)
    off = dry_run(load_task(path, {"prompting.optimise": "off"}), until="prompting").rungs[0].forecast
    assert off is not None
    assert not any("GEPA" in line for line in off.lines)


def test_a_dry_run_lets_a_judge_read_answers_and_no_reflections(tmp_path: Path) -> None:
    judge = {"model": "scripted:reflector.json", "rubric": "Is the team right?"}
    path = optimising(tmp_path, task={"score": {"judge": judge}, "output": {}})
    found = dry_run(load_task(path), until="prompting")
    forecast, judged = found.rungs[0].forecast, found.judge
    assert forecast is not None
    assert judged is not None
    answers = [number for line in forecast.lines if "reflections" not in line for number in _numbers(line)]
    assert forecast.answers == sum(answers) > 0
    assert _numbers(judged.lines[0]) == [sum(answers)]


def _numbers(line: str) -> list[int]:
    return [int(number) for number in re.findall(r": (\d+) x \(", line)]


def test_the_markdown_shows_the_instruction_as_a_patch(tmp_path: Path) -> None:
    text = "Billing is money.\n````\n" + BETTER
    climbed(optimising(tmp_path / "task", text), tmp_path / "run")
    with Record.open(tmp_path / "run", read_only=True) as record:
        said = markdown(view_in(record))
    assert "`````diff\n- Route the case to a team.\n+ Billing is money.\n+ ````\n" in said
