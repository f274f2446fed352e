"""A task of twelve documents, and a teacher that writes questions from them and reads the answers."""

from __future__ import annotations

import json
import re
from itertools import count
from pathlib import Path
from random import Random

from climb_support import scripted_task
from knowledge_support import written
from synth_support import CITIES, Row

WORDS = "heater kettle drill lantern tent stroller printer blender saddle router monitor scale".split()
DAYS = re.compile(r"The (\w+) can be returned within (\d+) days")


def document(word: str, days: int) -> str:
    return (
        f"# The {word}\n\n## Returns\n\nThe {word} can be returned within {days} days. It must be clean and in its box, with "
        f"all of its parts. Whoever sends the {word} back pays for the parcel, unless it came broken. Money goes back to the "
        f"card that paid for it, a week later at most.\n\n## Care\n\nWipe the {word} dry.\n"
    )


def asked_of(word: str, number: int) -> str:
    """A question about a thing that shares few words with others."""
    return f"{number} {' '.join(Random(number).choices(CITIES, k=6))}: when must the {word} go back?"


def questions(folder: Path, task: Row | None = None, named: Row | None = None) -> Path:
    """A task of twelve documents and 60 questions without labels. named: the passages of the rows of dev and test."""
    settings = {
        "output": {},
        "score": "normalized",
        "about": "Answer the customer's question.",
        "knowledge": "docs",
        "retrieval": {"embedder": "hashing", "chunk_tokens": 120},
        "examples": {"train": "train.jsonl", "dev": "dev.jsonl", "test": "test.jsonl"},
        "split": {},
    }
    path = scripted_task(folder, quality=[], task=settings | (task or {}))
    number = count()
    for side, rows in (("train", 20), ("dev", 20), ("test", 20)):
        lines = []
        for n in (next(number) for _ in range(rows)):
            lines.append({"input": asked_of("lamp", n), "output": f"{n + 3} days", **(named or {}).get(side, {})})
        (folder / f"{side}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    written(folder / "docs", {f"{word}.md": document(word, 10 + n) for n, word in enumerate(WORDS)})
    return path


def asks(request: str, number: int) -> str:
    """Three questions from the passage of a request, with its number of days."""
    passage = json.loads(request.split("The passage:\n")[1].splitlines()[0])
    word, days = DAYS.search(passage["text"]).groups()
    texts = [asked_of(word, 1000 + 3 * number + n) for n in range(3)]
    return json.dumps({"rows": [{"input": text, "output": f"{days} days"} for text in texts]})


def reads(prompt: str) -> str:
    """The days of the passage in the prompt; a teacher that has none makes them up."""
    found = DAYS.search(prompt)
    return f"{found[2]} days" if found else "99 days"
