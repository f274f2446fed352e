"""What a check of the data found, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
Side = Literal["train", "dev", "test"]
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Place:
    """Where an example stands."""

    side: Side
    id: str
    row: int
    source: str

    def __str__(self) -> str:
        return f"{self.side} row {self.row}" if self.row else f'{self.side} "{self.id}"'


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of fault and every place of it.

    kind: exact_duplicates, near_duplicates, exact_leaks, near_leaks, dev_in_test, conflicting_labels, invalid_outputs,
    too_long, labels_unseen. places: one tuple an occurrence, the examples that make it up (two for a pair, one for an
    output). Occurrences and details run in parallel. severity: an error makes what is measured worthless unless it is
    mended (a climb leaves leaking rows out of train by itself); a warning distorts it; a note costs only effort.
    """

    kind: str
    severity: Severity
    says: str
    places: tuple[tuple[Place, ...], ...] = ()
    details: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return len(self.places) or len(self.details)

    def line(self) -> str:
        """One sentence with the first few places."""
        shown = []
        for index in range(min(SHOWN, self.count)):
            where = " = ".join(str(place) for place in self.places[index]) if self.places else ""
            detail = self.details[index] if self.details else ""
            shown.append(f"{where}: {detail}" if where and detail else where or detail)
        more = f" and {self.count - SHOWN} more" if self.count > SHOWN else ""
        return f"{self.severity}: {self.says} ({'; '.join(shown)}{more})"


@dataclass(frozen=True, slots=True)
class DataReport:
    """Counts and findings. labels: examples by label and side, empty for free text. tokens: quantiles by side."""

    counts: Mapping[str, int]
    findings: tuple[Finding, ...]
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tokens: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """No finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    def finding(self, kind: str) -> Finding | None:
        return next((finding for finding in self.findings if finding.kind == kind), None)

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "counts": dict(self.counts),
            "labels": {label: dict(sides) for label, sides in self.labels.items()},
            "tokens": {side: dict(quantiles) for side, quantiles in self.tokens.items()},
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "says": finding.says,
                    "count": finding.count,
                    "places": [[asdict(place) for place in places] for places in finding.places],
                    "details": list(finding.details),
                }
                for finding in self.findings
            ],
        }

    def lines(self, beside: Sequence[str] = ()) -> list[str]:
        """Short sentences, what matters most first. beside: of what belongs to the examples, put behind them."""
        sides = ", ".join(f"{count} {side}" for side, count in self.counts.items())
        lines = [f"examples: {sides}"]
        for side, quantiles in self.tokens.items():
            lines.append(f"tokens in {side}: " + ", ".join(f"{name} {value}" for name, value in quantiles.items()))
        if self.labels:
            total = sum(self.counts.values())
            by_share = sorted(self.labels.items(), key=lambda item: -sum(item[1].values()))
            shares = [f"{label} {sum(sides.values()) / total:.0%}" for label, sides in by_share[:10]]
            more = f" and {len(by_share) - 10} more" if len(by_share) > 10 else ""
            lines.append("labels: " + ", ".join(shares) + more)
        order = {"error": 0, "warning": 1, "note": 2}
        lines += [finding.line() for finding in sorted(self.findings, key=lambda found: order[found.severity])]
        complaints = [*self.findings, *(line for line in beside if line.startswith("warning"))]
        return [*lines, *beside] if complaints else [*lines, *beside, "nothing to complain about"]
