"""Who computes a server's answers: each request gets the text that the model gives it alone, whatever happens to the others."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lastresort.engine import continuous, packed_weights
from lastresort.engine.continuous import Shelf
from lastresort.errors import (
    CandidateError,
    ContractError,
    InfrastructureError,
    LastresortError,
    PrerequisiteError,
    StopRequestedError,
)
from lastresort.models.local import LocalModel, load_local
from lastresort.models.protocol import OnAnswer, Prompt
from lastresort.models.scripted import Faults, Script, ScriptedModel
from lastresort.serve.desk import Desk, Job
from lastresort.serve.owner import AskingOwner, LocalOwner, open_owners, plan_shelves
from lastresort.serve.work import Delivered, Draining, Ended, Failed, Load, Owner, Piece, QueueFull, Work
from lastresort.stop import Stop
from lastresort.types import Answer, Decoding, Grammar, Message
from models_support import CONTEXT_TOKENS, save_adapter, save_tiny

SOON_S = 60.0  # a limit for what hangs, never waited for
SCHEMA = {"type": "object", "properties": {"team": {"enum": ["billing", "tech"]}}, "required": ["team"]}
DECODINGS = (
    Decoding(12),
    Decoding(20, temperature=1.0, seed=4),
    Decoding(40, grammar=Grammar(json_schema=SCHEMA)),
    Decoding(9, temperature=0.8, top_p=0.9, seed=1),
    Decoding(12, grammar=Grammar(choices=("billing", "tech support"))),
    Decoding(30, stop=("e", "never")),
    Decoding(15, temperature=1.2, top_k=20, seed=9),
)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASTRESORT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    loaded = load_local(save_tiny(tmp_path_factory.mktemp("tiny")), precision="float32")
    return LocalModel(loaded, name="tiny", clock=lambda: 0.0)


class Receiver:
    """Takes what is delivered, and checks the order: pieces, then one end. within: called with each."""

    def __init__(self, within: Any = None) -> None:
        self.pieces: list[Piece] = []
        self.end: Ended | Failed | None = None
        self._within, self._arrived = within, threading.Condition()

    def __call__(self, delivered: Delivered) -> None:
        with self._arrived:
            assert self.end is None
            if isinstance(delivered, Piece):
                self.pieces.append(delivered)
            else:
                self.end = delivered
            self._arrived.notify_all()
        if self._within is not None:
            self._within(delivered)

    def wait_for_piece(self) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.pieces or self.end, SOON_S)

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    def answer(self) -> Answer:
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.end is not None, SOON_S)
        assert isinstance(self.end, Ended), self.end
        assert self.text == self.end.answer.text
        return self.end.answer

    def error(self) -> LastresortError:
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.end is not None, SOON_S)
        assert isinstance(self.end, Failed), self.end
        return self.end.error


def ask(text: str, system: str = "route this ticket to the right team") -> Prompt:
    return (Message("system", system), Message("user", text))


def local_owner(model: LocalModel, *shelves: Shelf, longest_queue: int = 100) -> LocalOwner:
    return LocalOwner(
        {"winner": model},
        shelves=lambda _: shelves or (Shelf(4, CONTEXT_TOKENS),),
        longest_queue=longest_queue,
        clock=lambda: 0.0,
    )


def some_work(count: int) -> list[Work]:
    return [
        Work(
            ask(f"the parcel {i} is late" * (1 + i % 3), "route this ticket " * (4 if i % 4 else 1)),
            replace(DECODINGS[i % len(DECODINGS)], seed=i),
            2 if i % 5 == 0 else None,
        )
        for i in range(count)
    ]


def alone(model: LocalModel, work: Work) -> Answer:
    assert not isinstance(work.prompt, str)
    return model.generate([work.prompt], work.decoding)[0]


@pytest.fixture
def owner(model: LocalModel) -> Iterator[LocalOwner]:
    owner = local_owner(model)
    yield owner
    owner.close()


@pytest.mark.slow
def test_32_submitters_at_once_get_the_answers_that_they_get_alone(model: LocalModel, owner: LocalOwner) -> None:
    work = some_work(64)
    expected = [alone(model, one) for one in work]
    receivers = [Receiver() for _ in work]
    together = threading.Barrier(32)

    def submit(number: int) -> None:
        together.wait()
        for i in (number, number + 32):
            owner.submit(work[i], receivers[i])
            receivers[i].answer()

    threads = [threading.Thread(target=submit, args=(i,)) for i in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [receiver.answer() for receiver in receivers] == expected
    assert len({answer.text for answer in expected}) > 20


@pytest.mark.sampled(2)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_adapter_is_served_with_its_base(tmp_path: Path, precision: str) -> None:
    """In reduced precision what else is in the batch may change an answer, so there it only has to come."""
    folder = save_tiny(tmp_path / "tiny")
    loaded = load_local(folder, precision=precision, adapter=save_adapter(folder, tmp_path / "adapter"))
    tuned = LocalModel(loaded, name="tuned", clock=lambda: 0.0)
    owner, work = local_owner(tuned, Shelf(3, CONTEXT_TOKENS)), some_work(12)
    receivers = [Receiver() for _ in work]
    for one, receiver in zip(work, receivers, strict=True):
        owner.submit(one, receiver)
    answers = [receiver.answer() for receiver in receivers]
    if precision == "float32":
        assert answers == [alone(tuned, one) for one in work]
    owner.close()


def test_a_text_is_continued_as_it_is(model: LocalModel, owner: LocalOwner) -> None:
    receiver = Receiver()
    owner.submit(Work("the parcel is", Decoding(8)), receiver)
    answer = receiver.answer()
    ids = model.loaded.tokenizer("the parcel is")["input_ids"]
    for _ in range(8):
        ids.append(int(model.loaded.model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert (answer.prompt_tokens, answer.text) == (len(ids) - 8, model.text_of(ids[-8:]))
    with pytest.raises(CandidateError, match="the prompt is empty"):
        owner.submit(Work("", Decoding(8)), receiver)


def test_log_probabilities_come_with_the_text(model: LocalModel, owner: LocalOwner) -> None:
    receiver, without = Receiver(), Receiver()
    owner.submit(Work(ask("late"), Decoding(8), 3), receiver)
    owner.submit(Work(ask("late"), Decoding(8), 0), without)
    tokens = [token for piece in receiver.pieces for token in piece.tokens] if receiver.answer() else []
    assert len(tokens) == receiver.answer().completion_tokens == 8
    assert "".join(token.token for token in tokens) == receiver.text
    assert all(token.top[0] == (token.token, token.logp) and len(token.top) == 3 for token in tokens)
    assert without.answer() == receiver.answer()
    again = [token.logp for piece in without.pieces for token in piece.tokens]
    assert again == pytest.approx([token.logp for token in tokens], abs=1e-5)


def test_cancelling_in_mid_stream_frees_the_slot_and_nothing_more_is_delivered(model: LocalModel) -> None:
    owner = local_owner(model, Shelf(1, CONTEXT_TOKENS))
    cut, next_one = Receiver(), Receiver()
    cancel = owner.submit(Work(ask("a"), Decoding(180)), cut)
    cut.wait_for_piece()
    owner.submit(Work(ask("b"), Decoding(5)), next_one)
    cancel()
    seen = len(cut.pieces)
    assert next_one.answer() == alone(model, Work(ask("b"), Decoding(5)))
    cancel()  # again changes nothing
    owner.close()
    assert (len(cut.pieces), cut.end) == (seen, None)
    assert seen < 180


def test_cancelling_from_within_a_delivery_and_while_waiting(model: LocalModel) -> None:
    owner = local_owner(model, Shelf(1, CONTEXT_TOKENS))
    cancels: list[Any] = []
    submitted = threading.Event()

    def cancel_all(_: Delivered) -> None:
        submitted.wait(SOON_S)
        for cancel in cancels:
            cancel()

    first, waiting, last = Receiver(cancel_all), Receiver(), Receiver()
    cancels.append(owner.submit(Work(ask("a"), Decoding(50)), first))
    cancels.append(owner.submit(Work(ask("b"), Decoding(50)), waiting))
    owner.submit(Work(ask("c"), Decoding(3)), last)
    submitted.set()
    last.answer()
    assert (len(first.pieces), first.end, waiting.pieces, waiting.end) == (1, None, [], None)
    assert owner.load.waiting == 0
    owner.close()


class Gate:
    """Steps of the batch wait until it is open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open, step = threading.Event(), continuous.ContinuousBatch.step

        def waiting(batch: continuous.ContinuousBatch) -> Any:
            assert self._open.wait(SOON_S)
            return step(batch)

        monkeypatch.setattr(continuous.ContinuousBatch, "step", waiting)

    def open(self) -> None:
        self._open.set()


def until(reached: Any) -> None:
    end = time.monotonic() + SOON_S
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_full_queue_refuses_and_says_when_to_come_back(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    owner = local_owner(model, Shelf(1, CONTEXT_TOKENS), longest_queue=3)
    receivers = [Receiver() for _ in range(4)]
    for i, receiver in enumerate(receivers):
        owner.submit(Work(ask(str(i)), Decoding(4)), receiver)
        until(lambda: owner.load.running == 1)
    assert owner.load == Load(1, 3, 0.0)
    with pytest.raises(QueueFull) as full:
        owner.submit(Work(ask("x"), Decoding(4)), Receiver())
    assert 1 <= full.value.after_s <= 60
    gate.open()
    for i, receiver in enumerate(receivers):
        assert receiver.answer() == alone(model, Work(ask(str(i)), Decoding(4)))
    until(lambda: owner.load == Load(0, 0, 0.0))
    owner.close()


def test_waiting_takes_as_long_as_answers_took_lately() -> None:
    now = iter([10.0, 20.0, 30.0, 30.0, 5000.0])
    desk: Desk[None] = Desk(1, lambda: next(now))

    def submit() -> Job[None]:
        job = Job(Work(ask("a"), Decoding(1)), lambda _: None, None)
        desk.submit(job)
        return job

    for _ in range(3):
        submit()
        job = desk.next()
        assert job is not None
        desk.done(job)
    submit()
    for seconds in (20 / 3, 60.0):
        with pytest.raises(QueueFull) as full:
            submit()
        assert full.value.after_s == pytest.approx(seconds)


def test_a_model_that_raises_fails_the_request_and_the_owner_lives_on(
    model: LocalModel, owner: LocalOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = (
        (RuntimeError("CUDA out of memory"), InfrastructureError, "not enough memory"),
        (ValueError("boom"), ContractError, "ValueError: boom"),
        (CandidateError("no such token"), CandidateError, "no such token"),
    )
    work = Work(ask("late"), Decoding(5))
    for fault, kind, says in faults:
        broken = Receiver()
        with monkeypatch.context() as patch:
            patch.setattr(continuous, "trunk_hidden", raising(fault))
            owner.submit(work, broken)
            error = broken.error()
        assert isinstance(error, kind)
        assert says in str(error)
        fine = Receiver()
        owner.submit(work, fine)
        assert fine.answer() == alone(model, work)


def raising(error: Exception) -> Any:
    def fails(*_: Any) -> Any:
        raise error

    return fails


@pytest.mark.parametrize("where", ["step", "join"])
def test_a_fault_of_the_batch_itself_is_survived_too(
    model: LocalModel, owner: LocalOwner, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    work, broken, fine = Work(ask("late"), Decoding(5)), Receiver(), Receiver()
    with monkeypatch.context() as patch:
        patch.setattr(continuous.ContinuousBatch, where, raising(KeyError("slot")))
        owner.submit(work, broken)
        assert "KeyError" in str(broken.error())
    until(lambda: owner.load == Load(0, 0, 0.0))
    owner.submit(work, fine)
    assert fine.answer() == alone(model, work)


def test_a_lost_device_leaves_nobody_waiting(
    model: LocalModel, owner: LocalOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a fault of a GPU, where each call raises from then on, also those that free a slot."""
    running, waiting, submitted = [Receiver() for _ in range(4)], Receiver(), threading.Event()

    def lost(delivered: Delivered) -> None:
        assert submitted.wait(SOON_S)
        monkeypatch.setattr(continuous, "trunk_hidden", raising(RuntimeError("the device is lost")))
        monkeypatch.setattr(continuous.Slots, "clear", raising(RuntimeError("the device is lost")))

    running[0] = Receiver(lost)
    for receiver in (*running, waiting):
        owner.submit(Work(ask("late"), Decoding(60, temperature=1.0, seed=3)), receiver)
    submitted.set()
    for receiver in (*running, waiting):
        assert isinstance(receiver.error(), StopRequestedError | ContractError)
    until(lambda: owner.fault is not None)
    assert "lost" in str(owner.fault)
    with pytest.raises(Draining):
        owner.submit(Work(ask("late"), Decoding(5)), Receiver())
    assert owner.drain(SOON_S)
    assert owner.load.running == 0


def test_memory_that_runs_out_while_slots_are_made_is_asked_for_again(
    model: LocalModel, owner: LocalOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, broken, fine, calls = Work(ask("late"), Decoding(5)), Receiver(), Receiver(), list[int]()
    new_zeros = torch.Tensor.new_zeros

    def scarce(tensor: torch.Tensor, *size: Any, **options: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:  # the second layer's keys
            raise RuntimeError("CUDA out of memory")
        return new_zeros(tensor, *size, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "new_zeros", scarce)
        owner.submit(work, broken)
        assert "not enough memory" in str(broken.error())
    owner.submit(work, fine)
    assert fine.answer() == alone(model, work)


def test_who_cannot_receive_harms_nobody(model: LocalModel, owner: LocalOwner) -> None:
    fine, calls = Receiver(), list[Delivered]()

    def gone(delivered: Delivered) -> None:
        calls.append(delivered)
        raise ConnectionError("the reader is gone")

    owner.submit(Work(ask("a"), Decoding(30)), gone)
    owner.submit(Work(ask("late"), Decoding(9)), fine)
    assert fine.answer() == alone(model, Work(ask("late"), Decoding(9)))
    until(lambda: owner.load == Load(0, 0, 0.0))
    assert len(calls) == 1


def test_what_cannot_be_answered_is_refused_before_it_waits(model: LocalModel) -> None:
    owner, receiver = local_owner(model, Shelf(2, 100)), Receiver()
    cases = (
        (Work(ask("a" * 300), Decoding(5)), "model's context"),
        (Work(ask("a"), Decoding(CONTEXT_TOKENS)), "model's context"),
        (Work(ask("a"), Decoding(90)), "server's memory, expected at most 100 together"),
        (Work(ask("a"), Decoding(9, grammar=Grammar(json_schema={"type": "text"}))), "cannot be enforced"),
    )
    for work, says in cases:
        with pytest.raises(CandidateError, match=says):
            owner.submit(work, receiver)
    assert owner.load == Load(0, 0, 0.0)
    owner.close()
    assert (receiver.pieces, receiver.end) == ([], None)


def test_draining_finishes_what_is_there_and_takes_nothing_new(model: LocalModel) -> None:
    owner = local_owner(model, Shelf(2, CONTEXT_TOKENS))
    receivers = [Receiver() for _ in range(6)]
    for i, receiver in enumerate(receivers):
        owner.submit(Work(ask(str(i)), Decoding(10)), receiver)
    assert owner.drain(SOON_S)
    assert [receiver.end is not None for receiver in receivers] == [True] * 6
    assert receivers[5].answer() == alone(model, Work(ask("5"), Decoding(10)))
    with pytest.raises(Draining):
        owner.submit(Work(ask("a"), Decoding(1)), Receiver())
    owner.close()
    with pytest.raises(Draining):
        owner.submit(Work(ask("a"), Decoding(1)), Receiver())


def test_what_is_not_finished_in_time_fails(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    owner = local_owner(model, Shelf(1, CONTEXT_TOKENS))
    receivers = [Receiver(), Receiver()]
    for receiver in receivers:
        owner.submit(Work(ask("a"), Decoding(10)), receiver)
        until(lambda: owner.load.running == 1)
    assert not owner.drain(0.01)
    for receiver in receivers:
        assert isinstance(receiver.error(), StopRequestedError)
        assert receiver.pieces == []
    gate.open()
    until(lambda: owner.load == Load(0, 0, 0.0))
    owner.close()


def test_closing_ends_the_thread_and_frees_the_slots(model: LocalModel) -> None:
    before = threading.active_count()
    owner, receiver = local_owner(model), Receiver()
    batch = weakref.ref(owner._lanes["winner"].batch)
    owner.submit(Work(ask("a"), Decoding(150)), receiver)
    receiver.wait_for_piece()
    owner.close()
    gc.collect()
    assert isinstance(receiver.error(), StopRequestedError)
    assert (batch(), threading.active_count()) == (None, before)


LEAVES = """
import sys
from pathlib import Path
from lastresort.models.local import LocalModel, load_local
from lastresort.serve.owner import open_owners
from lastresort.serve.work import Work
from lastresort.types import Decoding
model = LocalModel(load_local(Path(sys.argv[1]), precision="float32"), name="tiny")
owner = open_owners({"winner": model})["winner"]
for i in range(20):
    owner.submit(Work("the parcel", Decoding(200, temperature=1.0, seed=i)), lambda _: None)
print("leaves")
"""


@pytest.mark.slow
def test_a_process_that_ends_without_closing_ends_cleanly(tmp_path: Path) -> None:
    """A thread that still computes while the interpreter is taken down would end it with an abort."""
    arguments = [sys.executable, "-c", LEAVES, str(save_tiny(tmp_path / "tiny"))]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=SOON_S * 2)
    assert (ended.stdout, ended.returncode) == ("leaves\n", 0), ended.stderr


def test_the_first_to_come_is_the_first_to_be_computed(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """On two slots, with a long answer in one of them all the time, the others are served in the order in which they came."""
    gate, order = Gate(monkeypatch), list[int]()
    owner = local_owner(model, Shelf(2, CONTEXT_TOKENS))
    long = Receiver()
    owner.submit(Work(ask("a"), Decoding(150)), long)
    receivers = []
    for i in range(12):
        receivers.append(Receiver(lambda delivered, i=i: order.append(i) if isinstance(delivered, Ended) else None))
        owner.submit(Work(ask(str(i)), Decoding(3 + i % 2)), receivers[-1])
    gate.open()
    for receiver in receivers:
        receiver.answer()
    assert order == sorted(order)
    long.answer()
    owner.close()


def test_a_long_text_waits_for_a_long_slot_while_short_ones_pass(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, order = Gate(monkeypatch), list[str]()
    owner = local_owner(model, Shelf(1, 60), Shelf(1, CONTEXT_TOKENS))
    receivers = []
    for name, count in (("long", 100), ("next long", 100), ("short", 3), ("short too", 3)):
        receivers.append(Receiver(lambda delivered, n=name: order.append(n) if isinstance(delivered, Ended) else None))
        owner.submit(Work((Message("user", name),), Decoding(count)), receivers[-1])
    gate.open()
    for receiver in receivers:
        receiver.answer()
    assert order == ["short", "short too", "long", "next long"]
    owner.close()


def test_the_shelves_take_the_memory_of_a_batch_and_no_more(model: LocalModel) -> None:
    assert plan_shelves(model) == (Shelf(32, CONTEXT_TOKENS),)
    for batch_size, context, slots, expected in (
        (64, 8192, None, (Shelf(32, 1024), Shelf(4, 8192))),
        (64, 8192, 8, (Shelf(8, 4096), Shelf(4, 8192))),
        (16, 131_072, None, (Shelf(16, 512), Shelf(1, 8192))),
        (16, None, None, (Shelf(16, 512), Shelf(1, 8192))),
    ):
        shelves = plan_shelves(WithSize(model, batch_size, context), slots)
        assert shelves == expected
        assert sum(shelf.slots * shelf.tokens for shelf in shelves) <= batch_size * 1024


def test_several_models_share_the_slots_and_each_takes_the_longest_text(model: LocalModel) -> None:
    large = WithSize(model, 16, 131_072)
    assert plan_shelves(large, models=2) == (Shelf(8, 512), Shelf(1, 8192))
    assert plan_shelves(large, 3, models=2) == (Shelf(1, 2730), Shelf(1, 8192))
    assert plan_shelves(WithSize(model, 64, 8192), models=2) == (Shelf(16, 1024), Shelf(2, 8192))


def test_a_longer_text_can_be_asked_for_but_none_beyond_the_context(model: LocalModel) -> None:
    for context, longest, expected in (
        (131_072, 20_000, (Shelf(16, 512), Shelf(1, 20_000))),
        (16_384, 20_000, (Shelf(16, 512), Shelf(1, 16_384))),
        (None, 20_000, (Shelf(16, 512), Shelf(1, 20_000))),
        (131_072, 2048, (Shelf(16, 512), Shelf(4, 2048))),
        (131_072, 300, (Shelf(16, 300),)),
    ):
        assert plan_shelves(WithSize(model, 16, context), longest_tokens=longest) == expected


class WithSize(LocalModel):
    def __init__(self, model: LocalModel, batch_size: int, context: int | None) -> None:
        super().__init__(model.loaded, name="tiny", batch_size=batch_size)
        self._context = context

    @property
    def context_tokens(self) -> int | None:
        return self._context


def scripted(**script: Any) -> ScriptedModel:
    return ScriptedModel(Script(default="to the billing team", **script))


def test_the_owner_suits_the_model(model: LocalModel) -> None:
    for answering, kind in ((model, LocalOwner), (scripted(), AskingOwner)):
        opened = open_owners({"winner": answering})["winner"]
        assert isinstance(opened, kind)
        receiver = Receiver()
        opened.submit(Work(ask("late"), Decoding(9)), receiver)
        receiver.answer()
        assert opened.drain(SOON_S)
        opened.close()


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of torch packs no weights")  # type: ignore[no-untyped-call]
def test_the_owner_computes_with_packed_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 the texts are those of the weights as they were loaded."""
    monkeypatch.setattr(packed_weights, "SMALLEST", 0)
    model = LocalModel(load_local(save_tiny(tmp_path / "tiny"), precision="float32"), name="tiny", clock=lambda: 0.0)
    work = some_work(14)
    expected = [alone(model, one) for one in work]
    owner, receivers = open_owners({"winner": model})["winner"], [Receiver() for _ in work]
    assert any(isinstance(layer, packed_weights.PackedLinear) for layer in model.loaded.model.modules())
    for one, receiver in zip(work, receivers, strict=True):
        owner.submit(one, receiver)
    assert [receiver.answer().text for receiver in receivers] == [answer.text for answer in expected]
    owner.close()


def test_a_model_that_only_answers_is_asked_by_a_few_threads() -> None:
    model, receivers = scripted(), [Receiver() for _ in range(30)]
    owner = AskingOwner(model, threads=4)
    for i, receiver in enumerate(receivers):
        owner.submit(Work(ask(str(i)), Decoding(9)), receiver)
    assert {receiver.answer().text for receiver in receivers} == {"to the billing team"}
    assert len(receivers[0].pieces) == 4
    for work, says in (
        (Work("a text", Decoding(9)), "expected a conversation"),
        (Work(ask("a"), Decoding(9), 0), "expected a model with local weights"),
    ):
        with pytest.raises(CandidateError, match=says):
            owner.submit(work, Receiver())
    owner.close()


class Slow(ScriptedModel):
    """Says one word, and waits. held: how many are waiting."""

    def __init__(self) -> None:
        super().__init__(Script(default="one two three"))
        self.go, self.cut = threading.Event(), 0

    def stream(
        self, prompt: Prompt, decoding: Decoding, *, on_answer: OnAnswer | None = None, stop: Stop | None = None
    ) -> Iterator[str]:
        pieces = super().stream(prompt, decoding, on_answer=on_answer, stop=stop)
        yield next(pieces)
        assert self.go.wait(SOON_S)
        yield from pieces
        self.cut += stop is not None and stop.requested() is not None


def test_a_cancelled_question_is_broken_off_and_delivers_nothing_more() -> None:
    model, cut, waiting, fine = Slow(), Receiver(), Receiver(), Receiver()
    owner = AskingOwner(model, threads=1, longest_queue=2)
    cancel = owner.submit(Work(ask("a"), Decoding(9)), cut)
    cut.wait_for_piece()
    cancel_waiting = owner.submit(Work(ask("b"), Decoding(9)), waiting)
    owner.submit(Work(ask("c"), Decoding(9)), fine)
    assert owner.load == Load(1, 2, 1.0)
    with pytest.raises(QueueFull):
        owner.submit(Work(ask("d"), Decoding(9)), Receiver())
    cancel()
    cancel_waiting()
    assert owner.load.waiting == 1
    model.go.set()
    assert fine.answer().text == "one two three"
    assert (cut.text, cut.end, waiting.pieces, waiting.end) == ("one", None, [], None)
    assert model.cut == 1
    owner.close()


def test_an_endpoint_that_fails_fails_the_request_and_the_threads_live_on() -> None:
    owner = AskingOwner(scripted(faults=Faults(fail_first=2)), threads=1)
    receivers = [Receiver() for _ in range(3)]
    for receiver in receivers:
        owner.submit(Work(ask("a"), Decoding(9)), receiver)
    assert [type(receiver.error()) for receiver in receivers[:2]] == [InfrastructureError] * 2
    assert receivers[2].answer().text == "to the billing team"
    owner.close()


def test_an_endpoint_that_hangs_keeps_nobody_from_stopping() -> None:
    model, receivers = Slow(), [Receiver(), Receiver()]
    owner: Owner = AskingOwner(model, threads=1)
    for receiver in receivers:
        owner.submit(Work(ask("a"), Decoding(9)), receiver)
    receivers[0].wait_for_piece()
    assert not owner.drain(0.01)
    owner.close()
    assert [type(receiver.error()) for receiver in receivers] == [StopRequestedError] * 2
    with pytest.raises(Draining):
        owner.submit(Work(ask("a"), Decoding(1)), Receiver())
    model.go.set()
    until(lambda: owner.load.running == 0)


class Silent(ScriptedModel):
    def generate(
        self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
    ) -> list[Answer]:
        raise KeyError("nothing")


def test_a_fault_of_the_models_own_is_ours() -> None:
    owner, receiver = AskingOwner(Silent(Script()), threads=1), Receiver()
    owner.submit(Work(ask("a"), Decoding(9)), receiver)
    assert isinstance(receiver.error(), ContractError)
    owner.close()


def test_what_only_the_log_says_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Clients get a 500 that refers them to it."""

    class Refused(ScriptedModel):
        def generate(
            self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: OnAnswer | None = None
        ) -> list[Answer]:
            raise PrerequisiteError("the server refuses the key (401)")

    owner, receiver = AskingOwner(Refused(Script()), threads=1), Receiver()
    owner.submit(Work(ask("a"), Decoding(9)), receiver)
    assert isinstance(receiver.error(), PrerequisiteError)
    owner.close()
    assert "refuses the key (401)" in caplog.text
