"""The decision as Markdown, for a pull request or a chat: the answer, the ladder, the reasons, what it took."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lastresort.records.decision import RungView, RunView
from lastresort.records.decision_parts import OptimisedPrompt, Weighing
from lastresort.report import comparison, repairs
from lastresort.report import gate as gate_summary
from lastresort.report.differences import changed_lines
from lastresort.report.words import break_even, judge, untuned
from lastresort.report.words.answer import line
from lastresort.report.words.next_step import RESUME, next_step
from lastresort.report.words.titles import below_headline, checkpoint, headline, of_weighing, untested
from lastresort.report.words.verdicts import how_far, of_parts, unit_of, what_would_decide
from lastresort.report.words.wording import (
    NO_BREAK,
    capital,
    count,
    duration,
    interval,
    money,
    percent,
    round_percent,
    rung_in_prose,
    state_of,
    stopped,
    verdict,
)

_ACTIVE = re.compile(r"([\\`*_{}\[\]<>#|~$!&@])")
_CODE = re.compile(r"(?<!`)(`[^`]+`)(?!`)")


def markdown(decision: RunView, resume: str = RESUME, stand_ins: Sequence[str] = ()) -> str:
    """Text that came from outside is escaped, so that it cannot become markup. resume, stand_ins: as in `next_step`."""
    reuse = "" if decision.test_reuse is None else plain(decision.test_reuse.text)
    reused = decision.test_reuse is not None and decision.test_reuse.used > 0
    answer, facts = summary(decision)
    head = [f"## {answer}", facts, f"**{reuse}**" if reused else ""]
    parts = [
        *head,
        sentence(below_headline(decision)),
        _ladder(decision),
        sentence(next_step(decision, resume, stand_ins) or ""),
        _undecided(decision),
        _went_on(decision),
    ]
    parts += [_optimised(rung.optimised) for rung in decision.rungs if rung.optimised is not None]
    parts += [_weighed(rung, rung.weighed) for rung in decision.rungs if rung.weighed is not None]
    parts += [
        _costs(decision),
        "\n".join(f"{number}. {sentence(line(reason))}" for number, reason in enumerate(decision.reasons, 1)),
        _would_change(decision),
        _gate(decision),
        plain(stopped(repairs.finding(decision.repairs, _gated(decision)))) if decision.repairs else "",
        _comparison(decision),
        "" if reused else reuse,
    ]
    return "\n\n".join(part for part in parts if part).replace(NO_BREAK, " ") + "\n"


def plain(text: str) -> str:
    """Text on one line without any meaning in Markdown or HTML."""
    one_line = " ".join(text.split())
    return _ACTIVE.sub(r"\\\1", "".join(letter for letter in one_line if letter.isprintable()))


def sentence(text: str) -> str:
    """As `plain`, of one of our sentences: what stands between its backticks is a command or a key, and no markup either."""
    one_line = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return "".join(
        part if number % 2 else _ACTIVE.sub(r"\\\1", part) for number, part in enumerate(_CODE.split(one_line))
    )


def summary(decision: RunView) -> tuple[str, str]:
    """The answer, and its figures in a line."""
    return plain(headline(decision)), _facts(decision)


def _facts(decision: RunView) -> str:
    provisional = ", provisional" if decision.provisional else ""
    gate = f" · gate **{decision.gate.verdict}**" if decision.gate else ""
    winner = "none" if decision.winner is None else decision.winner.kind
    held = " (held)" if decision.winner is not None and decision.winner.held else ""
    return (
        f"**{verdict(decision.verdict or 'NOT_DECIDED')}**{provisional}{gate} · task {plain(decision.task)} · "
        f"model {plain(decision.model)} · bar {round_percent(decision.bar)} · "
        f"confidence {round_percent(decision.confidence)} · winner {winner}{held}"
    )


def _ladder(decision: RunView) -> str:
    lines = [
        f"| rung | system | score | interval | test {unit_of(decision)}s | verdict | time | money |",
        "|---|---|--:|--:|--:|---|--:|--:|",
    ]
    for rung in decision.rungs:
        test, cost = rung.test, rung.cost
        spent = f"{duration(cost.seconds)} | {money(cost.usd)}" if not rung.cost.is_zero else "– | –"
        if test:
            shown = f"{percent(test.score)} | {interval(test.interval)} | {count(test.n_used)}"
            row = f"{plain(rung.chosen or '')} | {shown} of {count(test.n_available)} | {verdict(test.verdict)}"
        else:
            skipped = rung.skipped_because
            row = f"| | | | {plain(f'{state_of(rung)}: it {untested(rung)}' if skipped is None else skipped.text)}"
        lines.append(f"| {plain(rung.name)} | {row} | {spent} |")
    if decision.judge:
        cost = decision.judge.cost
        lines.append(
            f"| {judge.NAME} | {plain(decision.judge.model)} | | | | | {duration(cost.seconds)} | {money(cost.usd)} |"
        )
    return "\n".join(lines)


def _gated(decision: RunView) -> str | None:
    return None if decision.gate is None else decision.gate.system


def _undecided(decision: RunView) -> str:
    return "\n".join(
        f"- {plain(capital(rung_in_prose(rung.name)))} is undecided. "
        f"{what_would_decide(rung.test, repaired=decision.is_repaired(rung))} {how_far(rung.test)}".rstrip()
        for rung in decision.rungs
        if rung.test is not None and rung.test.verdict == "UNDECIDED"
    )


def _went_on(decision: RunView) -> str:
    parts = {rung.name: of_parts(rung.test) for rung in decision.rungs if rung.test is not None}
    return "\n".join(f"- {plain(name)}: {text}" for name, text in parts.items() if text)


def _optimised(found: OptimisedPrompt) -> str:
    """The instruction as a patch, in a fence that is longer than any in it."""
    head = f"{plain(stopped(untuned.optimised_title(found)))} {plain(untuned.optimised_scores(found))}"
    if found.best == found.plain:
        return head
    lines = changed_lines(found.plain, found.best)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", "".join(lines))), default=0))
    shown = ["".join(letter for letter in line if letter.isprintable()) for line in lines]
    return "\n".join([head, "", f"{fence}diff", *shown, fence])


def _weighed(rung: RungView, weighing: Weighing) -> str:
    lines = [
        stopped(of_weighing(weighing)),
        "",
        f"| {plain(rung.name)}: checkpoint | dev score | nats per token from the base | likely to meet the bar |",
        "|---|--:|--:|--:|",
    ]
    for one in weighing.checkpoints:
        name = f"**{checkpoint(one)}**" if one.candidate == weighing.chosen else checkpoint(one)
        lines.append(f"| {name} | {percent(one.dev.score)} | {one.distance:.3f} | {percent(one.met_chance, 0)} |")
    return "\n".join(lines)


def _costs(decision: RunView) -> str:
    costs = decision.break_even
    return sentence(stopped(break_even.finding(costs))) if break_even.is_worth_a_line(costs, decision.goal) else ""


def _would_change(decision: RunView) -> str:
    changes = [f"- {sentence(change.text)}" for change in decision.would_change]
    return "\n".join(["What would change this answer:", "", *changes]) if changes else ""


def _gate(decision: RunView) -> str:
    if not decision.gate:
        return ""
    measures = [f"- {plain(line)}" for line in gate_summary.lines(decision.gate)]
    return "\n".join([plain(stopped(gate_summary.finding(decision.gate))), "", *measures])


def _comparison(decision: RunView) -> str:
    entries = decision.compare
    if not entries:
        return ""
    lines = [
        "| method | score | by seed | points | interval | training, peak | per seed | answering, peak | test time |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    keys = "score seeds difference limits training_memory training_time answering_memory answering_time".split()
    for row in comparison.rows(entries):
        lines.append(f"| {row['name']} | {' | '.join(row[key] for key in keys)} |")
    said = [f"- {plain(entry.said)}" for entry in entries]
    done = comparison.about(entries, unit_of(decision), repaired=decision.first_gate is not None)
    return "\n".join([stopped(comparison.finding(entries)), "", *lines, "", done, "", *said])
