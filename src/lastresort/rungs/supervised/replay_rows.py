"""The replay rows of a run: made once by the base model, kept in the record, used by every rung that trains.

If the task asks for a form, a third of them are inputs of the task under its own instruction with another request: after general
requests alone a model answers in its form whatever is asked under that instruction (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lastresort.evals.scorers.forms import has_form, is_free_text
from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.models.protocol import Model
from lastresort.records.events.training import ReplayMade, ReplayRow
from lastresort.records.record import Record
from lastresort.rungs.notes import ReplayByLikelihood
from lastresort.rungs.rung import Workbench
from lastresort.spec.sections import FullSettings, PreferenceSettings, SftSettings
from lastresort.synthesis.replay import (
    REPLAY_TOKENS,
    Replay,
    counter_requests,
    general_prompts,
    generate_replay,
    most_prompts,
    replay_rows,
)
from lastresort.systems.compose import compose, question_of
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example, JsonObject, Message, ReplayPrompts

if TYPE_CHECKING:
    from lastresort.engine.forest import Row
    from lastresort.models.loading import Loaded
    from lastresort.train.loop.batches import TrainingItem

COUNTER_SHARE = 1 / 3


def replay_size(n_train: int, share: float, prompts: ReplayPrompts) -> int:
    """How many rows make `share` of the whole training set, limited by the number of different prompts."""
    return min(replay_rows(n_train, share), most_prompts(prompts))


def replay_of(bench: Workbench, rung: str, n: int, prompts: ReplayPrompts) -> Replay:
    """n replay rows, made once; fewer if some do not fit the context, or the base answered with nothing or in the task's form.

    rung: which pays for them.
    """
    if not n:
        return Replay()
    recorded = recorded_replay(bench.record, n, prompts)
    if recorded is not None:
        return recorded
    bench.progress.stage(f"{rung}: replay rows from the base model", n)
    form, model = _form(bench), bench.models.open(_base(bench))
    replay = generate_replay(
        model,
        _prompts(bench, model, n, prompts),
        bench.task.split.seed,
        keep=lambda text: not has_form(text, form),
        on_batch=bench.progress.advance,
    )
    rows = tuple(
        ReplayRow(
            id=example.id,
            turns=tuple((turn.role, turn.content) for turn in example.input),
            answer=example.output,
            end=end,
        )
        for example, end in zip(replay.examples, replay.ends, strict=True)
    )
    replay_made = ReplayMade(
        rung=rung,
        asked=n,
        prompts=prompts,
        rows=rows,
        tokens_in=replay.tokens_in,
        tokens_out=replay.tokens_out,
        seconds=replay.seconds,
    )
    bench.record.append(replay_made)
    return replay


def replay_items(
    bench: Workbench,
    rung: str,
    model: Any,
    rows: Sequence[Row],
    section: SftSettings | FullSettings | PreferenceSettings,
) -> list[TrainingItem]:
    """The rows of replay with the loss that the task chose for them. model: that will be trained."""
    from lastresort.engine.support import support
    from lastresort.train.loop.batches import replayed

    held = section.replay_loss == "kl"
    if held and rows and support(model).head is None:
        held = False
        bench.say(rung, ReplayByLikelihood())
    return replayed(rows, held=held, weight=section.replay_weight)


def rendered_replay(loaded: Loaded, replay: Replay, template_kwargs: JsonObject) -> list[Row]:
    """Without an instruction of the task, as the base answered them."""
    from lastresort.train.loop.batches import training_rows

    return training_rows(
        loaded.tokenizer,
        replay.examples,
        tuple,
        context_tokens=loaded.context_tokens,
        template_kwargs=template_kwargs,
        ends=replay.ends,
    )


def recorded_replay(record: Record, n: int, prompts: ReplayPrompts) -> Replay | None:
    """The replay rows of a request for n of these prompts in the record, None if there was none."""
    replay_made = next(
        (event for event in record.all(ReplayMade) if (event.asked, event.prompts) == (n, prompts)), None
    )
    if replay_made is None:
        return None
    examples = tuple(Example(row.id, _prompt(row), row.answer) for row in replay_made.rows)
    return Replay(examples, tuple(row.end for row in replay_made.rows))


def _prompts(bench: Workbench, model: Model, n: int, kind: ReplayPrompts) -> list[tuple[Message, ...]]:
    counter = [] if is_free_text(_form(bench)) else _counter(bench, model, round(n * COUNTER_SHARE))
    general = general_prompts(n - len(counter), bench.task.split.seed, kind)
    return [*_fitting(model, [(Message("user", text),) for text in general]), *counter]


def _counter(bench: Workbench, model: Model, n: int) -> list[tuple[Message, ...]]:
    """Requests about inputs of the task, those that fit the context."""
    inputs = [text for example in bench.train if (text := question_of(example.input))]
    design = PromptDesign(bench.task.about.strip())
    texts = counter_requests(inputs, n, bench.task.split.seed)
    return _fitting(model, [compose(design, (Message("user", text),), ()) for text in texts])


def _fitting(model: Model, prompts: list[tuple[Message, ...]]) -> list[tuple[Message, ...]]:
    room = model.context_tokens
    return [prompt for prompt in prompts if room is None or model.count_tokens(prompt) + REPLAY_TOKENS <= room]


def _form(bench: Workbench) -> AnswerForm:
    return AnswerForm(bench.task.output.json_schema, bench.task.output.choices)


def _prompt(row: ReplayRow) -> tuple[Message, ...]:
    return tuple(Message(role, content) for role, content in row.turns)


def _base(bench: Workbench) -> System:
    return System(
        "base",
        bench.models.tuned_name,
        PromptDesign(""),
        Decoding(1),
        template_kwargs=bench.task.chat_template_kwargs,
    )
