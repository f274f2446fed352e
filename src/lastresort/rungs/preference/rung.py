"""Preference training on what the data allow: pairs, labelled answers, a reward, or the model's own samples."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from statistics import fmean

from lastresort.data.preferences import PreferenceRow, kind_of_preferences, read_preferences
from lastresort.evals.measure import mean_score
from lastresort.models.protocol import estimated_tokens
from lastresort.records.events.search import SystemFrozen
from lastresort.records.events.training import CandidateMoved, DriftMeasured
from lastresort.records.record import ItemScore
from lastresort.records.rungs import (
    JudgeAlone,
    MethodExcluded,
    OneSidedLabels,
    OnlyKnowledgeMissing,
    PreferencePlan,
    PreferenceSource,
    Skip,
    TooFewPreferences,
    TooFewPrompts,
    TrainedOnPreferences,
)
from lastresort.rungs.forecast import Forecast, Workload, answering, training
from lastresort.rungs.preference.drift import KL_ANSWERS, KL_PROMPTS, answer_lengths
from lastresort.rungs.preference.items import PreferenceCourse, course_of, plan_of, verdicts
from lastresort.rungs.preference.samples import (
    BEST_OF,
    MOST_ASKED,
    MOST_PROMPTS,
    best_of_samples,
    own_pairs,
    rewards_alike,
)
from lastresort.rungs.preference.training import KeptAdapter, PreferenceTraining
from lastresort.rungs.prompting.prompts import grammar_of, instruction
from lastresort.rungs.rung import GivenUp, RungSetup, Search, Workbench
from lastresort.rungs.supervised.methods import adapter_setup, weights_absent
from lastresort.rungs.supervised.milder import trained_candidate
from lastresort.rungs.supervised.replay_rows import replay_size
from lastresort.rungs.supervised.sft import REPLAY_ROW_TOKENS, SftRung, forecast_of_replay, planned_replay_loss
from lastresort.rungs.tuning import choose_on_dev, constrain, on_dev, recorded_rendering
from lastresort.spec.task import Task
from lastresort.systems.files import load_system
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example

LEAST_PREFERENCES, LEAST_OF_A_KIND, LEAST_PROMPTS = 50, 10, 16


class PreferenceRung:
    """DPO on top of the supervised adapter, ORPO from the base, KTO or GRPO: one system, chosen on dev among its checkpoints."""

    name = "preference"
    takes_more_replay = False

    def skip_reason(self, task: Task, train: Sequence[Example]) -> Skip | None:
        if (absent := weights_absent(task)) is not None:
            return absent
        if task.tune.method == "full":
            return MethodExcluded("adapters", task.tune.method)
        if task.preferences is not None:
            return why_too_few(read_preferences(task.preferences), "given")
        if task.reward:
            enough = len(train) >= LEAST_PROMPTS
            return None if enough else TooFewPrompts(len(train), LEAST_PROMPTS, to_pair=False)
        if task.score.name == "judge":
            return JudgeAlone()
        if len(train) < LEAST_PREFERENCES:
            return TooFewPrompts(len(train), LEAST_PREFERENCES, to_pair=True)
        return None

    def forecast(self, task: Task, work: Workload) -> Forecast:
        """Samples if needed, the first part at every learning rate and the rest at one, every candidate on dev and one of them with
        constrained decoding, the test; answers as long as allowed.
        """
        preferences = read_preferences(task.preferences) if task.preferences is not None else ()
        on_sft = _on_sft(task, work.n_train)
        plan, course = planned_course(task, work.n_train, preferences)
        about = work.about_tokens
        prompt, machine = about + work.input_tokens, work.machine
        parts, rates = len(course.stops(1_000_000)), len(course.learning_rates)
        candidates = rates + parts - 1
        n_measured = candidates + (grammar_of(task) is not None) + (not on_sft)
        share = 1 + (rates - 1) / parts
        return (
            _learning(task, work, plan, course, preferences, prompt, share)
            + _replaying(task, work, plan, course, len(preferences), share)
            + answering(
                "KL on dev",
                machine,
                candidates * min(KL_PROMPTS, work.n_dev) * KL_ANSWERS,
                prompt,
                about,
                work.max_new_tokens,
            ).unscored()
            + answering("candidates on dev", machine, work.n_dev * n_measured, prompt, about, work.max_new_tokens)
            + answering("test of the chosen", machine, work.n_test, prompt, about, work.max_new_tokens)
        )

    def planned_setup(self, task: Task, work: Workload, row_tokens: int) -> RungSetup:
        """For a pair both rows, as long as the longest of train; for a group answers as long as allowed."""
        plan, course = planned_course(task, work.n_train)
        if plan.objective == "grpo":
            longest, size = row_tokens + work.max_new_tokens, task.preference.samples
            setup = adapter_setup(task, longest, learning="grpo", group_size=size, new_tokens=work.max_new_tokens)
            return RungSetup(setup, longest, course.batch_size * size)
        pairs = plan.objective in ("dpo", "orpo")
        loss = planned_replay_loss(task.preference)
        setup = adapter_setup(task, row_tokens, learning="dpo" if pairs else "sft", replay_loss=loss)
        return RungSetup(setup, (2 if pairs else 1) * row_tokens, course.batch_size)

    def search(self, bench: Workbench) -> Search | GivenUp:
        task = bench.task
        supervised = _supervised(bench)
        start = supervised or _base(bench)
        preferences = bench.preferences
        if preferences is not None and (few := why_too_few(preferences, "given, without those that dev or test hold")):
            return GivenUp(few)
        start_scores = (
            bench.dev_scores("sft", supervised) if supervised is not None else on_dev(bench, self.name, start)
        )
        if (lacking := why_beyond_mending(start_scores, bench.record.lacking_knowledge)) is not None:
            return GivenUp(lacking)
        plan = plan_of(task, kind_of_preferences(preferences) if preferences else None, on_sft=supervised is not None)
        samples_note = ""
        if plan.source == "reward" and (alike := rewards_alike(bench, self.name, start)) is not None:
            return GivenUp(alike)
        if plan.source == "samples":
            best = best_of_samples(bench, self.name, start, start_scores)
            if (beyond := best.out_of_reach(task.bar, bench.judged_miss)) is not None:
                return GivenUp(beyond)
            sampled = own_pairs(bench, self.name, start)
            if few := why_too_few(sampled.preferences, "sampled", sampled.summary):
                return GivenUp(few)
            preferences, samples_note = sampled.preferences, f" ({sampled.summary}; {best.summary()})"
        course = course_of(task.preference, plan.objective)
        tuning = PreferenceTraining(bench, self.name, start, plan, course, preferences or ())

        def system(adapter: KeptAdapter) -> System:
            rendering = recorded_rendering(bench.record, self.name)
            return replace(
                start,
                name=adapter.name,
                adapter=adapter.adapter,
                fingerprint="",
                rendering="",
                trained_rendering=rendering,
            )

        rate, adapters = tuning.race(lambda candidate: mean_score(on_dev(bench, self.name, system(candidate))))
        systems = [system(candidate) for candidate in (*adapters, *tuning.finish(rate))]
        finding = TrainedOnPreferences(
            plan,
            f"{tuning.summary()}{samples_note}",
            rate,
            tuple(course.learning_rates),
            course.epochs,
            course.batch_size,
        )
        search = choose_on_dev(bench, self.name, systems, finding)
        self._record_drift(bench, search, start, start_scores)
        return search

    def retrain(
        self, bench: Workbench, system: System, *, replay: float | None = None, learning_rate: float | None = None
    ) -> System | None:
        """At a lower learning rate: the stops that the record holds are of a training with as many rows."""
        assert learning_rate is not None
        supervised, preferences = _supervised(bench), bench.preferences
        start = supervised or _base(bench)
        plan = plan_of(
            bench.task, kind_of_preferences(preferences) if preferences else None, on_sft=supervised is not None
        )
        if plan.source == "samples":
            preferences = own_pairs(bench, self.name, start).preferences
        course = replace(course_of(bench.task.preference, plan.objective), learning_rates=(learning_rate,))
        tuning = PreferenceTraining(bench, self.name, start, plan, course, preferences or ())
        adapter = tuning.to_step(learning_rate, trained_candidate(bench, system.name).stop)
        if adapter is None:
            return None
        retrained = replace(system, name=adapter.name, adapter=adapter.adapter, fingerprint="", rendering="")
        grammar = system.decoding.grammar
        return retrained if grammar is None else constrain(bench.record, retrained, grammar)

    def _record_drift(self, bench: Workbench, search: Search, start: System, start_scores: Sequence[ItemScore]) -> None:
        """Record for every candidate how far it moved, and whether its answers got longer."""
        for candidate in search.candidates:
            adapter = candidate.system.adapter
            assert adapter is not None
            movement = bench.record.last(CandidateMoved, adapter.name)
            length = answer_lengths(start_scores, bench.dev_scores(self.name, candidate.system))
            name = candidate.system.name
            if movement is not None and movement.moved is not None and bench.record.last(DriftMeasured, name) is None:
                drift = DriftMeasured(
                    rung=self.name, candidate=name, start=start.name, moved=movement.moved, length=length
                )
                bench.record.append(drift)


_NO_EXAMPLE = Example("", (), "")


def why_too_few(
    preferences: Sequence[PreferenceRow], source: PreferenceSource, sampled: str = ""
) -> TooFewPreferences | OneSidedLabels | None:
    """Why these are too few to train on, None where they are enough. sampled: what became of the prompts, of samples."""
    labels = [preferred.label for preferred in preferences]
    labelled = bool(labels) and labels[0] is not None
    if len(labels) < LEAST_PREFERENCES:
        return TooFewPreferences(len(labels), LEAST_PREFERENCES, labelled, source, sampled)
    n_good = sum(map(bool, labels))
    if labelled and min(n_good, len(labels) - n_good) < LEAST_OF_A_KIND:
        return OneSidedLabels(n_good, len(labels) - n_good, LEAST_OF_A_KIND, source, sampled)
    return None


def why_beyond_mending(items: Sequence[ItemScore], lacking: Collection[str] | None) -> OnlyKnowledgeMissing | None:
    """Why no preference fixes what fails on dev; None where one may, or where no retrieval has shown what knowledge would fix.

    items: what the model that would be trained answered. lacking: ids of those that were wrong for want of knowledge.
    """
    wrong = [item for item in items if item.score < 1]
    if lacking is None or not wrong or any(item.id not in lacking for item in wrong):
        return None
    return OnlyKnowledgeMissing(len(wrong))


def _supervised(bench: Workbench) -> System | None:
    """The system that the supervised rung chose, None if there is none."""
    frozen = bench.record.last(SystemFrozen, SftRung.name)
    return load_system(bench.candidate_folder(SftRung.name, frozen.name)) if frozen is not None else None


def _base(bench: Workbench) -> System:
    """The untuned model with the zero-shot prompt."""
    task = bench.task
    decoding = Decoding(bench.max_new_tokens, temperature=task.decode.temperature, seed=task.split.seed)
    design, kwargs = PromptDesign(instruction(task)), task.chat_template_kwargs
    return System("base", bench.models.tuned_name, design, decoding, template_kwargs=kwargs)


def planned_course(
    task: Task, n_train: int, preferences: Sequence[PreferenceRow] | None = None
) -> tuple[PreferencePlan, PreferenceCourse]:
    """The plan and course before a run. preferences: of the task's file, None to read them."""
    if preferences is None:
        preferences = read_preferences(task.preferences) if task.preferences is not None else ()
    kind = kind_of_preferences(preferences) if preferences else None
    plan = plan_of(task, kind, on_sft=_on_sft(task, n_train))
    return plan, course_of(task.preference, plan.objective)


def _on_sft(task: Task, n_train: int) -> bool:
    return SftRung.name in task.ladder and SftRung().skip_reason(task, [_NO_EXAMPLE] * n_train) is None


def _replaying(
    task: Task, work: Workload, plan: PreferencePlan, course: PreferenceCourse, n_preferences: int, share: float
) -> Forecast:
    """What replay adds. n_preferences: of the task's file. share: of a whole training, with the race."""
    section, machine, epochs = task.preference, work.machine, course.epochs * share
    rows = 0 if plan.source == "reward" else n_preferences or min(work.n_train, MOST_PROMPTS)
    n = replay_size(rows, section.replay, section.replay_prompts)
    if not n:
        return Forecast(0, 0, 0, 0.0, 0.0)
    return forecast_of_replay(section, machine, n, epochs) + training(
        "replay", machine, n, epochs, REPLAY_ROW_TOKENS, 0, course.batch_size
    )


def _learning(
    task: Task,
    work: Workload,
    plan: PreferencePlan,
    course: PreferenceCourse,
    preferences: Sequence[PreferenceRow],
    prompt: float,
    share: float,
) -> Forecast:
    """The cost of the training itself. share: of a whole training, with the race."""
    machine, about, samples = work.machine, work.about_tokens, task.preference.samples
    rates, epochs = len(course.learning_rates), course.epochs * share
    label = f"{plan.objective}, {rates} learning rate{'' if rates == 1 else 's'}"
    if plan.source == "reward":
        n = round(work.n_train * samples * epochs)
        row = prompt + work.max_new_tokens
        groups = answering("groups", machine, n, prompt, prompt, work.max_new_tokens).unscored()
        training_forecast = training(label, machine, n, 1, row, prompt, course.batch_size * samples)
        return sum(verdicts(task, work, n), groups + training_forecast)
    if plan.source == "samples":
        n_prompts = min(work.n_train, MOST_PROMPTS)
        n_dev_answers = min(work.n_dev, MOST_ASKED) * max(BEST_OF, samples)
        sampling = answering("best of samples on dev", machine, n_dev_answers, prompt, prompt, work.max_new_tokens)
        sampling += answering("samples", machine, n_prompts * samples, prompt, prompt, work.max_new_tokens)
        row = 2 * (prompt + work.output_tokens)
        beginning, batch, lengths = about + prompt, course.batch_size, work.lengths
        return sampling + training(label, machine, n_prompts, epochs + 0.5, row, beginning, batch, lengths=lengths)
    return forecast_of_given(label, work, preferences, epochs, course.batch_size)


def forecast_of_given(
    label: str, work: Workload, preferences: Sequence[PreferenceRow], epochs: float, batch_size: int
) -> Forecast:
    """Of a training on pairs or labelled answers of the task's file, and its reference."""
    about = work.about_tokens
    answers, n = len(preferences[0].answers), len(preferences)
    texts = (
        [one.prompt_text] * answers + [turn.content for answer in one.answers for turn in answer] for one in preferences
    )
    lengths = [sum(map(estimated_tokens, own)) for own in texts]
    row = answers * about + work.per_estimate * fmean(lengths)
    # the reference is a forward pass, half of a training pass without gradients
    return training(label, work.machine, n, epochs + 0.5, row, about, batch_size, lengths=lengths)
