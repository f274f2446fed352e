"""Supervised fine-tuning with LoRA or QLoRA: learning rates raced on dev, then checkpoints, then one system.

Knowledge that changes more often than a model is trained again stays outside of weights. Where it may not go into the prompt
there is no other place for it: then weights are not refused, and the decision warns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from lastresort.records.events.training import DistanceMeasured
from lastresort.records.rungs import CurveBelowBar, KnowledgeOutpacesTraining, MethodExcluded, Skip, TooFewRows
from lastresort.rungs.forecast import Forecast, Machine, Workload, answering, training
from lastresort.rungs.prompting.prompts import grammar_of
from lastresort.rungs.rung import RungSetup, Search, Workbench
from lastresort.rungs.supervised.curve import look_at_curve, rest_is_long
from lastresort.rungs.supervised.methods import adapter_setup, method_of, weights_absent
from lastresort.rungs.supervised.milder import retrain, scale_system
from lastresort.rungs.supervised.rates import losses_of_race, raced_beyond
from lastresort.rungs.supervised.replay_rows import replay_size
from lastresort.rungs.supervised.training import KEPT_SCALES, KEPT_SHARES, SupervisedTraining, kept_epochs
from lastresort.rungs.tuning import choose_on_dev, recorded_rendering, scaled_name
from lastresort.spec.sections import FullSettings, PreferenceSettings, SftSettings
from lastresort.spec.task import Pace, Task
from lastresort.synthesis.replay import REPLAY_TOKENS
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example, ReplayLoss

PACES: tuple[Pace, ...] = get_args(Pace)  # from never to daily


def outdates_weights(changes: Pace | None, retrained: Pace | None) -> bool:
    """Whether what changes so often is ahead of a model that is trained so often; False where either is not known."""
    if changes is None or retrained is None:
        return False
    return PACES.index(changes) > PACES.index(retrained)


def stale_reason(task: Task) -> KnowledgeOutpacesTraining | None:
    """Why nothing from the task's knowledge should be trained in, None where it may be."""
    return None if task.use.context == "forbidden" else _outpaced(task)


def stale_weights(task: Task) -> KnowledgeOutpacesTraining | None:
    """What to know of weights that were trained although the knowledge changes more often, None where it does not."""
    return _outpaced(task) if task.use.context == "forbidden" else None


def _outpaced(task: Task) -> KnowledgeOutpacesTraining | None:
    changes, retrained = task.knowledge_changes, task.retrain_every
    if task.knowledge is None or not outdates_weights(changes, retrained):
        return None
    return KnowledgeOutpacesTraining(str(changes), str(retrained))


LEAST_ROWS, ADVISED_ROWS = 50, 500
REPLAY_PROMPT_TOKENS = 48
REPLAY_ROW_TOKENS = REPLAY_PROMPT_TOKENS + REPLAY_TOKENS


class SftRung:
    """LoRA on the task's own rows, with replay; answers with the instruction alone, so that it is also cheap to serve."""

    name = "sft"
    takes_more_replay = True

    def skip_reason(self, task: Task, train: Sequence[Example]) -> Skip | None:
        if (absent := weights_absent(task)) is not None:
            return absent
        if task.tune.method == "full":
            return MethodExcluded("adapters", task.tune.method)
        if (stale := stale_reason(task)) is not None:
            return stale
        if len(train) < LEAST_ROWS:
            return TooFewRows(len(train), LEAST_ROWS, ADVISED_ROWS)
        return None

    def forecast(self, task: Task, work: Workload) -> Forecast:
        """Replay, the race of learning rates, every checkpoint on dev and once more held to the form, the test; every answer is
        as long as allowed.
        """
        sft = task.sft
        weighed = sft.select == "mildest"
        rates, n_kept = len(sft.learning_rates), len(KEPT_SHARES) if weighed else len(kept_epochs(sft.epochs))
        passes = n_kept + len(KEPT_SCALES) * weighed + (grammar_of(task) is not None)
        losses = n_kept + losses_of_race(rates)
        epochs = sft.epochs * (1 + raced_beyond(rates))
        label = f"training, {rates} learning rate{'s raced' if rates > 1 else ''}"
        return (
            forecast_of_training(task, work, label, epochs=epochs, losses=losses)
            + forecast_of_answers(work, "checkpoints on dev", work.n_dev * passes)
            + forecast_of_answers(work, "test of the chosen", work.n_test)
        )

    def forecast_call(self, task: Task, work: Workload) -> Forecast:
        """The instruction and the input alone, answered as the examples are."""
        prompt = work.about_tokens + work.input_tokens
        return answering("a call", work.machine, 1, prompt, 0, work.output_tokens)

    def planned_setup(self, task: Task, work: Workload, row_tokens: int) -> RungSetup:
        setup = adapter_setup(task, row_tokens, replay_loss=planned_replay_loss(task.sft))
        return RungSetup(setup, row_tokens, task.sft.batch_size)

    def search(self, bench: Workbench) -> Search:
        task = bench.task
        weighed = task.sft.select == "mildest"
        tuning = SupervisedTraining(bench, self.name, task.sft, method_of(task), weighed=weighed, look_early=True)
        rate = tuning.race()
        early = self._below_the_bar(bench, tuning, rate)
        folders = tuning.finish(rate)
        tuning.close()
        systems = [tuned_system(bench, self.name, folder) for folder in folders]
        if weighed:
            scaled = [scale for scale in KEPT_SCALES if _is_measured(bench, scaled_name(systems[-1].name, scale))]
            systems += [scale_system(bench, systems[-1], scale) for scale in scaled]
        search = choose_on_dev(bench, self.name, systems, tuning.findings(rate), weighed=weighed)
        return search if early is None else replace(search, findings=(*search.findings, early))

    def _below_the_bar(self, bench: Workbench, tuning: SupervisedTraining, rate: float) -> CurveBelowBar | None:
        """What the first third shows, where the rest takes long."""
        third = tuning.third(rate)
        if third is None or not rest_is_long(bench, tuning.run_name(rate)):
            return None
        tuning.close()  # the model that answers takes its room
        return look_at_curve(bench, self.name, tuned_system(bench, self.name, third.folder), third.step, third.steps)

    def retrain(
        self, bench: Workbench, system: System, *, replay: float | None = None, learning_rate: float | None = None
    ) -> System | None:
        task = bench.task
        return retrain(bench, self.name, task.sft, method_of(task), system, replay=replay, learning_rate=learning_rate)


def forecast_of_training(task: Task, work: Workload, label: str, *, epochs: float, losses: int) -> Forecast:
    """Replay rows, training with the settings of `sft` for so many epochs, and the loss on dev so many times."""
    about, machine, sft = work.about_tokens, work.machine, task.sft
    row = about + work.input_tokens + work.output_tokens
    replay = replay_size(work.n_train, sft.replay, sft.replay_prompts)
    return (
        forecast_of_replay(sft, machine, replay, epochs)
        + training(label, machine, work.n_train + replay, epochs, row, about, sft.batch_size, lengths=work.lengths)
        + answering("loss on dev", machine, work.n_dev * losses, row, about, 0)
    )


def forecast_of_replay(
    section: SftSettings | FullSettings | PreferenceSettings, machine: Machine, n: int, epochs: float
) -> Forecast:
    """What the base answers, and its passes."""
    answered = answering("replay rows", machine, n, REPLAY_PROMPT_TOKENS, 0, REPLAY_TOKENS).unscored()
    return answered + forecast_of_base(section.replay_loss, machine, n, epochs)


def planned_replay_loss(section: SftSettings | FullSettings | PreferenceSettings) -> ReplayLoss:
    """That of a training by this section, as the memory plan sees it: without replay none takes more."""
    return section.replay_loss if section.replay else "likelihood"


def forecast_of_base(loss: ReplayLoss, machine: Machine, n: int, epochs: float) -> Forecast:
    """With `kl` its pass over each of n rows of replay each time that this is trained."""
    if not n or loss != "kl":
        return Forecast(0, 0, 0, 0.0, 0.0)
    return answering("the base at replay rows", machine, round(n * epochs), REPLAY_ROW_TOKENS, 0, 0).unscored()


def forecast_of_answers(work: Workload, label: str, n: int) -> Forecast:
    """n answers of a tuned model, each as long as allowed."""
    prompt = work.about_tokens + work.input_tokens
    return answering(label, work.machine, n, prompt, work.about_tokens, work.max_new_tokens)


def tuned_system(bench: Workbench, rung: str, adapter: Path) -> System:
    """The tuned model with the instruction alone; the folder of its adapter is called after the candidate."""
    task = bench.task
    return System(
        adapter.name,
        bench.models.tuned_name,
        PromptDesign(task.about.strip()),
        Decoding(bench.max_new_tokens, temperature=task.decode.temperature, seed=task.split.seed),
        adapter=adapter,
        template_kwargs=task.chat_template_kwargs,
        trained_rendering=recorded_rendering(bench.record, rung),
    )


def _is_measured(bench: Workbench, candidate: str) -> bool:
    """The end of a training that diverged is not kept, and has no scales."""
    return bench.record.last(DistanceMeasured, candidate) is not None
