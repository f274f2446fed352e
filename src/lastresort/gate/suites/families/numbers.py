"""Arithmetic in words, comparisons and sequences of numbers.

Weekdays, months and dates, clock times, and units.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from random import Random

from lastresort.gate.suites.families.family import (
    EVENTS,
    PEOPLE,
    THINGS,
    ChoiceQuestion,
    Family,
    around,
    has_room,
    number_choice,
    one_of,
    shuffled,
)


def sums(level: int, random: Random) -> ChoiceQuestion:
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


def products(level: int, random: Random) -> ChoiceQuestion:
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


def comparisons(level: int, random: Random) -> ChoiceQuestion:
    """The number between two others: as the largest or smallest it would be told by the options."""
    numbers, shared = _numbers(level, random)
    at = random.randrange(4)
    ordered = sorted(numbers, key=float)
    low, high = _bounds(level, ordered, at, random)
    question = f"Which of these numbers lies between {low} and {high}: {one_of(numbers)}? Answer with the number."
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


def sequences(level: int, random: Random) -> ChoiceQuestion:
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


DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def weekdays(level: int, random: Random) -> ChoiceQuestion:
    start, far = random.randrange(7), (1, random.randint(2, 6), random.randint(8, 40))[level - 1]
    later = random.random() < 0.5
    when = f"{_moved('day', far, later)} {DAYS[start]}"
    question = f"{random.choice(PEOPLE)}'s {random.choice(EVENTS)} is {when}. On which day of the week is it?"
    right = DAYS[(start + (far if later else -far)) % 7]
    wrong = random.sample([day for day in DAYS if day != right], 3)
    return shuffled(question, right, wrong, far, random, when)


def months(level: int, random: Random) -> ChoiceQuestion:
    if level == 3:
        return _dates(random)
    start, far = random.randrange(12), 1 if level == 1 else random.randint(2, 9)
    later = random.random() < 0.5
    when = f"{_moved('month', far, later)} {MONTHS[start]}"
    question = f"{random.choice(PEOPLE)}'s {random.choice(EVENTS)} is {when}. In which month is it?"
    right = MONTHS[(start + (far if later else -far)) % 12]
    wrong = random.sample([month for month in MONTHS if month != right], 3)
    return shuffled(question, right, wrong, far, random, when)


def _moved(unit: str, far: int, later: bool) -> str:
    way = "after" if later else "before"
    if far == 1:
        return f"{'on' if unit == 'day' else 'in'} the {unit} {way}"
    return f"{far} {unit}s {way}"


def _dates(random: Random) -> ChoiceQuestion:
    month, far = random.randrange(12), random.randint(12, 27)
    if month == 1:  # whether February has 29 days is not said
        month = 2
    last = MONTH_DAYS[month]
    day = random.randint(max(1, last - far + 1 + 4), last - 1)
    right, after = day + far - last, (month + 1) % 12
    who, event = random.choice(PEOPLE), random.choice(EVENTS)
    question = f"{who}'s {event} was planned for {day} {MONTHS[month]}. It takes place {far} days later. On which date is that?"
    other_day = right + random.choice([step for step in (-3, -2, -1, 1, 2, 3) if 1 <= right + step <= 28])
    other_month = random.choice([(after + 1) % 12, month])
    wrong = [f"{other_day} {MONTHS[after]}", f"{right} {MONTHS[other_month]}", f"{other_day} {MONTHS[other_month]}"]
    fact = f"{day} {MONTHS[month]} + {far}"
    return shuffled(question, f"{right} {MONTHS[after]}", wrong, far, random, fact)


def clock(level: int, random: Random) -> ChoiceQuestion:
    """Full hours; minutes within the hour; hours and minutes over the full hour."""
    who, event = random.choice(PEOPLE), random.choice(EVENTS)
    start = 60 * random.randint(12, 16) + (0, random.randint(1, 29), random.randint(25, 59))[level - 1]
    far = (60 * random.randint(1, 4), random.randint(5, 29), 60 * random.randint(1, 3) + random.randint(36, 59))[
        level - 1
    ]
    question = f"{who}'s {event} begins at {_time(start)} and takes {_duration(far)}. At what time does it end?"
    hour, minute = divmod(start + far, 60)
    if level == 1:
        wrong = [f"{other}:00" for other in around(random, hour, (1, 2))]
    else:
        other_hour = hour + random.choice((-1, 1))
        other_minute = (minute + random.choice((10, 20, 30, 40, 50))) % 60
        wrong = [f"{h}:{m:02}" for h in (hour, other_hour) for m in (minute, other_minute) if (h, m) != (hour, minute)]
    hardness = (start % 60 > 0) + (far % 60 > 0) + (far > 60 and far % 60 > 0)
    return shuffled(question, _time(start + far), wrong, hardness, random, f"{_time(start)} + {far}")


def _time(minutes: int) -> str:
    return f"{minutes // 60}:{minutes % 60:02}"


def _duration(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    parts = [f"{hours} hour{'s' if hours > 1 else ''}"] * (hours > 0) + [f"{rest} minutes"] * (rest > 0)
    return " and ".join(parts)


@dataclass(frozen=True, slots=True)
class UnitOfMeasure:
    """large = factor small. story: what happens to somebody, with {n} for how many of the larger unit."""

    large: str
    small: str
    factor: int
    story: str


UNITS = (
    UnitOfMeasure("hours", "minutes", 60, "{who} walks for {n}"),
    UnitOfMeasure("weeks", "days", 7, "{who} is away for {n}"),
    UnitOfMeasure("years", "months", 12, "{who} has lived here for {n}"),
    UnitOfMeasure("minutes", "seconds", 60, "{who} waits for {n}"),
    UnitOfMeasure("days", "hours", 24, "{who} is on the road for {n}"),
    UnitOfMeasure("metres", "centimetres", 100, "{who} buys a ribbon of {n}"),
    UnitOfMeasure("kilometres", "metres", 1000, "{who} runs {n}"),
    UnitOfMeasure("kilograms", "grams", 1000, "{who} buys flour, {n} of it"),
    UnitOfMeasure("litres", "millilitres", 1000, "{who} pours {n} of water"),
    UnitOfMeasure("centimetres", "millimetres", 10, "{who} draws a line of {n}"),
)
_DECIMAL, _OTHER = UNITS[5:], UNITS[:5]


def units(level: int, random: Random) -> ChoiceQuestion:
    """Metres and the like in whole numbers; weeks, hours and years; these with a rest."""
    while True:
        unit = random.choice(_DECIMAL if level == 1 else _OTHER)
        n = random.randint(3, 29)
        rest = random.randint(2, unit.factor - 2) if level == 3 else 0
        right, steps = n * unit.factor + rest, (unit.factor, 2 * unit.factor)
        if has_room(right, steps):
            break
    amount = f"{n} {unit.large}" + (f" and {rest} {unit.small}" if rest else "")
    story = unit.story.format(who=random.choice(PEOPLE), n=amount)
    asked = random.choice(
        ("How many {small} is that?", "How much is that in {small}?", "Say it in {small}: how many are these?")
    )
    question = f"{story}. {asked.format(small=unit.small)} Answer with the number."
    return number_choice(question, right, steps, level, random, f"{amount} in {unit.small}")


CALENDAR = (
    Family("weekdays", weekdays, "days to go on or back"),
    Family("months", months, "months, or days across the end of a month, to go on or back"),
    Family("clock", clock, "one for a start with minutes, one for minutes to add, one for hours besides"),
    Family("units", units, "1: a power of ten, 2: another factor, 3: and a rest"),
)
