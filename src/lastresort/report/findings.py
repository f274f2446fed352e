"""The titles of the report: each states what was found, from the numbers it stands over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lastresort.report.wording import count, duration, listed, money, percent, round_percent, times

_GATED = {"HOLD": ", and the gate holds it", "REJECT": ", but the gate rejects it"}


def of_rung(name: str, entry: Mapping[str, Any] | None, bar: float) -> str:
    if entry is None:
        return f"{name} was not tried"
    if not entry["applies"]:
        return f"{name} was skipped"
    test = entry["test"]
    if test is None:
        return f"{name} was not tested"
    score = percent(test["score"])
    if test["verdict"] == "MET":
        return f"{name} meets the bar with {score}{_GATED.get(entry['gate'], '')}"
    if test["verdict"] == "NOT_MET":
        return f"{name} stays below the bar with {score}"
    side = "at or above" if test["score"] >= bar else "below"
    return f"{name} scores {score}, {side} the bar, but not surely{_GATED.get(entry['gate'], '')}"


def of_ladder(decision: Mapping[str, Any]) -> str:
    bar = round_percent(decision["bar"])
    tested = [rung for rung in decision["rungs"] if rung["test"]]
    met = [rung["name"] for rung in tested if rung["test"]["verdict"] == "MET"]
    open_ones = [rung["name"] for rung in tested if rung["test"]["verdict"] == "UNDECIDED"]
    failed = [rung["name"] for rung in tested if rung["test"]["verdict"] == "NOT_MET"]
    shown = f"{listed(failed)} {'is' if len(failed) == 1 else 'are'} shown to stay below"
    if met:
        below = f"; {shown} it" if failed else ""
        open_below = f"; the test cannot tell on which side {listed(open_ones)} {_lies(open_ones)}" if open_ones else ""
        first = ", the first rung tested," if tested[0]["name"] == met[0] else ""
        also = f", and so is {listed(met[1:])}" if len(met) > 1 else ""
        return f"{met[0]}{first} is shown to reach the bar of {bar}{also}{below}{open_below}"
    if open_ones:
        return f"The test cannot tell on which side of the bar of {bar} {listed(open_ones)} {_lies(open_ones)}"
    if not tested:
        return "No rung could be tested"
    return f"{shown} the bar of {bar}"


def of_failures(failures: Mapping[str, int | None], wrong: int, n: int, *, graded: bool = False) -> str:
    """What kind of mistake the chosen candidate makes on dev. graded: some answers are neither right nor wrong."""
    if not wrong:
        return f"Every one of {count(n)} dev answers is right"
    names = {
        "format": "do not have the form asked for",
        "knowledge": "fail for want of knowledge",
        "other": "have the right form and fall short" if graded else "have the right form and are wrong",
    }
    kind = max(names, key=lambda name: failures.get(name) or 0)
    most = failures.get(kind) or 0
    share = "all" if most == wrong else f"{count(most)}"
    which = "dev answers below the full score" if graded else "wrong dev answers"
    return f"Of {count(wrong)} {which} (of {count(n)}), {share} {names[kind]}"


def of_training(curves: Mapping[str, Sequence[Mapping[str, float]]], chosen_rate: str | None) -> str:
    """What the loss did, or the reward, of the run that went furthest."""
    longest = max(curves, key=lambda name: len(curves[name]), default=None)
    rewards = [point["reward"] for point in curves[longest] if "reward" in point] if longest else []
    if len(rewards) > 1:
        first, last = rewards[0], sum(rewards[-5:]) / len(rewards[-5:])
        return f"Mean reward {'rises' if last > first else 'does not rise:'} from {first:.2f} to {last:.2f}"
    losses = [point["loss"] for point in curves[longest] if "loss" in point] if longest else []
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < 2:
        return "Training"
    first, last = finite[0], sum(finite[-5:]) / len(finite[-5:])
    verb = "falls" if last < first else "does not fall:"
    raced = f", the best of {len(curves)} learning rates raced" if len(curves) > 1 and chosen_rate else ""
    return f"Training loss {verb} from {first:.2f} to {last:.2f}{raced}"


def of_sharing(trainings: Sequence[Mapping[str, Any]]) -> str:
    """How much computing the shared prefixes saved; nothing where it was not recorded."""
    computed = sum(body.get("computed_tokens") or 0 for body in trainings)
    nominal = sum(body.get("nominal_tokens") or 0 for body in trainings)
    if not computed or nominal < computed:
        return ""
    return (
        f"{count(computed)} tokens were computed for {count(nominal)} tokens of rows: "
        f"shared beginnings, computed once, save {times(nominal / computed)}."
    )


def of_cost(total: Mapping[str, Any], rungs: Mapping[str, Mapping[str, Any]]) -> str:
    title = f"The climb computed for {duration(total['seconds'])}"
    if len(rungs) > 1 and total["seconds"]:
        dearest = max(rungs, key=lambda name: rungs[name]["seconds"])
        title += f", {percent(rungs[dearest]['seconds'] / total['seconds'], 0)} of it for {dearest},"
    if total["usd"] is None:
        return f"{title} and spent an unknown amount: the task gives no price"
    return f"{title} and spent {money(total['usd'])}" if total["usd"] else f"{title} and made no paid call"


def _lies(names: Sequence[str]) -> str:
    return "lies" if len(names) == 1 else "lie"
