"""Finding something in a short text that is made for the question."""

from __future__ import annotations

from random import Random

from lastresort.evals.suites.families.family import Choice, Family, listed, shuffled
from lastresort.evals.suites.families.names import JOBS, PEOPLE, PETS, THINGS, TOWNS

_PLACES = ("first", "second", "third", "fourth", "fifth", "sixth")


def passages(level: int, random: Random) -> Choice:
    """Where somebody lives, out of one sentence, four, or four by way of the job, in the town of one other person's pet."""
    people, towns = random.sample(PEOPLE, 4), random.sample(TOWNS, 4)
    jobs, pets = random.sample(JOBS, 4), random.sample(PETS, 4)
    asked = random.randrange(4)
    if level == 1:
        text = f"{people[asked]} is a {jobs[asked]} and lives in {towns[asked]} with a {pets[asked]}."
        question = f"Where does {people[asked]} live?"
    else:
        told = [f"{people[i]} works as a {jobs[i]} in {towns[i]}." for i in range(4)]
        kept = [f"{people[i]} keeps a {pets[i]}." for i in range(4)]
        random.shuffle(kept)
        text = " ".join(told if level == 2 else told + kept)
        question = f"In which town does {people[asked] if level == 2 else f'the owner of the {pets[asked]}'} work?"
    sentences = text.count(".")
    others = [town for i, town in enumerate(towns) if i != asked]
    return shuffled(f"{text} {question} Answer with the town.", towns[asked], others, sentences, random)


def places(level: int, random: Random) -> Choice:
    """The first of a list; the last; the one at a place in the middle of a longer list."""
    n = (4, 5, 7)[level - 1]
    things = random.sample(THINGS, n)
    at = (0, n - 1, random.randint(2, 4))[level - 1]
    name = "last" if level == 2 else _PLACES[at]
    who = random.choice(PEOPLE)
    question = f"{who}'s shopping list is: {listed(things, 'and')}. What is the {name} thing on the list? Answer with the word."
    wrong = random.sample([thing for thing in things if thing != things[at]], 3)
    return shuffled(question, things[at], wrong, (1, n, 10 + at)[level - 1], random)


READING = (
    Family("passages", passages, "sentences of the text"),
    Family("places", places, "things up to the one that is asked for, and 10 more where it is in the middle"),
)
