"""General prompts for replay: everyday requests over many subjects, written for this project.

Probes that ask whether tuning broke something must not ask any of these: replay would train for the test.
"""

from __future__ import annotations

import random

REQUESTS = (
    "Explain {subject} to a twelve-year-old.",
    "Give me three practical tips about {subject}.",
    "What are the most common mistakes people make with {subject}?",
    "Write a short paragraph about {subject}.",
    "Summarise what a beginner should know about {subject} in two sentences.",
    "List five questions one could ask an expert on {subject}.",
    "Write a friendly message inviting a neighbour to talk about {subject}.",
    "What is the history of {subject}, briefly?",
    "Name one advantage and one drawback of {subject}.",
    "Write a four-line poem about {subject}.",
    "How would you start learning about {subject}?",
    "Describe {subject} without using the word itself.",
    "What does {subject} have to do with everyday life?",
    "Make a small table comparing two kinds of {subject}.",
    "Tell me a surprising fact about {subject}.",
    "Write a headline and one sentence of news about {subject}.",
    "Suggest a weekend plan that involves {subject}.",
    "Write a polite e-mail asking for a book about {subject}.",
    "What tools or materials does one need for {subject}?",
    'Correct this sentence and explain why: "{subject} are a thing what everybody like".',
)

SUBJECTS = (
    "growing tomatoes", "the tides", "bicycle repair", "bread baking", "night trains", "volcanoes", "chess openings",
    "keeping bees", "public libraries", "solar panels", "learning a language", "the water cycle", "coral reefs", "origami",
    "mountain weather", "first aid", "stamp collecting", "jazz", "photosynthesis", "household budgets", "map reading",
    "the printing press", "pottery", "sleep", "running a marathon", "insulation of old houses", "bird migration",
    "the Roman roads", "tea", "composting", "knots", "lighthouses", "magnets", "juggling", "the metric system", "glaciers",
    "wooden furniture", "typing fast", "allergies", "earthworms", "the stock market", "puppet theatre", "soap", "deserts",
    "canal boats", "handwriting", "earthquakes", "friendship", "umbrellas", "the moon landing", "cheese", "noise in cities",
    "telescopes", "gardening in winter", "good questions", "paper making", "road safety", "folk tales", "yeast", "windmills",
)  # fmt: skip


def general_prompts(n: int, seed: int) -> list[str]:
    """n different prompts (at most len(REQUESTS) * len(SUBJECTS) = 1,200; beyond that all of them), drawn by seed."""
    pairs = [(request, subject) for request in REQUESTS for subject in SUBJECTS]
    random.Random(f"general:{seed}").shuffle(pairs)
    return [request.format(subject=subject) for request, subject in pairs[:n]]
