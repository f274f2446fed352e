"""The ladder: its rungs, from the cheapest to the most expensive, each with every fact that other parts know of it.

A new rung touches these places:

    a file in `rungs`   a class with the methods of `rungs.rung.Rung`: skip_reason, forecast, search
    `RUNGS`             a row, where the rung belongs by cost; the climb, `init`, `plan`, the advice and the reports read it
    `records.rungs`     a reason to skip or a finding, if none of those there fits; its words are in `report.words.rungs`
    `spec.sections`     its settings, if it has any; their key is a field of `spec.task.Task`

Plain values and `module:name` strings, so that reading the table imports no rung.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WinnerKind = Literal["prompt", "retrieval", "adapter", "merged"]
Learns = Literal["nothing", "examples", "preferences"]


@dataclass(frozen=True, slots=True)
class RungFacts:
    """One rung.

    path: `module:name` of its class (see `rungs.rung.Rung`). winner: what its best system is made of. learns: what its weights
    are trained on; "nothing" where it trains none. purpose: what it is for, a sentence. worth_it_if: when it is worth trying,
    as the end of a sentence. starts_from: the rung whose adapter it goes on training, where that rung left one. for_cost: with
    `goal: cost`, the climb goes on to it for its cheaper calls. compared: `--compare` trains its winner in other ways.
    builds_store: it makes the store of documents. shorten: how its settings make it take less time, as a request. in_prose: its
    name in a sentence, where that is not the key.
    """

    path: str
    winner: WinnerKind
    learns: Learns
    purpose: str
    worth_it_if: str
    shorten: str
    starts_from: str | None = None
    for_cost: bool = False
    compared: bool = False
    builds_store: bool = False
    in_prose: str = ""


RUNGS: dict[str, RungFacts] = {
    "prompting": RungFacts(
        "lastresort.rungs.prompting.rung:PromptingRung",
        winner="prompt",
        learns="nothing",
        purpose="It is the cheapest rung, and the measure of all others.",
        worth_it_if="the model can do it given a good prompt",
        shorten="lower decode.max_new_tokens or split.dev",
    ),
    "retrieval": RungFacts(
        "lastresort.rungs.retrieval.rung:RetrievalRung",
        winner="retrieval",
        learns="nothing",
        purpose="It supplies missing knowledge and fixes nothing else.",
        worth_it_if="answers fail because the model lacks knowledge",
        shorten="name fewer values in retrieval.k or lower split.dev",
        builds_store=True,
    ),
    "sft": RungFacts(
        "lastresort.rungs.supervised.sft:SftRung",
        winner="adapter",
        learns="examples",
        purpose="It teaches form, style and a narrow skill.",
        worth_it_if="the answers fail in form, style or skill rather than in knowledge",
        shorten="name fewer sft.learning_rates or lower sft.epochs",
        for_cost=True,
        compared=True,
        in_prose="SFT",
    ),
    "preference": RungFacts(
        "lastresort.rungs.preference.rung:PreferenceRung",
        winner="adapter",
        learns="preferences",
        purpose="It teaches which of two possible answers is better.",
        worth_it_if="better answers are easier to choose than to write",
        shorten="name fewer preference.learning_rates or lower preference.samples",
        starts_from="sft",
        in_prose="preference tuning",
    ),
    "full": RungFacts(
        "lastresort.rungs.supervised.full:FullRung",
        winner="merged",
        learns="examples",
        purpose="It is the most expensive rung, and the likeliest to break other abilities.",
        worth_it_if="a capability is missing that an adapter did not learn",
        shorten="name fewer full.learning_rates or lower full.epochs",
        in_prose="full fine-tuning",
    ),
}
PROMPT_RUNG = next(rung for rung, facts in RUNGS.items() if facts.winner == "prompt")
COST_RUNG = next(rung for rung, facts in RUNGS.items() if facts.for_cost)
COMPARED_RUNG = next(rung for rung, facts in RUNGS.items() if facts.compared)
PREFERENCE_RUNG = next(rung for rung, facts in RUNGS.items() if facts.learns == "preferences")
STORE_RUNG = next(rung for rung, facts in RUNGS.items() if facts.builds_store)

MARGIN_ONLY = 0.90  # a prompt at 90% or more: tuning adds only a margin (practice)


def trains(rung: str) -> bool:
    """Whether the systems of this rung hold weights of their own."""
    return rung in RUNGS and RUNGS[rung].learns != "nothing"


def trains_all(rung: str) -> bool:
    """Whether this rung trains all weights rather than an adapter."""
    return rung in RUNGS and RUNGS[rung].winner == "merged"


def trained_rungs() -> tuple[str, ...]:
    return tuple(rung for rung in RUNGS if trains(rung))


def untrained_rungs() -> tuple[str, ...]:
    return tuple(rung for rung in RUNGS if not trains(rung))
