"""What a check of a task's data found: `lastresort data check --json`, and a part of every run's record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lastresort.records.document import Count, JsonDocument, Sentence, Share
from lastresort.types import row_of_file

Severity = Literal["error", "warning", "note"]
Side = Literal["train", "dev", "test"]
FindingKind = Literal[
    "exact_duplicates",
    "near_duplicates",
    "exact_leaks",
    "near_leaks",
    "dev_in_test",
    "shared_source",
    "conflicting_labels",
    "invalid_outputs",
    "too_long",
    "inputs_codes",
    "labels_unseen",
    "labels_unused",
    "labels_respelt",
    "labels_stripped",
    "labels_rare",
]


class Place(JsonDocument):
    """An example in its file. row: 0 where the file has no rows. line: as of an `Example`."""

    side: Side
    id: str
    row: Count
    source: str
    line: Count = 0

    def __str__(self) -> str:
        if not self.row:
            return f'{self.side} "{self.id}"'
        return f"{row_of_file(self.row, self.line, self.source)} in {self.side}"


class Finding(JsonDocument):
    """One kind of fault and every occurrence of it.

    severity: an error makes the measurements worthless until it is fixed; a warning distorts them, or would if a climb did not
    remove it by itself, as it does with leaking rows of train; a note only costs effort. places: the examples of each
    occurrence, two for a pair, one for an output. details: one for each occurrence, or none.
    """

    kind: FindingKind
    severity: Severity
    says: Sentence
    count: Count
    places: tuple[tuple[Place, ...], ...] = ()
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RowsLeftOut:
    """n rows that are neither trained nor measured on: they are in dev or test, too, or synthetic and made from rows that are not
    in train, of a held-out group or from a passage of dev or test, or repeat an input of their own side.
    """

    rows: Literal["train", "preferences", "dev", "test"]
    because: Literal["in dev or test", "not made from train", "from a held passage", "in test", "repeated"]
    n: int


class DataReport(JsonDocument):
    """ok: no finding is an error. counts: rows as they were read and divided. synthetic: how many of those of train are. labels:
    examples by label and split, empty for free text. tokens: quantiles by split. left_out: rows that a climb neither trains nor
    measures on.
    """

    ok: bool
    counts: dict[Side, Count]
    labels: dict[str, dict[Side, Count]]
    tokens: dict[Side, dict[str, Count]]
    findings: tuple[Finding, ...]
    left_out: tuple[RowsLeftOut, ...] = ()
    synthetic: Count = 0

    def __repr__(self) -> str:
        rows = ", ".join(f"{n} {side}" for side, n in self.counts.items())
        found = ", ".join(finding.kind for finding in self.findings) or "nothing"
        return f"<DataReport {'ok' if self.ok else 'not ok'}: {rows}; found {found}>"

    def used(self, side: Side) -> int:
        """Rows of a side that a climb trains or measures on."""
        return self.counts.get(side, 0) - sum(one.n for one in self.left_out if one.rows == side)

    def finding(self, kind: FindingKind) -> Finding | None:
        return next((finding for finding in self.findings if finding.kind == kind), None)


PreferenceFault = Literal["too_long", "same_answers", "prompts_differ"]
PREFERENCE_FAULTS: dict[PreferenceFault, str] = {
    "too_long": "longer than the context",
    "same_answers": "chosen and rejected the same",
    "prompts_differ": "their prompts' tokens differ",
}


class PreferenceReport(JsonDocument):
    """pairs, good, bad: how many there are, without those whose input is in dev or test (`leaking`).

    opposed: pairs that are also there the other way round, or answers labelled both ways. repeated: copies beyond the first.
    left_out: how many cannot be trained on, by what is wrong: longer than the context, both answers the same, or prompts whose
    tokens differ with the answer. longer: how often the better answer is the longer one, in characters, among comparisons that
    differ in length; null where there are none.
    """

    pairs: Count
    good: Count
    bad: Count
    leaking: Count
    opposed: Count
    repeated: Count
    left_out: dict[PreferenceFault, Count]
    longer: Share | None
