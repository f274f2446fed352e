"""Write harbour.jsonl: what boats say on the radio of an invented harbour, and the line of its log, with the boat and the time.

The log has the 24-hour clock, people say "ten past seven in the evening". The afternoon is busiest: its hours come twice as often
as those of the morning, which need no arithmetic. Boats and times are drawn independently, so a list of known answers does not
help: 5% of the test messages have the boat and time of a training message, and 44% say their time as no training message does.

Run: python make_harbour.py   (writes the same bytes every time; a test checks it)
"""

from __future__ import annotations

import json
import random
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEED, ROWS = 11, 900

BOATS = (
    "Petrel", "Bluebell", "Anna", "Curlew", "Morning Star", "Otter", "Juniper", "Heron", "Clementine", "Tern", "Sandpiper",
    "Dolphin", "Maribel", "Gannet", "Primrose", "Osprey", "Lavender", "Puffin", "Silver Spray", "Kestrel", "Marigold", "Plover",
    "Susanna", "Seagull", "Amber", "Cormorant", "Swallow", "Northwind", "Dora", "Starling",
)  # fmt: skip
ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = {20: "twenty", 30: "thirty", 40: "forty", 50: "fifty"}
PAST = {10: "ten", 15: "quarter", 20: "twenty", 30: "half"}
PARTS = {"in the morning": range(7, 12), "in the afternoon": range(13, 18), "in the evening": range(18, 22)}
BUSY = {"in the morning": 2, "in the afternoon": 4, "in the evening": 3}
HOURS = [hour for part, hours in PARTS.items() for hour in hours for _ in range(BUSY[part])]
MESSAGES = (
    "{boat} here, we shall be in at {time}.",
    "This is {boat}. Please keep the berth free at {time}.",
    "{boat} to harbour: we cast off at {time}.",
    "We passed the buoy at {time}. {boat}, over.",
    "{boat} calling. The pilot may come aboard at {time}.",
    "Harbour, expect {boat} at {time}.",
    "Fuel for {boat} at {time}, please.",
    "At {time} we shall need the crane. This is {boat}.",
    "{boat} here. The tow is ordered for {time}.",
    "We heard {boat} sound her horn at {time}.",
    "{boat} has been aground since {time}, all well.",
    "Can {boat} use the slip at {time}?",
)


def in_words(minute: int) -> str:
    """5 -> oh five, 17 -> seventeen, 43 -> forty-three."""
    if minute < 10:
        return f"oh {ONES[minute]}"
    if minute < 20:
        return ONES[minute]
    tens, ones = divmod(minute, 10)
    return TENS[10 * tens] + (f"-{ONES[ones]}" if ones else "")


def spoken(hour: int, minute: int, draw: random.Random) -> str:
    """A time as people say it."""
    name, part = ONES[(hour - 1) % 12 + 1], next(part for part, hours in PARTS.items() if hour in hours)
    if minute == 0:
        return f"{name} o'clock {part}"
    if minute in PAST and draw.random() < 0.8:
        return f"{PAST[minute]} past {name} {part}"
    return f"{name} {in_words(minute)} {part}"


def made() -> list[dict[str, object]]:
    """The rows, in random order, no message twice."""
    draw = random.Random(SEED)
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < ROWS:
        boat, hour = draw.choice(BOATS), draw.choice(HOURS)
        minute = draw.randrange(60) if draw.random() < 0.6 else draw.randrange(0, 60, 5)
        text = draw.choice(MESSAGES).format(boat=boat, time=spoken(hour, minute, draw))
        rows[text] = {"boat": boat, "time": f"{hour:02d}:{minute:02d}"}
    return [{"id": f"message-{n}", "input": text, "output": row} for n, (text, row) in enumerate(rows.items(), 1)]


if __name__ == "__main__":
    lines = "".join(json.dumps(row) + "\n" for row in made())
    (HERE / "harbour.jsonl").write_text(lines, encoding="utf-8", newline="\n")
