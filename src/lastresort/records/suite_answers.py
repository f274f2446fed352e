"""What models said to the items of the gate's suites: a base is asked once for every version of a suite."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lastresort.errors import DataError
from lastresort.records.refillable import Refillable

APPLICATION = 0x4C617247  # "LarG"
MIGRATIONS = (
    """
    CREATE TABLE answer (
        model TEXT NOT NULL, suite TEXT NOT NULL, version INTEGER NOT NULL, mode TEXT NOT NULL, item TEXT NOT NULL,
        opening TEXT NOT NULL, said TEXT NOT NULL, seconds REAL NOT NULL,
        PRIMARY KEY (model, suite, version, mode, item, opening)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE answer ADD COLUMN tokens_in INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE answer ADD COLUMN tokens_out INTEGER NOT NULL DEFAULT 0;
    """,
)


@dataclass(frozen=True, slots=True)
class Asking:
    """Who was asked what. model: its fingerprint and what computes it. mode: how the suite asks, where it has several ways."""

    model: str
    suite: str
    version: int
    mode: str = ""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """said: what was said, JSON-able; None where the model's context cannot hold the item. seconds: its share of its batch.
    tokens_in, tokens_out: read and said for it; 0 where a version kept it that did not count them.
    """

    said: dict[str, Any] | None
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0


class SuiteAnswers:
    """Answers by who was asked what, and the item. Several processes may share the file; it can always be refilled.

    opening: hash of what an item asks first, and of its facts, by which it asks on. An item of the same name that asks something
    else is another one, also where a suite's version was not raised.
    """

    def __init__(self, path: Path) -> None:
        self._file = Refillable(
            path, application=APPLICATION, migrations=MIGRATIONS, what="The kept answers of the gate start anew"
        )

    def known(self, asking: Asking, openings: Mapping[str, str]) -> dict[str, KeptAnswer]:
        """Those of these items that are known. openings: by item id."""
        found: dict[str, KeptAnswer] = {}
        query = (
            "SELECT item, opening, said, seconds, tokens_in, tokens_out FROM answer "
            "WHERE model = ? AND suite = ? AND version = ? AND mode = ? AND item IN ({keys})"
        )
        try:
            for row in self._file.database.rows_of(query, list(openings), _values(asking)):
                if row["opening"] == openings[row["item"]]:
                    tokens = row["tokens_in"], row["tokens_out"]
                    found[row["item"]] = KeptAnswer(json.loads(row["said"]), row["seconds"], *tokens)
        except (DataError, json.JSONDecodeError) as damage:
            self._file.start_anew(damage)
            return {}
        return found

    def put(self, asking: Asking, openings: Mapping[str, str], answers: Mapping[str, KeptAnswer]) -> None:
        """Store all or none. Of two answers of one item the first stays."""
        rows = [
            (
                *_values(asking),
                item,
                openings[item],
                json.dumps(kept.said),
                kept.seconds,
                kept.tokens_in,
                kept.tokens_out,
            )
            for item, kept in answers.items()
        ]
        self._file.insert("INSERT OR IGNORE INTO answer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _values(asking: Asking) -> tuple[Any, ...]:
    return (asking.model, asking.suite, asking.version, asking.mode)
