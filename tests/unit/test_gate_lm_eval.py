"""Tasks of lm-eval as suites of the gate: a local folder, offline, on tiny models; and what cannot be asked."""

from __future__ import annotations

import json
import pickle
import random
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from climb_support import calls, scripted_task
from lastresort.app.start import ClimbRequest, start_climb
from lastresort.errors import InfrastructureError, InputError, PrerequisiteError, StopRequestedError
from lastresort.evals.evidence.noninferiority import power_of
from lastresort.gate import built_in as suites
from lastresort.gate.built_in import further_suites
from lastresort.gate.lm_eval.asking import (
    DocumentsToAsk,
    HarnessAnswers,
    HarnessRequest,
    _measure_of,
    ask_each,
    harness_version,
    reply,
)
from lastresort.gate.lm_eval.suite import LmEvalSuite
from lastresort.gate.lm_eval.tasks import Documents, MeasuredTasks, faults_of, load_parts
from lastresort.gate.logs.logged import LoggedItem, LoggedMeasure
from lastresort.gate.run import _count_measures, run_gate
from lastresort.gate.scored import GateSettings
from lastresort.gate.sides import GateSide
from lastresort.gate.suites.asking import KeptAnswers
from lastresort.gate.suites.suite import SideName
from lastresort.gate.verdict.compare import judge_measure, skipped_measure
from lastresort.gate.workers import GateWorkers, HarnessJob
from lastresort.models.local import LocalModel
from lastresort.models.open import ModelOpening, open_model
from lastresort.records.gate import ItemsAsked
from lastresort.records.responses import SuiteAnswers
from lastresort.records.uninformative import FewDocuments, NoLocalWeights
from lastresort.scale.crew import Crew, Workers
from lastresort.scale.work import AnsweringWorker, JobModel
from lastresort.spec.task import Task, load_task
from lastresort.stop import NEVER, Stop, StopSignal
from lastresort.types import SilentProgress
from logs_support import local_tasks, scored_by
from scale_support import AnyJob, WorkersHere, content_of
from tiny_model import save_tiny_model

SUITE = "lm_eval:tasks"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with tasks and two models, base and tuned."""
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("lm_eval")
    save_tiny_model(folder / "base", seed=0)
    save_tiny_model(folder / "tuned", seed=1)
    local_tasks(folder / "tasks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        patch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
        yield folder


@pytest.fixture(scope="module")
def letters(here: Path) -> MeasuredTasks:
    return next(part for part in load_parts(SUITE, here) if part.name == "letters")


def opened(here: Path, name: str) -> LocalModel:
    model = open_model(str(here / name), base_folder=here)
    assert isinstance(model, LocalModel)
    return model


def asked(here: Path, name: str, part: MeasuredTasks, kept: SuiteAnswers, count: int = 32) -> HarnessAnswers:
    return answers_of(opened(here, name), part, kept, count)


def answers_of(model: LocalModel, part: MeasuredTasks, kept: SuiteAnswers, count: int) -> HarnessAnswers:
    documents = DocumentsToAsk(part, Documents(SUITE, part).draw(0, 0, count), "asked")
    [found] = ask_each(model, SUITE, [documents], kept, SilentProgress())
    assert isinstance(found, HarnessAnswers)
    return found


def task_with(folder: Path, tasks: Path, margin: float | str) -> Task:
    name = f"lm_eval:{tasks}"
    told = {"general": [name], "keep": {name: margin}}
    return load_task(scripted_task(folder, quality=[{"right": 0.9}], task=told))


def test_a_folder_holds_parts_and_their_documents_are_a_pilot_or_scored(here: Path) -> None:
    parts = load_parts(SUITE, here)
    assert [part.name for part in parts] == ["letters", "words"]
    documents = Documents(SUITE, parts[0])
    pilot, scored = documents.pilot(), documents.draw(0, 0, 100)
    assert (len(pilot), len(scored)) == (8, 32)  # a fifth is piloted, and of 40 no more are left
    assert not {item.id for item in pilot} & {item.id for item in scored}
    assert {item.id for item in documents.draw(1, 0, 100)} == {item.id for item in scored}
    assert documents.draw(1, 0, 100) != scored
    assert [item.text for item in pilot] == [f"Letter {item.number}?" for item in pilot]
    assert [part.name for part in load_parts("lm_eval:tasks/words.yaml", here)] == ["words"]


@pytest.mark.slow
def test_a_model_answers_through_lm_eval_and_is_asked_once(here: Path, letters: MeasuredTasks, tmp_path: Path) -> None:
    state = random.getstate()
    with SuiteAnswers(tmp_path / "kept.sqlite") as kept:
        first = asked(here, "base", letters, kept)
        again = asked(here, "base", letters, kept)
        other = asked(here, "tuned", letters, kept)
    assert random.getstate() == state  # lm-eval seeds the whole process
    assert (first.new, again.new, other.new) == (32, 0, 32)
    assert again.logs == first.logs
    (log,), (told,) = first.logs, other.logs
    assert (log.name, log.metric, len(log.items)) == ("lm_eval:letters", "acc", 32)
    assert [item.same for item in log.items] == [item.same for item in told.items]
    assert [item.answered for item in log.items] != [item.answered for item in told.items]
    assert log.items[0].asked.startswith("<|im_start|>user\nLetter ")  # by the model's own template, with two examples
    assert log.items[0].asked.count("Letter ") == 3


def test_answers_that_were_computed_otherwise_are_asked_again(
    here: Path, letters: MeasuredTasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter that multiplies in another precision has the same fingerprint."""
    with SuiteAnswers(tmp_path / "kept.sqlite") as kept:
        asked(here, "base", letters, kept)
        monkeypatch.setattr("lastresort.models.local.ENGINE_PATH", "another")
        assert asked(here, "base", letters, kept).new == 32


def words_of(here: Path, tasks: Path) -> MeasuredTasks:
    return next(part for part in load_parts(f"lm_eval:{tasks}", here) if part.name == "words")


def test_scores_are_kept_of_one_way_to_score_and_of_one_right_answer(here: Path, tmp_path: Path) -> None:
    first = words_of(here, scored_by(tmp_path / "a", "return {'exact_match': 0.0}"))
    read_again = words_of(here, tmp_path / "a")
    mended = words_of(here, scored_by(tmp_path / "b", "return {'exact_match': 1.0}"))
    corrected = words_of(here, scored_by(tmp_path / "c", "return {'exact_match': 0.0}"))
    with SuiteAnswers(tmp_path / "kept.sqlite") as kept:
        new = [asked(here, "base", part, kept, 4).new for part in (first, read_again, mended)]
        told = asked(here, "base", mended, kept, 4).logs[0].items
        corrected.tasks["words"].dataset["test"] = (
            corrected.tasks["words"].dataset["test"].map(lambda _: {"answer": "x"})
        )
        new.append(asked(here, "base", corrected, kept, 4).new)
    assert new == [4, 0, 4, 4]
    assert {item.score for item in told} == {1.0}


def test_what_the_code_of_a_task_raises_makes_its_suite_say_nothing(here: Path, tmp_path: Path) -> None:
    tasks = scored_by(tmp_path / "faulty", "return {'exact_match': document['gold']}")
    suite = LmEvalSuite(SUITE, 0.03, [words_of(here, tasks)], GateSettings(), [])
    with SuiteAnswers(tmp_path / "kept.sqlite") as kept:
        suite.answer("base", opened(here, "base"), kept, 0.9, SilentProgress())
    (shown,) = suite.judge()
    assert shown.verdict == "UNINFORMATIVE"
    assert "lm-eval could not ask or score it (KeyError: 'gold')" in shown.why[0].message


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (
            'RuntimeError("DefaultCPUAllocator: can\'t allocate memory")',
            "ran out of memory. Free some.",
        ),
        ("ConnectionError('no such host')", "could not read what it needs (no such host). Check the network."),
    ],
)
def test_what_passes_is_no_word_on_a_task(here: Path, tmp_path: Path, raised: str, told: str) -> None:
    """It stops the gate, which goes on later; noted in a climb it would be a verdict for good."""
    part = words_of(here, scored_by(tmp_path / "faulty", f"raise {raised}"))
    suite = LmEvalSuite(SUITE, 0.03, [part], GateSettings(), [])
    with SuiteAnswers(tmp_path / "kept.sqlite") as kept, pytest.raises(InfrastructureError) as caught:
        suite.answer("base", opened(here, "base"), kept, 0.9, SilentProgress())
    assert told in str(caught.value)


def test_what_the_system_refuses_keeps_its_own_words() -> None:
    with pytest.raises(FileNotFoundError), faults_of(SUITE):
        Path("/nowhere/at/all").read_text()


def test_what_a_folder_says_of_decoding_is_not_taken_for_what_its_model_can_do(here: Path, tmp_path: Path) -> None:
    words = next(part for part in load_parts(SUITE, here) if part.name == "words")
    model, answers = opened(here, "base"), []
    for name, suppressed in (("without", None), ("with", list(range(40, 200)))):
        model.loaded.model.generation_config.suppress_tokens = suppressed
        with SuiteAnswers(tmp_path / f"{name}.sqlite") as kept:
            answers.append([item.answered for item in answers_of(model, words, kept, 8).logs[0].items])
    assert answers[0] == answers[1]
    assert model.loaded.model.generation_config.suppress_tokens  # the model is left as it was


def test_scores_are_those_of_lm_eval_itself(here: Path, letters: MeasuredTasks, tmp_path: Path) -> None:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with SuiteAnswers(tmp_path / "kept.sqlite") as kept:
        (log,) = asked(here, "base", letters, kept).logs
    model = opened(here, "base")
    found = simple_evaluate(
        HFLM(pretrained=model.loaded.model, tokenizer=model.loaded.tokenizer, batch_size=3),
        tasks=list(letters.tasks.values()),
        samples={"letters": sorted(int(item.id) for item in log.items)},
        apply_chat_template=True,
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),  # with them it reads thousands of files
    )
    scores = {item.id: item.score for item in log.items}
    assert {str(row["doc_id"]): row["acc"] for row in found["samples"]["letters"]} == scores
    assert found["results"]["letters"]["acc,none"] == pytest.approx(sum(scores.values()) / len(scores))


@pytest.fixture
def with_headroom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random base only guesses, which says nothing."""
    monkeypatch.setattr(
        "lastresort.gate.lm_eval.suite.why_no_headroom",
        lambda scores, *, chance, margin: None if scores else FewDocuments(),
    )


@pytest.mark.usefixtures("with_headroom")
def test_a_gate_asks_lm_eval_of_both_models(here: Path, tmp_path: Path) -> None:
    """From end to end."""
    suite = LmEvalSuite(SUITE, 0.03, load_parts(SUITE, here), GateSettings(), ["Letter 5?"])
    sides = [GateSide(name, lambda name=name: opened(here, name)) for name in ("base", "tuned")]
    with SuiteAnswers(tmp_path / "user.sqlite") as user, SuiteAnswers(tmp_path / "kept.sqlite") as kept:
        done = run_gate(
            *sides,
            [],
            {},
            settings=GateSettings(),
            kept=KeptAnswers(user, kept),
            training_texts=[],
            progress=SilentProgress(),
            further=[suite],
        )
        assert user._file.database.rows("SELECT * FROM answer") == []  # its documents can be private
    assert [one.name for one in done.suites] == [f"{SUITE}/letters", f"{SUITE}/words"]
    assert done.power == 0.9  # planned for two measures
    first = done.suites[0]
    assert first.asked == ItemsAsked(version=3, items=31, left_out=0, passed_over=1, pilot_items=8)
    assert first.n == 31
    assert first.changed
    assert [one.notes for one in done.suites] == [("lm_eval:letters is judged by acc, not by acc_norm.",), ()]
    base, tuned = (suite._parts[0].answers[side].logs[0].items for side in ("base", "tuned"))
    assert first.base == pytest.approx(sum(item.score for item in base) / 31)
    assert first.tuned == pytest.approx(sum(item.score for item in tuned) / 31)
    assert json.dumps(first.as_json())
    spent = done.spent
    assert spent.asked_now == 2 * sum(one.n for one in done.suites)
    assert spent.seconds > 0
    assert spent.tokens_in > spent.asked_now


def finished(
    here: Path, tasks: str, kept: SuiteAnswers, workers: Workers | None = None, stop: Stop = NEVER
) -> tuple[LmEvalSuite, dict[str, list[HarnessAnswers]]]:
    """The suite, and what both models answered, by workers or here; without seconds."""
    suite = LmEvalSuite(tasks, 0.03, load_parts(tasks, here), GateSettings(), [])
    openings = [ModelOpening(str(here / name), here) for name in ("base", "tuned")]
    base, tuned = (GateSide(opening.name, opening.open, opening=opening) for opening in openings)
    there = GateWorkers.of(None if workers is None else Crew(workers, lambda text: None), base, tuned)
    sides: tuple[tuple[SideName, GateSide], ...] = (("base", base), ("tuned", tuned))
    for name, side in sides:
        answered = None if there is None else there.documents(name)
        suite.answer(name, side.open(), kept, 0.9, SilentProgress(), stop, answered)
    answers = {
        side: [replace(one.answers[side], seconds=0.0) for one in suite._parts if side in one.answers]
        for side, _ in sides
    }
    return suite, answers


@pytest.fixture
def few(here: Path, with_headroom: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two tasks of which the pilot is one chunk each, and what is scored two chunks."""
    monkeypatch.setattr("lastresort.gate.lm_eval.asking.CHUNK", 8)
    if not (here / "few").exists():
        local_tasks(here / "few", documents=20)
    return "lm_eval:few"


def test_workers_answer_documents_to_the_last_digit_and_repeat_at_most_the_chunks_that_are_lost(
    here: Path, few: str, tmp_path: Path
) -> None:
    def lost() -> int:
        raise InfrastructureError("the head of the cluster is lost")

    workers = WorkersHere(1, room=lambda: 3, lost=lambda worker, job: len(workers.begun) % 5 == 3)
    with SuiteAnswers(tmp_path / "alone") as kept:
        _, alone = finished(here, few, kept)
    with SuiteAnswers(tmp_path / "there") as kept:
        _, there = finished(here, few, kept, workers)
        _, again = finished(here, few, kept, WorkersHere(room=lost))
    assert there == alone
    assert [[one.new for one in answers] for answers in there.values()] == [[16, 16], [16, 16]]
    assert again == {side: [replace(one, new=0) for one in answers] for side, answers in alone.items()}
    times = Counter(map(content_of, workers.begun))
    assert {type(job) for job in workers.begun} == {HarnessJob}
    assert len(times) == 2 * (1 + 2 + 2), "for each part the pilot, and two chunks of each model"
    assert sum(times.values()) - len(times) == workers.losses > 1
    assert workers.most_at_once > 3


def test_a_stop_keeps_the_chunks_that_workers_answered(here: Path, few: str, tmp_path: Path) -> None:
    stop = StopSignal()

    def seen(worker: int, job: AnyJob) -> bool:
        if len(workers.begun) == 4:
            stop.request()
        return False

    workers = WorkersHere(2, lost=seen)
    with SuiteAnswers(tmp_path / "kept") as kept:
        with pytest.raises(StopRequestedError):
            finished(here, few, kept, workers, stop)
        _, answers = finished(here, few, kept)
    new = sum(one.new for one in answers["base"])
    assert len(workers.begun) < 6
    assert new == 32 - 8 * (len(workers.begun) - 2), "without the two pilots"


@pytest.mark.usefixtures("with_headroom")
def test_what_is_wrong_with_a_task_is_said_alike_and_leaves_its_neighbour(here: Path, tmp_path: Path) -> None:
    tasks = local_tasks(tmp_path / "faulty", documents=20)
    body = json.loads((tasks / "words.yaml").read_text())
    body["generation_kwargs"]["max_gen_toks"] = 10**6
    (tasks / "words.yaml").write_text(json.dumps(body), encoding="utf-8")
    found = []
    for workers in (None, WorkersHere(3)):
        with SuiteAnswers(tmp_path / f"kept {workers is None}") as kept:
            suite, _ = finished(here, f"lm_eval:{tasks}", kept, workers)
            found.append(suite.judge())
    assert found[0] == found[1]
    letters, words = found[0]
    assert (letters.n, words.verdict) == (16, "UNINFORMATIVE")
    assert "lm-eval could not ask or score it (AssertionError: Invalid configuration" in words.why[0].message


def test_a_worker_replies_to_the_last_digit_and_one_with_another_lm_eval_is_refused(here: Path) -> None:
    opening = ModelOpening(str(here / "base"), here, precision="float32")
    model = opening.open()
    assert isinstance(model, LocalModel)
    sampled = {"until": ["\n"], "max_gen_toks": 4, "do_sample": True, "temperature": 1.0}
    requests = (
        *(HarnessRequest("loglikelihood", "letters", ("Letter 3?", f" {letter} it is")) for letter in "abcd"),
        *(HarnessRequest("generate_until", "words", (f"Say {number}:", sampled)) for number in range(4)),
        HarnessRequest("loglikelihood_rolling", "text", ("All of it is likely.",)),
    )
    job = HarnessJob(JobModel.of(opening, model), SUITE, harness_version(), requests)
    worker = AnsweringWorker()
    there = worker.answer(pickle.loads(pickle.dumps(job))).answers[""].replies
    assert there == reply(model, SUITE, requests).replies
    assert len({said for said, *_ in there[:4]}) == 4
    failure = worker.answer(replace(job, version="0.1")).failure
    assert failure is not None
    assert failure.kind is PrerequisiteError
    assert str(failure.error()).startswith(f"worker on {socket.gethostname()}: the worker has lm-eval ")
    assert failure.expected == "lm-eval 0.1, as the driver has"


@pytest.mark.parametrize(("alpha", "documents"), [(0.05, 160), (0.025, 208)])
def test_a_quick_gate_asks_as_many_as_can_exclude_a_loss_of_2_points(alpha: float, documents: int) -> None:
    suite = LmEvalSuite(SUITE, 0.02, [], GateSettings(quick=True, alpha=alpha), [])
    logs = [LoggedMeasure(name, "acc", (LoggedItem("1", 1.0, {}),), "here") for name in ("letters", "words")]
    assert suite._n_documents(logs, 0.9) == 2 * documents
    assert power_of(documents, 0.02, 0.0, alpha=alpha) > 0
    assert power_of(140, 0.02, 0.0, alpha=alpha) == 0


def test_what_the_base_only_guesses_is_not_asked(here: Path, tmp_path: Path) -> None:
    suite = LmEvalSuite(SUITE, 0.03, load_parts(SUITE, here), GateSettings(quick=True), [])
    with SuiteAnswers(tmp_path / "kept.sqlite") as kept:
        for side in ("base", "tuned"):
            suite.answer(side, opened(here, side), kept, 0.9, SilentProgress())  # type: ignore[arg-type]
    found = suite.judge()
    assert {one.verdict for one in found} == {"UNINFORMATIVE"}
    assert (found[0].why[0].kind, found[0].why[0].n, found[0].why[0].among) == ("low_score", 8, "pilot")
    assert [one.asked.items for one in found if one.asked] == [0, 0]


def test_a_suite_that_is_left_out_or_whose_model_is_elsewhere_asks_nothing(tmp_path: Path) -> None:
    task = task_with(tmp_path, tmp_path / "nowhere", margin="skip")
    (left_out,) = further_suites(task, GateSettings(), [], scores=True)
    assert left_out == skipped_measure(task.general[0], task.general[0])
    task = task_with(tmp_path, tmp_path / "nowhere", margin=0.07)
    (elsewhere,) = further_suites(task, GateSettings(), [], scores=False)
    name = task.general[0]
    assert elsewhere == judge_measure(
        name, name, (), margin=0.07, binary=True, alpha=0.05, uninformative=NoLocalWeights()
    )
    assert _count_measures([], [left_out, elsewhere, elsewhere]) == 2


def test_what_cannot_be_asked_is_said_before_anything_is_spent(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no task there"):
        load_parts("lm_eval:empty", tmp_path)
    gone = local_tasks(tmp_path / "gone")
    (gone / "words.jsonl").unlink()
    with pytest.raises(PrerequisiteError, match=r"the documents of lm_eval:gone are missing here \(Unable to find"):
        load_parts("lm_eval:gone", tmp_path)
    unsafe = local_tasks(tmp_path / "unsafe")
    body = json.loads((unsafe / "words.yaml").read_text())
    (unsafe / "words.yaml").write_text(json.dumps({**body, "unsafe_code": True}))
    with pytest.raises(InputError, match="the task words, which runs code that a model writes"):
        load_parts("lm_eval:unsafe", tmp_path)
    monkeypatch.setattr("lastresort.gate.lm_eval.tasks.find_spec", lambda name: None)
    with pytest.raises(PrerequisiteError, match=r"Run: pip install 'lastresort\[evals\]'") as missing:
        load_parts(SUITE, here)
    assert missing.value.exit_code == 3


def test_a_climb_without_lm_eval_is_refused_before_it_opens_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = scripted_task(tmp_path / "task", quality=[{"right": 0.97}], task={"general": [SUITE]})
    monkeypatch.setattr(
        suites, "lm_eval_names", lambda task: task.general
    )  # a scripted model has none of its own accord
    request = ClimbRequest(path, run=tmp_path / "runs" / "routing-1")
    monkeypatch.setattr("lastresort.gate.lm_eval.tasks.find_spec", lambda name: None)
    with pytest.raises(PrerequisiteError, match="lm-eval is not installed"):
        start_climb(request, SilentProgress())
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
    assert not calls(tmp_path / "task")
    climbed = start_climb(replace(request, gate="none"), SilentProgress())
    assert climbed.decision.verdict == "MET"


def test_kept_answers_from_before_other_metrics_were_kept_are_read() -> None:
    assert _measure_of({"name": "a", "metric": "acc", "items": [], "source": "s", "notes": []}).others == ()
