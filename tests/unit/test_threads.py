"""How many threads compute is measured, respects the user, stands in the record, and changes no answer and no training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lastresort.climb.workbench import open_models
from lastresort.engine.forest import Row
from lastresort.hardware.threads import (
    FRESH_S,
    STEPS,
    Pace,
    ThreadChoice,
    Threads,
    ThreadsByRows,
    choices,
    fastest,
    quickest,
    time_products,
    timed_in_turns,
)
from lastresort.models.local import LocalModel, load_local
from lastresort.records.events.run import ThreadsChosen
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache
from lastresort.systems.system import PromptDesign, System
from lastresort.train.adapters.adapters import attach_adapter, trainable
from lastresort.train.loop.batches import completions
from lastresort.train.loop.loop import train
from lastresort.train.settings import AdapterSettings, TrainSettings
from lastresort.types import Answer, Decoding, Message, SilentProgress
from models_support import save_tiny

BUSY, QUIET = {2: 0.4, 1: 0.1}, {2: 0.07, 1: 0.1}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Probe:
    """What a probe finds, one finding after the other; the last again and again."""

    def __init__(self, *found: Mapping[int, float]) -> None:
        self.found, self.calls = list(found), 0

    def __call__(self, model: Any, rows: int, counts: Sequence[int]) -> Mapping[int, float]:
        self.calls += 1
        return self.found[min(self.calls, len(self.found)) - 1]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("dtype", "probes"), [(torch.bfloat16, 1), (torch.float32, 0)])
def test_only_a_model_in_16_bits_chooses_while_it_answers(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, probes: int
) -> None:
    monkeypatch.setattr("lastresort.hardware.threads._available", lambda: 2)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    probe = Probe(BUSY)
    with Threads(SimpleNamespace(device=torch.device("cpu"), dtype=dtype), timed=probe).chosen(4):
        pass
    assert probe.calls == probes


def test_the_faster_number_wins_and_more_threads_in_a_tie() -> None:
    assert fastest(BUSY).threads == 1
    assert fastest(QUIET).threads == 2
    assert fastest({1: 0.1, 2: 0.1}).threads == 2


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_what_the_user_has_set_is_not_chosen_again(name: str) -> None:
    assert choices({}, 4) == (4, 1)
    assert choices({name: ""}, 4) == (4, 1)
    assert choices({name: "3"}, 3) == (3,)
    assert choices({}, 1) == (1,)


@pytest.mark.parametrize(
    ("two_s", "order", "expected"),
    [
        (0.004, [1, 1, 2, 1, 2], {2: 2 * 4 * 0.004, 1: 2 * 4 * 0.006}),
        (0.03, [1, 1, 2], {2: 4 * 0.03, 1: 4 * 0.006}),  # cut short after three of four, and clear after one round
    ],
)
def test_the_same_products_are_timed_with_each_number_in_turns(
    two_s: float, order: list[int], expected: dict[int, float]
) -> None:
    clock, used, done = Clock(), list[int](), Counter[int]()

    def product() -> None:
        clock.now += {1: 0.006, 2: two_s}[used[-1]]
        done[used[-1]] += 1

    assert timed_in_turns([product] * 50, (2, 1), used.append, clock) == pytest.approx(expected)
    assert used == order
    assert done[2] == (8 if two_s < 0.01 else 3)
    assert timed_in_turns([], (2, 1), used.append, clock) == {}


def test_products_are_those_of_the_model_and_the_number_of_threads_stays(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    seconds = time_products(load_local(save_tiny(tmp_path)).model, 4, (2, 1))
    assert seconds.keys() == {2, 1}
    assert min(seconds.values()) > 0
    assert torch.get_num_threads() == 2


def test_steps_that_are_twice_as_slow_as_the_first_are_noticed_and_a_few_slow_ones_are_not() -> None:
    pace = Pace()
    assert not any(pace.slowed(0.1) for _ in range(3 * STEPS))
    assert not any(pace.slowed(0.25) for _ in range(STEPS // 2))
    assert any(pace.slowed(0.25) for _ in range(STEPS // 2))
    slower = Pace()
    assert not any(slower.slowed(seconds) for seconds in [0.1] * STEPS + [0.19] * 3 * STEPS)


def chosen_by(probe: Probe, clock: Clock, told: list[ThreadChoice]) -> Threads:
    return Threads(SimpleNamespace(), counts=(2, 1), on_choice=told.append, clock=clock, timed=probe)


def test_a_choice_holds_for_a_while_and_only_a_change_is_told() -> None:
    clock, probe, told = Clock(), Probe(BUSY, BUSY, QUIET), list[ThreadChoice]()
    torch.set_num_threads(2)
    threads = chosen_by(probe, clock, told)
    for later, calls, expected in (
        (0, 1, 1),
        (FRESH_S / 2, 1, 1),
        (FRESH_S, 2, 1),
        (1.5 * FRESH_S, 2, 1),
        (FRESH_S, 3, 2),
    ):
        clock.now += later
        with threads.chosen(8):
            assert (probe.calls, torch.get_num_threads()) == (calls, expected)
        assert torch.get_num_threads() == 2
    assert told == [ThreadChoice(1, BUSY), ThreadChoice(2, QUIET)]


def test_work_that_becomes_twice_as_slow_is_measured_again_while_it_goes_on() -> None:
    clock, probe, told = Clock(), Probe(QUIET, BUSY), list[ThreadChoice]()
    threads = chosen_by(probe, clock, told)
    with threads.chosen(8):
        for seconds, expected in ((0.1, 2), (0.5, 1)):
            for _ in range(2 * STEPS):
                clock.now += seconds
                threads.step()
            assert torch.get_num_threads() == expected
    assert probe.calls == 2
    assert [choice.threads for choice in told] == [2, 1]


def test_nothing_is_probed_or_set_where_there_is_nothing_to_choose() -> None:
    probe = Probe(BUSY)
    fixed = Threads(SimpleNamespace(), counts=(2,), timed=probe)
    torch.set_num_threads(1)
    with fixed.chosen(8):
        fixed.step()
        assert torch.get_num_threads() == 1
    assert quickest(SimpleNamespace(), 8, (2,), probe) is None
    assert quickest(SimpleNamespace(), 8, (2, 1), probe) == 1
    assert probe.calls == 1


def answers(model: LocalModel) -> list[Answer]:
    asked = [(Message("user", f"how many {'x' * i}?"),) for i in range(7)]
    return model.generate(asked, Decoding(12))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_greedy_answers_and_likelihoods_do_not_depend_on_the_number(precision: str, tmp_path: Path) -> None:
    loaded = load_local(save_tiny(tmp_path), precision=precision)
    found = []
    for threads in (1, 2):
        seconds = {number: float(number != threads) for number in (1, 2)}
        number = Threads(loaded.model, counts=(2, 1), timed=Probe(seconds))
        model = LocalModel(loaded, name="tiny", threads=number, clock=lambda: 0.0)
        scores = model.score([(Message("user", "a"),)], [["yes", "no"]])[0]
        found.append((answers(model), scores))
    assert found[0][0] == found[1][0]
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)


def test_the_choice_for_the_model_of_a_climb_stands_in_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lastresort.hardware.threads.allowed", lambda model: (2, 1))
    monkeypatch.setattr("lastresort.hardware.threads.time_products", Probe(BUSY))
    name = str(save_tiny(tmp_path / "model"))
    task: Any = SimpleNamespace(
        model=name,
        tuned_model=name,
        folder=tmp_path,
        score=SimpleNamespace(judge=None),
        reward=(),
        prompting=SimpleNamespace(reflect=None),
        use=SimpleNamespace(prompt_price=None, output_price=None),
    )
    with Record.create(tmp_path / "run") as record, ResponseCache(tmp_path / "responses.sqlite") as cache:
        models = open_models(task, cache, record)
        model = models.open(System("bare", name, PromptDesign("do"), Decoding(2)))
        model.generate([(Message("user", "a"),)], Decoding(2))
        models.close()
        assert record.all(ThreadsChosen) == [ThreadsChosen(threads=1, seconds={"2": 0.4, "1": 0.1})]


def rows() -> list[Row]:
    generator = torch.Generator().manual_seed(5)
    ids = [tuple(torch.randint(3, 40, (9 + i,), generator=generator).tolist()) for i in range(8)]
    return [Row(own, tuple(place > 4 for place in range(len(own)))) for own in ids]


def trained(
    folder: Path, base: Path, *stops: int | None, say: Callable[[str], None] = lambda text: None
) -> tuple[list[int], dict[str, torch.Tensor]]:
    """The number of threads after every step, and the weights at the end."""
    progress, seen = SilentProgress(), list[int]()
    progress.say = say  # type: ignore[method-assign]
    settings = TrainSettings(learning_rate=1e-2, epochs=2, batch_size=4, adapter=AdapterSettings(r=4, alpha=8))
    for until in stops:
        model = attach_adapter(load_local(base, precision="float32").model, settings.adapter, base_name="tiny", seed=1)
        train(
            model,
            completions(rows()),
            settings,
            folder=folder,
            until=until,
            progress=progress,
            on_step=lambda step: seen.append(torch.get_num_threads()),
        )
    return seen, {name: weight.detach().clone() for name, weight in trainable(model)}


def test_a_training_keeps_the_number_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed while the machine is quiet, it ends equal to the last bit to one that was never cut."""
    base = save_tiny(tmp_path / "model")
    found = {"whole": [1], "cut": [1, 2]}
    loop = "lastresort.train.loop.loop"
    monkeypatch.setattr(f"{loop}.allowed", lambda model: (2, 1))
    torch.set_num_threads(2)
    ends = {}
    for name, stops in (("whole", (None,)), ("cut", (2, None))):
        monkeypatch.setattr(f"{loop}.quickest", lambda model, rows, name=name: found[name].pop(0))
        seen, ends[name] = trained(tmp_path / name, base, *stops)
        assert seen == [1, 1, 1, 1]
        assert torch.get_num_threads() == 2
    assert found["cut"] == [2]  # the probe was not asked again
    assert all(torch.equal(ends["whole"][name], ends["cut"][name]) for name in ends["whole"])


def test_a_training_that_goes_on_with_the_users_own_number_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, said = save_tiny(tmp_path / "model"), list[str]()
    torch.set_num_threads(2)
    trained(tmp_path / "run", base, 2)
    torch.set_num_threads(1)
    seen, _ = trained(tmp_path / "run", base, None, say=said.append)
    assert seen == [1, 1]
    assert any("began on 2 threads and continues on 1" in line for line in said)


def test_one_row_a_few_and_many_each_keep_a_choice_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastresort.hardware.threads._available", lambda: 2)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    asked = list[int]()

    def timed(model: Any, rows: int, counts: Sequence[int]) -> Mapping[int, float]:
        asked.append(rows)
        return BUSY if rows == 1 else QUIET

    threads = ThreadsByRows(SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32), timed)
    used = []
    for rows in (1, 2, 16, 17, 300, 1, 8, 64):
        with threads.chosen(rows):
            used.append(torch.get_num_threads())
    assert used == [1, 2, 2, 2, 2, 1, 2, 2]
    assert asked == [1, 2, 17]
