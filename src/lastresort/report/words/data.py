"""A task's data in words: what a check of it found, and how often its test items were used before.

A test set that is looked at again and again wears out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from lastresort.records.data_report import PREFERENCE_FAULTS, DataReport, Finding, PreferenceReport, Severity
from lastresort.records.document import ReuseView
from lastresort.records.ledger import ItemReuse
from lastresort.report.words.answer import of_left_out
from lastresort.report.words.wording import capital, count, counted, stopped

PLACES = 3  # of a finding, in its line
LABELS = 10  # the most common ones
LENGTH_TELLS = 0.65  # the longer answer is the better one (or the worse one) this often: worth a warning
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


def lines(report: DataReport, preferences: PreferenceReport | None, *warnings: str) -> list[str]:
    """Counts first, then what matters most. warnings: further ones."""
    about = [] if preferences is None else list(preference_lines(preferences))
    findings = in_order(report)
    clean = not findings and not warnings and not (preferences is not None and _warns(preferences))
    counts = [f"{name}: {figures}" for name, figures in _counts(report)]
    warned = [f"warning: {one}" for one in warnings]
    return [*counts, *map(_finding, findings), *about, *warned, *(["no problems found"] if clean else [])]


def in_short(report: DataReport) -> str:
    return "Nothing has to be fixed first" if report.ok else "Something has to be fixed first"


def rows(report: DataReport) -> list[tuple[str, list[str]]]:
    """What `lines` says, for the page: a name and its lines."""
    findings = in_order(report)
    told = [capital(stopped(_finding(finding))) for finding in findings] or ["No problems found."]
    return [*((name, [figures]) for name, figures in _counts(report)), ("findings", told)]


def in_order(report: DataReport) -> list[Finding]:
    """What matters most first."""
    return sorted(report.findings, key=lambda found: _ORDER[found.severity])


def _counts(report: DataReport) -> Iterator[tuple[str, str]]:
    yield "examples", ", ".join(f"{count} {side}" for side, count in report.counts.items())
    if report.synthetic:
        yield "synthetic", f"{report.synthetic} of the {report.counts['train']} train"
    if report.left_out:
        yield "in the climb", ", ".join(f"{report.used(side)} {side}" for side in report.counts)
        yield "left out", " ".join(map(of_left_out, report.left_out))
    for side, quantiles in report.tokens.items():
        sizes = ", ".join(f"{name} {value}" for name, value in quantiles.items())
        yield f"tokens in {side}", f"{sizes} (instruction, input and answer)"
    if report.labels:
        total = sum(report.counts.values())
        sums = {label: sum(sides.values()) for label, sides in report.labels.items()}
        common = sorted(sums.items(), key=lambda item: -item[1])[:LABELS]
        more = f" and {len(sums) - LABELS} more" if len(sums) > LABELS else ""
        yield "labels", ", ".join(f"{label} {n / total:.0%}" for label, n in common) + more


def test_left_out(report: DataReport) -> str:
    """Why the test set is smaller than its rows; "" where it is not."""
    left = report.counts.get("test", 0) - report.used("test")
    return f"{count(left)} of {counted(report.counts['test'], 'row')} left out: each input counts once" if left else ""


def _finding(finding: Finding) -> str:
    """One sentence with the first few places."""
    shown = []
    for index in range(min(PLACES, finding.count)):
        where = " = ".join(str(place) for place in finding.places[index]) if finding.places else ""
        detail = finding.details[index] if finding.details else ""
        shown.append(f"{where}: {detail}" if where and detail else where or detail)
    more = f" and {finding.count - PLACES} more" if finding.count > PLACES else ""
    return f"{finding.severity}: {finding.says} ({'; '.join(shown)}{more})"


def preference_lines(found: PreferenceReport) -> Iterator[str]:
    if found.pairs:
        yield f"preferences: {counted(found.pairs, 'pair')}"
    else:
        yield f"preferences: {counted(found.good + found.bad, 'answer')}, {found.good} good, {found.bad} bad"
    if found.leaking:
        yield f"note: {found.leaking} more contain inputs of dev or test; a climb leaves them out"
    for fault, n in found.left_out.items():
        if n:
            yield f"note: {n} cannot be trained on: {PREFERENCE_FAULTS[fault]}"
    if found.opposed:
        yield f"warning: {found.opposed} contradict another one: the same answers, ranked the other way round"
    if found.repeated:
        yield f"note: {found.repeated} are copies of another one"
    if found.longer is not None:
        yield length_line(found.longer)


def _warns(found: PreferenceReport) -> bool:
    return found.opposed > 0 or (found.longer is not None and _one_sided(found.longer))


def _one_sided(longer: float) -> bool:
    return longer >= LENGTH_TELLS or longer <= 1 - LENGTH_TELLS


def length_line(longer: float) -> str:
    kind, share = ("longer", longer) if longer >= 0.5 else ("shorter", 1 - longer)
    said = f"the better answer is the {kind} one in {share:.0%} of comparisons"
    if not _one_sided(longer):
        return f"note: {said}"
    return f"warning: {said}, so a model may learn to write {kind} answers instead of better ones"


def of_reuse(reuse: ItemReuse) -> ReuseView:
    return ReuseView(**asdict(reuse), text=_sentence(reuse))


def _sentence(reuse: ItemReuse) -> str:
    if not reuse.n:
        return "There is no test set."
    if not reuse.used:
        return f"None of the {reuse.n:,} test items was used by an earlier run in this workspace."
    items = f"All {reuse.used:,}" if reuse.used == reuse.n else f"{reuse.used:,} of {reuse.n:,}"
    verb, runs = "has" if reuse.used == 1 else "have", "an earlier run" if reuse.most == 1 else "earlier runs"
    times = "" if reuse.most == 1 else f", up to {reuse.most} times each"
    return (
        f"{items} test items {verb} already been used in {runs}{times}. Whatever was changed after seeing those results is "
        "fitted to these items, so the stated confidence is too high: hold out fresh items before the next decision."
    )


def of_longer_answers(longer: int, n: int, limit: int) -> str:
    """longer: of n training answers that were counted. limit: of an answer, in tokens."""
    verb = "is" if longer == 1 else "are"
    return (
        f"{count(longer)} of {counted(n, 'training answer')} {verb} longer than the limit of {counted(limit, 'token')} for an "
        "answer. Set decode.max_new_tokens to raise it."
    )


def of_wrong_form(*, labels: bool) -> str:
    """Of an answer to a user. labels: whether the task's answers are labels, rather than JSON of a schema."""
    return (
        "This is none of the task's labels." if labels else "This does not have the form of the task's output.schema."
    )
