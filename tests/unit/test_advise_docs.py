"""docs/advise.md shows the rules, facts and frameworks of the code. `python tests/unit/test_advise_docs.py` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from lastresort.advice.advise import RULES
from lastresort.advice.frameworks import FRAMEWORKS
from lastresort.advice.questions import QUESTIONS

PAGE = Path(__file__).parent.parent.parent / "docs" / "advise.md"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines)


def tables() -> dict[str, str]:
    rules = (
        (
            f"`{rule.name}`",
            rule.strength.lower(),
            rule.when,
            rule.because,
            rule.source,
            ", ".join(rule.favours),
            ", ".join(rule.opposes),
        )
        for rule in RULES
    )
    facts = (
        (f"`{one.fact}`", one.text, ", ".join(one.choices) or ("share" if one.kind == "bar" else one.kind))
        for one in QUESTIONS
    )
    frameworks = ((one.name, one.take_when, one.good_at, one.lacks) for one in FRAMEWORKS)
    return {
        "rules": table(("rule", "strength", "applies when", "because", "source", "for", "against"), rules),
        "facts": table(("fact", "question", "answers"), facts),
        "frameworks": table(("framework", "take it when", "good at", "lacks"), frameworks),
    }


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}: [^>]*-->\n)(.*?)(<!-- end of {name} -->)", re.DOTALL)


@pytest.mark.parametrize("name", ["rules", "facts", "frameworks"])
def test_the_page_shows_what_the_code_says(name: str) -> None:
    found = block(name).search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    assert found[2].strip() == tables()[name], "run python tests/unit/test_advise_docs.py"


def write() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, rows in tables().items():
        text = block(name).sub(lambda found, rows=rows: f"{found[1]}{rows}\n{found[3]}", text)  # type: ignore[misc]
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
