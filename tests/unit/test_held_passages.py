"""Which passages belong to dev and test, by label, text and content, and what becomes of questions made from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from document_questions import DAYS, WORDS, asked_of, asks, document, questions, reads
from knowledge_support import markdown, written
from lastresort.app.dry_run import dry_run
from lastresort.app.synth import SynthRequest, forecast_synth
from lastresort.climb.fresh_items import with_fresh
from lastresort.climb.prepare import PreparedTask, prepare
from lastresort.data.held_passages import HeldPassages, chunks_that_hold, cut_documents, passage_hash
from lastresort.data.read import read_examples
from lastresort.errors import DataError
from lastresort.knowledge.chunks import ChunkSettings
from lastresort.knowledge.embedder import HashingEmbedder
from lastresort.knowledge.labels import Labels
from lastresort.knowledge.reading import read_documents
from lastresort.knowledge.store import StoreSettings, create_store
from lastresort.knowledge.update import update
from lastresort.models.protocol import estimated_tokens
from lastresort.records.data_report import RowsLeftOut
from lastresort.records.reasons import RowsFromChangedPassages
from lastresort.records.record import Record
from lastresort.report.words.synthetic import notes
from lastresort.spec.task import load_task
from lastresort.synthesis.prompts import SYSTEM
from lastresort.types import Example, Message, SeedPassage
from synth_support import Row, Teacher, made, synth

SMALL = ChunkSettings(size_tokens=40, overlap_tokens=0)


def named(*labels: str) -> list[Example]:
    return [Example("1", (Message("user", "?"),), "", passages=labels)]


def test_a_label_hides_every_chunk_that_the_scoring_of_searches_finds_by_it(tmp_path: Path) -> None:
    """For each chunk, section and document by its name, with its document and without."""
    sentences = " ".join(f"The word number {n} stands here." for n in range(40))
    table = "id,text\n" + "".join(f'{n},"The row of number {n} says this and that."\n' for n in range(12))
    files = {
        "manual.txt": sentences,
        "long.md": f"# Long\n\n{sentences}\n\n## Days\n\n{sentences}\n\n### Weeks\n\nSeven.\n\n## Care\n\nWipe.",
        "keyed.html": "<h1>K</h1><h2 id='a'>Some</h2><p>One.</p><h3 id='b'>More</h3><p>Two.</p><h2 id='c'>Rest</h2><p>Three.</p>",
        "faq.csv": table,
    }
    documents = read_documents(written(tmp_path / "docs", dict(files))).documents
    store = create_store(tmp_path / "store", HashingEmbedder(), StoreSettings(SMALL))
    update(store, documents)
    scoring = Labels.of_store(store)
    cut = cut_documents(documents, SMALL, HashingEmbedder().count_tokens)
    full = {name for chunk in cut.chunks for name in (chunk.id, chunk.section, chunk.document)}
    assert len([name for name in full if name.startswith("manual.txt#")]) > 5
    for name in {*full, *(name.split("#", 1)[1] for name in full if "#" in name)}:
        try:
            found = scoring.chunks(name)
        except DataError:  # of several documents, all of which it then hides
            found = frozenset(
                chunk.id for chunk in cut.chunks if name in (chunk.id.split("#", 1) + chunk.section.split("#", 1))
            )
        held = HeldPassages(cut, named(name))
        hidden = {chunk.id for chunk, is_held in zip(cut.chunks, held.hold(cut.chunks), strict=True) if is_held}
        assert hidden >= found, name
        assert held.unknown == ()


@pytest.mark.parametrize(
    ("label", "hidden"),
    [
        ("faq.csv#3", {"faq.csv#3"}),
        ("faq.csv#33", set()),
        ("faq.csv", {f"faq.csv#{n}" for n in range(12)}),
        ("guide.md#returns", {"guide.md#returns", "guide.md#returns/days"}),
        ("guide.md#returns:9", {"guide.md#returns", "guide.md#returns/days"}),
        ("guide.md#returns/days", {"guide.md#returns/days"}),
        ("guide.md#guide", {"guide.md#guide"}),
        ("keyed.html#a", {"keyed.html#a", "keyed.html#b"}),
        ("plain.txt#7", {"plain.txt"}),
        ("docs/guide.md#returns", set()),
    ],
)
def test_a_label_hides_what_it_names_and_the_sections_below(label: str, hidden: set[str], tmp_path: Path) -> None:
    """A number is a row's key where the table has it, else that of a chunk in a section. A title is above all of its document."""
    kinds = "red blue green pink grey black white brown orange violet silver golden".split()
    files = {
        "faq.csv": "id,text\n" + "".join(f"{n},{kind} things cost {n * 7} euros\n" for n, kind in enumerate(kinds)),
        "guide.md": "# Guide\n\nRead me.\n\n## Returns\n\nSend it.\n\n### Days\n\nThirty.\n\n## Care\n\nWipe it.",
        "keyed.html": "<h1>K</h1><h2 id='a'>Some</h2><p>One.</p><h3 id='b'>More</h3><p>Two.</p><h2 id='c'>Rest</h2><p>Three.</p>",
        "plain.txt": "Nothing else is written here.",
    }
    documents = read_documents(written(tmp_path, dict(files))).documents
    cut = cut_documents(documents, ChunkSettings(), estimated_tokens)
    held = HeldPassages(cut, named(label))
    found = {chunk.section for chunk, is_held in zip(cut.chunks, held.hold(cut.chunks), strict=True) if is_held}
    assert found == hidden
    assert held.unknown == (() if hidden else (label,))


def test_a_passage_is_known_by_its_text_wherever_it_is_now() -> None:
    """held: named, or the text of one that is; unchanged also where documents are cut otherwise, and changed where it is gone."""
    before = cut_documents(
        [markdown(f"{word}.md", document(word, 10 + n)) for n, word in enumerate(WORDS)],
        ChunkSettings(),
        estimated_tokens,
    )
    made = [
        SeedPassage(chunk.document, chunk.section, chunk.start, chunk.end, passage_hash(chunk))
        for chunk in before.chunks
        if chunk.section.endswith("#returns")
    ]

    def states(names: dict[str, str], days: dict[str, int], label: str, size: int = 250) -> dict[str, str]:
        now = [
            markdown(names.get(word, f"{word}.md"), document(word, days.get(word, 10 + n)))
            for n, word in enumerate(WORDS)
            if names.get(word, word)
        ]
        cut = cut_documents(now, ChunkSettings(size, 0), estimated_tokens)
        found = HeldPassages(cut, named(label), made).states(made)
        return {seed.document: state for seed, state in zip(made, found, strict=True) if state != "unchanged"}

    assert states({}, {}, "tent.md#care") == {}
    assert states({}, {}, "kettle.md#returns") == {"kettle.md": "held"}
    assert states({}, {}, "tent.md#care", size=50) == {}
    assert states({"kettle": "new.md"}, {}, "new.md#returns") == {"kettle.md": "held"}
    assert states({"kettle": "new.md"}, {}, "tent.md#care") == {}
    assert states({}, {"kettle": 99}, "tent.md#care") == {"kettle.md": "changed"}
    assert states({}, {"kettle": 99}, "kettle.md") == {"kettle.md": "held"}
    assert states({"kettle": ""}, {}, "tent.md#care") == {"kettle.md": "changed"}
    assert states({"kettle": ""}, {}, "kettle.md#returns") == {"kettle.md": "held"}


def test_an_input_is_found_in_a_passage_word_for_word() -> None:
    texts = ["**When must it go back?** In 9 days.", "Nobody knows when it must go.", "Ask whom you like."]
    cut = cut_documents([markdown(f"{n}.md", text) for n, text in enumerate(texts)], ChunkSettings(), estimated_tokens)
    assert chunks_that_hold(["when must it go back", "Who", "?", "never said"], cut.chunks) == {"0.md#1"}


def shown(teacher: Teacher) -> set[str]:
    return {
        found[1]
        for prompt in teacher.prompts
        if SYSTEM in prompt and (found := DAYS.search(prompt.split("The passage:")[1]))
    }


def test_a_teacher_is_shown_no_passage_of_dev_and_test_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one that a row names which repeats another and so leaves test, not another edition of it, and none that asks as a row."""
    path = questions(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    lines.append({**lines[0], "passages": ["kettle.md#returns", "docs/kettle.md"]})
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    edition = document("kettle", 11).replace("# The kettle", "# The kettle 2024").replace("parcel", "parsel")
    asked = lines[3]["input"].upper()
    asking = (
        document("tent", 14)
        + f"\n## Returns, asked\n\nThe tent can be returned within 14 days.\n\n{asked} 14 days, as we said before.\n"
    )
    written(tmp_path / "docs", {"kettle-2024.md": edition, "tent.md": asking, "old.doc": "x"})
    assert "parsel" in edition
    teacher = Teacher(asks, answer=reads)
    synth(monkeypatch, path, teacher, n=36, kinds=("documents",))
    assert shown(teacher) == {*WORDS} - {"kettle"}
    assert not [prompt for prompt in teacher.prompts if SYSTEM in prompt and asked in prompt]
    said = notes(
        forecast_synth(SynthRequest(path, n=90, kinds=("documents",), runs=tmp_path / "runs")), agreement_off=None
    )
    assert [line for line in said if "passage" in line or "documents" in line] == [
        "1 file of the documents was not read: old.doc.",
        "3 passages are not shown, since dev or test rows name them or others with nearly the same text, or have inputs that "
        "appear in them.",
        "1 passage name in dev and test matches nothing in the documents and hides no passage: docs/kettle.md.",
        "40 of 41 rows of dev and test name no passage. Questions may be made from the passages that these ask about.",
    ]


def with_synthetic(path: Path, name: str) -> Callable[[], PreparedTask]:
    path.write_text(path.read_text().replace("  train: train.jsonl", f"  train: train.jsonl\n  synthetic: {name}"))
    return lambda: prepare(load_task(path), begins=False)


def test_questions_leave_train_with_their_passage_and_are_counted_where_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = questions(tmp_path)
    found = synth(monkeypatch, path, Teacher(asks, answer=reads), n=36, kinds=("documents",))
    of = {word: {row["id"] for row in made(found) if row["passages"] == [f"{word}.md#returns"]} for word in WORDS}
    prepared = with_synthetic(path, found.path.name)
    assert not prepared().notes
    docs = tmp_path / "docs"
    (docs / "kettle.md").rename(docs / "kettles.md")
    assert not prepared().notes, "the text is still there"
    name_in_test(tmp_path, "kettles.md#returns")
    trained = {row.id for row in prepared().split.train}
    assert (trained & of["kettle"], trained >= of["tent"]) == (set(), True)
    assert prepared().notes == (RowsLeftOut("train", "from a held passage", len(of["kettle"])),)
    (docs / "tent.md").write_text(document("tent", 99))
    (docs / "drill.md").unlink()
    after = prepared()
    assert after.notes[1:] == (RowsFromChangedPassages(len(of["tent"]) + len(of["drill"])),)
    assert {row.id for row in after.split.train} == trained
    assert [line for line in dry_run(load_task(path)).assumed if "edited or removed since" in line]


def name_in_test(folder: Path, label: str) -> None:
    first, *others = (folder / "test.jsonl").read_text().splitlines()
    lines = [json.dumps({**json.loads(first), "passages": [label]}), *others]
    (folder / "test.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_fresh_items_about_a_passage_with_questions_in_train_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = questions(tmp_path)
    found = synth(monkeypatch, path, Teacher(asks, answer=reads), n=36, kinds=("documents",))
    prepared = with_synthetic(path, found.path.name)()
    fresh = tmp_path / "fresh.jsonl"
    rows = [
        {"input": asked_of("kettle", 5000 + n), "output": "11 days", "passages": ["kettle.md#returns"]}
        for n in range(20)
    ]
    fresh.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused = pytest.raises(
        DataError, match=r"items about 1 passage with questions in train, such as kettle\.md#returns"
    )
    with Record.create(tmp_path / "run") as record, refused:
        with_fresh(prepared, record, tmp_path / "run", fresh)


PLACED = {"document": "kettle.md", "section": "returns", "text_hash": "0"}


@pytest.mark.parametrize(
    "passage",
    [
        "kettle.md#returns",
        {"section": "kettle.md#returns"},
        {"section": 3},
        [],
        {**PLACED, "start": -4, "end": 9},
        {**PLACED, "start": 9, "end": 4},
    ],
)
def test_a_passage_that_cannot_be_read_is_refused(passage: object, tmp_path: Path) -> None:
    row: Row = {"input": "a", "output": "b", "synthetic": {"seed_inputs": [], "passage": passage}}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=r'row 1, key "synthetic": found a synthetic row whose passage cannot be read'):
        read_examples(tmp_path / "rows.jsonl")
    if isinstance(passage, dict) and passage.keys() > PLACED.keys():
        with pytest.raises(ValueError, match="a passage from character"):
            SeedPassage(**passage)
