"""`verify RUN URL`: a sound server passes; of spoiled ones each is caught, and its cause is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lastresort.after.recheck.finished import FinishedRun, MeasuredWinner, open_finished
from lastresort.errors import InfrastructureError, InputError, StopRequestedError
from lastresort.models.api.replies import Reply
from lastresort.models.cached import MemoryCache
from lastresort.models.local import LocalModel
from lastresort.models.protocol import Prompt
from lastresort.records.measurement import ItemScore
from lastresort.records.record import Record
from lastresort.report.verify import CauseTested
from lastresort.report.words import verify as words
from lastresort.stop import NEVER, StopRequest
from lastresort.systems.compose import compose
from lastresort.systems.running import load_winner, open_answerer
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Answer, Decoding, Example, Grammar, Message, SilentProgress
from lastresort.verify.asking import FIRST, AnswersUntilDone, Experiments, ServedAnswer
from lastresort.verify.causes import Case, CauseTest, tested
from lastresort.verify.causes.case import Measured, cause_tested
from lastresort.verify.causes.settings import beyond_rounding
from lastresort.verify.causes.weights import BLOCK, precision, round_to_four_bits
from lastresort.verify.outcome import (
    ServedScores,
    TwoArms,
    apart,
    exchanged_p,
    judge,
    least,
    needed,
    rounding_explains,
    together_p,
)
from lastresort.verify.server import connect
from lastresort.verify.verify import _Verification, how_many, the_winner, to_explain, verify
from models_support import save_adapter
from verify_support import PATIENCE, Fault, Spoiled, explaining, server_of, serving, verified, won_run


@pytest.fixture(scope="module", autouse=True)
def in_float32() -> Iterator[None]:
    """An answer then depends on its own prompt alone, on every machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lastresort.models.loading.processor_computes_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return won_run(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def schema_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return won_run(tmp_path_factory.mktemp("schema"), form="schema")


@pytest.mark.slow
def test_a_sound_server_passes(run: Path) -> None:
    found = verified(run, server_of(run))
    assert (found.identical, found.n, found.worse, found.causes) == (40, 40, False, ())
    assert found.compared.verdict == "UNDERPOWERED"  # 40 items cannot show a loss below 2 points, however equal
    assert found.answer.startswith("No difference seen: all 40 answers are the same text, the best result")
    assert found.reasons[-1] == (
        "The run recorded only 40 items, so it cannot show here that less than 2 points are lost: "
        "that takes about 149 without any difference."
    )
    assert (found.server.sent, found.winner.recorded, found.planned.n) == ("prompt", 40, 40)
    assert "sends no temperature" in found.notes[0]  # this server then samples


SPOILED: dict[Fault, str] = {
    "no system": "SYSTEM_PROMPT",
    "template": "TEMPLATE",
    "doubled start": "DOUBLED_START",
    "samples": "SETTINGS",
    "penalty": "SETTINGS",
    "cut": "ENDED_EARLY",
    "rounded": "PRECISION",
}


IN_SLOW_TIER = ("template", "doubled start", "samples", "rounded", "penalty")  # other quick tests try these experiments


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=pytest.mark.slow) if fault in IN_SLOW_TIER else fault for fault in SPOILED]
)
def test_a_spoiled_server_is_caught_and_its_cause_named(run: Path, fault: Fault) -> None:
    found = verified(run, server_of(run, fault), n=24)
    assert explaining(found) == [SPOILED[fault]]
    assert found.worse
    assert found.compared.verdict == "REGRESSED"
    assert found.differing[0].recorded_score > found.differing[0].served_score  # what was lost comes first


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("moved", "causes"), [(2.0, ["PRECISION"]), (-0.5, [])])
def test_a_loss_of_likelihood_is_held_against_what_four_bits_move(
    moved: float, causes: list[str], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 nats are more than rounding to 16 bits explains: as much as 4 bits where these move 2, and too much where they move 0.5."""
    gaps = iter(([3.0] * 8, [3.0 - moved] * 8))
    monkeypatch.setattr("lastresort.verify.causes.weights._gaps", lambda *_: next(gaps))
    found = verified(run, server_of(run, "rounded"), n=12)
    assert explaining(found) == causes
    assert f"rounding them to 4 bits moves that by {abs(moved)} nats" in found.causes[-1].seen


def test_four_bits_leave_fifteen_values_a_block(run: Path) -> None:
    import torch

    model = copy.deepcopy(server_of(run).model.loaded.model)
    head = model.lm_head.weight.clone()
    before = model.model.layers[0].mlp.up_proj.weight.clone()
    round_to_four_bits(model)
    after = model.model.layers[0].mlp.up_proj.weight
    width = BLOCK if after.shape[1] % BLOCK == 0 else after.shape[1]
    assert max(len(block.unique()) for block in after.reshape(-1, width)) <= 15
    assert 0 < (after - before).abs().max() <= before.abs().max() / 14 * 1.001
    assert torch.equal(model.lm_head.weight, head)


@pytest.mark.slow
def test_answers_that_change_near_a_tie_alone_are_no_sampling(run: Path) -> None:
    """A server that rounds by its batch, and that others use, changes these and no others."""
    spoiled = server_of(run, unsteady=tuple(item.input for _, item in _examples(run)[:3]))
    found = verified(run, spoiled, n=12)
    assert 2 <= len(found.differing) <= 3
    (settings,) = [one for one in found.causes if one.cause == "SETTINGS"]
    assert (settings.explains, settings.undecided, settings.standing) == (None, True, "cannot tell")
    assert (
        "as where others use the server and rounding depends on the batch; if nobody else uses it, it samples"
        in settings.seen
    )
    assert "cannot tell whether this one does: the server's own generation settings" in " ".join(found.reasons)


def test_one_differing_answer_is_too_few_to_look_for_a_cause(run: Path) -> None:
    found = verified(run, server_of(run, unsteady=(_examples(run)[4][1].input,)), n=12)
    assert (found.identical, found.causes) == (11, ())
    assert found.reasons[-1] == (
        "1 of 12 answers differs: too few to look for a cause. In 16 bits rounding depends on the batch, which changes a few "
        "answers of any server."
    )


def test_settings_that_clients_leave_out_are_tried_one_request_at_a_time(run: Path) -> None:
    """Within a batch, and where others use the server, a near tie is rounded otherwise each time, whatever the request says."""

    class Rounding(CountedRequests):
        busy = False

        def replies(self, prompts: Sequence[Prompt], *_: object, **__: object) -> list[Reply]:
            alone = [Reply("alone", "stop", None, None)]
            return alone if len(prompts) == 1 and not self.busy else super().replies(prompts)

    with Record.open(run, read_only=True) as record:
        finished = open_finished(run, record)
    assert finished.winner is not None
    rounding = Rounding(99)
    server: Any = SimpleNamespace(model=rounding)
    nothing: Any = None
    answers = [ServedAnswer(example, item, Answer("a", 1, 1, "stop"), 1.0) for example, item in _examples(run)]
    verification = _Verification(finished, finished.winner, (), server, nothing, nothing, SilentProgress(), NEVER)
    for rounding.busy in (False, True):
        assert (
            verification._left_out(
                open_answerer(finished.winner.system, run / "winner"), answers, _experiments(rounding)
            )
            == []
        )


def test_the_order_of_the_two_kinds_is_drawn_for_each_prompt_that_clients_may_leave_them_out_of(run: Path) -> None:
    """A server that rounds by the place of a request, as two that take turns do, could else look like one with defaults."""
    kinds: list[bool] = []

    class Defaults(CountedRequests):
        def replies(
            self, prompts: Sequence[Prompt], *_: object, without: Collection[str] = (), **__: object
        ) -> list[Reply]:
            kinds.append(bool(without))
            return [Reply("own" if without else "a", "stop", None, None)]

    with Record.open(run, read_only=True) as record:
        finished = open_finished(run, record)
    assert finished.winner is not None
    server: Any = SimpleNamespace(model=Defaults(99))
    nothing: Any = None
    answers = [ServedAnswer(example, item, Answer("a", 1, 1, "stop"), 1.0) for example, item in _examples(run)]
    verification = _Verification(finished, finished.winner, (), server, nothing, nothing, SilentProgress(), NEVER)
    assert verification._left_out(
        open_answerer(finished.winner.system, run / "winner"), answers, _experiments(server.model)
    )
    assert len({tuple(kinds[at : at + 6]) for at in range(8, len(kinds), 6)}) > 1, "after one of each kind of 4 prompts"


def test_counts_of_tokens_that_differ_in_the_same_texts_make_a_note(run: Path) -> None:
    found = verified(run, server_of(run, more=2), n=12)
    assert (found.identical, found.causes) == (12, ())
    assert found.notes[-1] == (
        "The server counts 2 more prompt tokens than measured, in 12 of 12 answers of the same text: it counts differently, or "
        "its prompts differ and these answers do not show it."
    )


def test_two_kinds_of_a_request_are_compared_exactly() -> None:
    """Of 20 ways to draw three of six places one puts all equal texts into the first kind, two all into the same kind."""
    by_seed, tie = TwoArms(("a", "a", "a"), ("b", "c", "d")), TwoArms(("a", "a", "a"), ("b", "b", "b"))
    assert exchanged_p([by_seed], apart) == 1 / 20
    assert exchanged_p([by_seed, by_seed], apart) == 1 / 400
    assert exchanged_p([tie], apart) == 2 / 20
    assert exchanged_p([TwoArms(("a", "b", "a"), ("a", "b", "b"))], apart) == 1
    assert exchanged_p([], apart) == exchanged_p([TwoArms(("a",) * 3, ("a",) * 3)], apart) == 1


def test_marks_that_go_with_differing_texts_are_as_rare_as_fisher_says() -> None:
    from scipy.stats import fisher_exact

    for both, same in ((2, 0), (3, 5), (5, 1)):
        expected = fisher_exact([[both, 5 - both], [same, 30 - same]], alternative="greater").pvalue
        assert together_p(both, both + same, 5, 35) == pytest.approx(expected)


def test_so_many_answers_must_differ_that_rounding_does_not_explain_them() -> None:
    least_differing = {
        n: next(d for d in range(n + 1) if not rounding_explains(d, n)) for n in (2, 18, 19, 41, 80, 256)
    }
    assert least_differing == {2: 2, 18: 2, 19: 3, 41: 3, 80: 5, 256: 10}


def test_what_no_rounding_does_is_a_difference_to_explain_however_few_there_are(run: Path) -> None:
    winner, ((example, item), *_) = load_winner(run / "winner"), _examples(run)
    here = replace(winner, model="org/weights", decoding=Decoding(8))
    same = Answer("other", item.prompt_tokens, 3, "stop")
    measured = replace(item, finish="stop", format_ok=True)

    def certain(answer: Answer, system: System = here, *, counted: bool = True) -> bool:
        return beyond_rounding(ServedAnswer(example, measured, answer, 0.0, counted=counted), system)

    assert not certain(same)
    assert certain(replace(same, prompt_tokens=item.prompt_tokens + 1))
    assert not certain(replace(same, prompt_tokens=item.prompt_tokens + 1), counted=False), "an estimate"
    assert not certain(replace(same, prompt_tokens=1), replace(here, model="http://host/v1#NAME")), "counted by another"
    assert certain(replace(same, finish="length"))
    assert not certain(replace(same, finish="length", completion_tokens=8)), "the limit that was measured"
    assert not certain(replace(same, finish="length"), counted=False), "nobody knows where it was cut"
    choices = replace(here, decoding=Decoding(8, grammar=Grammar(choices=("a", "b"))))
    assert certain(same, choices)
    assert not certain(replace(same, finish="length", completion_tokens=8), choices), "too long for its limit"


def test_where_rounding_explains_how_many_differ_only_what_it_cannot_do_is_examined(run: Path) -> None:
    winner, ((example, item), *_) = load_winner(run / "winner"), _examples(run)
    here = replace(winner, model="org/weights", decoding=Decoding(8))
    same = ServedAnswer(example, item, Answer(item.answer.strip(), item.prompt_tokens, 3, "stop"), 1.0)
    tie = replace(same, answer=replace(same.answer, text="other"))
    longer = replace(tie, answer=replace(tie.answer, prompt_tokens=item.prompt_tokens + 1))
    assert to_explain([same] * 76 + [tie] * 2 + [longer] * 2, here, worse=False) == [longer] * 2
    assert to_explain([same] * 76 + [tie] * 2 + [longer] * 2, here, worse=True) == [tie] * 2 + [longer] * 2
    assert to_explain([same] * 75 + [tie] * 4 + [longer], here, worse=False) == [tie] * 4 + [longer]
    sampling = replace(here, decoding=Decoding(8, temperature=1.0))
    assert to_explain([same] * 79 + [tie], sampling, worse=False) == [tie]


def test_a_server_that_counts_no_tokens_does_not_count_otherwise(run: Path) -> None:
    right, wrong = ([item.input for _, item in _examples(run, 20)[3:] if item.score == score] for score in (1, 0))
    spoiled = server_of(run, unsteady=(right[0], wrong[0]), counts=False)  # one loses, which shows no loss
    found = verified(run, spoiled, n=20)
    assert (len(found.differing), found.worse, found.causes) == (2, False, ())
    assert found.reasons[-1].startswith("2 of 20 answers differ: too few to look for a cause.")


def test_of_a_winner_that_samples_no_model_is_opened(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sampling(finished: FinishedRun, *, allow_held: bool) -> MeasuredWinner:
        winner = the_winner(finished, allow_held=allow_held)
        return replace(winner, system=replace(winner.system, decoding=Decoding(8, temperature=1.0)))

    monkeypatch.setattr("lastresort.verify.verify.the_winner", sampling)
    monkeypatch.setattr("lastresort.verify.verify.open_measured", lambda *_: pytest.fail("opened"))
    found = verified(run, server_of(run), n=8)
    assert [one.cause for one in found.causes if one.explains is not None] == ["SETTINGS"]


@dataclass
class StopsAfter:
    """A stop once a server has got so many requests."""

    server: Spoiled
    most: int

    def requested(self) -> StopRequest | None:
        return StopRequest("signal", "a signal asked to stop") if len(self.server.requests) >= self.most else None


def test_a_verification_that_stopped_among_its_causes_asks_nothing_twice(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within the first experiment, and within a later one. But for the three by which the server is recognised."""
    opened: list[str] = []
    compute = Measured.answers

    def computed(self: Measured, *arguments: Any, **options: Any) -> list[str]:
        opened.append("answers")
        return compute(self, *arguments, **options)

    monkeypatch.setattr(Measured, "answers", computed)
    whole = server_of(run, "no system")
    expected = verified(run, whole, n=12)
    computed_once, sent = len(opened), len(whole.requests)
    opened.clear()
    stopped = server_of(run, "no system")
    with serving(stopped) as url:
        for most in (sent // 2, sent + FIRST - 9):
            with pytest.raises(StopRequestedError):
                verify(run, url, n=12, patience=PATIENCE, stop=StopsAfter(stopped, most))
        found = verify(run, url, n=12, patience=PATIENCE)
    assert found.causes == expected.causes
    assert len(stopped.requests) == sent + 2 * FIRST
    assert len(opened) == computed_once
    again = server_of(run, "no system")
    turns = [turn.as_dict() for turn in compose(load_winner(run / "winner").prompt, (Message("user", "x"),), ())]
    body = {"model": "tiny", "messages": turns, "max_tokens": 8, "temperature": 0.0, "seed": 0, "user": "another"}
    (tmp_path / "request.json").write_text(json.dumps(body))
    with serving(again) as url:
        stop = StopsAfter(again, sent // 2)
        with pytest.raises(StopRequestedError):
            verify(run, url, n=12, request=tmp_path / "request.json", patience=PATIENCE, stop=stop)
        again.requests.clear()
        assert verify(run, url, n=12, patience=PATIENCE).causes == expected.causes
    assert len(again.requests) == sent, "the next one asks everything again, as does one with other parameters"


@pytest.mark.parametrize("other", ["prompt", "decoding", "answers", "weights", "found before"])
def test_what_was_found_of_a_cause_is_not_taken_for_another_case(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = list[Case]()

    def experiment(case: Case) -> CauseTested:
        tries.append(case)
        return cause_tested("SETTINGS", True, "Tried.", "Seen.")

    def served(number: int, text: str) -> ServedAnswer:
        example = Example(str(number), (Message("user", f"input {number}"),), "a", source="rows.jsonl", row=number)
        item = ItemScore(example.id, 1.0, "a", "a", f"input {number}", "stop", None, 5, 1, 0.0, 0.0)
        return ServedAnswer(example, item, Answer(text, 5, 1, "stop"), 0.0)

    def case(of: str = "") -> Case:
        instruction = "Another." if of == "prompt" else "Route."
        decoding = Decoding(8, stop=("x",) if of == "decoding" else ())
        system = System("own", "model", PromptDesign(instruction), decoding, fingerprint=of if of == "weights" else "")
        differing = tuple(served(number, "b") for number in range(8))
        same = tuple(served(number, "a") for number in range(8, 50 if of == "answers" else 20))
        sender: Any = SimpleNamespace(system=system, prompt=lambda turns: compose(system.prompt, turns, ()))
        found = Case(system, "prompt", differing, sender, sender, experiments, "elsewhere", (*differing, *same))
        if of == "found before":
            found.earlier.append(cause_tested("FORM", True, "Tried.", "Seen."))
        return found

    experiments = _experiments(None)
    monkeypatch.setattr("lastresort.verify.causes.CAUSES", {"SETTINGS": CauseTest(experiment)})
    for _ in range(2):
        assert [one.cause for one in tested(case(), SilentProgress())] == ["SETTINGS"]
    assert len(tries) == 1
    list(tested(case(other), SilentProgress()))
    assert len(tries) == 2


class CountedRequests:
    """A server of which each answer is another, and a stop that is requested after so many requests."""

    def __init__(self, most: int) -> None:
        self.most, self.sent = most, 0

    def replies(self, prompts: Sequence[Prompt], *_: object, **__: object) -> list[Reply]:
        self.sent += len(prompts)
        return [Reply(f"{self.sent} {place}", "stop", None, None) for place in range(len(prompts))]

    def requested(self) -> StopRequest | None:
        return StopRequest("signal", "a signal asked to stop") if self.sent >= self.most else None


@pytest.mark.parametrize("most", [13, 30, 50])
def test_requests_that_are_sent_one_by_one_heed_a_stop(most: int, run: Path) -> None:
    """The first experiment sends 12 requests at once, then each of 8 six times alone."""
    system = System("own", "model", PromptDesign("Route."), Decoding(8))
    (example, item), *_ = _examples(run)
    differing = (ServedAnswer(example, item, Answer("other", 1, 1, "stop"), 0.0),) * 8
    api: Any = CountedRequests(most)
    sender: Any = SimpleNamespace(system=system, prompt=lambda turns: turns)
    case = Case(system, "prompt", differing, sender, sender, _experiments(api), "elsewhere", stop=api)
    with pytest.raises(StopRequestedError, match="a signal asked to stop"):
        list(tested(case, SilentProgress()))
    assert api.sent == most


def test_one_near_tie_does_not_speak_for_answers_that_cannot_be_compared(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastresort.verify.causes.weights._other_precision", lambda *_: None)
    monkeypatch.setattr("lastresort.verify.causes.weights._four_bits", lambda *_: None)
    winner = load_winner(run / "winner")
    opened = open_answerer(winner, run / "winner").model
    assert isinstance(opened, LocalModel)
    sender = open_answerer(winner, run / "winner")
    differing = tuple(ServedAnswer(example, item, Answer("", 1, 1, "stop"), 0.0) for example, item in _examples(run))
    api: Any = None
    case = Case(winner, "prompt", differing, sender, sender, api, Measured(winner, opened))
    for near, explains in ((1, False), (2, True)):
        monkeypatch.setattr("lastresort.verify.causes.weights._gaps", lambda *_, near=near: [0.1] * near)
        assert precision(case).explains is explains


@pytest.mark.sampled(2)
@pytest.mark.parametrize("again", [True, False])
def test_in_16_bits_the_remedy_says_that_rounding_depends_on_the_batch(
    again: bool, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """again: the measured model itself gives the server's answers in another batch. Else they are near ties."""
    monkeypatch.setattr("lastresort.verify.causes.weights._gaps", lambda *_: [0.1] * 8)
    monkeypatch.setattr("lastresort.verify.causes.weights._other_precision", lambda *_: None)
    winner = load_winner(run / "winner")
    opened = open_answerer(winner, run / "winner").model
    assert isinstance(opened, LocalModel)
    opened.precision = "bfloat16"
    local = Measured(winner, opened)
    differing = tuple(
        ServedAnswer(example, item, Answer(item.answer.strip() if again else "other", 1, 1, "stop"), 0.0)
        for example, item in _examples(run)
    )
    sender = open_answerer(winner, run / "winner")
    api: Any = None
    found = precision(Case(winner, "prompt", differing, sender, sender, api, local))
    assert found.explains
    assert "The run measured in bfloat16, where rounding depends on what else is in the batch." in found.remedy
    assert ("nothing to change at the server" in found.remedy) == again


@pytest.mark.parametrize(("again", "explains"), [(2, None), (3, None), (4, True)])
def test_half_of_the_answers_again_leave_another_cause_open(again: int, explains: bool | None, run: Path) -> None:
    """Of four answers. If the measured model gives all of them here, there is nothing to change whatever else may be."""
    winner = load_winner(run / "winner")
    differing = tuple(
        ServedAnswer(example, item, Answer("x", 1, 1, "stop"), 0.0) for example, item in _examples(run, 4)
    )
    local: Any = SimpleNamespace(
        answers=lambda *_: ["x"] * again + ["y"] * (4 - again), model=SimpleNamespace(precision="bfloat16")
    )
    sender, api = open_answerer(winner, run / "winner"), None
    case = Case(winner, "prompt", differing, sender, sender, cast(Any, api), local)
    assert precision(case).explains
    case.earlier.append(cause_tested("ADAPTER", True, "the base", "as many", chance=0.02))
    assert precision(case).explains is explains


def test_a_winner_that_the_gate_holds_is_refused(run: Path) -> None:
    with Record.open(run, read_only=True) as record:
        finished = open_finished(run, record)
    assert finished.decision.winner is not None
    held = finished.decision.replaced(winner=finished.decision.winner.replaced(held=True))
    with pytest.raises(InputError, match="the gate holds this winner"):
        the_winner(replace(finished, decision=held), allow_held=False)
    assert the_winner(replace(finished, decision=held), allow_held=True) is finished.winner


@pytest.mark.slow
def test_a_form_that_is_not_enforced(schema_run: Path) -> None:
    assert verified(schema_run, server_of(schema_run), n=12).identical == 12
    found = verified(schema_run, server_of(schema_run, "no schema"), n=12)
    assert explaining(found) == ["FORM"]
    assert found.worse


@pytest.mark.release
def test_a_choice_that_travels_inside_an_object(tmp_path: Path) -> None:
    run = won_run(tmp_path, form="choices", split={"dev": 8, "test": 20})
    found = verified(run, server_of(run))  # 8 differ; fewer than 7 could be chance
    assert explaining(found) == ["FORM"]
    assert "bare choices" in next(one.remedy for one in found.causes if one.explains)


@pytest.mark.slow
def test_without_weights_and_counts_a_cause_is_not_tested_rather_than_guessed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = server_of(run, "doubled start", counts=False)
    monkeypatch.setattr("lastresort.verify.verify.open_measured", lambda *_: "the weights are elsewhere")
    found = verified(run, spoiled, n=12)
    said = {one.cause: one.explains for one in found.causes}
    assert (said["DOUBLED_START"], said["TEMPLATE"], said["PRECISION"]) == (None, None, None)
    assert "The weights are elsewhere." in next(one.seen for one in found.causes if one.cause == "PRECISION")
    assert explaining(found) == []
    assert any(reason.startswith("No cause found") for reason in found.reasons)


@pytest.mark.slow
def test_a_lost_system_prompt_shows_without_counts_where_the_weights_are_here(run: Path) -> None:
    assert explaining(verified(run, server_of(run, "no system", counts=False), n=12)) == ["SYSTEM_PROMPT"]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "cause"), [("doubled start", "DOUBLED_START"), ("template", "TEMPLATE")])
def test_counts_of_tokens_alone_show_another_prompt(
    run: Path, fault: Fault, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastresort.verify.verify.open_measured", lambda *_: "the weights are elsewhere")
    assert explaining(verified(run, server_of(run, fault), n=12)) == [cause]


@pytest.mark.slow
def test_tuned_weights_that_are_not_applied(run: Path, tmp_path: Path) -> None:
    winner = load_winner(run / "winner")
    base = run.parent.parent / "model"
    system = replace(winner, adapter=save_adapter(base, tmp_path / "adapter"), fingerprint="")
    opened = open_answerer(system, run / "winner")
    assert isinstance(opened.model, LocalModel)
    spoiled = server_of(run)  # which serves the base alone
    with serving(spoiled) as url:
        server = connect(url, system, model=None, sent=None)
        sender = server.sender(system)
        examples = _examples(run, 8)
        differing = tuple(
            ServedAnswer(example, replace(item, answer=tuned.text), based, 0.0)
            for (example, item), tuned, based in zip(
                examples,
                opened.answer([example.input for example, _ in examples]),
                sender.answer([example.input for example, _ in examples]),
                strict=True,
            )
        )
        for n, causes in ((8, ["ADAPTER"]), (6, [])):
            local = Measured(system, opened.model)
            found = list(
                tested(
                    Case(system, "prompt", differing[:n], sender, sender, _experiments(server.model), local),
                    SilentProgress(),
                )
            )
            assert [one.cause for one in found if one.explains] == causes
        server.model.close()
    assert "ADAPTER" in [one.cause for one in found if one.undecided], "chance gives 6 of 6 in 1.6% of cases"


def _experiments(model: Any) -> Experiments:
    cache: Any = MemoryCache({})
    cache.forget_many = cache.drop_many
    return Experiments(model, AnswersUntilDone(cache, ""))


def _examples(run: Path, n: int = 6) -> list[tuple[Example, ItemScore]]:
    """The first test items with their recorded answers."""
    with Record.open(run, read_only=True) as record:
        finished = open_finished(run, record)
    assert finished.winner is not None
    return list(zip(finished.order, finished.winner.items, strict=False))[:n]


@pytest.mark.slow
def test_our_own_server_gets_the_input_alone(run: Path) -> None:
    spoiled = server_of(run, owner="lastresort", whole=True)
    found = verified(run, spoiled, n=8)
    assert (found.server.sent, found.identical) == ("input", 8)
    assert all([turn["role"] for turn in request["messages"]] == ["user"] for request in spoiled.requests)
    whole = verified(run, server_of(run, owner="lastresort"), sent="prompt", n=8)  # as with `serve --raw`
    assert (whole.server.sent, whole.identical) == ("prompt", 8)


@pytest.mark.slow
def test_a_server_that_was_to_compose_the_prompt_and_does_not(run: Path) -> None:
    found = verified(run, server_of(run), sent="input", n=12)
    assert explaining(found) == ["SYSTEM_PROMPT"]
    assert found.causes[[one.cause for one in found.causes].index("SYSTEM_PROMPT")].remedy.startswith(
        "Verify with --send"
    )


@pytest.mark.sampled(2)
@pytest.mark.parametrize("counts", [True, False])
def test_our_own_server_whose_rounding_depends_on_the_batch_lost_no_prompt(run: Path, counts: bool) -> None:
    """The answers are as measured when they are asked for again, with the whole prompt or without."""
    hurried = [item.input for _, item in _examples(run)[4:6]]  # the first are those by which a server is recognised
    found = verified(run, server_of(run, owner="lastresort", whole=True, hurried=hurried, counts=counts), n=8)
    assert len(found.differing) == 2
    said = {one.cause: one.explains for one in found.causes}
    assert said["SYSTEM_PROMPT"] is False


def test_what_does_not_arrive_is_named_and_counts_as_nothing(run: Path) -> None:
    lost = tuple(item.input for _, item in _examples(run)[3:5])
    found = verified(run, server_of(run, lost=lost), n=12)
    assert (found.n, found.identical, len(found.missing)) == (10, 10, 2)
    assert "500" in found.missing[0].because
    assert found.compared.recorded == found.compared.served
    assert not found.worse


def test_a_server_that_cannot_be_reached_is_infrastructure(run: Path) -> None:
    with serving(server_of(run)) as url:
        pass
    with pytest.raises(InfrastructureError) as raised:
        verify(run, url, patience=PATIENCE, first=PATIENCE)
    assert raised.value.exit_code == 4
    dying = server_of(run, lost=("",))
    with pytest.raises(InfrastructureError):
        verified(run, dying)


def test_a_request_that_the_server_refuses_counts_as_wrong(run: Path) -> None:
    found = verified(run, server_of(run, "rude"), n=8)
    assert (found.n, found.refused, found.identical) == (8, 8, 0)
    assert found.worse
    assert "maximum context length is 3 tokens" in found.differing[0].served


@pytest.mark.slow
def test_a_model_must_be_named_where_there_are_several(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled = server_of(run)
    spoiled.names = ("one", "two")
    with pytest.raises(InputError, match=r"the server lists 2 models \(one, two\).*--model NAME"):
        verified(run, spoiled)
    assert verified(run, spoiled, model="two", n=4).server.model == "two"


@pytest.mark.parametrize("url", ["localhost:8000", "openai:gpt"])
def test_an_address_that_is_none(run: Path, url: str) -> None:
    with pytest.raises(InputError, match="the address of a server"):
        verify(run, url)


@pytest.mark.slow
def test_missing_answers_never_help() -> None:
    recorded = [1.0] * 300
    whole = judge(ServedScores(recorded, [1.0] * 300, binary=True))
    assert (whole.tested.verdict, whole.worse, whole.spoilt) == ("NON_INFERIOR", False, False)
    one = judge(ServedScores(recorded, [None, *[1.0] * 299], binary=True))
    assert (one.tested.verdict, one.spoilt) == ("NON_INFERIOR", False)
    many = judge(ServedScores(recorded, [*[None] * 30, *[1.0] * 270], binary=True))
    assert (many.tested.verdict, many.spoilt, many.worse, many.served) == ("UNDERPOWERED", True, False, 1.0)


def test_worse_is_what_is_shown_to_lose() -> None:
    recorded = [1.0] * 60
    assert judge(ServedScores(recorded, [*[0.0] * 20, *[1.0] * 40], binary=True)).worse
    seen = judge(ServedScores(recorded, [*[0.0] * 3, *[1.0] * 57], binary=True))
    assert (seen.tested.verdict, seen.tested.loss_seen, seen.worse) == ("UNDERPOWERED", True, True)
    open_still = judge(ServedScores(recorded, [0.0, *[1.0] * 59], binary=True))
    assert (open_still.tested.verdict, open_still.worse) == ("UNDERPOWERED", False)
    better = judge(ServedScores([0.0] * 60, [1.0] * 60, binary=True))
    assert (better.tested.verdict, better.worse) == ("NON_INFERIOR", False)


def test_the_first_line_says_that_missing_answers_leave_it_open() -> None:
    given = {"margin": 0.02, "loss_seen": False, "missing": 30}
    some = words.answer("UNDERPOWERED", 268, 270, 0.98, 0.97, spoilt=True, **given)
    assert some == "Cannot tell, because 30 answers did not arrive: 97.0% against 98.0% on the 270 that did."
    same = words.answer("UNDERPOWERED", 270, 270, 0.98, 0.98, spoilt=True, **given)
    assert same == "Cannot tell, because 30 answers did not arrive: all 270 that did are the same text."
    few = words.answer("UNDERPOWERED", 28, 28, 0.98, 0.98, **given)  # too few items anyway
    assert few.startswith("No difference seen: all 28 answers that arrived are the same text, but 30 did not arrive.")


@pytest.mark.parametrize(
    ("units", "said"),
    [
        (60, "Fewer than 149 can show that the server is worse, but never that it is not."),
        (200, "With fewer the result may stay open."),
        (500, "enough to show a loss below 2 points with a probability of 80%, if the server answers as measured."),
    ],
)
def test_the_plan_says_what_so_many_items_can_show(units: int, said: str) -> None:
    many = {"units": units, "needed": 474, "least": least(binary=True)}
    plan = words.plan(units, units, 0.02, power=0.8, unit="item", **many)
    assert plan.endswith(said)
    assert ("474 items" in plan) == (units < 474)
    assert words.plan(units, units, 0.02, power=0.8, unit="group", **many).endswith(f"{said} A group counts once.")


def test_the_plan_says_how_many_recorded_items_it_sends() -> None:
    def planned(n: int, recorded: int) -> str:
        return words.plan(n, recorded, 0.02, power=0.8, units=n, unit="item", needed=9, least=5)

    assert planned(1, 1).startswith("Sends the only recorded item. ")
    assert planned(12, 12).startswith("Sends all 12 recorded items: ")
    assert planned(12, 40).startswith("Sends 12 of 40 items: ")


def test_the_last_reason_says_how_to_decide_it() -> None:
    def last(available: int, *, sent: int = 60, needed: int | None = 149, units: int = 60) -> str:
        same = {"unit": "item", "margin": 0.02, "confidence": 0.9, "is_open": True, "least": least(binary=True)}
        counts = {"units": units, "sent": sent, "needed": needed, "available": available}
        return words.reasons(58, 60, 0.0, (-0.03, 0.03), **counts, **same)[-1]  # type: ignore[arg-type]

    assert last(60).startswith("The run recorded only 60 items, so it cannot show here")
    assert last(120).startswith("The run recorded only 120 items, so it cannot show here"), "fewer than 149 never can"
    assert last(200, needed=300) == (
        "About 300 items would decide. The run recorded 200, which may be enough: send all of them with --n."
    )
    assert last(300, needed=15_503) == (
        "No number of the 300 recorded items is likely to decide: that takes about 15,503."
    )
    assert last(300, needed=None) == "More than 600 items would decide. The run recorded only 300."
    assert last(900, needed=None) == "More than 600 items would decide. The run recorded 900: send more with --n."
    assert last(100, needed=None, sent=5, units=5) == (
        "The run recorded only 100 items, so it cannot show here that less than 2 points are lost: that takes at least 149."
    )
    assert last(200, needed=None, sent=200, units=5) == (
        "More than 50 items would decide: verify again once the server answers all 200."
    )
    assert last(500) == "About 149 items would decide. The run recorded 500: send more with --n."
    assert last(200, sent=200, units=197, needed=300).startswith("The run recorded only 200 items"), "3 did not arrive"
    assert last(200, sent=200, units=197, needed=198) == (
        "About 198 items would decide: verify again once the server answers all 200."
    )


class SeenProgress:
    """stages: each with its total, what was done before it, and how often it advanced."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None, int]] = []
        self.advanced: dict[str, list[int]] = {}

    def stage(self, label: str, total: int | None = None, done: int = 0) -> None:
        self.stages.append((label, total, done))

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.advanced.setdefault(self.stages[-1][0], []).append(amount)

    def say(self, text: str) -> None: ...


@pytest.mark.slow
def test_progress_counts_answers_and_names_each_experiment(run: Path) -> None:
    seen = SeenProgress()
    with serving(server_of(run, "no system")) as url:
        verify(run, url, n=6, patience=PATIENCE, first=PATIENCE, progress=seen)
    sending = next(label for label, total, _ in seen.stages if total == 6)
    assert seen.advanced[sending] == [1] * 6  # not a batch at a time
    causes = [(label, done) for label, total, done in seen.stages if "of 8: " in label]
    assert causes[1] == ("looking for the cause, 2 of 8: answers end early", 1)
    assert len(causes) == 8


def test_as_many_items_are_planned_as_show_no_loss() -> None:
    assert least(binary=True) == 149
    assert 200 < needed(binary=True) < 600
    assert needed(binary=False) > 100


def test_groups_are_sent_whole() -> None:
    labels = ["a", "a", "b", "b", "b", "c"]
    assert how_many(None, 2, labels, 6) == 5
    assert how_many(None, 9, labels, 6) == 6
    assert how_many(3, 9, labels, 6) == 5
    assert how_many(9, 9, labels, 6) == 6
    assert how_many(None, 4, None, 6) == 4
    assert how_many(5, 4, None, 6) == 5


def test_a_refusal_that_was_measured_is_no_difference(run: Path) -> None:
    (example, item), *_ = _examples(run)
    refused = ServedAnswer(example, replace(item, finish="refused", answer=""), Answer("", 0, 0, "stop"), 0.0, "no")
    assert refused.same_text
    assert not replace(refused, recorded=item).same_text
    assert not replace(refused, refused="").same_text
