"""The facts of a task, known without running anything (None: unknown), and what a rule is: facts -> a sentence or nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import KW_ONLY, dataclass
from typing import Literal, TypeVar, get_args

from lastresort.hardware.cards import card_named
from lastresort.hardware.find import lora_bytes
from lastresort.ladder import RUNGS, trained_rungs, trains
from lastresort.records.advice import Strength
from lastresort.rungs.supervised.sft import outdates_weights
from lastresort.spec.task import Pace

T = TypeVar("T")
TRAINED = trained_rungs()
WRONG = ("format", "style", "preferences", "knowledge", "capability", "cost", "latency")
SHOTS = 5  # examples in the prompt, where the length of a few-shot prompt is estimated
MONTHS = 12


@dataclass(frozen=True, slots=True)
class Facts:
    """A task as a colleague would describe it. None: unknown; tokens are estimated as four bytes each.

    From the task file and its data:
    ladder: the rungs that may be climbed. n_examples, n_train: without synthetic rows. n_test, test_least: test items or groups,
    what the statistics count: those that there are, and from how many on a perfect score decides at every rung. output: the
    form of an answer. knowledge: whether there are documents. preferences: the kind of rows in the file of preferences.
    outside: whether the model runs on an external machine. trainable: whether its weights can be trained here.
    skips: (rung, why) as a climb would skip it. names_documents: whether the file names them; a person may know of some that it
    does not name. prompt_kept: why a climb would not let a model write a prompt, as a clause.

    From a person:
    wrong: what is wrong with today's answers, of `WRONG`; () is nothing. best_prompt_score: of the best prompt so far, in [0, 1].
    verbatim: answers must quote the documents. restricted: not every user may see all documents. general_use: the same model
    must stay good at other work. can_label: there are people who can label. teacher: a larger model answers well enough.
    private: data must stay in-house. cards, card_gb: available or rentable GPUs, and the memory of one.
    """

    ladder: tuple[str, ...] = tuple(RUNGS)
    goal: Literal["quality", "cost"] | None = None
    bar: float | None = None
    n_examples: int | None = None
    n_train: int | None = None
    n_test: int | None = None
    test_least: int | None = None
    output: Literal["schema", "choices", "text"] | None = None
    scorer: str | None = None
    knowledge: bool | None = None
    knowledge_tokens: int | None = None
    knowledge_changes: Pace | None = None
    retrain_every: Pace | None = None
    context: Literal["allowed", "forbidden"] | None = None
    preferences: Literal["pairs", "labels", "none"] | None = None
    n_preferences: int | None = None
    reward: bool | None = None
    calls_per_month: int | None = None
    prompt_price: float | None = None
    instruction_tokens: float | None = None
    input_tokens: float | None = None
    answer_tokens: float | None = None
    outside: bool | None = None
    trainable: bool | None = None
    parameters: int | None = None
    method: Literal["auto", "lora", "qlora", "full"] | None = None
    target: Literal["attention", "all-linear"] | None = None
    replay: float | None = None
    skips: tuple[tuple[str, str], ...] = ()
    names_documents: bool | None = None
    prompt_kept: str | None = None

    wrong: tuple[str, ...] | None = None
    best_prompt_score: float | None = None
    breadth: Literal["narrow", "broad"] | None = None
    verbatim: bool | None = None
    restricted: bool | None = None
    general_use: bool | None = None
    can_label: bool | None = None
    teacher: bool | None = None
    private: bool | None = None
    cards: int | None = None
    card_gb: float | None = None
    web_ui: bool | None = None

    def is_wrong(self, kind: str) -> bool:
        """Whether this kind of failure was named; False also where nothing is known."""
        return self.wrong is not None and kind in self.wrong

    def only_wrong(self, *kinds: str) -> bool:
        """Whether something is wrong, and all of it of these kinds."""
        return bool(self.wrong) and set(self.wrong or ()) <= set(kinds)

    @property
    def labelled(self) -> bool:
        """Whether there are known to be labelled examples; rows to train on are some, too."""
        return bool(self.n_examples or self.n_train)

    def rows_below(self, most: int) -> bool:
        """Whether there are known to be fewer training rows."""
        return self.n_train is not None and self.n_train < most

    def rows_from(self, least: int) -> bool:
        """Whether there are known to be at least this many training rows."""
        return self.n_train is not None and self.n_train >= least

    def scores_from(self, least: float) -> bool:
        """Whether the best prompt is known to score at least this much."""
        return self.best_prompt_score is not None and self.best_prompt_score >= least

    def skip_of(self, rung: str) -> str | None:
        """Why a climb would skip it. Documents that a person knows of are as good as named: what is left to do is to name them."""
        return None if rung == "retrieval" and self.unnamed_documents else dict(self.skips).get(rung)

    @property
    def unnamed_documents(self) -> bool:
        """Whether there are documents that the task file does not name."""
        return self.knowledge is True and self.names_documents is False

    @property
    def may_train(self) -> bool:
        return any(trains(rung) for rung in self.ladder)

    @property
    def documents(self) -> bool:
        """Whether there are documents, or knowledge is missing and documents are not ruled out."""
        return self.knowledge is True or (self.knowledge is None and self.is_wrong("knowledge"))

    @property
    def for_grpo(self) -> bool:
        """Whether there is a reward, and the rung that could use it."""
        return self.reward is True and "preference" in self.ladder

    @property
    def in_context(self) -> bool:
        """Whether knowledge may go into the prompt, which it may unless somebody forbade it."""
        return self.context != "forbidden"

    @property
    def into_weights(self) -> bool:
        """Whether training is the only way to add the knowledge."""
        return self.documents and not self.in_context

    @property
    def prompt_misses(self) -> bool:
        """Whether the best prompt is known to stay below the bar."""
        return self.best_prompt_score is not None and self.bar is not None and self.best_prompt_score < self.bar

    @property
    def prompt_meets(self) -> bool:
        return self.best_prompt_score is not None and self.bar is not None and self.best_prompt_score >= self.bar

    @property
    def outdates_weights(self) -> bool:
        """Whether the documents are known to change more often than a model would be trained again."""
        if self.knowledge is not True:
            return False
        return outdates_weights(self.knowledge_changes, self.retrain_every)

    @property
    def for_cost(self) -> bool:
        return self.goal == "cost" or self.is_wrong("cost")

    @property
    def shots_usd_a_year(self) -> float | None:
        """What the examples in a few-shot prompt cost a year: the most that a tuned model's short prompt could save."""
        if self.calls_per_month is None or self.prompt_price is None:
            return None
        if self.input_tokens is None or self.answer_tokens is None:
            return None
        shots = SHOTS * (self.input_tokens + self.answer_tokens)
        return MONTHS * self.calls_per_month * shots * self.prompt_price / 1e6

    @property
    def shared_share(self) -> float | None:
        """Share of a training row that all rows have in common: the instruction."""
        if self.instruction_tokens is None or self.input_tokens is None or self.answer_tokens is None:
            return None
        tokens = self.instruction_tokens + self.input_tokens + self.answer_tokens
        return self.instruction_tokens / tokens if tokens else None

    @property
    def too_small_for_lora(self) -> bool:
        """Whether the card is known not to hold LoRA of the model, by the plan of one of its size."""
        if self.card_gb is None or self.parameters is None:
            return False
        return card_named(f"{self.card_gb:f}GB").memory_bytes < lora_bytes(self.parameters)


def known(value: T | None) -> T:
    assert value is not None, "a rule speaks of what it has looked at"
    return value


STRENGTHS: tuple[Strength, ...] = get_args(Strength)
PRACTICE = "practice"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of thumb.

    when: the condition, in words; applies: the same on facts. advice: a sentence, or what makes one of the facts where the rule
    applies. because: the reason, a sentence. source: who published it, or `practice`. favours, opposes: rungs; a STRONG rule rules
    out what it opposes. concerns: further rungs without which the advice is pointless.
    """

    name: str
    strength: Strength
    when: str
    applies: Callable[[Facts], bool]
    _: KW_ONLY
    advice: str | Callable[[Facts], str]
    because: str
    source: str = PRACTICE
    favours: tuple[str, ...] = ()
    opposes: tuple[str, ...] = ()
    concerns: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Callable[[str], Rule], tuple[str]]:
        """Copied and pickled by its name: its conditions are code."""
        return rule_named, (self.name,)

    def sentence(self, facts: Facts) -> str:
        """The advice for facts to which the rule applies."""
        return self.advice if isinstance(self.advice, str) else self.advice(facts)

    def matters(self, open_rungs: Collection[str]) -> bool:
        """Whether the advice is of use where only these rungs are left. STRONG advice always is."""
        about = {*self.favours, *self.opposes, *self.concerns}
        return self.strength == "STRONG" or not about or not about.isdisjoint(open_rungs)


def rule_named(name: str) -> Rule:
    """The one of the table."""
    from lastresort.advice.advise import RULES

    return next(rule for rule in RULES if rule.name == name)


@dataclass(frozen=True, slots=True)
class AppliedRule:
    """A rule that applies, with its advice."""

    rule: Rule
    advice: str


def apply_rules(rules: tuple[Rule, ...], facts: Facts) -> tuple[AppliedRule, ...]:
    """The rules that apply to these facts, strongest first, each strength in the order of the table."""
    applied = [AppliedRule(rule, rule.sentence(facts)) for rule in rules if rule.applies(facts)]
    return tuple(sorted(applied, key=lambda one: STRENGTHS.index(one.rule.strength)))
