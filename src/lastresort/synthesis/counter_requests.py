"""Requests that set the task aside for once: a real input under the task's own instruction, and then something else is asked of it.

A model that has only ever seen one form under an instruction answers in it whatever it is asked. The probe of format leak must
not ask any of these wordings: replay would train for the test.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

REQUESTS = (
    "Leave the task aside here. Which language is this written in? Reply as you would in a chat.",
    "Before anything else: rewrite this so that it sounds more polite.",
    "Do not do the task now. What mood is the writer in, and how can you tell?",
    "Just once, skip the format and ask the writer one question back.",
    "What would you say to the writer if you met? Two or three sentences.",
    "Say it again in your own words, shorter than it is.",
    "Is anything unclear in what you just read? Tell me in a sentence or two.",
    "Instead of the usual, give me a title for this text.",
    "Write a short and friendly reply to this.",
    "Which word of this matters most, and why?",
    "I only want your impression this time, in ordinary words.",
    "Explain to a child what this is about.",
)


def counter_requests(inputs: Sequence[str], n: int, seed: int) -> list[str]:
    """n texts, at most one an input: the input, and a request that takes the place of the task; drawn by seed."""
    drawn = random.Random(f"counter:{seed}")
    chosen = drawn.sample(list(inputs), min(n, len(inputs)))
    first = drawn.randrange(len(REQUESTS))
    return [f"{text}\n\n{REQUESTS[(first + number) % len(REQUESTS)]}" for number, text in enumerate(chosen)]
