"""GEPA at work on the instruction of a task: it decides what is asked, the climb answers, counts and pays.

GEPA proposes an instruction by letting a model reflect on some answered rows of train, and keeps it if these rows and then those
that are kept for choosing score higher. It writes no file and prints nothing here, and every call goes through the response cache,
so that a resumed climb takes the same way without paying again. What it costs is counted as if nothing came from the cache, since
the limits have to end it at the same place.

Source: Agrawal et al. 2025 (arXiv 2507.19457).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lastresort.data.split import groups_of
from lastresort.errors import CandidateError, LateError
from lastresort.evals.measure import MeasureJob
from lastresort.models.protocol import Model, Prompt, estimated_prompt_tokens, estimated_tokens, pay_on_answer
from lastresort.records.events.search import (
    PromptOptimised,
    ProposedPrompt,
    ReflectionLate,
    StoppedOptimising,
    Unwritten,
    reflection_key,
)
from lastresort.records.measurement import ItemScore
from lastresort.records.rungs import UsdTooSmall
from lastresort.rungs.prompting.reflection import copied_rows, reflection_record
from lastresort.rungs.prompting.spending import (
    REFLECTION_TOKENS,
    SHOWN,
    THOUGHT_TOKENS,
    Spending,
    calls_of_a_step,
    kept_rows,
    longest_prompt_tokens,
    thoughts_of,
)
from lastresort.rungs.rung import Workbench
from lastresort.spec.paths import is_paid
from lastresort.systems.system import System
from lastresort.types import Answer, Decoding, Example, Message

INSTRUCTION = "instruction"
MOST_LEARNED = 400
LEAST_ROWS = 20
MOST_UNWRITTEN = 3  # reflections in a row that fail
# The same rows can then lead to another instruction, and models that think refuse other values.
REFLECTION_TEMPERATURE = 1.0
REQUEST = """An assistant follows this instruction:
```
<curr_param>
```

Below are inputs, the assistant's answers, the right answers, and what is wrong with each answer.

<side_info>

Write a better instruction. Say what the task is, how the inputs look, and which rules tell the right answers from the wrong ones: \
rules that hold for inputs that nobody has seen yet. Keep what already works. Do not quote the inputs above and do not list their \
answers. What an answer has to look like is said elsewhere<form>.

Give only the new instruction, between ``` and ```."""


@dataclass(frozen=True, slots=True)
class OptimiserRows:
    """Rows of train. learned: from which reflections draw. kept: on which instructions are compared."""

    learned: tuple[Example, ...]
    kept: tuple[Example, ...]


def rows_of(train: Sequence[Example], calls: int, seed: int) -> OptimiserRows:
    """Train in two parts, drawn by seed, with the rows of a group in one of them. calls: of the whole search, of which the kept
    rows may cost only a part at a time.

    Groups are kept while they fit, so fewer rows may be kept than without groups; of a first one that is too large, its first rows,
    and the others are left out. Rows that are all of one group are divided as if they had none.
    """
    order = list(train)
    random.Random(f"optimise:{seed}").shuffle(order)
    n = kept_rows(len(order), calls)
    rows_by_group: dict[str, list[Example]] = {}
    for row, group in zip(order, groups_of(order) or (), strict=False):
        rows_by_group.setdefault(group, []).append(row)
    if len(rows_by_group) < 2:
        return OptimiserRows(tuple(order[n : n + MOST_LEARNED]), tuple(order[:n]))
    learned, kept = list[Example](), list[Example]()
    for rows in rows_by_group.values():
        if not kept:
            kept = rows[:n]
        else:
            (kept if len(kept) + len(rows) <= n else learned).extend(rows)
    return OptimiserRows(tuple(learned[:MOST_LEARNED]), tuple(kept))


class GepaAdapter:
    """What GEPA asks for: answers with what is wrong with them, and new instructions.

    rung: for the record. written: a system with an instruction. form: what an answer has to look like, which stays as it is. GEPA
    takes any exception in a reflection as a failed one and goes on, so it is kept here, ends the search, and is raised then.
    """

    def __init__(
        self,
        bench: Workbench,
        rung: str,
        rows: OptimiserRows,
        plain: str,
        form: str,
        written: Callable[[str], System],
        reflector: Model,
        spending: Spending,
    ) -> None:
        self._bench, self._rung, self._rows, self._plain, self._form = bench, rung, rows, plain, form
        self._written, self._reflector = written, reflector
        self.proposed: dict[str, ProposedPrompt] = {}
        self._effort = bench.task.prompting.reasoning_effort
        self.spent, self._thoughts = spending, thoughts_of(bench.task)
        self._unwritten: list[Unwritten] = []  # in a row
        self._may_think = is_paid(bench.task.reflect_model)
        self.stopped: StoppedOptimising | None = None
        self.failure: Exception | None = None

    def evaluate(self, batch: list[Example], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        """The rows, answered with the candidate's instruction and scored."""
        from gepa.core.adapter import EvaluationBatch

        items = self._answer(batch, candidate[INSTRUCTION])
        scores = [item.score for item in items]
        return EvaluationBatch([item.answer for item in items], scores, items if capture_traces else None)

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, str]]]:
        """What a reflection reads of the answered rows."""
        output = self._bench.task.output
        try:
            return {INSTRUCTION: [reflection_record(item, output) for item in eval_batch.trajectories]}
        except Exception as error:
            self.failure = error
            raise

    def propose_new_texts(
        self,
        candidate: dict[str, str],
        reflective_dataset: Mapping[str, Sequence[Mapping[str, Any]]],
        components_to_update: list[str],
    ) -> dict[str, str]:
        """A new instruction; nothing where it may not be tried, or is not new."""
        try:
            text = self._reflect(candidate[INSTRUCTION], reflective_dataset[INSTRUCTION])
        except CandidateError:
            self.stopped = "cut" if "cut" in self._unwritten else "no room"
            return {}
        except Exception as error:  # noqa: BLE001  GEPA would take it as one of its own and go on
            self.failure = error
            return {}
        if not text or text == self._plain or text in self.proposed:
            return {}
        copied = copied_rows(text, f"{self._plain}\n{self._form}", (*self._rows.learned, *self._rows.kept))
        if copied is not None:
            self.proposed[text] = ProposedPrompt(text=text, refused=copied.kind, copied=copied.words)
            return {}
        longer_tokens = estimated_tokens(text) - estimated_tokens(self._plain)
        if not self.spent.fits(self.spent.trial_usd(len(self._rows.kept), longer_tokens)):
            self.stopped = "usd"
            return {}
        self.proposed[text] = ProposedPrompt(text=text)
        return {INSTRUCTION: text}

    def stops(self, state: Any) -> bool:
        """Whether to end before the next step, so that no limit is passed within one."""
        n_kept = len(self._rows.kept)
        if self.stopped is None and max(state.program_full_scores_val_set) >= 1:
            self.stopped = "all right"
        if self.stopped is None and self.spent.calls + calls_of_a_step(n_kept) > self._bench.task.prompting.calls:
            self.stopped = "calls"
        if self.stopped is None and not self.spent.fits(self.spent.step_usd(n_kept, self._thoughts)):
            self.stopped = "usd"
        return self.stopped is not None or self.failure is not None

    def _answer(self, rows: Sequence[Example], instruction: str) -> list[ItemScore]:
        items = self._bench.scores_of(MeasureJob(0, self._written(instruction), tuple(rows), refused_is_wrong=True))
        self.spent.answered(items)
        return items

    def _reflect(self, instruction: str, records: Sequence[Mapping[str, Any]]) -> str:
        """The instruction that the reflecting model writes, "" where it was cut, timed out or would cost too much.

        An endpoint does not say whether its model thinks before it writes, within the same limit: after a cut text it gets room for
        that, unless the task says how long it thinks.
        """
        from gepa.strategies.instruction_proposal import InstructionProposalSignature

        request = {
            "current_instruction_doc": instruction,
            "dataset_with_feedback": records,
            "prompt_template": REQUEST.replace("<form>", f': "{self._form}"' if self._form else ""),
        }
        prompt = (Message("user", InstructionProposalSignature.prompt_renderer(request)),)
        if not self.spent.fits(self.spent.reflection_usd(estimated_prompt_tokens(prompt), self._thoughts)):
            self.stopped = "usd"
            return ""
        answer = self._reflection_in_time(prompt)
        self._bench.progress.advance(1)
        if answer is None:
            self._count_failed("late", "")
            return ""
        self.spent.reflected(answer)
        text = str(InstructionProposalSignature.output_extractor(answer.text.strip())["new_instruction"]).strip()
        if answer.finish != "length":
            self._unwritten.clear()
            return text
        self._count_failed("cut", text)
        if self._effort is None and self._may_think:
            self._thoughts = THOUGHT_TOKENS
        return ""

    def _count_failed(self, why: Unwritten, text: str) -> None:
        self.proposed[f"{why} {self.spent.reflections}"] = ProposedPrompt(text=text, refused=why)
        self._unwritten.append(why)
        if len(self._unwritten) >= MOST_UNWRITTEN:
            self.stopped = why if {*self._unwritten} == {why} else "cut or late"

    def _reflection_in_time(self, prompt: Prompt) -> Answer | None:
        """None where it times out, or did before the climb was resumed: it would be paid for again."""
        record, number = self._bench.record, self.spent.reflections + 1
        sha256 = hashlib.sha256(prompt[-1].content.encode("utf-8", "surrogatepass")).hexdigest()
        late = record.last(ReflectionLate, reflection_key(self._rung, number, sha256))
        if late is None:
            try:
                return self._reflection(prompt)
            except LateError as error:
                late = ReflectionLate(
                    rung=self._rung,
                    number=number,
                    prompt_sha256=sha256,
                    thoughts=self._thoughts,
                    seconds=error.waited_s,
                )
                record.append(late)
        elif late.thoughts < self._thoughts:
            self._thoughts, self._may_think = 0, False  # as that room was refused then
        self.spent.timed_out(estimated_prompt_tokens(prompt), late.thoughts, late.seconds)
        return None

    def _reflection(self, prompt: Prompt) -> Answer:
        """Room to think that nobody asked for is given up, for good, where it is more than the context of the model leaves."""
        # Without a seed of its own, the cache would give the same answer to the same rows.
        seed = self._bench.task.split.seed + self.spent.reflections + 1
        decoding = Decoding(
            REFLECTION_TOKENS, temperature=REFLECTION_TEMPERATURE, seed=seed, reasoning_effort=self._effort
        )
        pay = pay_on_answer(self._bench.pay)
        if self._thoughts and self._effort is None:  # with an effort, the endpoint adds the room
            try:
                [answer] = self._reflector.generate(
                    [prompt], replace(decoding, max_new_tokens=REFLECTION_TOKENS + self._thoughts), pay
                )
                return answer
            except CandidateError:
                self._thoughts, self._may_think = 0, False
        [answer] = self._reflector.generate([prompt], decoding, pay)
        return answer


class _Quiet:
    """GEPA's log, which goes nowhere: what it holds is in the record."""

    def log(self, message: str) -> None:
        pass


def optimised(
    bench: Workbench,
    rung: str,
    *,
    plain: str,
    form: str,
    written: Callable[[str], System],
    reflector: Model,
    priced: bool,
    reflector_name: str,
    raced: Sequence[ItemScore],
) -> PromptOptimised | UsdTooSmall:
    """Optimise an instruction on rows of train; nothing is called where `prompting.usd` is too small for one step. plain: where it
    begins. priced: whether the price of all calls is known. raced: answers of the plain prompt on dev.

    Raises what the climb raises while it answers: a request to stop, a limit, an endpoint that cannot be reached.
    """
    import gepa

    seed, calls = bench.task.split.seed, bench.task.prompting.calls
    rows = rows_of(bench.train, calls, seed)
    longest = longest_prompt_tokens(plain, form, rows.learned)
    spending = Spending(bench.task, bench.record, raced, prompt_tokens=longest)
    needed_usd = spending.start_usd(len(rows.kept), thoughts_of(bench.task))
    if spending.usd_limit is not None and not spending.fits(needed_usd):
        return UsdTooSmall(spending.usd_limit, needed_usd)
    adapter = GepaAdapter(bench, rung, rows, plain, form, written, reflector, spending)
    bench.progress.stage(f"{rung}: optimising the prompt on rows of train", calls)
    bench.at(rung, "optimised")
    result = gepa.optimize(
        seed_candidate={INSTRUCTION: plain},
        trainset=list(rows.learned),
        valset=list(rows.kept),
        adapter=adapter,
        reflection_minibatch_size=SHOWN,
        stop_callbacks=adapter.stops,
        logger=_Quiet(),
        track_best_outputs=False,
        seed=seed,
    )
    if adapter.failure is not None:
        raise adapter.failure
    assert adapter.stopped is not None, "it only ends where a limit is reached"
    scores = {
        candidate[INSTRUCTION]: float(score)
        for candidate, score in zip(result.candidates, result.val_aggregate_scores, strict=True)
    }
    best = max(scores, key=lambda text: (scores[text], -len(text)))
    best = best if scores[best] > scores[plain] else plain
    return PromptOptimised(
        rung=rung,
        reflector=reflector_name,
        plain=plain,
        best=best,
        plain_score=scores[plain],
        best_score=scores[best],
        n=len(rows.kept),
        learned_from=len(rows.learned),
        proposed=tuple(one.model_copy(update={"score": scores.get(one.text)}) for one in adapter.proposed.values()),
        calls=spending.calls,
        reflections=spending.reflections,
        stopped=adapter.stopped,
        tokens_in=spending.tokens_in,
        tokens_out=spending.tokens_out,
        seconds=round(spending.seconds, 3),
        usd=spending.usd,
        priced=priced,
    )
