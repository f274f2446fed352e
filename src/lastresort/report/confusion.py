"""Which label was answered where which was expected, of a task whose answers are one of its labels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lastresort.evals.scorers.forms import chosen
from lastresort.records.items import AnswerGroup, ItemsWanted, TextFilter
from lastresort.records.measurement import ItemScore
from lastresort.records.record import Record
from lastresort.report.words.wording import capital, count, counted, listed
from lastresort.types import JsonObject

NO_LABEL = " "  # of an answer that names none: no label of a task is blank
MOST_COLUMNS = 24  # labels that are drawn as a square
MOST_ROWS = 60
MOST_NAMED = 3
SHADES = (0.0, 0.05, 0.2, 0.5)  # a cell's share of its row, above which it is darker


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each label was answered for each expected one: counts by (expected, answered), NO_LABEL for a text that names none.

    labels: those that were expected or answered, in the order of the task. answers, expected: the texts that name a label.
    """

    labels: tuple[str, ...]
    counts: Mapping[tuple[str, str], int]
    answers: Mapping[str, tuple[str, ...]]
    expected: Mapping[str, tuple[str, ...]]

    @property
    def rows(self) -> tuple[str, ...]:
        """Of the table: what was expected. Of more labels than fit, those with the most mistakes."""
        if not self.is_square:
            return tuple(sorted(self._missed, key=lambda label: -self._missed[label])[:MOST_ROWS])
        return tuple(label for label in (*self.labels, NO_LABEL) if any(label == want for want, _ in self.counts))

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table: what was answered."""
        return (*self.labels, NO_LABEL) if any(got == NO_LABEL for _, got in self.counts) else self.labels

    @property
    def is_square(self) -> bool:
        """Whether it is drawn with a column for each label."""
        return len(self.labels) <= MOST_COLUMNS

    @property
    def mistakes(self) -> list[tuple[str, str, int]]:
        """Expected and answered label and how often, the most frequent first."""
        found = [(want, got, n) for (want, got), n in self.counts.items() if want != got]
        return sorted(found, key=lambda one: (-one[2], one[0], one[1]))

    @property
    def _missed(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for want, _, n in self.mistakes:
            found[want] += n
        return found

    def answered(self, want: str) -> list[tuple[str, int]]:
        """What was answered where this label was expected, and how often: the label itself first, then the most frequent."""
        found = [(got, n) for (label, got), n in self.counts.items() if label == want]
        return sorted(found, key=lambda one: (one[0] != want, -one[1], one[0]))

    def n(self, want: str, got: str) -> int:
        return self.counts.get((want, got), 0)

    def total(self, want: str) -> int:
        return sum(n for (label, _), n in self.counts.items() if label == want)

    def shade(self, want: str, got: str) -> int:
        """0 for none, to 4 for more than half of the items where `want` was expected."""
        share = self.n(want, got) / (self.total(want) or 1)
        return sum(share > limit for limit in SHADES)

    def is_right(self, want: str, got: str) -> bool:
        return want == got != NO_LABEL

    def filters(self, want: str, got: str) -> tuple[TextFilter | None, TextFilter | None]:
        """By which expected and answered texts the items of a cell are found, "" for any."""
        return _filter(want, self.expected), _filter(got, self.answers)


def _filter(label: str, texts: Mapping[str, tuple[str, ...]]) -> TextFilter | None:
    if label == NO_LABEL:
        return TextFilter(tuple(text for named in texts.values() for text in named), excluded=True)
    return TextFilter(texts.get(label, ())) if label else None


def labels_of(task: JsonObject | None) -> tuple[str, ...]:
    """The labels of a resolved task, none where it has another form of answer."""
    output = (task or {}).get("output")
    choices = output.get("choices") if isinstance(output, dict) else None
    return tuple(map(str, choices)) if isinstance(choices, list) else ()


def recorded(record: Record, wanted: ItemsWanted, labels: Sequence[str]) -> Confusion:
    """Of the answers that are wanted."""
    return confusion(record.answer_groups(wanted), labels)


def of_items(items: Iterable[ItemScore], labels: Sequence[str]) -> Confusion | None:
    """None without labels."""
    groups = Counter((item.expected, item.answer) for item in items)
    return confusion((AnswerGroup(*texts, n) for texts, n in groups.items()), labels) if labels and groups else None


def confusion(groups: Iterable[AnswerGroup], labels: Sequence[str]) -> Confusion:
    counts: Counter[tuple[str, str]] = Counter()
    expected: defaultdict[str, dict[str, None]] = defaultdict(dict)
    answers: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for group in groups:
        want = chosen(group.expected, labels)
        got = chosen(group.answer, labels)
        if want is not None:
            expected[want][group.expected] = None
        if got is not None:
            answers[got][group.answer] = None
        counts[want or NO_LABEL, got or NO_LABEL] += group.n
    seen = {label for pair in counts for label in pair}
    return Confusion(
        tuple(label for label in labels if label in seen),
        counts,
        {label: tuple(texts) for label, texts in answers.items()},
        {label: tuple(texts) for label, texts in expected.items()},
    )


def blank(labels: Sequence[str]) -> Confusion:
    """A table as large as that of answers with all of these labels, to keep its room while they are counted."""
    return Confusion(tuple(labels), {(label, label): 1 for label in labels}, {}, {})


def finding(found: Confusion) -> str:
    """ "Most often mistaken (right → given): billing → repairs (12)"."""
    mistakes = [(want, got, n) for want, got, n in found.mistakes if NO_LABEL not in (want, got)]
    unread = sum(n for want, got, n in found.mistakes if got == NO_LABEL)
    parts = []
    if mistakes:
        named = listed(f"{want} → {got} ({count(n)})" for want, got, n in mistakes[:MOST_NAMED])
        parts.append(f"most often mistaken (right → given): {named}")
    else:
        parts.append("no label was mistaken for another")
    if unread:
        parts.append(f"{counted(unread, 'answer')} {'names' if unread == 1 else 'name'} no label")
    return capital("; ".join(parts))


def shown(label: str) -> str:
    return "no label" if label == NO_LABEL else label
