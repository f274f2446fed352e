"""Replay rows: answered by the base model itself, so that tuning keeps what it does not mean to change.

They add no new knowledge and pull its general behaviour back to where it was. General prompts are everyday requests over many
subjects, written for this project. Counter-requests set the task aside for once: a real input under the task's own instruction, and
then something else is asked of it. A model that has only ever seen one form under an instruction answers in it whatever is asked.
Probes that ask whether tuning broke something must not ask any of these prompts and wordings: replay would train for the test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lastresort.data.wording import filled, how_many
from lastresort.models.protocol import Model
from lastresort.types import Answer, Decoding, Example, Message, ReplayPrompts

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


def most_prompts(kind: ReplayPrompts) -> int:
    """How many different general prompts there are."""
    return how_many("wide") if kind == "wide" else len(REQUESTS) * len(SUBJECTS)


def general_prompts(n: int, seed: int, kind: ReplayPrompts = "everyday") -> list[str]:
    """n different prompts (at most `most_prompts`; beyond that all of them), drawn by seed.

    everyday: 20 requests about 60 subjects. wide: 100 sentences of many kinds (instructions, questions, passages with questions,
    lists; for answers of a word or of a page), each once before one comes again with other words.
    """
    if kind == "wide":
        return [filled("wide", seed, number) for number in range(min(n, how_many("wide")))]
    pairs = [(request, subject) for request in REQUESTS for subject in SUBJECTS]
    random.Random(f"general:{seed}").shuffle(pairs)
    return [request.format(subject=subject) for request, subject in pairs[:n]]


COUNTER_REQUESTS = (
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
    first = drawn.randrange(len(COUNTER_REQUESTS))
    return [
        f"{text}\n\n{COUNTER_REQUESTS[(first + number) % len(COUNTER_REQUESTS)]}" for number, text in enumerate(chosen)
    ]


REPLAY_TOKENS = 96


@dataclass(frozen=True, slots=True)
class Replay:
    """Rows for replay. ends[i] is False where the answer was cut, so that its end must not be trained.

    tokens_in, tokens_out, seconds: what making them took.
    """

    examples: tuple[Example, ...] = ()
    ends: tuple[bool, ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0


def generate_replay(
    model: Model,
    prompts: Sequence[tuple[Message, ...]],
    seed: int,
    *,
    keep: Callable[[str], bool] = bool,
    on_batch: Callable[[int], None] = lambda _: None,
) -> Replay:
    """The prompts answered greedily by `model`, in turn. keep: of an answer, whether it is to be trained; empty ones never are."""
    decoding = Decoding(REPLAY_TOKENS, seed=seed)
    examples: list[Example] = []
    ends: list[bool] = []
    answers: list[Answer] = []
    for start in range(0, len(prompts), model.batch_size):
        batch = prompts[start : start + model.batch_size]
        answers += model.generate(batch, decoding)
        for offset, answer in enumerate(answers[start:]):
            text = answer.text.strip()
            if text and keep(text):
                examples.append(Example(f"replay-{start + offset}", batch[offset], text))
                ends.append(answer.finish == "stop")
        on_batch(len(batch))
    return Replay(
        tuple(examples),
        tuple(ends),
        sum(answer.prompt_tokens for answer in answers),
        sum(answer.completion_tokens for answer in answers),
        sum(answer.seconds for answer in answers),
    )


def replay_rows(n_train: int, share: float) -> int:
    """How many replay rows make `share` of the whole training set."""
    return round(n_train * share / (1.0 - share))
