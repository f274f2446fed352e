"""Agreement of subject and verb. The options are whole sentences."""

from __future__ import annotations

from random import Random

from lastresort.evals.suites.families.family import Choice, Family, shuffled

_NOUNS = (
    ("dog", "dogs"), ("child", "children"), ("teacher", "teachers"), ("horse", "horses"), ("doctor", "doctors"),
    ("farmer", "farmers"), ("woman", "women"), ("man", "men"), ("singer", "singers"), ("sister", "sisters"),
    ("neighbour", "neighbours"), ("cat", "cats"), ("friend", "friends"), ("pilot", "pilots"), ("guest", "guests"),
    ("worker", "workers"), ("student", "students"), ("driver", "drivers"), ("bird", "birds"), ("mouse", "mice"),
)  # fmt: skip
_VERBS = (
    ("is", "are"), ("was", "were"), ("has been", "have been"), ("works", "work"), ("sleeps", "sleep"), ("waits", "wait"),
    ("lives", "live"), ("stands", "stand"), ("stays", "stay"), ("sits", "sit"),
)  # fmt: skip
_PLACES = (
    "in the garden", "near the river", "at the station", "behind the house", "in the kitchen", "by the lake", "on the bridge",
    "at the market", "in the old mill", "near the church", "in the next room", "at the gate", "on the beach", "in the village",
)  # fmt: skip
_BETWEEN = ("near", "behind", "beside", "with", "opposite", "in front of")


def agreement(level: int, random: Random) -> Choice:
    """Nothing between subject and verb; a noun of the other number; two of them and a clause."""
    number = random.randrange(2)
    nouns = random.sample(_NOUNS, 3)
    subject = f"The {nouns[0][number]}"
    if level > 1:
        subject += f" {random.choice(_BETWEEN)} the {nouns[1][1 - number]}"
    if level > 2:
        subject += f" that the {nouns[2][1 - number]} {random.choice(('knew', 'saw', 'called', 'liked', 'heard'))}"
    verbs, place = random.choice(_VERBS), random.choice(_PLACES)
    right, wrong = (f"{subject} {verbs[form]} {place}." for form in (number, 1 - number))
    shown = random.sample([right, wrong], 2)
    question = (
        f"Which of these two sentences is correct English? {shown[0]} / {shown[1]} Answer with the correct sentence."
    )
    return shuffled(question, right, [wrong], level - 1, random, f"{subject} {verbs[number]}")


GRAMMAR = (Family("agreement", agreement, "nouns of the other number between subject and verb", options=2),)
