"""Conclusions from rules and orders whose names are invented."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from lastresort.evals.suites.families.family import Choice, Family, listed, shuffled
from lastresort.evals.suites.families.names import COLOURS, PEOPLE, invented


def rules(level: int, random: Random) -> Choice:
    """Every pim is red: one rule; four rules; four rules and a chain of two more to come to the right one."""
    words = invented(random, 6)
    colours = random.sample(COLOURS, 4)
    who = random.choice(PEOPLE)
    n = 1 if level == 1 else 4
    said = [f"Every {word} is {colour}." for word, colour in zip(words[:n], colours[:n], strict=True)]
    first = words[0]
    if level == 3:
        said += [f"Every {words[4]} is a {words[0]}.", f"Every {words[5]} is a {words[4]}."]
        first = words[5]
    random.shuffle(said)
    question = f"{' '.join(said)} {who} has a {first}. Which colour is it? Answer with the colour."
    return shuffled(question, colours[0], colours[1:], len(said), random)


def ranking(level: int, random: Random) -> Choice:
    """Who is tallest: told in order; in any order; in any order and both ways."""
    more, less, most, least = random.choice(
        (("taller", "smaller", "tallest", "smallest"), ("older", "younger", "oldest", "youngest"),
         ("faster", "slower", "fastest", "slowest"), ("richer", "poorer", "richest", "poorest"))
    )  # fmt: skip
    people = random.sample(PEOPLE, 4)
    steps = list(pairwise(people))
    if level > 1:
        random.shuffle(steps)
    turned = [level == 3 and random.random() < 0.5 for _ in steps]
    if level == 3 and not any(turned):
        turned[random.randrange(3)] = True
    said = [
        f"{b} is {less} than {a}." if turn else f"{a} is {more} than {b}."
        for (a, b), turn in zip(steps, turned, strict=True)
    ]
    top = random.random() < 0.5
    right = people[0] if top else people[-1]
    question = f"{' '.join(said)} Who is the {most if top else least}? Answer with the name."
    return shuffled(question, right, [who for who in people if who != right], level, random)


def negation(level: int, random: Random) -> Choice:
    """Two things, three or four: what they are not is said, and of one what it is."""
    who = random.choice(PEOPLE)
    colours = random.sample(COLOURS, 4)
    thing = random.choice(
        ("coat", "door", "bag", "car", "boat", "cup", "lamp", "chair", "hat", "tent", "fence", "roof")
    )
    right, others = colours[0], colours[1:]
    if level == 1:
        story = f"{who}'s {thing} is not {others[0]}, it is {right}."
    elif level == 2:
        story = f"{who}'s {thing} is {right}. It is not {listed(others)}."
    else:
        shown = random.sample(colours, 4)
        story = (
            f"{who}'s {thing} is {listed(shown)}. It is neither {others[0]} nor {others[1]}, and it is not {others[2]}."
        )
    question = f"{story} Which colour is {who}'s {thing}? Answer with the colour."
    return shuffled(question, right, others, level, random)


LOGIC = (
    Family("rules", rules, "rules that are told"),
    Family("ranking", ranking, "1: in order, 2: in any order, 3: also turned round"),
    Family("negation", negation, "1: one thing it is not, 2: three, 3: what it is is not said"),
)
