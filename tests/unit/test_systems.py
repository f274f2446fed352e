"""Systems: composing prompts, choosing shots, extracting answers, saving and loading."""

from __future__ import annotations

import gc
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from endpoint_support import events, model, piece, serving
from lastresort.app.runs import answer_form
from lastresort.app.terminal import print_answer
from lastresort.errors import DataError, InputError, StopRequestedError
from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.models.open import open_model
from lastresort.models.scripted import Script, ScriptedModel
from lastresort.records.events.run import TaskRead
from lastresort.records.record import FILE_NAME as RECORD
from lastresort.records.record import Record
from lastresort.stop import StopSignal
from lastresort.systems.answerer import AT_ONCE, Answerer, NearestShots
from lastresort.systems.compose import REASONING_REQUEST, compose, extract
from lastresort.systems.files import folder_sha256, load_system, save_system
from lastresort.systems.running import open_answerer, open_system
from lastresort.systems.system import PromptDesign, Shot, System
from lastresort.types import Answer, Decoding, Grammar, JsonObject, Message
from record_support import edit

SHOTS = tuple(
    Shot((Message("user", text),), label)
    for text, label in [("my parcel is late", "delivery"), ("refund my bill", "billing")]
)
PLAIN = PromptDesign("Route it.", shots=SHOTS, k=2)


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def test_shots_stand_as_solved_turns_between_instruction_and_input() -> None:
    found = [(turn.role, turn.content) for turn in compose(PLAIN, user("where is it?"), SHOTS)]
    assert found == [
        ("system", "Route it."),
        ("user", "my parcel is late"),
        ("assistant", "delivery"),
        ("user", "refund my bill"),
        ("assistant", "billing"),
        ("user", "where is it?"),
    ]


def test_no_instruction_gives_no_system_turn() -> None:
    assert [turn.role for turn in compose(PromptDesign(""), user("x"), ())] == ["user"]


def test_a_system_turn_of_the_input_joins_the_instruction() -> None:
    found = compose(PLAIN, (Message("system", "Be brief."), *user("x")), ())
    assert [(turn.role, turn.content) for turn in found] == [("system", "Route it.\n\nBe brief."), ("user", "x")]


def test_sections_wrap_every_input_alike() -> None:
    found = compose(replace(PLAIN, layout="sections"), user("x"), SHOTS[:1])
    assert [turn.content for turn in found if turn.role == "user"] == [
        "<input>\nmy parcel is late\n</input>",
        "<input>\nx\n</input>",
    ]


def test_reasoning_is_asked_for_and_cut_off() -> None:
    design = replace(PLAIN, reasoning=True)
    assert compose(design, user("x"), ())[0].content.endswith(REASONING_REQUEST)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("I think so.\nAnswer: billing", "billing"),
        ("Answer: a\nno, wait.\n**Answer:** billing\n", "billing"),
        ("Final answer: 42", "42"),
        ("just billing", "just billing"),
        ("the answer: is inside a sentence", "the answer: is inside a sentence"),
        ('Answer:\n{"a": 1}', '{"a": 1}'),
    ],
)
def test_the_answer_is_what_follows_the_last_mark(text: str, answer: str) -> None:
    assert extract(replace(PLAIN, reasoning=True), text) == answer
    assert extract(PLAIN, text) == text.strip()


def test_nearest_shots_are_the_most_similar_with_the_nearest_last() -> None:
    pool = [
        Shot(user(text), str(i))
        for i, text in enumerate(["red kettle broken", "parcel to Oslo late", "parcel late", "lamp"])
    ]
    [chosen] = NearestShots(pool).choose([user("my parcel is late again")], 2)
    assert [shot.output for shot in chosen] == ["1", "2"]


def test_systems_over_the_same_inputs_find_the_same_and_show_their_own() -> None:
    """However many each shows, and whichever of them looked first."""
    texts = [f"parcel {number} to {'Oslo Rome Bonn Kiel'.split()[number % 4]}" for number in range(90)]
    for made in range(2):
        shots = NearestShots([Shot(user(text), f"{made}: {text}") for text in texts])
        one, few, most = (shots.choose([user("a parcel 42 to Bonn")], k)[0] for k in (1, 5, 80))
        assert [shot.output for shot in one] == [f"{made}: parcel 42 to Bonn"]
        assert few[-1:] == one
        assert most[-5:] == few
        assert len({shot.output for shot in most}) == 80


@pytest.mark.slow
def test_no_input_is_kept_once_it_is_answered() -> None:
    """A server looks up the texts of its users, which may be long and are theirs."""
    shots = NearestShots([Shot(user("a parcel"), "1"), Shot(user("a chair"), "2")])
    shots.choose([user("warm")], 1)
    tracemalloc.start()
    try:
        for number in range(8):
            shots.choose([user(f"{number} " * 100_000)], 1)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()


def test_nearest_shots_keep_the_pool_order_where_nothing_is_similar() -> None:
    pool = [Shot(user(text), str(i)) for i, text in enumerate(["aa", "bb", "cc"])]
    assert [shot.output for shot in NearestShots(pool).choose([user("zz")], 2)[0]] == ["1", "0"]


def test_inputs_that_are_looked_up_together_find_what_each_finds_alone() -> None:
    texts = [f"parcel {number} to {'Oslo Rome Bonn Kiel'.split()[number % 4]}" for number in range(40)]
    shots = NearestShots([Shot(user(text), text) for text in texts])
    inputs = [user(f"a parcel {number} to Rome") for number in range(2 * AT_ONCE + 1)]
    assert shots.choose(inputs, 3) == [shots.choose([one], 3)[0] for one in inputs]
    assert len({found[-1].output for found in shots.choose(inputs, 3)}) > 30


SYSTEMS = [
    System("zero-shot", "embedded", PromptDesign("Route it."), Decoding(16)),
    System("few", "embedded", PLAIN, Decoding(16, temperature=0.7, top_p=0.9, stop=("\n\n",), seed=3)),
    System(
        "near", "org/name", replace(PLAIN, selection="nearest", k=1), Decoding(8, grammar=Grammar(choices=("a", "b")))
    ),
    System(
        "json",
        "embedded",
        PromptDesign("Ünïcode — «quotes»\nsecond line", layout="sections", reasoning=True, written_by="model"),
        Decoding(
            8, grammar=Grammar(json_schema={"type": "object", "properties": {"ä": {"enum": ["no", "yes", None, 1]}}})
        ),
        template_kwargs={"enable_thinking": False},
        rendering="abc",
        fingerprint="def",
        precision="bfloat16",
    ),
]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_saved_and_loaded_is_equal(system: System, tmp_path: Path) -> None:
    save_system(system, tmp_path / "s")
    assert load_system(tmp_path / "s") == system


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\v\f\x1c", "\ud83d", "\\\udcff", "\r\n", "条 📦"])
def test_every_character_of_a_shot_and_an_instruction_comes_back(mark: str, tmp_path: Path) -> None:
    shots = (Shot(user(f"before{mark}after"), f"a{mark}b"), SHOTS[0])
    system = replace(SYSTEMS[1], prompt=PromptDesign(f"Route{mark}it.", shots=shots, k=2))
    save_system(system, tmp_path / "s")
    assert load_system(tmp_path / "s") == system


@pytest.mark.parametrize("line", ["{", '{"input": [], "output": 1' + "1" * 5000 + "}", '{"input": 3, "output": "x"}'])
def test_damaged_shots_are_refused(line: str, tmp_path: Path) -> None:
    save_system(SYSTEMS[1], tmp_path)
    (tmp_path / "shots.jsonl").write_text(line)
    with pytest.raises(DataError, match="not a readable system"):
        load_system(tmp_path)


def test_an_adapter_is_copied_along(tmp_path: Path) -> None:
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "adapter_config.json").write_text("{}")
    save_system(replace(SYSTEMS[0], adapter=tmp_path / "trained"), tmp_path / "s")
    loaded = load_system(tmp_path / "s")
    assert loaded.adapter == tmp_path / "s" / "adapter"
    assert (loaded.adapter / "adapter_config.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no system.yaml"),
        ("schema: 99", "schema 99"),
        ("schema: 1", "not a readable system"),
        ("{", "found text that is not YAML"),
    ],
)
def test_a_folder_without_a_readable_system_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "system.yaml").write_text(content)
    with pytest.raises(DataError, match=message):
        load_system(tmp_path)


@pytest.mark.parametrize("name", ["../other", "/etc", "link", "adapter/../../other", "", ".."])
def test_what_a_system_names_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "shots.jsonl").write_text("")
    path = save_system(SYSTEMS[1], tmp_path / "s")
    (tmp_path / "s" / "link").symlink_to(tmp_path / "other")
    whole = path.read_text()
    path.write_text(whole.replace("adapter: null", f"adapter: '{name}'"))
    if name:
        with pytest.raises(DataError, match=r'key "adapter".*in the folder'):
            load_system(tmp_path / "s")
    path.write_text(whole.replace("file: shots.jsonl", f"file: '{name}/shots.jsonl'"))
    with pytest.raises(DataError, match=r'key "prompt\.shots\.file".*in the folder'):
        load_system(tmp_path / "s")


def test_a_model_that_renders_otherwise_is_refused() -> None:
    model = ScriptedModel(Script(default="x"))
    model.rendering = "other"  # type: ignore[misc]
    with pytest.raises(DataError, match="chat template of scripted differs"):
        Answerer(replace(SYSTEMS[0], rendering="abc"), model)


def test_a_model_that_is_not_the_one_measured_is_refused() -> None:
    model = ScriptedModel(Script(default="x"))
    with pytest.raises(DataError, match="weights, precision or template of scripted differ") as caught:
        Answerer(replace(SYSTEMS[0], fingerprint="0" * 64), model)
    assert "climb again" in str(caught.value)
    for fingerprint in (model.fingerprint, ""):
        assert Answerer(replace(SYSTEMS[0], fingerprint=fingerprint), model).answer([user("a")])[0].text == "x"


def test_a_saved_system_opens_with_the_copy_of_its_adapter_and_not_with_another(tmp_path: Path) -> None:
    (tmp_path / "answers.json").write_text('{"default": "x"}')
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "adapter_config.json").write_text('{"r": 8}')
    model = open_model(f"scripted:{tmp_path}/answers.json", base_folder=tmp_path, adapter=tmp_path / "trained")
    measured = replace(SYSTEMS[0], model=model.name, adapter=tmp_path / "trained", fingerprint=model.fingerprint)
    save_system(measured, tmp_path / "winner")
    assert open_answerer(load_system(tmp_path / "winner"), tmp_path / "winner").answer([user("a")])[0].text == "x"
    (tmp_path / "winner" / "adapter" / "adapter_config.json").write_text('{"r": 16}')
    with pytest.raises(DataError, match="differ"):
        open_answerer(load_system(tmp_path / "winner"), tmp_path / "winner")


def test_a_system_saved_before_fingerprints_were_is_still_read(tmp_path: Path) -> None:
    path = save_system(SYSTEMS[0], tmp_path)
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("fingerprint")))
    assert load_system(tmp_path) == SYSTEMS[0]


def saved(folder: Path, *, said: str = "x", held: bool | None = None) -> Path:
    """A run whose winner says this; held: what its decision says, None for a system without a run."""
    (folder / "answers.json").write_text(json.dumps({"default": said}), encoding="utf-8")
    save_system(replace(SYSTEMS[0], model=f"scripted:{folder}/answers.json"), folder / "winner")
    if held is not None:
        winner = {"kind": "prompt", "path": "winner", "held": held, "sha256": folder_sha256(folder / "winner")}
        (folder / "decision.json").write_text(json.dumps({"winner": winner}), encoding="utf-8")
    return folder


def test_a_run_and_a_saved_system_are_opened_alike(tmp_path: Path) -> None:
    for folder in (saved(tmp_path, held=False), tmp_path / "winner"):
        running = open_system(folder)
        assert (running.system.name, running.answer([user("a")])[0].text) == (SYSTEMS[0].name, "x")
        assert list(running.stream(user("a"))) == ["x"]
        running.close()


def test_a_held_winner_is_opened_only_on_demand_and_a_changed_one_never(tmp_path: Path) -> None:
    saved(tmp_path, held=True)
    for folder in (tmp_path, tmp_path / "winner"):
        with pytest.raises(InputError, match="the gate holds this winner"):
            open_system(folder)
        assert open_system(folder, allow_held=True).answer([user("a")])[0].text == "x"
    (tmp_path / "winner" / "extra.json").write_text("{}")
    with pytest.raises(DataError, match="not those that its run measured"):
        open_system(tmp_path, allow_held=True)
    for damaged in ("[1", "{}", '{"winner": {"held": true}}'):
        (tmp_path / "decision.json").write_text(damaged)
        with pytest.raises(DataError, match="its winner cannot be checked"):
            open_system(tmp_path)


@pytest.mark.parametrize("reasoning", [False, True])
@pytest.mark.parametrize("said", [" \n two words \n\n", "", "First this. Then that.\nAnswer: that\n", "\tAnswer:"])
def test_a_stream_is_the_answer(said: str, reasoning: bool) -> None:
    system = replace(SYSTEMS[0], prompt=PromptDesign("Route it.", reasoning=reasoning))
    answerer, whole = Answerer(system, ScriptedModel(Script(default=said))), list[Answer]()
    pieces = list(answerer.stream(user("a"), on_answer=lambda _, answer: whole.append(answer)))
    assert whole == answerer.answer([user("a")])
    assert "".join(pieces) == whole[0].text
    assert all(pieces)


def test_answers_end_at_a_request_to_stop_and_those_that_came_were_handed_over() -> None:
    stop, came = StopSignal(), list[str]()

    def on_answer(_: int, answer: Answer) -> None:
        came.append(answer.text)
        stop.request()

    answerer = Answerer(SYSTEMS[0], ScriptedModel(Script(default="x")))
    with pytest.raises(StopRequestedError):
        answerer.answer([user("a"), user("b")], on_answer=on_answer, stop=stop)
    assert came == ["x"]
    with pytest.raises(StopRequestedError):
        answerer.answer([user("a")], on_answer=on_answer, stop=stop)
    assert came == ["x"]


SCHEMA = {"type": "object", "required": ["team"]}


@pytest.mark.parametrize(
    ("output", "said", "note"),
    [
        ({"choices": ["billing", "repairs"]}, "Billing", ""),
        ({"choices": ["billing", "repairs"]}, "a team", "This is none of the task's labels."),
        ({"schema": "answer.json"}, '{"team": "billing"}', ""),
        ({"schema": "answer.json"}, '{"team":', "This does not have the form of the task's output.schema."),
        ({}, "anything", ""),
    ],
)
def test_an_answer_of_the_wrong_form_is_pointed_out(
    output: JsonObject, said: str, note: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its task is that of the run, also where a system is opened that did not win."""
    with Record.create(tmp_path / "run") as record:
        record.append(TaskRead(task={"output": output}, json_schema=SCHEMA if "schema" in output else None))
    answerer = Answerer(System("a", "scripted", PromptDesign(""), Decoding(8)), ScriptedModel(Script(default=said)))
    for place in ("run", "run/winner", "run/candidates/prompting/a"):
        print_answer(answerer, "Which?", answer_form(tmp_path / place))
        out, error = capsys.readouterr()
        assert (out.rstrip("\n"), error.strip()) == (said, note)
    assert answer_form(tmp_path / "saved") == AnswerForm()


@pytest.mark.parametrize(("label", "note"), [("billing", ""), ("a team", "This is none of the task's labels.")])
def test_the_form_is_that_of_the_answer_and_not_of_the_text_around_it(
    label: str, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text holds thoughts of a system that reasons, and the JSON that an endpoint is held to."""
    form = AnswerForm(choices=("billing", "repairs"))
    reasons = System("a", "scripted", PromptDesign("", reasoning=True), Decoding(64))
    thought = f"It is about money, so billing.\nAnswer: {label}"
    print_answer(Answerer(reasons, ScriptedModel(Script(default=thought))), "Which?", form)
    said = [capsys.readouterr()]
    with serving() as server:
        server.otherwise = events(piece('{"answer": '), piece(f'"{label}"}}', "stop"))
        is_held = System(
            "a", server.name, PromptDesign(""), Decoding(8, grammar=Grammar(choices=("billing", "a team")))
        )
        print_answer(Answerer(is_held, model(server)), "Which?", form)
        said.append(capsys.readouterr())
    assert [(out.rstrip("\n"), error.strip()) for out, error in said] == [(label, note)] * 2


def test_a_saved_system_answers_where_the_record_above_it_is_damaged(tmp_path: Path) -> None:
    """Nothing else reads the record for a candidate, whose answers need none."""
    run = tmp_path / "run"
    with Record.create(run) as record:
        record.append(TaskRead(task={"output": {"choices": ["billing"]}}))
    candidate = run / "candidates" / "prompting" / "a"
    assert answer_form(candidate).choices == ("billing",)
    edit(run, "UPDATE event SET body = json_set(body, '$.task.output', 'choices') WHERE kind = 'task_read'")
    assert answer_form(candidate) == AnswerForm()
    (run / RECORD).write_bytes(b"rubbish" * 100)
    assert answer_form(candidate) == AnswerForm()
