"""Write docs/ and questions.jsonl: the handbook of Tarnholt, an invented maker of household machines, and questions about it.

Every machine has a page, every page a section for each kind of fact, and each fact is asked for once, in one of several wordings.
Nothing of it can be known without the handbook. The row's `passages` names the section that holds the answer.

Run: python make_handbook.py   (writes the same bytes every time; a test checks it)
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEED = 4
MACHINES = {
    "kettle": ("Velmar", "Oskrin", "Tuvelo", "Brandix", "Halvo"),
    "toaster": ("Quillon", "Serrat", "Domirel", "Yaxley", "Pemberil"),
    "blender": ("Zorvane", "Mistrake", "Calbren", "Ufferton", "Ingolix"),
    "iron": ("Kestrane", "Albury", "Norvik", "Wexholm", "Tindra"),
    "heater": ("Solvane", "Embrook", "Pyrelle", "Garnix", "Lowick"),
    "fan": ("Zephrin", "Auburel", "Draftly", "Windmere", "Breskin"),
    "lamp": ("Lumora", "Candrix", "Glimmond", "Halden", "Orbelle"),
    "vacuum": ("Dustrel", "Sweepon", "Furrow", "Cyclane", "Hoverly"),
}
COLOURS = ("blue", "green", "white", "orange", "purple", "red", "yellow", "pink")
DESKS = ("Aldern", "Birkwell", "Corran", "Dunmore", "Eskdale", "Farrow", "Glenholt", "Harwick", "Inverly", "Jarrow")
PLACES = (
    "under the base",
    "behind the filter",
    "inside the lid",
    "on the plug",
    "below the handle",
    "on the back plate",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fact: the heading of its section, its text with {name} and {value}, and how it is asked for."""

    heading: str
    text: str
    questions: tuple[str, ...]
    draw: Callable[[random.Random], str]


KINDS = (
    Kind(
        "Warranty",
        "Tarnholt repairs the {name} free of charge for {value} from the day of purchase. Keep the receipt; a copy will do.",
        ("How long is the warranty of the {name}?", "For how many months is a {name} repaired free of charge?"),
        lambda draw: f"{draw.randint(13, 59)} months",
    ),
    Kind(
        "Delivery",
        "A {name} that is ordered before noon arrives within {value}. Saturdays do not count.",
        ("Within how many days does a {name} arrive?", "How long does the delivery of the {name} take?"),
        lambda draw: f"{draw.randint(3, 19)} days",
    ),
    Kind(
        "Weight",
        "Without its packaging the {name} weighs {value}. The packaging adds about half a kilogram.",
        ("How heavy is the {name}?", "What does the {name} weigh without its packaging?"),
        lambda draw: f"{draw.randint(11, 89) / 10:.1f} kg",
    ),
    Kind(
        "Power",
        "The {name} draws {value} at its highest setting and almost nothing when it is off.",
        ("How many watts does the {name} draw?", "What power does the {name} need at its highest setting?"),
        lambda draw: f"{draw.randrange(310, 2990, 10)} watts",
    ),
    Kind(
        "Status light",
        "When the {name} is ready, its light turns {value}. It blinks while the machine is busy.",
        ("Which colour has the light of the {name} when it is ready?", "What colour shows that the {name} is ready?"),
        lambda draw: draw.choice(COLOURS),
    ),
    Kind(
        "Serial number",
        "The serial number of the {name} stands {value}. It has eight digits.",
        ("Where does the serial number of the {name} stand?", "Where do I find the serial number of my {name}?"),
        lambda draw: draw.choice(PLACES),
    ),
    Kind(
        "Cleaning",
        "Clean the {name} every {value} with a soft cloth and warm water. Never use vinegar.",
        ("How often must the {name} be cleaned?", "After how many weeks should I clean the {name}?"),
        lambda draw: f"{draw.randint(2, 19)} weeks",
    ),
    Kind(
        "Spare parts",
        "A new cord for the {name} costs {value}. Other parts are listed in the shop.",
        ("What does a new cord for the {name} cost?", "How much is a spare cord for the {name}?"),
        lambda draw: f"{draw.randint(6, 48)} euros",
    ),
    Kind(
        "Error code",
        "If the {name} is too hot, its display shows {value}. Let it cool for ten minutes.",
        ("Which code does the {name} show when it is too hot?", "What stands on the display of an overheated {name}?"),
        lambda draw: f"{draw.choice('ABDEFHKLNPRT')}{draw.randint(10, 99)}",
    ),
    Kind(
        "Service desk",
        "Questions about the {name} are answered by the {value} desk, on weekdays from eight to five.",
        ("Which desk answers questions about the {name}?", "Who helps with questions about the {name}?"),
        lambda draw: draw.choice(DESKS),
    ),
    Kind(
        "Cord",
        "The cord of the {name} is {value} long. Do not extend it.",
        ("How long is the cord of the {name}?", "What is the length of the {name}'s cord?"),
        lambda draw: f"{draw.randrange(70, 295, 5)} cm",
    ),
    Kind(
        "Return",
        "An unused {name} can be sent back within {value}. Tarnholt pays for the parcel.",
        ("Until when can an unused {name} be sent back?", "Within how many days can I return an unused {name}?"),
        lambda draw: f"{draw.randint(20, 99)} days",
    ),
)


def made() -> tuple[dict[str, str], list[dict[str, object]]]:
    """Pages by file name, and the rows of questions."""
    draw = random.Random(SEED)
    pages: dict[str, str] = {}
    rows: list[dict[str, object]] = []
    for thing, names in MACHINES.items():
        for bare in names:
            name, page = f"{bare} {thing}", f"{bare.lower()}.md"
            parts = [f"# {name}\n\nThis page of the Tarnholt handbook is about the {name}.\n"]
            for kind in draw.sample(KINDS, len(KINDS)):
                value = kind.draw(draw)
                parts.append(f"## {kind.heading}\n\n{kind.text.format(name=name, value=value)}\n")
                section = f"{page}#{kind.heading.lower().replace(' ', '-')}"
                question = draw.choice(kind.questions).format(name=name)
                rows.append({"input": question, "output": value, "passages": [section]})
            pages[page] = "\n".join(parts)
    draw.shuffle(rows)
    return pages, [{"id": f"q{number}", **row} for number, row in enumerate(rows, start=1)]


def main() -> None:
    pages, rows = made()
    (HERE / "docs").mkdir(exist_ok=True)
    for name, text in pages.items():
        (HERE / "docs" / name).write_text(text, encoding="utf-8")
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (HERE / "questions.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
