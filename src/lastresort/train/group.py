"""The answers to one prompt, rewarded and compared: as lines of the log, and many of them as the figures of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from lastresort.train.items import Item
from lastresort.train.rewards import Scored
from lastresort.train.sampling import Asked, Sampled


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
