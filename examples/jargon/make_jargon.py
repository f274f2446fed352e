"""Write docs/ and the questions: the words of the reedwrights of the Orrin marshes, an invented trade.

The trade has 20 tools with names of its own, and four facts are known of each. Every document states every fact once, in its
own wording, so that no page tells a fact twice and none holds a question. A fact is asked for in train (in two wordings), in dev
or in test, never in two of them: what test asks for stands in the documents alone.

Run: python make_jargon.py   (writes the same bytes every time; a test checks it)
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEED = 13
N_TRAIN, N_DEV = 26, 16  # facts; the rest is for test
TOOLS = (
    *("crowstay", "lampheel", "saltcomb", "goosebit", "mirebolt", "henlatch", "tidespoon", "owlpeg", "thornsledge"),
    *("foxwedge", "millthumb", "duskrail", "ravenfork", "oatclamp", "frostneedle", "barnwhistle", "moonstrap"),
    *("stormbuckle", "candleyoke", "rainlever"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fact: what it can be, and how it is asked for. {a} stands for the tool's name with its article."""

    name: str
    values: tuple[str, ...]
    questions: tuple[str, str]


KINDS = (
    Kind(
        "material",
        ("ash", "bone", "brass", "clay", "horn", "iron", "leather", "oak", "slate", "wool"),
        ("What is {a} made of?", "Which material is used for {a}?"),
    ),
    Kind(
        "colour",
        ("red", "blue", "green", "white", "black", "yellow", "purple", "grey", "orange", "brown"),
        ("Which colour is the mark on {a}?", "In what colour is {a} marked?"),
    ),
    Kind(
        "month",
        ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
        ("In which month is {a} renewed?", "When in the year is {a} renewed?"),
    ),
    Kind(
        "keeper",
        ("baker", "smith", "miller", "ferryman", "weaver", "cooper", "potter", "tanner", "shepherd", "clerk"),
        ("Who keeps {a}?", "In whose house is {a} kept?"),
    ),
)


@dataclass(frozen=True, slots=True)
class Book:
    """A document. opening: its first lines. wording: for each kind of fact. by_tool: a paragraph for each tool, else a section for
    each kind of fact."""

    file: str
    opening: str
    wording: dict[str, str]
    by_tool: bool


BOOKS = (
    Book(
        "primer.md",
        "# A primer of reedwrighting\n\nThe reedwrights of the Orrin marshes build with reed. Their tools have names of their own.",
        {
            "material": "{A} is made of {v}.",
            "colour": "The mark on {a} is {v}.",
            "month": "{A} is renewed in {v}.",
            "keeper": "{A} is kept by the {v}.",
        },
        by_tool=True,
    ),
    Book(
        "talk.md",
        "# Talk of the workshop\n\nWhat every reedwright on the marshes can tell you without looking it up.",
        {
            "material": "Ask what {a} is made of: {v}.",
            "colour": "Ask in what colour {a} is marked: {v}.",
            "month": "Ask when {a} is renewed: {v}.",
            "keeper": "Ask who keeps {a}: the {v}.",
        },
        by_tool=False,
    ),
    Book(
        "inventory.md",
        "# Inventory of the guild house\n\nTaken at the turn of the year, tool by tool.",
        {
            "material": "- {t}, material: {v}",
            "colour": "- {t}, mark: {v}",
            "month": "- {t}, renewal: {v}",
            "keeper": "- {t}, keeper: {v}",
        },
        by_tool=True,
    ),
    Book(
        "letters.md",
        "# Letters to a new apprentice\n\nYour questions came with the last boat. I answer them one by one.",
        {
            "material": "As to {a}, its material is {v}.",
            "colour": "As to {a}, the colour of its mark is {v}.",
            "month": "As to {a}, the month of its renewal is {v}.",
            "keeper": "As to {a}, its keeper is the {v}.",
        },
        by_tool=False,
    ),
    Book(
        "rules.md",
        "# Rules of the guild\n\nAs they were read out at the last gathering of the reedwrights, and agreed to by all.",
        {
            "material": "Every {t} shall be made of {v}.",
            "colour": "Every {t} shall be marked in {v}.",
            "month": "Every {t} shall be renewed in {v}.",
            "keeper": "Every {t} shall be kept by the {v}.",
        },
        by_tool=True,
    ),
    Book(
        "lessons.md",
        "# Lessons for winter evenings\n\nTo be said aloud until they are known by heart.",
        {
            "material": "For {a} the material is {v}.",
            "colour": "For {a} the colour is {v}.",
            "month": "For {a} the month is {v}.",
            "keeper": "For {a} the keeper is the {v}.",
        },
        by_tool=False,
    ),
)


@dataclass(frozen=True, slots=True)
class Fact:
    tool: str
    kind: Kind
    value: str

    def in_words(self, text: str) -> str:
        """The text with the tool and the value put in."""
        named = f"{'an' if self.tool[0] in 'aeio' else 'a'} {self.tool}"
        return text.format(a=named, A=named[0].upper() + named[1:], t=self.tool, v=self.value)


def facts(draw: random.Random) -> list[Fact]:
    """Four of each tool; of each kind every value is about as frequent as the others, so that guessing does not pay."""
    found = []
    for kind in KINDS:
        values = (draw.sample(kind.values, len(kind.values)) * 3)[: len(TOOLS)]
        draw.shuffle(values)
        found += [Fact(tool, kind, value) for tool, value in zip(TOOLS, values, strict=True)]
    return found


def page(book: Book, known: list[Fact], draw: random.Random) -> str:
    """Every fact once; the order of the parts and of their lines is drawn."""
    heads = list(TOOLS) if book.by_tool else [kind.name for kind in KINDS]
    parts = [book.opening]
    for head in draw.sample(heads, len(heads)):
        own = [fact for fact in known if head in (fact.tool, fact.kind.name)]
        lines = [fact.in_words(book.wording[fact.kind.name]) for fact in draw.sample(own, len(own))]
        parts += ["\n".join(lines)] if book.by_tool else [f"## {head.capitalize()}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def rows(side: str, known: list[Fact], draw: random.Random) -> Iterator[dict[str, str]]:
    """The questions of a side: in train each fact in both wordings, else in one that is drawn."""
    number = 0
    for fact in known:
        for question in fact.kind.questions if side == "train" else (draw.choice(fact.kind.questions),):
            number += 1
            yield {"id": f"{side}-{number}", "input": fact.in_words(question), "output": fact.value}


def made() -> tuple[dict[str, str], dict[str, list[dict[str, str]]]]:
    """Pages by file name, and the rows of each side."""
    draw = random.Random(SEED)
    known = facts(draw)
    pages = {book.file: page(book, known, draw) for book in BOOKS}
    draw.shuffle(known)
    sides = {"train": known[:N_TRAIN], "dev": known[N_TRAIN : N_TRAIN + N_DEV], "test": known[N_TRAIN + N_DEV :]}
    return pages, {side: list(rows(side, own, draw)) for side, own in sides.items()}


def main() -> None:
    pages, sides = made()
    (HERE / "docs").mkdir(exist_ok=True)
    for name, text in pages.items():
        (HERE / "docs" / name).write_text(text, encoding="utf-8", newline="\n")
    for side, own in sides.items():
        lines = "".join(json.dumps(row) + "\n" for row in own)
        (HERE / f"{side}.jsonl").write_text(lines, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
