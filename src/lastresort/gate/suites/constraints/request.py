"""Requests with constraints: level 1 has one, level 2 two, level 3 three, each harder than the level below.

They are small requests about many subjects, and none of them is a prompt for replay.

Some constraints are met by chance, "at most 18 words" by any short answer. So the chance of a group and level is the score of
ANSWERS, which ignore all constraints, on its requests. CHANCE holds it for 2,000 requests each; a test computes it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from lastresort.gate.suites.constraints import GROUPS, KINDS, ConstraintKind
from lastresort.gate.suites.constraints.kinds import words

REQUESTS = (
    "Say something about {subject}.",
    "Describe {subject}.",
    "What comes to mind when you hear of {subject}?",
    "Why do some people like {subject}?",
    "Recommend {subject} to a friend.",
    "Advertise {subject}.",
    "What can go wrong with {subject}?",
    "Make up a very short story about {subject}.",
    "What would you tell a visitor about {subject}?",
    "Write a note to a colleague about {subject}.",
    "What did your grandparents think of {subject}?",
    "Convince me of {subject}.",
    "How would a poet see {subject}?",
    "Welcome a new member to a club for {subject}.",
    "Which season suits {subject} best, and why?",
    "Answer a stranger who asks what {subject} cost.",
)

SUBJECTS = (
    "wool socks", "paper kites", "rain barrels", "garden gnomes", "travelling by bus", "cold soup", "door bells",
    "mushroom picking", "ice skating", "crossword puzzles", "hammocks", "train stations", "window boxes", "flea markets",
    "sailing boats", "walking sticks", "alarm clocks", "picnic baskets", "snow shovels", "board games", "attic rooms",
    "swimming in lakes", "wooden spoons", "street musicians", "balconies", "rubber boots", "apple cake", "postcards",
    "riding a tandem", "camp fires", "roof terraces", "school choirs", "old maps", "singing in the car", "porridge",
    "ferries", "bookmarks", "bowling", "night shifts", "house plants", "mountain huts", "vegetable soup", "cuckoo clocks",
    "moving house", "fountains", "sandcastles", "pocket knives", "early mornings", "tree houses", "market stalls",
    "sledges", "cardboard boxes", "wind chimes", "herb gardens", "lost keys", "second-hand clothes", "toy trains",
    "mending clothes", "blackberries", "rowing", "corner shops", "holiday jobs", "long queues", "fireflies",
    "paper lanterns", "cable cars", "dog shows", "leather belts", "rocking chairs", "sewing kits", "garden sheds",
    "snowmen", "tap dancing", "city walls", "hot chocolate", "bus shelters", "kitchen scales", "silver spoons",
    "wedding cakes", "horse stables", "bath towels", "butterfly nets", "rainy Sundays", "wooden toys", "sun hats",
    "tin soldiers", "village fairs", "weather vanes", "dining cars", "park benches", "stone bridges", "pillow fights",
    "hazelnuts", "brass bands", "water mills", "shoe repair", "haircuts", "pancakes", "bird tables", "night markets",
    "ski lifts", "tea towels", "pumpkin soup", "door mats", "drum lessons", "garden hoses", "reading lamps", "mountain goats",
    "oil lamps", "clothes pegs", "jigsaw puzzles", "school trips", "tent poles", "apple orchards", "boat trips",
    "family albums", "carpets", "suitcases", "sea shells", "barn dances", "pine cones", "winter coats", "vending machines",
    "honey cake", "salt mines", "frozen lakes", "shop windows", "grape juice",
)  # fmt: skip


LEVELS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Request:
    """text: of the request. constraints: by the name of their kind."""

    text: str
    constraints: dict[str, dict[str, Any]]


def draw_request(group: str, level: int, random: Random) -> Request:
    """A request whose first constraint is from this group; the others are of any kind compatible with it."""
    first = random.choice([kind for kind in GROUPS[group] if not kind.idle])
    kinds = _compatible(first, level, random)
    constraints = {kind.name: kind.draw(level, random) for kind in kinds}
    request = random.choice(REQUESTS).format(subject=random.choice(SUBJECTS))
    demands = " ".join(kind.tell(constraints[kind.name]) for kind in kinds)
    return Request(f"{request} Keep it short. {demands}", constraints)


def _compatible(first: ConstraintKind, n: int, random: Random) -> list[ConstraintKind]:
    kinds = [first]
    others = [kind for kind in KINDS.values() if kind is not first]
    random.shuffle(others)
    for other in others:
        if len(kinds) < n and not any(other.aspects & kind.aspects for kind in kinds):
            kinds.append(other)
    return kinds


def keeps(answer: str, constraints: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the answer is not empty and keeps all constraints."""
    return bool(words(answer)) and all(KINDS[name].holds(answer, dict(facts)) for name, facts in constraints.items())


ANSWERS = (
    "Billing.",
    "I am not sure what to say about that.",
    "They are simple, cheap and more useful than one would think.",
    "Many people enjoy them in their free time because they bring back memories of childhood.",
    "It is a matter of taste. Some like them a lot, others never give them a thought, and that is fine.",
    "You should try it at least once! Start small, take your time and ask somebody who knows more about it than you do.",
    "There is not much to tell. They come in all sizes. A good one lasts for years, if one looks after it.",
    "Here is what comes to mind:\n- They are easy to find.\n- They do not cost much.\n- They make a nice gift.",
    "1. Think about what you need.\n2. Compare a few offers.\n3. Take the one that you like best.",
    '{"answer": "They are popular", "reason": "They are cheap"}',
    "Dear colleague,\n\nI wanted to tell you about this, since you asked last week. It has been a pleasure so far, and I would "
    "be glad to show you more of it.\n\nBest wishes,\nSam",
    "Once upon a time there was a small town in which everybody had one. One day they were all gone. Nobody knew why. In the "
    "evening a child came home and said that they had only gone for a walk.",
)

CHANCE: dict[str, tuple[float, float, float]] = {
    "shape": (0.018, 0.006, 0.0),
    "length": (0.255, 0.044, 0.006),
    "wording": (0.002, 0.001, 0.0),
    "letters": (0.027, 0.0, 0.0),
    "frame": (0.0, 0.0, 0.0),
}
