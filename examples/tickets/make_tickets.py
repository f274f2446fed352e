"""Write tickets.jsonl: support tickets to Ormbeck, an invented shop, with the object that its house rules want.

A ticket is put together from the hand-written lines of phrases/: one line for the matter, lines around it that change the
priority or do not, an order number or another number. Then it is roughened: typing errors, missing capitals, shouting.
Its answer follows from what was put in, by the rules of RULES.md, never from the words.

Run: python make_tickets.py   (writes the same bytes every time; a test checks it)
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROWS, SEED = 1360, 22
NAMES = {
    "coffee": ("Heron", "coffee machine", "espresso maker", "brewer"),
    "kettle": ("Newt", "kettle", "water boiler"),
    "robot": ("Hedgehog", "robot vacuum", "hoover robot", "little sweeper"),
    "fan": ("Gull", "fan", "desk fan", "ventilator"),
    "lamp": ("Moth", "bedside lamp", "lamp", "reading light"),
    "clock": ("Plover", "clock radio", "alarm clock", "radio"),
}
KINDS = {
    "fault": 23,
    "danger": 9,
    "arrival": 9,
    "parcel": 10,
    "money": 12,
    "money_broken": 8,
    "app": 11,
    "supplies": 12,
    "question": 11,
}
# How often a place of work writes, it is not for the first time, there is a deadline: drawn apart, so that the last two tell
# nothing about the first, which alone counts.
WORKPLACE, AGAIN, DEADLINE = 0.42, 0.22, 0.2
TEAM = {
    "parcel": "delivery",
    "arrival": "delivery",
    "money": "billing",
    "app": "app",
    "supplies": "parts",
    "question": "advice",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a ticket is about, before it is put into words.

    kind: a key of KINDS. machine: a key of NAMES, None where none is named. order: "R" and four digits, or None.
    again, deadline: said in the text; they decide nothing.
    """

    kind: str
    machine: str | None
    workplace: bool = False
    again: bool = False
    deadline: bool = False
    order: str | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """One row, with the facts behind it and the names of the rules that decided it."""

    id: str
    text: str
    answer: dict[str, str | None]
    facts: Facts
    rules: tuple[str, str, str, str]

    def line(self) -> str:
        row = {"id": self.id, "input": self.text, "output": self.answer}
        return json.dumps(row, ensure_ascii=False) + "\n"


def team_of(facts: Facts) -> tuple[str, str]:
    """The team and the rule of RULES.md that says so."""
    if facts.kind in TEAM:
        return TEAM[facts.kind], f"T-{facts.kind}"
    return ("delivery", "T-lamp") if facts.machine == "lamp" else ("repair", f"T-{facts.kind}")


def priority_of(facts: Facts) -> tuple[str, str]:
    """The priority and the rule of RULES.md that says so. The first that fits decides."""
    if team_of(facts)[0] == "advice":
        return "normal", "P-advice"
    if facts.kind == "danger":
        return "danger", "P-danger"
    return ("business", "P-business") if facts.workplace else ("normal", "P-normal")


def product_of(facts: Facts) -> tuple[str | None, str]:
    """The product code and the rule of RULES.md that says so."""
    if facts.kind == "supplies":
        return "part", "C-supplies"
    return facts.machine, "C-machine" if facts.machine else "C-none"


class Phrases:
    """The lines of phrases/, each file dealt like a pack of cards, so that no line comes back before all were used."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.packs: dict[str, list[str]] = {}

    def deal(self, name: str) -> str:
        """One line of phrases/<name>.txt with its [one|other] choices made."""
        pack = self.packs.setdefault(name, [])
        if not pack:
            pack.extend(lines_of(name))
            self.rng.shuffle(pack)
        return re.sub(r"\[([^\]]*)\]", lambda m: self.rng.choice(m[1].split("|")), pack.pop())

    def chance(self, share: float) -> bool:
        return self.rng.random() < share


def lines_of(name: str) -> list[str]:
    """The lines of phrases/<name>.txt without its comment."""
    text = (HERE / "phrases" / f"{name}.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("# ")]


def draw_facts(phrases: Phrases) -> tuple[Facts, str]:
    """What the next ticket is about, and the line that says it."""
    rng = phrases.rng
    kind = rng.choices(list(KINDS), weights=list(KINDS.values()))[0]
    machine = rng.choice(list(NAMES))
    pack = kind if kind != "fault" else "fault_any" if phrases.chance(0.2) else f"fault_{machine}"
    matter = phrases.deal(pack)
    named = "{p}" in matter or pack.startswith("fault")
    order = f"R{rng.randrange(1000, 10000)}" if phrases.chance(0.6) else None
    lone = kind in ("danger", "question") and phrases.chance(0.5)
    workplace, again, deadline = (not lone and phrases.chance(share) for share in (WORKPLACE, AGAIN, DEADLINE))
    return Facts(kind, machine if named else None, workplace, again, deadline, order), matter


def draw_sentences(facts: Facts, matter: str, phrases: Phrases) -> list[str]:
    """The sentences of a ticket in the order in which they stand."""
    rng = phrases.rng
    around = [
        phrases.deal(name)
        for name, wanted in (
            ("workplace", facts.workplace),
            ("again", facts.again),
            ("deadline", facts.deadline),
            ("calm", facts.kind == "fault" and phrases.chance(0.08)),
            ("settled", phrases.chance(0.05)),
            ("neutral", phrases.chance(0.15)),
        )
        if wanted
    ]
    rng.shuffle(around)
    around.insert(rng.randint(0, len(around)), matter)
    if facts.order:
        around.insert(rng.choice([0, len(around), len(around)]), phrases.deal("order"))
    elif phrases.chance(0.2):
        around.append(phrases.deal("order_none"))
    if phrases.chance(0.2):
        around.insert(0, phrases.deal("opening"))
    if phrases.chance(0.2):
        around.append(phrases.deal("closing"))
    return around


def fill(sentence: str, facts: Facts, rng: random.Random) -> str:
    """Names and numbers in place of {p}, {q}, {o}, {x}, {n} and {y}."""
    machine = facts.machine or rng.choice(list(NAMES))
    other = rng.choice([code for code in NAMES if code != machine])
    order = facts.order or ""
    spelled = rng.choices(
        [order, order.lower(), order[:1] + "-" + order[1:], order[:1] + " " + order[1:]], [6, 2, 1, 1]
    )
    values = {
        "p": rng.choice(NAMES[machine]),
        "q": rng.choice(NAMES[other]),
        "o": spelled[0],
        "x": f"R{rng.randrange(1000, 10000)}",
        "n": f"{rng.randrange(1000, 10000)}",
        "y": f"{rng.randrange(16, 26)}",
    }
    return re.sub(r"\{(\w)\}", lambda m: values[m[1]], sentence)


def join(sentences: Iterable[str]) -> str:
    """One text; a sentence that has no end mark gets a full stop or a comma."""
    text = ""
    for sentence in sentences:
        text += (" " if text else "") + sentence
        if sentence[-1].isalnum() or sentence[-1] in ')"':
            text += "."
    return text


def mistype(text: str, rng: random.Random) -> str:
    """One or two words with two letters changed over or one left out; numbers and first letters stay."""
    words = text.split(" ")
    long_words = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    for i in rng.sample(long_words, min(len(long_words), rng.randint(1, 2))):
        word, at = words[i], rng.randrange(1, len(words[i]) - 2)
        swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        words[i] = rng.choice([swapped, word[:at] + word[at + 1 :]])
    return " ".join(words)


def roughen(text: str, rng: random.Random) -> str:
    """The same text as people type it."""
    if rng.random() < 0.2:
        text = mistype(text, rng)
    way = rng.random()
    if way < 0.04:
        return text.upper()
    if way < 0.2:
        return text.lower()
    if way < 0.3:
        return text.rstrip(".").replace(". ", ", ")
    return text[0].upper() + text[1:]


def make(rows: int = ROWS, seed: int = SEED) -> list[Ticket]:
    """The tickets, no two texts alike."""
    phrases = Phrases(random.Random(seed))
    tickets: list[Ticket] = []
    seen: set[str] = set()
    while len(tickets) < rows:
        facts, matter = draw_facts(phrases)
        sentences = [fill(s, facts, phrases.rng) for s in draw_sentences(facts, matter, phrases)]
        text = roughen(join(sentences), phrases.rng)
        if text.lower() in seen:
            continue
        seen.add(text.lower())
        (team, t), (priority, p), (product, c) = team_of(facts), priority_of(facts), product_of(facts)
        answer = {"team": team, "priority": priority, "product": product, "order": facts.order}
        rules = (t, p, c, "O-number" if facts.order else "O-none")
        tickets.append(Ticket(f"t{len(tickets) + 1:04d}", text, answer, facts, rules))
    return tickets


if __name__ == "__main__":
    (HERE / "tickets.jsonl").write_text("".join(t.line() for t in make()), encoding="utf-8", newline="\n")
