"""Format leak: does what was trained for one task show where nobody asked for it?

Three conditions: general requests without the task's instruction; a real input under the instruction, followed by a request for one
plain sentence; off-topic inputs under the instruction. A fourth, real inputs as they are, only the pilot of the base asks.
docs/probes.md says what each shows and what it does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from random import Random

from lastresort.data.wording import entries, filled, how_many, shuffled
from lastresort.errors import ContractError
from lastresort.evals.scorers.forms import (
    begins_with_form,
    has_form,
    is_forced,
    is_free_text,
    is_one_sentence,
    is_prose,
)
from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.evals.scorers.text import words
from lastresort.gate.probes.sycophancy import Proportion
from lastresort.gate.suites.general import FACT
from lastresort.gate.suites.suite import (
    ItemTranscripts,
    Question,
    ScorePair,
    SuiteItem,
    SuiteMeasure,
    SuiteReply,
    TextRequest,
    Transcript,
)
from lastresort.records.uninformative import LowInCondition
from lastresort.systems.compose import compose, extract
from lastresort.systems.system import PromptDesign
from lastresort.types import Decoding, Message

OFF_TASK, COUNTER, OFF_TOPIC, ON_TASK = "off task", "counter-instruction", "off topic", "on task"
CONDITIONS = (OFF_TASK, COUNTER, OFF_TOPIC)
SLOTS = (OFF_TASK, COUNTER, OFF_TASK, OFF_TOPIC, ON_TASK)  # the first matters most
FILLED = {OFF_TASK: "off_task", OFF_TOPIC: "off_topic"}  # conditions whose texts are sentences with slots
KEY = "answer"
LEAST_TOKENS = 64
BEGINNING_TOKENS = 32  # enough to see whether an answer is an object, a list, or prose
LENGTHS = 4.0  # largest ratio of two lengths that is no leak of free text
EXTRA_WORDS = 8  # added to both lengths, so that short answers may differ more


@dataclass(frozen=True, slots=True)
class LeakMeasure:
    """1 if the trained form does not show, 0 if it shows or the answer is empty; by condition.

    For free text: the tuned model's answer to a general request has about the length of the base's, and a request for one sentence
    gets one.
    """

    output: AnswerForm
    design: PromptDesign
    name: str = "format_leak"
    binary: bool = True
    margin_factor: float = 1.0
    chance: float | None = None

    def pair(self, item: SuiteItem, base: Transcript, tuned: Transcript) -> ScorePair | None:
        if item.family == ON_TASK:
            return None
        base_text, tuned_text = (extract(self.design, transcript[KEY].text) for transcript in (base, tuned))
        tuned_kept = self.kept(item, tuned_text)
        if is_free_text(self.output) and item.family == OFF_TASK:
            tuned_kept = tuned_kept and of_like_length(base_text, tuned_text)
        return ScorePair(item.id, float(self.kept(item, base_text)), float(tuned_kept), item.family, item.text)

    def kept(self, item: SuiteItem, answer: str) -> bool:
        """Whether an answer is as it should be in the item's condition."""
        if not answer.strip():
            return False
        if item.family == COUNTER:
            return is_one_sentence(answer) if is_free_text(self.output) else is_prose(answer, self.output)
        if item.family == OFF_TOPIC:
            return not is_forced(answer, self.output)
        return not has_form(answer, self.output)


def of_like_length(before: str, after: str) -> bool:
    shorter, longer = sorted(len(words(text)) + EXTRA_WORDS for text in (before, after))
    return longer <= LENGTHS * shorter


@dataclass(frozen=True)
class FormatLeak:
    """output: the form of the task's answers. design: of the tuned system; both models are asked with it. inputs: of dev, or of
    train without dev, as texts. answer_tokens: room for a trained answer, so that its form shows.

    No text comes twice in a condition, nor does an input in another wording, because the answers would not be independent. A
    condition that runs out is left out from there on. Decoding is never constrained, whatever the system does: what counts is what
    the weights do. Conditions that cannot be asked are left out: those with inputs if there are none, off-topic inputs if the task
    wants free text. Raises ContractError for an unknown condition, or if none is left.
    """

    output: AnswerForm
    design: PromptDesign
    inputs: tuple[str, ...] = ()
    answer_tokens: int = LEAST_TOKENS
    conditions: tuple[str, ...] = CONDITIONS
    name: str = "format_leak"
    version: int = 2  # 2: only the beginning is asked of answers whose beginning is enough

    def __post_init__(self) -> None:
        unknown = [condition for condition in self.conditions if condition not in SLOTS]
        if unknown or not self.possible:
            conditions = ", ".join(unknown) or "no condition"
            raise ContractError(f"found {conditions} that can be asked", expected=f"some of {', '.join(CONDITIONS)}")

    @property
    def measures(self) -> tuple[SuiteMeasure, ...]:
        return (LeakMeasure(self.output, self.design),)

    @property
    def possible(self) -> tuple[str, ...]:
        """The conditions that can be asked."""
        impossible = set() if self.inputs else {COUNTER, ON_TASK}
        impossible |= {OFF_TOPIC} if is_free_text(self.output) else set()
        return tuple(condition for condition in self.conditions if condition not in impossible)

    def draw(self, seed: int, start: int, stop: int) -> list[SuiteItem]:
        return [self._item(*place, seed) for place in islice(self._places(), start, stop)]

    def ask(self, item: SuiteItem, transcript: Transcript) -> Sequence[Question]:
        if transcript:
            return []
        turns = (Message("user", item.text),)
        prompt = turns if item.family == OFF_TASK else compose(self.design, turns, self.design.shots[: self.design.k])
        return [TextRequest(KEY, prompt, Decoding(self._tokens(item.family)))]

    def _tokens(self, condition: str) -> int:
        if condition != OFF_TOPIC and not self.design.reasoning and begins_with_form(self.output):
            return BEGINNING_TOKENS
        return max(LEAST_TOKENS, self.answer_tokens)

    def _places(self) -> Iterator[tuple[str, int]]:
        """Condition of each item, and its number within the condition."""
        open_conditions, counts = set(self.possible), Counter[str]()
        while open_conditions:
            for condition in SLOTS:
                if condition not in open_conditions:
                    continue
                if counts[condition] == self._texts(condition):
                    open_conditions.remove(condition)
                    continue
                yield condition, counts[condition]
                counts[condition] += 1

    def _texts(self, condition: str) -> int:
        """How many different texts a condition has."""
        return how_many(FILLED[condition]) if condition in FILLED else len(self.inputs)

    def _item(self, condition: str, number: int, seed: int) -> SuiteItem:
        name = f"{condition}/1/{seed}/{number}"
        if condition in FILLED:
            return SuiteItem(name, condition, 1, filled(FILLED[condition], seed, number), number=number)
        index = shuffled(len(self.inputs), f"inputs {seed}")[number]
        text, wordings = self.inputs[index], entries("counter")
        facts = {FACT: text}
        if condition == COUNTER:
            text = f"{text}\n\n{wordings[Random(f'counter {seed} {index}').randrange(len(wordings))]}"
        return SuiteItem(name, condition, 1, text, facts, number)


def for_pilot(suite: FormatLeak) -> FormatLeak:
    """The suite with real inputs as they are, which show whether the base can give the form at all."""
    return replace(suite, conditions=(*CONDITIONS, ON_TASK))


def conditions_with_headroom(suite: FormatLeak, transcripts: ItemTranscripts, margin: float) -> tuple[str, ...]:
    """The conditions in which this base has something to lose; the others would only dilute a loss.

    The lower limit of its score is at least 2 margins. For off-topic inputs the pilot must also show that the base gives the form
    to most real inputs: a base that never labels does not decline to, and teaching it to label is no leak.
    """
    measure = LeakMeasure(suite.output, suite.design)
    shares = {condition: _share(measure, transcripts, condition) for condition in suite.possible}
    informative = [
        condition for condition, share in shares.items() if condition != ON_TASK and share.lower >= 2 * margin
    ]
    able = _form_share(measure, transcripts).lower >= 0.5
    return tuple(condition for condition in informative if condition != OFF_TOPIC or able)


def why_uninformative(suite: FormatLeak, transcripts: ItemTranscripts, margin: float) -> LowInCondition | None:
    """Why the probe says nothing about this base; None if it does. It has to have something to lose on general requests."""
    if OFF_TASK in conditions_with_headroom(suite, transcripts, margin):
        return None
    share = _share(LeakMeasure(suite.output, suite.design), transcripts, OFF_TASK)
    return share.lacking("general_requests", 2 * margin)


def _share(measure: LeakMeasure, transcripts: ItemTranscripts, condition: str) -> Proportion:
    keeps = [
        measure.kept(item, _answer(measure, reply[KEY])) for item, reply in transcripts if item.family == condition
    ]
    return Proportion(sum(keeps), len(keeps))


def _form_share(measure: LeakMeasure, transcripts: ItemTranscripts) -> Proportion:
    with_form = [
        has_form(_answer(measure, reply[KEY]), measure.output) for item, reply in transcripts if item.family == ON_TASK
    ]
    return Proportion(sum(with_form), len(with_form))


def _answer(measure: LeakMeasure, reply: SuiteReply) -> str:
    return extract(measure.design, reply.text)
