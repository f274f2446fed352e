"""Numbers, names and lists as the report, the Markdown and the terminal write them.

Verdicts in the terminal: a mark, since colour alone must not carry the meaning, and a colour.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence

from lastresort.ladder import RUNGS
from lastresort.records.decision import RungView
from lastresort.records.reasons import UncountedCost

NO_BREAK = "\u00a0"


def state_of(rung: RungView | None) -> str:
    """How far a rung came. None: it is not among those of the run."""
    if rung is None:
        return "not tried"
    if rung.test is not None:
        return verdict(rung.test.verdict)
    if rung.applies:
        return "unfinished"  # a process may be at work on it, or none any more
    return "skipped" if rung.cost.is_zero else "given up"


def percent(share: float, digits: int = 1) -> str:
    """0.8125 -> "81.3%". A share just short of 1 or above 0 is never rounded to it."""
    text = f"{100 * share:.{digits}f}"
    smallest = 10.0**-digits
    if float(text) >= 100 and share < 1:
        text = f"{100 - smallest:.{digits}f}"
    if float(text) == 0 and share > 0:
        text = f"{smallest:.{digits}f}"
    return f"{text}%"


def round_percent(share: float) -> str:
    """As `percent`, without a decimal that is 0: for numbers that somebody chose, such as the bar."""
    return percent(share).replace(".0%", "%")


def rung_in_prose(name: str) -> str:
    """`sft` -> "SFT": what a rung is called in a sentence."""
    return (RUNGS[name].in_prose if name in RUNGS else "") or name


def capital(text: str) -> str:
    """At the start of a sentence."""
    return text[:1].upper() + text[1:]


def points(difference: float) -> str:
    """-0.021 -> "−2.1 points"."""
    return f"{100 * difference:+.1f} points".replace("-", "−")


def in_points(difference: float | None, digits: int = 1) -> str:
    """-0.021 -> "−2.1": where a column is of points."""
    if difference is None:
        return ""
    text = f"{100 * difference:+.{digits}f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def in_limits(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{in_points(interval[0])} to {in_points(interval[1])}"


def points_of(difference: float) -> str:
    """0.03 -> "3 points", 0.0125 -> "1.3 points", 0.01 -> "1 point": in a sentence."""
    text = f"{100 * difference:.1f}".removesuffix(".0")
    return f"{text} point{'' if text in ('1', '-1') else 's'}"


def count(number: float) -> str:
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """Two units at most: "0.4 s", "42 s", "24 min 10 s", "3 h 12 min"."""
    if seconds < 10:
        return f"{seconds:.1f}{NO_BREAK}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NO_BREAK}s"
    if whole < 3600:
        return f"{whole // 60}{NO_BREAK}min" + (f" {whole % 60}{NO_BREAK}s" if whole % 60 else "")
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}{NO_BREAK}h" + (f" {minutes}{NO_BREAK}min" if minutes else "")


def short_duration(seconds: float) -> str:
    """As `duration`, with "40 ms" below a second: for single calls."""
    return f"{1000 * seconds:.0f}{NO_BREAK}ms" if seconds < 1 else duration(seconds)


def money(usd: float | None) -> str:
    """None: spent, at an unknown price."""
    if usd is None:
        return f"${NO_BREAK}unknown"
    if usd == 0:
        return "$0"
    if usd < 0.01:
        return f"<{NO_BREAK}$0.01"
    return f"${usd:,.2f}"


_UNCOUNTED: dict[UncountedCost, str] = {
    "answer_price": "the price of the answers",
    "judge_time": "the judge's time",
    "judge_price": "the judge's price",
}


def forecast_figures(seconds: float | None, usd: float | None, uncounted: Sequence[UncountedCost]) -> str:
    """ "about 2 min and $0.50, without the judge's time, which is not known"; "" where nothing is known. uncounted: what is not in
    the figures.
    """
    parts = [] if seconds is None else [duration(seconds)]
    parts += [money(usd)] if usd else []
    if not parts:
        return ""
    are = "are" if len(uncounted) > 1 else "is"
    without = f", without {listed(_UNCOUNTED[cost] for cost in uncounted)}, which {are} not known"
    return f"about {' and '.join(parts)}{without if uncounted else ''}"


def of_one_process(shared: str) -> str:
    """After the forecast of a command with `--ray`. shared: what its workers share."""
    return f"This time is that of one process; the workers of --ray share the {shared}."


def price(usd: float) -> str:
    """Money of any size with at least three digits that count: "$12.40", "$0.0412"; a cent is not the smallest amount here."""
    if usd == 0:
        return "$0"
    if usd >= 1:
        return f"${usd:,.2f}"
    digits = 2 - math.floor(math.log10(usd))
    text = f"{usd:.{digits}f}".rstrip("0")
    return f"${text.ljust(4, '0')}"


def spaced(text: str) -> str:
    """With ordinary spaces, for sentences that are stored or logged."""
    return text.replace(NO_BREAK, " ")


def interval(limits: Iterable[float]) -> str:
    low, high = limits
    return f"{100 * low:.1f}–{percent(high)}"


def verdict(name: str) -> str:
    return name.replace("_", " ")


def listed(names: Iterable[str], joint: str = "and") -> str:
    """`a, b and c`."""
    words = list(names)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {joint} {words[-1]}" if words else ""


def times(ratio: float) -> str:
    return f"{ratio:.1f}{NO_BREAK}×"


def counted(number: float, unit: str) -> str:
    """ "1 item", "1,240 groups"."""
    return f"{count(number)} {unit}{'' if number == 1 else 's'}"


def stopped(text: str) -> str:
    """With a full stop, or the sign it ends in."""
    text = text.strip()
    return text if not text or text[-1] in ".!?…" else f"{text}."


def sentence(text: str) -> str:
    """With a capital, unless it begins with a name such as lm_eval:mmlu or a path, and a full stop."""
    text = stopped(text)
    first = text.partition(" ")[0].rstrip(":.")
    return text if any(sign in first for sign in ":_/") else text[:1].upper() + text[1:]


def printable(text: str) -> str:
    """Text from outside without control characters, which could move the cursor or overwrite other text."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def shortened(text: str, longest: int = 160) -> str:
    """On one line, cut at `longest` characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


MARKS = {"MET": "●", "NOT_MET": "×", "UNDECIDED": "◇"}
MARKS |= {"NON_INFERIOR": "●", "REGRESSED": "×", "UNDERPOWERED": "◇", "UNINFORMATIVE": "○", "SKIPPED": "–"}

STYLES = {"MET": "green", "NOT_MET": "red", "UNDECIDED": "yellow", "SHIP": "green", "HOLD": "yellow", "REJECT": "red"}
STYLES |= {
    "NON_INFERIOR": "green",
    "REGRESSED": "red",
    "UNDERPOWERED": "yellow",
    "UNINFORMATIVE": "yellow",
    "SKIPPED": "dim",
}


def yaml_name(name: str) -> str:
    """A path as it stands in a task file, in quotes where YAML would read it otherwise."""
    return name if re.fullmatch(r"[\w./-]+", name) else json.dumps(name, ensure_ascii=False)
