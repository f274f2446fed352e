"""Arithmetic in words, comparisons and sequences of numbers."""

from __future__ import annotations

from decimal import Decimal
from random import Random

from lastresort.evals.suites.families.family import Choice, Family, has_room, listed, number_choice, shuffled
from lastresort.evals.suites.families.names import PEOPLE, THINGS


def sums(level: int, random: Random) -> Choice:
    a, b, c = _terms(level, random)
    who, thing = random.choice(PEOPLE), random.choice(THINGS)
    story = f"{who} has {a} {thing} and gets {b} more."
    if c:
        story += f" Then {who} gives {c} {thing} away."
    question = f"{story} How many {thing} does {who} have now? Answer with the number."
    digits = sum(len(str(n)) for n in (a, b, c) if n)
    return number_choice(question, a + b - c, (1, 2, 3, 10)[: level + 2], digits, random, f"{a} + {b} - {c}")


def _terms(level: int, random: Random) -> tuple[int, int, int]:
    """Tens and ones without a carry; two numbers of two digits; three of three."""
    if level == 1:
        ones = random.randint(1, 6)
        return 10 * random.randint(1, 8) + ones, random.randint(1, 8 - ones), 0
    if level == 2:
        return random.randint(12, 49), random.randint(12, 45), 0
    return random.randint(300, 600), random.randint(120, 350), random.randint(101, 199)


def products(level: int, random: Random) -> Choice:
    low, high = ((2, 6), (4, 12), (13, 39))[level - 1]
    steps: tuple[int, ...] = (1, 2)
    while True:
        a, b = random.randint(low, high), random.randint(low, high)
        if level > 1:
            steps = (1, 2, 10, a) if a != 10 else (1, 2, 10)
        if has_room(a * b, steps):
            break
    who, thing, box = (
        random.choice(PEOPLE),
        random.choice(THINGS),
        random.choice(("boxes", "bags", "baskets", "drawers")),
    )
    question = f"{who} has {a} {box} with {b} {thing} in each. How many {thing} is that? Answer with the number."
    return number_choice(question, a * b, steps, a * b, random, f"{a} x {b}")


def comparisons(level: int, random: Random) -> Choice:
    """The number between two others: as the largest or smallest it would be told by the options."""
    numbers, shared = _numbers(level, random)
    at = random.randrange(4)
    ordered = sorted(numbers, key=float)
    low, high = _bounds(level, ordered, at, random)
    question = f"Which of these numbers lies between {low} and {high}: {listed(numbers)}? Answer with the number."
    return shuffled(question, ordered[at], ordered[:at] + ordered[at + 1 :], shared, random)


def _numbers(level: int, random: Random) -> tuple[list[str], int]:
    """Four numbers, and how many leading signs they share."""
    if level == 1:
        return [str(10 * tens + random.randint(1, 9)) for tens in random.sample(range(1, 10), 4)], 0
    if level == 2:
        first = random.randint(1, 9)
        return [str(1000 * first + rest) for rest in random.sample(range(110, 990, 3), 4)], 1
    whole = random.randint(1, 9)
    parts = random.sample([f"{n:02}" for n in range(3, 97, 3)], 4)
    return [f"{whole}.{part.rstrip('0')}" for part in parts], 2


def _bounds(level: int, ordered: list[str], at: int, random: Random) -> tuple[str, str]:
    """Two numbers with only ordered[at] between them: full tens, or the numbers next to a neighbour or to it."""
    if level == 1:
        tens = 10 * (int(ordered[at]) // 10)
        return str(tens), str(tens + 10)
    unit = Decimal(1) if level == 2 else Decimal("0.01")
    this = Decimal(ordered[at])
    low = Decimal(ordered[at - 1]) + unit if at and random.random() < 0.5 else this - unit
    high = Decimal(ordered[at + 1]) - unit if at < 3 and random.random() < 0.5 else this + unit
    return str(low.normalize() if level == 3 else low), str(high.normalize() if level == 3 else high)


def sequences(level: int, random: Random) -> Choice:
    start = random.randint(1, 99)
    if level == 1:
        step = random.choice((1, 2, 5, 10))
        changes = [step] * 4
    elif level == 2:
        changes = [random.choice((-1, 1)) * random.randint(3, 19)] * 4
    else:
        first, growth = random.randint(2, 9), random.randint(1, 6)
        changes = [first + growth * place for place in range(4)]
    start += max(0, -5 * changes[0])
    terms = [start + sum(changes[:place]) for place in range(5)]
    what = random.choice(
        ("pages", "houses", "tickets", "seats", "rooms", "buses", "lockers", "parcels", "lots", "jobs")
    )
    asked = f"The {what} have the numbers {', '.join(map(str, terms[:4]))} and so on. Which number comes next?"
    hardness = 100 * (len(set(changes)) - 1) + abs(changes[0])
    steps, fact = (1, 2, 3, abs(changes[0]) + 3), str(terms)
    return number_choice(f"{asked} Answer with the number.", terms[4], steps, hardness, random, fact)


NUMBERS = (
    Family("sums", sums, "digits of the numbers that are added or taken away"),
    Family("products", products, "the product"),
    Family("comparisons", comparisons, "leading signs that all numbers share"),
    Family("sequences", sequences, "the step, and 100 more for each change of the step"),
)
