"""GEPA at work on the instruction of a task: it decides what is asked, the climb answers, counts and pays.

GEPA proposes an instruction by letting a model reflect on some answered rows of train, and keeps it if these rows and then those
that are kept for choosing score higher. It writes no file and prints nothing here, and every call goes through the response cache,
so that a resumed climb takes the same way without paying again. What it costs is counted as if nothing came from the cache, since
the limits have to end it at the same place.

Source: Agrawal et al. 2025 (arXiv 2507.19457).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastresort.errors import CandidateError
from lastresort.evals.measure import JobRefused, MeasureJob, Result
from lastresort.models.protocol import Model, pay_on_answer
from lastresort.records.events import PromptOptimised, ProposedPrompt, StoppedOptimising
from lastresort.records.measurement import ItemScore
from lastresort.rungs.prompting.copying import copied_rows
from lastresort.rungs.prompting.feedback import reflection_record
from lastresort.rungs.rung import Workbench
from lastresort.systems.system import System
from lastresort.types import Decoding, Example, Message

INSTRUCTION = "instruction"
SHOWN = 4  # answered rows that one reflection sees
MOST_LEARNED = 400
KEPT_OF_CALLS, LEAST_KEPT = 10, 8  # one in so many calls is a row kept for choosing
LEAST_ROWS = 20
REFLECTION_TOKENS = 2048
REFLECTION_TEMPERATURE = 1.0  # the same rows shall lead to another instruction; models that think refuse other values
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
    """Train in two parts, drawn by seed. calls: of the whole search, of which the kept rows may cost only a part at a time."""
    order = list(train)
    random.Random(f"optimise:{seed}").shuffle(order)
    n = kept_rows(len(order), calls)
    return OptimiserRows(tuple(order[n : n + MOST_LEARNED]), tuple(order[:n]))


def kept_rows(n_train: int, calls: int) -> int:
    return min(max(LEAST_KEPT, calls // KEPT_OF_CALLS), n_train // 2)


def calls_of_a_step(kept: int) -> int:
    """At most: an instruction answers the rows shown, is reflected on, the new one answers them too, then the kept ones."""
    return 2 * SHOWN + 1 + kept


class GepaAdapter:
    """What GEPA asks for: answers with what is wrong with them, and new instructions.

    written: a system with an instruction. form: what an answer has to look like, which stays as it is. GEPA takes any exception in
    a reflection as a failed one and goes on, so it is kept here, ends the search, and is raised then.
    """

    def __init__(
        self,
        bench: Workbench,
        rows: OptimiserRows,
        plain: str,
        form: str,
        written: Callable[[str], System],
        reflector: Model,
    ) -> None:
        self._bench, self._rows, self._plain, self._form = bench, rows, plain, form
        self._written, self._reflector = written, reflector
        self.proposed: dict[str, ProposedPrompt] = {}
        self.calls = self.reflections = self.tokens_in = self.tokens_out = 0
        self.seconds = self.usd = 0.0
        self.stopped: StoppedOptimising | None = None
        self.failure: Exception | None = None
        self._dearest = {"answer": 0.0, "reflection": self._written_usd()}

    def evaluate(self, batch: list[Example], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        """The rows, answered with the candidate's instruction and scored."""
        from gepa.core.adapter import EvaluationBatch

        items = self._answered(batch, candidate[INSTRUCTION])
        scores = [item.score for item in items]
        return EvaluationBatch([item.answer for item in items], scores, items if capture_traces else None)

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, str]]]:
        """What a reflection is told of the answered rows."""
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
            text = self._reflected(candidate[INSTRUCTION], reflective_dataset[INSTRUCTION])
        except CandidateError:
            self.stopped = "no room"
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
        self.proposed[text] = ProposedPrompt(text=text)
        return {INSTRUCTION: text}

    def stops(self, state: Any) -> bool:
        """Whether to end before the next step, so that no limit is passed within one, at the price of the dearest calls so far."""
        keys, step = self._bench.task.prompting, calls_of_a_step(len(self._rows.kept))
        if self.stopped is None and max(state.program_full_scores_val_set) >= 1:
            self.stopped = "all right"
        if self.stopped is None and self.calls + step > keys.calls:
            self.stopped = "calls"
        next_usd = (step - 1) * self._dearest["answer"] + self._dearest["reflection"]
        if self.stopped is None and keys.usd is not None and self.usd + next_usd > keys.usd:
            self.stopped = "usd"
        return self.stopped is not None or self.failure is not None

    def _answered(self, rows: Sequence[Example], instruction: str) -> list[ItemScore]:
        found: list[ItemScore] = []

        def use(job: MeasureJob, result: Result) -> None:
            if isinstance(result, JobRefused):
                raise result.error()
            found.extend(result.items)

        job = MeasureJob(0, self._written(instruction), tuple(rows), refused_is_wrong=True)
        request = self._bench.run_jobs([job], use, self._bench.stop)
        if request is not None:
            raise request.error()
        self.calls += len(found)
        for item in found:
            self._count("answer", item.prompt_tokens, item.completion_tokens, item.seconds, item.usd)
        return found

    def _reflected(self, instruction: str, records: Sequence[Mapping[str, Any]]) -> str:
        """The instruction that the reflecting model writes, "" where it was cut."""
        from gepa.strategies.instruction_proposal import InstructionProposalSignature

        asked = {
            "current_instruction_doc": instruction,
            "dataset_with_feedback": records,
            "prompt_template": REQUEST.replace("<form>", f': "{self._form}"' if self._form else ""),
        }
        prompt = (Message("user", InstructionProposalSignature.prompt_renderer(asked)),)
        self.calls, self.reflections = self.calls + 1, self.reflections + 1
        # Without a seed of its own, the cache would give the same answer to the same rows.
        seed = self._bench.task.split.seed + self.reflections
        decoding = Decoding(REFLECTION_TOKENS, temperature=REFLECTION_TEMPERATURE, seed=seed)
        [answer] = self._reflector.generate([prompt], decoding, pay_on_answer(self._bench.pay))
        self._count("reflection", answer.prompt_tokens, answer.completion_tokens, answer.seconds, answer.usd)
        self._bench.progress.advance(1)
        text = str(InstructionProposalSignature.output_extractor(answer.text.strip())["new_instruction"]).strip()
        if answer.finish == "length":
            self.proposed[text] = ProposedPrompt(text=text, refused="cut")
            return ""
        return text

    def _written_usd(self) -> float:
        """What the longest reflection would cost, its prompt left out."""
        task = self._bench.task
        own = task.reflect_model == task.model
        return REFLECTION_TOKENS * ((task.use if own else task.prompting).output_price or 0.0) / 1e6

    def _count(self, kind: str, tokens_in: int, tokens_out: int, seconds: float, usd: float) -> None:
        self.tokens_in, self.tokens_out = self.tokens_in + tokens_in, self.tokens_out + tokens_out
        self.seconds, self.usd = self.seconds + seconds, self.usd + usd
        self._dearest[kind] = max(self._dearest[kind], usd)


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
) -> PromptOptimised:
    """Optimise an instruction on rows of train. plain: where it begins. priced: whether the price of all calls is known.

    Raises what the climb raises while it answers: a request to stop, a limit, an endpoint that cannot be reached.
    """
    import gepa

    seed, calls = bench.task.split.seed, bench.task.prompting.calls
    rows = rows_of(bench.train, calls, seed)
    adapter = GepaAdapter(bench, rows, plain, form, written, reflector)
    bench.progress.stage(f"{rung}: optimising the prompt on rows of train", calls)
    bench.at(rung, "optimised")
    found = gepa.optimize(
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
        for candidate, score in zip(found.candidates, found.val_aggregate_scores, strict=True)
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
        calls=adapter.calls,
        reflections=adapter.reflections,
        stopped=adapter.stopped,
        tokens_in=adapter.tokens_in,
        tokens_out=adapter.tokens_out,
        seconds=round(adapter.seconds, 3),
        usd=adapter.usd,
        priced=priced,
    )
