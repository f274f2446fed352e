"""Conclusions from rules and orders whose names are invented.

Finding something in a short text that is made for the question.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

from lastresort.gate.suites.families.family import (
    COLOURS,
    JOBS,
    PEOPLE,
    PETS,
    THINGS,
    TOWNS,
    ChoiceQuestion,
    Family,
    invented,
    one_of,
    shuffled,
)
from lastresort.report.words.wording import listed


def rules(level: int, random: Random) -> ChoiceQuestion:
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


def ranking(level: int, random: Random) -> ChoiceQuestion:
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


def negation(level: int, random: Random) -> ChoiceQuestion:
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
        story = f"{who}'s {thing} is {right}. It is not {one_of(others)}."
    else:
        shown = random.sample(colours, 4)
        story = (
            f"{who}'s {thing} is {one_of(shown)}. It is neither {others[0]} nor {others[1]}, and it is not {others[2]}."
        )
    question = f"{story} Which colour is {who}'s {thing}? Answer with the colour."
    return shuffled(question, right, others, level, random)


LOGIC = (
    Family("rules", rules, "rules that are told"),
    Family("ranking", ranking, "1: in order, 2: in any order, 3: also turned round"),
    Family("negation", negation, "1: one thing it is not, 2: three, 3: what it is is not said"),
)


_PLACES = ("first", "second", "third", "fourth", "fifth", "sixth")


def passages(level: int, random: Random) -> ChoiceQuestion:
    """Where somebody lives, out of one sentence, four, or four by way of the job, in the town of one other person's pet."""
    people, towns = random.sample(PEOPLE, 4), random.sample(TOWNS, 4)
    jobs, pets = random.sample(JOBS, 4), random.sample(PETS, 4)
    asked = random.randrange(4)
    if level == 1:
        text = f"{people[asked]} is a {jobs[asked]} and lives in {towns[asked]} with a {pets[asked]}."
        question = f"Where does {people[asked]} live?"
    else:
        jobs_told = [f"{people[i]} works as a {jobs[i]} in {towns[i]}." for i in range(4)]
        pets_told = [f"{people[i]} keeps a {pets[i]}." for i in range(4)]
        random.shuffle(pets_told)
        text = " ".join(jobs_told if level == 2 else jobs_told + pets_told)
        question = f"In which town does {people[asked] if level == 2 else f'the owner of the {pets[asked]}'} work?"
    sentences = text.count(".")
    others = [town for i, town in enumerate(towns) if i != asked]
    return shuffled(f"{text} {question} Answer with the town.", towns[asked], others, sentences, random)


def places(level: int, random: Random) -> ChoiceQuestion:
    """The first of a list; the last; the one at a place in the middle of a longer list."""
    n = (4, 5, 7)[level - 1]
    things = random.sample(THINGS, n)
    at = (0, n - 1, random.randint(2, 4))[level - 1]
    name = "last" if level == 2 else _PLACES[at]
    who = random.choice(PEOPLE)
    question = (
        f"{who}'s shopping list is: {listed(things)}. What is the {name} thing on the list? Answer with the word."
    )
    wrong = random.sample([thing for thing in things if thing != things[at]], 3)
    return shuffled(question, things[at], wrong, (1, n, 10 + at)[level - 1], random)


READING = (
    Family("passages", passages, "sentences of the text"),
    Family("places", places, "things up to the one that is asked for, and 10 more where it is in the middle"),
)
