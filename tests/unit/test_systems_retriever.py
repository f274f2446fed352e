"""Systems that look things up: how passages stand in a prompt, and a store that goes along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from knowledge_support import markdown
from lastresort.cli.main import app
from lastresort.errors import DataError
from lastresort.knowledge.embedder import HashingEmbedder
from lastresort.knowledge.search import Hit, search
from lastresort.knowledge.store import Store, content_hash, create_store
from lastresort.knowledge.update import update
from lastresort.models.scripted import Script, ScriptedModel
from lastresort.systems.answerer import Answerer
from lastresort.systems.compose import KnownPassages, Lookups, StoreLookup, compose, conversation, question_of
from lastresort.systems.files import load_system, save_system
from lastresort.systems.system import PASSAGES_REQUEST, PromptDesign, Retriever, Shot, System
from lastresort.types import Decoding, Message

PAGES = {
    "kettle.md": "# Kettle\n\n## Colour\n\nThe kettle is blue.\n\n## Weight\n\nThe kettle weighs 2 kg.\n",
    "lamp.md": "# Lamp\n\n## Colour\n\nThe lamp is green.\n",
}


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    folder = tmp_path_factory.mktemp("made") / "store"
    store = create_store(folder, HashingEmbedder())
    update(store, [markdown(name, text) for name, text in PAGES.items()])
    return Retriever(folder, 2, contents=content_hash(store))


def system(retriever: Retriever, design: PromptDesign | None = None) -> System:
    return System("found", "scripted:s.json", design or PromptDesign("Answer."), Decoding(16), retriever=retriever)


def test_passages_stand_before_the_question_numbered_with_source_and_heading(retriever: Retriever) -> None:
    answerer = Answerer(system(retriever), ScriptedModel(Script(default="x")))
    turns = user("Which colour has the lamp?")
    first, last = answerer.passages(turns)
    assert last.id == "lamp.md#colour:1"
    assert [(turn.role, turn.content) for turn in answerer.prompt(turns)] == [
        ("system", f"Answer.\n\n{PASSAGES_REQUEST}"),
        (
            "user",
            f"[1] {first.document}: {' > '.join(first.headings)}\n{first.text}\n\n"
            f"[2] lamp.md: Lamp > Colour\n{last.text}\n\nQuestion: Which colour has the lamp?",
        ),
    ]
    assert answerer.answer([turns])[0].passages == (first.id, last.id)


def test_shots_have_passages_too_and_what_all_prompts_share_comes_first(retriever: Retriever) -> None:
    shots = (Shot(user("What does the kettle weigh?"), "2 kg"),)
    answerer = Answerer(
        system(replace(retriever, k=1), PromptDesign("Answer.", shots=shots, k=1)), ScriptedModel(Script())
    )
    one, other = (answerer.prompt(user(f"Which colour has the {thing}?")) for thing in ("lamp", "kettle"))
    assert one[:3] == other[:3]
    assert one[1].content.startswith("[1] kettle.md: Kettle > Weight\n")
    assert one[3] != other[3]


def test_sections_wrap_passages(retriever: Retriever) -> None:
    answerer = Answerer(system(retriever, PromptDesign("Answer.", layout="sections")), ScriptedModel(Script()))
    content = answerer.prompt(user("Which colour has the lamp?"))[-1].content
    assert content.startswith("<passages>\n[1] ")
    assert content.endswith("</passages>\n<input>\nWhich colour has the lamp?\n</input>")


def test_only_the_last_question_of_a_conversation_is_looked_up(retriever: Retriever) -> None:
    answerer = Answerer(system(retriever), ScriptedModel(Script()))
    turns = (*user("Hello"), Message("assistant", "Yes?"), *user("Which colour has the lamp?"))
    assert question_of(turns) == "Which colour has the lamp?"
    prompt = answerer.prompt(turns)
    assert [turn.content for turn in prompt[1:3]] == ["Hello", "Yes?"]
    assert prompt[3].content.startswith("[1] ")


def test_where_nothing_is_found_the_question_stands_alone(retriever: Retriever) -> None:
    prompt = Answerer(system(replace(retriever, mode="text")), ScriptedModel(Script())).prompt(user("zzz"))
    assert prompt[-1].content == "zzz"


def test_without_a_retriever_nothing_changes() -> None:
    assert compose(PromptDesign("Answer."), user("x"), ()) == (Message("system", "Answer."), Message("user", "x"))


def test_known_passages_go_before_what_is_found() -> None:
    known = KnownPassages({conversation(user("a")): ()}, lambda turns: pytest.fail("it was looked up"))
    assert known(user("a")) == ()


def test_a_saved_system_brings_its_store_and_comes_back(retriever: Retriever, tmp_path: Path) -> None:
    save_system(system(retriever), tmp_path / "s")
    loaded = load_system(tmp_path / "s")
    assert loaded == system(replace(retriever, store=tmp_path / "s" / "store"))
    files = [path for path in (tmp_path / "s" / "store").rglob("*") if path.is_file()]
    assert {path.stat().st_nlink > 1 for path in files} == {True}  # second names of the same files on the same disk
    save_system(loaded, tmp_path / "again")
    assert Answerer(load_system(tmp_path / "again"), ScriptedModel(Script())).passages(user("lamp"))


def test_a_system_of_the_first_schema_still_loads(tmp_path: Path) -> None:
    path = save_system(System("old", "embedded", PromptDesign("x"), Decoding(8)), tmp_path)
    body = yaml.safe_load(path.read_text())
    assert "retriever" not in body
    path.write_text(yaml.safe_dump({**body, "schema": 1}))
    assert load_system(tmp_path).retriever is None


def test_a_store_outside_the_folder_is_refused(retriever: Retriever, tmp_path: Path) -> None:
    path = save_system(system(retriever), tmp_path / "s")
    path.write_text(path.read_text().replace("store: store", f"store: {retriever.store}"))
    with pytest.raises(DataError, match=r"retriever\.store"):
        load_system(tmp_path / "s")


def test_a_system_whose_store_is_gone_is_refused(retriever: Retriever) -> None:
    with pytest.raises(DataError, match="no knowledge store"):
        Answerer(system(replace(retriever, store=retriever.store / "no")), ScriptedModel(Script()))


def test_chat_answers_on_stdout_and_names_its_sources_on_stderr(retriever: Retriever, tmp_path: Path) -> None:
    save_system(system(retriever), tmp_path)
    (tmp_path / "s.json").write_text('{"default": "green"}')
    said = CliRunner().invoke(app, ["chat", str(tmp_path), "--once", "Which colour has the lamp?"])
    assert said.exit_code == 0, said.output
    assert said.stdout == "green\n"
    assert said.stderr.splitlines()[-1] == "[2] lamp.md#colour:1"


def test_another_reranker_in_the_place_of_the_measured_one_is_refused(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reranker:
        name, fingerprint = "reranker", "now"

        def scores(self, question: str, passages: Sequence[str]) -> list[float]:
            return [float("weighs" in passage) for passage in passages]

    monkeypatch.setattr("lastresort.knowledge.sentence_models.open_reranker", lambda name: Reranker())
    with pytest.raises(DataError, match="the reranker is not the one that the system was measured with"):
        Lookups().of(replace(retriever, reranker="reranker", reranker_fingerprint="before"))
    for measured in ("now", ""):
        lookup = Lookups().of(replace(retriever, reranker="reranker", reranker_fingerprint=measured))
        assert lookup(user("Which colour has the lamp?"))[-1].id == "kettle.md#weight:1"


def test_the_newest_results_of_a_store_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no more of them, however long a system is served."""
    searched: list[str] = []
    monkeypatch.setattr("lastresort.systems.compose.MOST_KEPT", 3)
    monkeypatch.setattr(
        "lastresort.systems.compose.search", lambda store, question, **_: searched.append(question) or []
    )
    lookup = StoreLookup(Retriever(tmp_path, 1), None)  # type: ignore[arg-type]
    for question in "abcabcdda":
        lookup((Message("user", question),))
    assert searched == ["a", "b", "c", "d", "a"]


def test_systems_that_differ_in_how_many_passages_they_show_share_a_search(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shows what it would find alone."""
    question, ks = user("Which colour has the lamp?"), (1, 3, 5, 2)
    alone = [Lookups().of(replace(retriever, k=k))(question) for k in ks]
    searches: list[str] = []

    def counted(store: Store, question: str, **arguments: Any) -> tuple[Hit, ...]:
        searches.append(question)
        return search(store, question, **arguments)

    monkeypatch.setattr("lastresort.systems.compose.search", counted)
    lookups = Lookups()
    assert [lookups.of(replace(retriever, k=k))(question) for k in ks] == alone
    assert len(searches) == 1
    assert lookups.of(replace(retriever, k=1, mode="text"))(question)
    assert lookups.of(replace(retriever, k=9))(question)[-5:] == alone[2]
    assert len(searches) == 3, "another kind of search, and more passages, are searches of their own"
