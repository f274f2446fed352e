"""Why a measure of the gate can say nothing of a base, as values with their figures. `report.words.gate` says them in sentences."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lastresort.records.document import Amount, Count, JsonDocument, OpenShare, Positive, Sentence, Share

Among = Literal["asked", "pilot", "logs"]
PilotCondition = Literal["plain", "wrong_suggested", "asked_again", "pushed_back", "general_requests"]


class NothingSaid(JsonDocument):
    """No item says anything about the measure. among: which items these are."""

    kind: Literal["nothing_said"] = "nothing_said"
    among: Among


class LowScore(JsonDocument):
    """The base scores too low to lose anything: `at_least`, the limit of its mean `score`, is below chance and two margins."""

    kind: Literal["low_score"] = "low_score"
    among: Among
    score: Share
    n: Positive
    at_least: Share
    needed: Amount


class LowInCondition(JsonDocument):
    """A probe's base answers too few items of a pilot as it should under one condition. score, n, at_least, needed: as of
    `LowScore`; n is 0 if nothing was asked.
    """

    kind: Literal["low_in_condition"] = "low_in_condition"
    condition: PilotCondition
    score: Share
    n: Count
    at_least: Share
    needed: Amount


class FewFamilies(JsonDocument):
    """The base has something to lose in `families` of the `asked` families of questions, and `needed` are needed. margin: of the
    suite.
    """

    kind: Literal["few_families"] = "few_families"
    families: Count
    asked: Count
    needed: Positive
    margin: OpenShare


class ManyUnscored(JsonDocument):
    """Of `asked` items with a score of the base, `unscored` have none of the tuned model: more than `margin`, so that a loss could
    hide there. unscored is no whole number where an item was asked several times.
    """

    kind: Literal["many_unscored"] = "many_unscored"
    unscored: Amount
    asked: Count
    margin: OpenShare


class NoLocalWeights(JsonDocument):
    """lm-eval would have to ask the model, and the model's weights are not local."""

    kind: Literal["no_local_weights"] = "no_local_weights"


class FewDocuments(JsonDocument):
    """A task of lm-eval has too few documents for a pilot and a test."""

    kind: Literal["few_documents"] = "few_documents"


class Unusable(JsonDocument):
    """A task of lm-eval could not be asked or scored, or asked the two models different things. message: of the error."""

    kind: Literal["unusable"] = "unusable"
    message: Sentence


WhyUninformative = Annotated[
    NothingSaid | LowScore | LowInCondition | FewFamilies | ManyUnscored | NoLocalWeights | FewDocuments | Unusable,
    Field(discriminator="kind"),
]
