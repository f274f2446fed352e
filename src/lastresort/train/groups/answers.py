"""The answers to one prompt, rewarded and compared: as lines of the log, and many of them as the figures of a step.

The sampled answers of a run with their rewards: one JSON line an answer, steps in their order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from lastresort.records.atomic import disk_errors
from lastresort.train.groups.sampling import Asked, Sampled
from lastresort.train.loop.batches import Item
from lastresort.train.rewards.rewards import Scored


@dataclass(frozen=True, slots=True)
class Group:
    """answers, scored, advantages: one a member. items: () where all were rewarded alike, so that nothing can be learned."""

    asked: Asked
    answers: tuple[Sampled, ...]
    scored: tuple[Scored, ...]
    advantages: tuple[float, ...]
    items: tuple[Item, ...]

    def lines(self) -> Iterator[dict[str, Any]]:
        """One for each member, as the log shows it."""
        prompt = [message.as_dict() for message in self.asked.messages]
        for answer, scored, advantage in zip(self.answers, self.scored, self.advantages, strict=True):
            yield {
                "example": self.asked.example.id,
                "prompt": prompt,
                "completion": answer.text,
                "rewards": dict(scored.values),
                "reward": scored.total,
                "advantage": advantage,
                "dropped": not self.items,
                "cut": answer.cut,
                **({"faults": dict(scored.faults)} if scored.faults else {}),
            }


def figures(groups: Sequence[Group], rewards: Sequence[str]) -> dict[str, float]:
    """Over all answers of a step, dropped ones too: mean and deviation of the reward, the mean of each reward by name, the
    share of dropped groups, the mean length in tokens, the share of answers cut, and how many rewards failed, if any did."""
    answers = [answer for group in groups for answer in group.answers]
    scored = [found for group in groups for found in group.scored]
    totals = [found.total for found in scored]
    faults = sum(len(found.faults) for found in scored)
    return {
        "reward": fmean(totals),
        "reward_std": stdev(totals),
        **{f"reward_{name}": fmean(found.values[name] for found in scored) for name in rewards},
        "dropped_groups": sum(not group.items for group in groups) / len(groups),
        "answer_length": fmean(len(answer.ids) for answer in answers),
        "cut_answers": sum(answer.cut for answer in answers) / len(answers),
        **({"reward_faults": float(faults)} if faults else {}),
    }


class CompletionsLog:
    """A file that holds each step once, whatever was done twice: a resumed run repeats the steps after its checkpoint, and
    their earlier lines, like one that was cut half way, go before they are written again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: int | None = None

    def append(self, step: int, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write the lines of one step, each of which gets the key "step" first. Raises InfrastructureError when the disk
        refuses."""
        texts = [json.dumps({"step": step, **line}, ensure_ascii=False, default=str) + "\n" for line in lines]
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._last is None or step <= self._last:
                self._cut_from(step)
            with self._path.open("ab") as file:
                file.write("".join(texts).encode("utf-8", "backslashreplace"))
        self._last = step

    def _cut_from(self, step: int) -> None:
        if not self._path.exists():
            return
        kept = 0
        with self._path.open("rb+") as file:
            for line in file:
                if not line.endswith(b"\n") or _step_of(line) >= step:
                    break
                kept += len(line)
            file.seek(kept)
            file.truncate()


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
