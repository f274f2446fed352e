"""Write what Orrel Repairs, an invented workshop, has: the replies it sent, pairs of drafts with the one that its owner
preferred, and notes to be answered with the facts that the reply must give.

Nobody has written the house style down, and hardly a reply is in it throughout. A draft has each of four habits by chance,
and of two drafts the owner prefers the one that has more of them. The answers to the notes of dev and test are judged by
voice.py, so that nobody had to write them.

Run: python make_voice.py   (writes the same bytes every time; a test checks it)
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEED = 11
SIZES = {"sent": 60, "pairs": 160, "dev": 100, "test": 200}
HABITS = ("opening", "amount", "fuss", "closing")
SENT_SHARE, DRAFT_SHARE = 0.3, 0.5  # of replies that have a habit

THINGS = (
    "kettle lamp radio clock toaster mixer bicycle typewriter umbrella accordion suitcase camera drill fan iron watch violin "
    "stove globe projector telephone heater pram barometer"
).split()
SURNAMES = (
    "Oddie Marsh Pell Quist Harrow Venn Tolland Birch Aske Lorimer Dacre Fenn Godwin Ibbot Jessop Kemble Larch Mundy Norrey Orme "
    "Pryce Rudd Sayer Tarn Udall Vesey Wray Yelland Zouch Corrie"
).split()
TITLES = ("Mrs", "Mr", "Dr")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
PARTS = ("spring", "cord", "switch", "handle", "lens", "belt", "valve", "screw", "bulb", "wheel")
AMOUNTS = {
    4: "four",
    5: "five",
    6: "six",
    8: "eight",
    9: "nine",
    11: "eleven",
    12: "twelve",
    14: "fourteen",
    15: "fifteen",
    18: "eighteen",
    20: "twenty",
    25: "twenty-five",
    30: "thirty",
    40: "forty",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What a note may be about. notes: as the workshop writes them. says: how a reply tells it, whoever writes it."""

    notes: tuple[str, ...]
    says: tuple[str, ...]

    @property
    def names_a_part(self) -> bool:
        return "{part}" in self.notes[0]


KINDS = (
    Kind(
        ("{name}, {thing}: ready {day}, {number} euros.", "{thing} for {name}. Done {day}. {number} euros."),
        ("our {thing} is ready on {day}. It costs {amount}.", "our {thing} is ready on {day} and costs {amount}."),
    ),
    Kind(
        (
            "{name}, {thing}: needs a {part}, ready {day}, {number} euros.",
            "{thing} for {name}. New {part}. Done {day}. {number} euros.",
        ),
        (
            "our {thing} gets a new {part} and is ready on {day}. It costs {amount}.",
            "our {thing} gets a new {part}. It is ready on {day} and costs {amount}.",
        ),
    ),
    Kind(
        (
            "{name}, {thing}: {part} broken, a new one {number} euros. Answer by {day}.",
            "{thing} for {name}. Broken {part}. New one {number} euros. Must say yes by {day}.",
        ),
        (
            "our {thing} has a broken {part}. A new one costs {amount}. Say yes by {day}.",
            "our {thing} has a broken {part}, and a new one costs {amount}. Say yes by {day}.",
        ),
    ),
)
OPENINGS = ("Dear {name}, y", "Hello {name}, y", "News for you, {name}: y", "This is to tell you, {name}, that y")
FIGURES = ("{number} euros", "€{number}", "EUR {number}")
FUSS = (
    " Thank you for your patience!",
    " Please bring your receipt.",
    " Sorry for the wait.",
    " Looking forward to it!",
)
CLOSINGS = (
    " Kind regards, Orrel Repairs",
    " Best wishes, Orrel Repairs",
    " Yours, Orrel Repairs",
    " See you, Orrel Repairs",
)


@dataclass(frozen=True, slots=True)
class Note:
    """A note of the workshop with what it is about."""

    kind: Kind
    facts: dict[str, str]
    text: str

    @property
    def expected(self) -> str:
        """What a reply must give, as voice.py reads it."""
        keys = ("thing", "name", "day", "amount", *(("part",) if self.kind.names_a_part else ()))
        return "; ".join(self.facts[key] for key in keys)


def note_of(draw: random.Random) -> Note:
    kind, number = draw.choice(KINDS), draw.choice(list(AMOUNTS))
    facts = {
        "thing": draw.choice(THINGS),
        "name": f"{draw.choice(TITLES)} {draw.choice(SURNAMES)}",
        "day": draw.choice(DAYS),
        "part": draw.choice(PARTS),
        "number": str(number),
        "amount": f"{AMOUNTS[number]} euros",
    }
    text = draw.choice(kind.notes).format(**facts)
    return Note(kind, facts, text[0].upper() + text[1:])


def reply(note: Note, kept: frozenset[str], draw: random.Random) -> str:
    """A reply that has these habits of the house and none of the others."""
    facts = dict(note.facts)
    if "amount" not in kept:
        facts["amount"] = draw.choice(FIGURES).format(**facts)
    parts = [
        "Y" if "opening" in kept else draw.choice(OPENINGS),
        draw.choice(note.kind.says),
        "" if "fuss" in kept else draw.choice(FUSS),
        " Until {day}, {name}." if "closing" in kept else draw.choice(CLOSINGS),
    ]
    return "".join(parts).format(**facts)


def some(share: float, draw: random.Random) -> frozenset[str]:
    return frozenset(habit for habit in HABITS if draw.random() < share)


def pair_of(note: Note, draw: random.Random) -> dict[str, str]:
    """Two drafts, drawn until one has more of the habits than the other."""
    while True:
        better, worse = sorted((some(DRAFT_SHARE, draw), some(DRAFT_SHARE, draw)), key=len, reverse=True)
        if len(better) > len(worse):
            return {"prompt": note.text, "chosen": reply(note, better, draw), "rejected": reply(note, worse, draw)}


def made(seed: int = SEED) -> dict[str, list[dict[str, str]]]:
    """The rows of each file, by its name; no note stands in two of them."""
    draw = random.Random(seed)
    notes: dict[str, Note] = {}
    while len(notes) < sum(SIZES.values()):
        note = note_of(draw)
        notes.setdefault(note.text, note)
    left = iter(notes.values())
    own = {name: [next(left) for _ in range(size)] for name, size in SIZES.items()}
    return {
        "sent": [{"input": note.text, "output": reply(note, some(SENT_SHARE, draw), draw)} for note in own["sent"]],
        "pairs": [pair_of(note, draw) for note in own["pairs"]],
        "dev": [{"input": note.text, "output": note.expected} for note in own["dev"]],
        "test": [{"input": note.text, "output": note.expected} for note in own["test"]],
    }


def write(folder: Path, seed: int = SEED) -> None:
    for name, rows in made(seed).items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    write(HERE)
