"""Answers to the questions of the families, worked out of their wording alone, in other ways than the families make them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable

from lastresort.gate.suites.families.geography import COUNTRIES
from lastresort.gate.suites.families.language import KINDS, OPPOSITES

DAYS = [(datetime.date(2024, 1, 1) + datetime.timedelta(n)).strftime("%A") for n in range(7)]
MONTHS = [datetime.date(2023, n, 1).strftime("%B") for n in range(1, 13)]
KIND_OF = {word: kind for kinds in KINDS.values() for kind, words in kinds.items() for word in words}
FACTORS = {
    "weeks days": 7, "years months": 12, "days hours": 24, "hours minutes": 60, "minutes seconds": 60,
    "metres centimetres": 100, "kilometres metres": 1000, "kilograms grams": 1000, "litres millilitres": 1000,
    "centimetres millimetres": 10,
}  # fmt: skip
PLACES = ["first", "second", "third", "fourth", "fifth", "sixth"]


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def listed(text: str) -> list[str]:
    return re.split(r", | or | and ", text)


def options_of(question: str) -> list[str]:
    return listed(question.split(": ")[1].split("?")[0])


def sums(question: str) -> str:
    first, second, *given = numbers(question)
    return str(first + second - sum(given))


def comparisons(question: str) -> str:
    low, high, *rest = [float(number) for number in re.findall(r"[\d.]*\d", question)]
    (found,) = [number for number in rest if low < number < high]
    return f"{found:g}"


def sequences(question: str) -> str:
    """By Newton's differences, which the next term of a polynomial follows."""
    a, b, c, d = numbers(question)
    second, last = d - c - (c - b), c - b - (b - a)
    return str(d + (d - c) + second if second == last else None)


def weekdays(question: str) -> str:
    shift, day = moved(question, "day")
    return DAYS[(DAYS.index(day) + shift) % 7]


def moved(question: str, unit: str) -> tuple[int, str]:
    n, way, name = re.search(rf"(the|\d+) {unit}s? (after|before) (\w+)\.", question).groups()  # type: ignore[union-attr]
    return (1 if n == "the" else int(n)) * (1 if way == "after" else -1), name


def months(question: str) -> str:
    if "On which date" not in question:
        shift, month = moved(question, "month")
        return MONTHS[(MONTHS.index(month) + shift) % 12]
    (day, far), month = numbers(question), re.search(r"for \d+ (\w+)\.", question)[1]  # type: ignore[index]
    date = datetime.date(2023, MONTHS.index(month) + 1, day) + datetime.timedelta(far)
    return f"{date.day} {MONTHS[date.month - 1]}"


def clock(question: str) -> str:
    hour, minute = re.search(r"at (\d+):(\d+)", question).groups()  # type: ignore[union-attr]
    hours = re.search(r"(\d+) hours?", question)
    minutes = re.search(r"(\d+) minutes", question)
    start = datetime.datetime(2024, 1, 1, int(hour), int(minute))
    end = start + datetime.timedelta(hours=int(hours[1]) if hours else 0, minutes=int(minutes[1]) if minutes else 0)
    return end.strftime("%H:%M")


def units(question: str) -> str:
    asked = re.search(r"(?:How many (\w+) is|is that in (\w+)|in (\w+): how)", question)
    small = next(name for name in asked.groups() if name)  # type: ignore[union-attr]
    large, n = next(
        (unit, int(count)) for count, unit in re.findall(r"(\d+) (\w+)", question) if f"{unit} {small}" in FACTORS
    )
    rest = re.search(rf"and (\d+) {small}", question)
    return str(n * FACTORS[f"{large} {small}"] + (int(rest[1]) if rest else 0))


def letters(question: str) -> str:
    place, name = re.search(r'the (\w+) letter of the name "(\w+)"', question).groups()  # type: ignore[union-attr]
    return (name[-1] if place == "last" else name[PLACES.index(place)]).upper()


def spelling(question: str) -> str:
    return "-".join(question.split('"')[1].upper())


def counting(question: str) -> str:
    if letter := re.search(r'the letter "(.)" .*: "(.*)"', question):
        return str(sum(one == letter[1] for one in letter[2].lower()))
    if colour := re.search(r"of the cars are (\w+)", question):
        return str(len(re.findall(rf"\b{colour[1]}\b", question)) - 1)
    return str(len(listed(re.search(r"buys (.*?)\. ", question)[1])))  # type: ignore[index]


def sorting(question: str) -> str:
    low, high = re.findall(r'"(\w+)"', question)
    (found,) = [word for word in options_of(question) if low < word < high]
    return found


def kinds(question: str) -> str:
    asked = re.search(r"a kind of (\w+)", question)
    kind = asked[1] if asked else KIND_OF[question.split('"')[1]]
    (found,) = [word for word in options_of(question) if KIND_OF[word] == kind]
    return found


def odd_one_out(question: str) -> str:
    kinds = [KIND_OF[word] for word in options_of(question)]
    (found,) = [word for word in options_of(question) if kinds.count(KIND_OF[word]) == 1]
    return found


def opposites(question: str) -> str:
    word = question.split('"')[1]
    (found,) = {right for pairs in OPPOSITES for left, right in pairs if left == word and right in options_of(question)}
    return found


def capitals(question: str) -> str:
    country = re.search(r"capital of (.*?)\.", question)[1]  # type: ignore[index]
    return next(city for countries in COUNTRIES for name, city, _ in countries if name == country)


def continents(question: str) -> str:
    asked = re.search(r"lies in (.*?):", question)[1]  # type: ignore[index]
    where = {name: continent for countries in COUNTRIES for name, _, continent in countries}
    (found,) = [name for name in options_of(question) if where[name] == asked]
    return found


def agreement(question: str) -> str:
    """The subject's number, by the noun behind the first article, against the verb's."""
    first, second = re.findall(r"The [^/]*?\.", question)
    plural = bool(re.match(r"The (\w+s|children|women|men|mice) ", first))
    for a, b in zip(first.split(), second.split(), strict=True):
        if a != b:
            singular = first if a in ("is", "was", "has") or a == b + "s" else second
            return (second if singular == first else first) if plural else singular
    raise AssertionError(question)


def rules(question: str) -> str:
    is_a = dict(re.findall(r"Every (\w+) is (?:a )?(\w+)\.", question))
    found = re.search(r"has a (\w+)\.", question)[1]  # type: ignore[index]
    while found in is_a:
        found = is_a[found]
    return found


def ranking(question: str) -> str:
    over = re.findall(r"(\w+) is (\w+) than (\w+)", question)
    up = ("taller", "older", "faster", "richer")
    pairs = {(a, b) if word in up else (b, a) for a, word, b in over}
    people = {who for pair in pairs for who in pair}
    top = any(word in question for word in ("tallest", "oldest", "fastest", "richest"))
    (found,) = people - {pair[1 if top else 0] for pair in pairs}
    return found


def negation(question: str) -> str:
    if positive := re.search(r"(?:it is|\w's \w+ is) (\w+)\.", question):
        return positive[1]
    said = listed(re.search(r"is (\w+, .*?)\. It is neither", question)[1])  # type: ignore[index]
    (found,) = [colour for colour in said if question.count(colour) == 1]
    return found


def passages(question: str) -> str:
    if owner := re.search(r"owner of the (\w+) work", question):
        who = re.search(rf"(\w+) keeps a {owner[1]}\.", question)[1]  # type: ignore[index]
    else:
        who = re.search(r"(?:does|town does) (\w+) (?:live|work)", question)[1]  # type: ignore[index]
    return re.search(rf"{who} (?:works as a \w+|is a \w+ and lives) in (\w+)", question)[1]  # type: ignore[index]


def places(question: str) -> str:
    things = listed(re.search(r"list is: (.*?)\. ", question)[1])  # type: ignore[index]
    place = re.search(r"the (\w+) thing", question)[1]  # type: ignore[index]
    return things[-1] if place == "last" else things[PLACES.index(place)]


def products(question: str) -> str:
    a, b = numbers(question)
    return str(a * b)


SOLVERS: dict[str, Callable[[str], str]] = {
    "sums": sums, "products": products, "comparisons": comparisons, "sequences": sequences, "weekdays": weekdays,
    "months": months, "clock": clock, "units": units, "letters": letters, "spelling": spelling, "counting": counting,
    "sorting": sorting, "kinds": kinds, "odd_one_out": odd_one_out, "opposites": opposites, "capitals": capitals,
    "continents": continents, "agreement": agreement, "rules": rules, "ranking": ranking, "negation": negation,
    "passages": passages, "places": places,
}  # fmt: skip
