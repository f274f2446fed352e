"""A batch that texts join and leave: each gets the tokens that it gets alone, whatever else is in the batch."""

import gc
import random

import pytest
import torch

from engine_support import FAMILIES, VOCABULARY, draw, tiny
from lastresort.engine import continuous
from lastresort.engine.cache import Beginnings, Prefix, Slots, compute_prefix
from lastresort.engine.choose import Sampling
from lastresort.engine.continuous import ContinuousBatch, Shelf
from lastresort.engine.live_rows import Continuation, LiveRow, advance
from lastresort.engine.sampling import generate
from lastresort.errors import ContractError
from pretend_device import Far, moved, pretend

ROOT = draw(90, 1)
SHELVES = (Shelf(3, 60), Shelf(2, 200))
DRAWN = Sampling(9, 0.9, top_p=0.9)


def even(so_far):
    return torch.arange(VOCABULARY) % 2 == 0


def mixed(count, seed=0):
    """Texts with and without a common beginning, of many lengths, with settings of every kind."""
    chance = random.Random(seed)
    asked = []
    for i in range(count):
        text = (ROOT if i % 3 else ()) + draw(chance.randint(1, 30), 1000 * seed + i)
        settings = (
            Sampling(chance.randint(1, 12)),
            DRAWN,
            Sampling(7, 1.2, top_k=5),
            Sampling(12, stop_ids=frozenset(range(3, 20))),
        )[i % 4]
        allowed = even if i % 5 == 2 else None
        stopped = (lambda so_far: len(so_far) >= 4) if i % 7 == 3 else None
        asked.append(Continuation(text, settings, 100 + i, allowed, stopped, 3 if i % 6 == 1 else None))
    return asked


def alone(model, asked):
    """What `generate` gives for this text as the only one."""
    return generate(
        model,
        [asked.tokens],
        settings=asked.settings,
        seeds=[asked.seed],
        allowed=None if asked.allowed is None else lambda row, so_far: asked.allowed(so_far),
        stopped=None if asked.stopped is None else lambda row, so_far: asked.stopped(so_far),
    )[0]


def served(model, asked, *, shelves=SHELVES, at_once=2, batch=None):
    """All of them, of which `at_once` more try to join before each step."""
    batch = ContinuousBatch(model, shelves) if batch is None else batch
    waiting, rows = list(asked), {}
    for _ in range(10_000):
        for _ in range(at_once):
            if waiting and batch.has_room(waiting[0]):
                one = waiting.pop(0)
                rows[id(one)] = batch.join(one)
        if not batch.rows and not waiting:
            return [rows[id(one)] for one in asked]
        batch.step()
    raise AssertionError("it never ended")


@pytest.mark.sampled(7)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_text_gets_what_it_gets_alone(family):
    model = tiny(family, torch.float32)
    asked = mixed(16)
    expected = [alone(model, one) for one in asked]
    rows = served(model, asked)
    assert [row.result for row in rows] == expected
    assert {result.path for result in expected} == {"packed"}
    assert {result.finish for result in expected} == {"stop", "length"}
    assert len({result.tokens for result in expected}) > 12


@pytest.mark.sampled(9)
@pytest.mark.parametrize("at_once", [1, 3, 100])
@pytest.mark.parametrize("shelves", [(Shelf(1, 200),), (Shelf(2, 200), Shelf(5, 40)), (Shelf(40, 200),)])
def test_the_size_of_the_batch_changes_nothing(shelves, at_once):
    model = tiny(dtype=torch.float32)
    asked = mixed(24, seed=1)
    assert [row.result for row in served(model, asked, shelves=shelves, at_once=at_once)] == [
        alone(model, one) for one in asked
    ]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("limit", "without_others"), [(1, 1), (7, 20), (40, 64)])
def test_reading_long_texts_over_several_steps_changes_nothing(monkeypatch, limit, without_others):
    model = tiny(dtype=torch.float32)
    asked = mixed(12, seed=2)
    expected = [alone(model, one) for one in asked]
    monkeypatch.setattr(continuous, "PREFILL_TOKENS", limit)
    monkeypatch.setattr(continuous, "PREFILL_TOKENS_ALONE", without_others)
    assert [row.result for row in served(model, asked)] == expected


def test_as_in_a_batch_of_generate():
    model = tiny(dtype=torch.float32)
    texts = [ROOT + draw(2 + i, i) for i in range(9)]
    expected = generate(model, texts, settings=Sampling(12))
    rows = served(model, [Continuation(text, Sampling(12)) for text in texts])
    assert [row.result for row in rows] == expected


def test_leaving_in_the_middle_frees_the_slot_and_disturbs_nobody():
    model = tiny(dtype=torch.float32)
    asked = [Continuation(ROOT + draw(5, i), Sampling(30), i) for i in range(6)]
    batch = ContinuousBatch(model, (Shelf(3, 150),))
    rows = [batch.join(one) for one in asked[:3]]
    for _ in range(5):
        batch.step()
    assert not batch.has_room(asked[3])
    batch.leave(rows[0])
    grown = list(rows[0].tokens)
    rows[0] = batch.join(asked[3])
    for _ in range(4):
        batch.step()
    batch.leave(rows[2])
    while batch.rows:
        batch.step()
    assert [rows[i].result for i in (0, 1)] == [alone(model, asked[i]) for i in (3, 1)]
    assert tuple(grown) == alone(model, asked[0]).tokens[: len(grown)]
    assert rows[2].result is None
    batch.leave(rows[1])  # which has ended


def test_one_that_leaves_before_it_was_read_frees_its_slot():
    batch = ContinuousBatch(tiny(dtype=torch.float32), (Shelf(1, 100),))
    one = Continuation(draw(5, 1), Sampling(3))
    row = batch.join(one)
    assert not batch.has_room(one)
    batch.leave(row)
    assert batch.has_room(one)
    assert batch.step() == []


def test_log_probabilities_are_those_of_the_whole_distribution():
    model = tiny(dtype=torch.float64)
    plain = Continuation(ROOT[:7], Sampling(6), 1, top_logps=4)
    other = Continuation(ROOT[:9], Sampling(6, 0.7, top_k=3), 2, allowed=even, top_logps=0)
    rows = served(model, [plain, other, Continuation(ROOT[:5], Sampling(6))], at_once=3)
    for row in rows[:2]:
        for place, told in enumerate(row.logps):
            text = torch.tensor([[*row.asked.tokens, *row.tokens[:place]]])
            expected = model(input_ids=text).logits[0, -1].detach().log_softmax(-1)
            assert told.token == row.tokens[place]
            assert told.logp == pytest.approx(float(expected[told.token]), abs=1e-6)
            top = expected.topk(row.asked.top_logps)
            assert [token for token, _ in told.top] == top.indices.tolist()
            assert [logp for _, logp in told.top] == pytest.approx(top.values.tolist(), abs=1e-6)
        assert len(row.logps) == len(row.tokens) == 6
    assert rows[2].logps == []


def read_tokens(model):
    """Counts the tokens that the model reads."""
    counts = []
    model.get_input_embeddings().register_forward_hook(lambda module, given, out: counts.append(given[0].numel()))
    return counts


def test_what_texts_begin_with_is_computed_once():
    model = tiny(dtype=torch.float32)
    batch = ContinuousBatch(model, (Shelf(2, 200),))
    texts = [ROOT + draw(10, i) for i in range(8)]
    counts = read_tokens(model)
    costs = []
    for text in texts:
        served(model, [Continuation(text, Sampling(2))], batch=batch)
        costs.append(sum(counts))
        counts.clear()
    # The text and one of its two new tokens; once three have agreed, only what comes after 80 of the 90 common tokens.
    assert costs == [101, 101, 101, 21, 21, 21, 21, 21]


def test_texts_that_come_together_share_their_beginning_in_the_first_step():
    model = tiny(dtype=torch.float32)
    batch = ContinuousBatch(model, (Shelf(8, 200),))
    counts = read_tokens(model)
    served(model, [Continuation(ROOT + draw(10, i), Sampling(1)) for i in range(8)], batch=batch, at_once=8)
    assert counts == [90 + 8 * 10]


def test_texts_that_come_while_the_first_decodes_share_its_beginning():
    model = tiny(dtype=torch.float32)
    batch = ContinuousBatch(model, (Shelf(8, 200),))
    asked = [Continuation(ROOT + draw(10, i), Sampling(6), i) for i in range(8)]
    rows = [batch.join(asked[0])]
    batch.step()
    rows += [batch.join(one) for one in asked[1:]]
    counts = read_tokens(model)
    batch.step()
    assert counts == [
        1 + 10 + 7 * 10
    ]  # 80 of 90 are kept; the other 10, which the new ones share as well, are read once
    while batch.rows:
        batch.step()
    assert [row.result for row in rows] == [alone(model, one) for one in asked]


def test_one_who_waits_is_compared_with_what_is_kept_once_until_more_is_kept(monkeypatch):
    """It is looked at before each step, and may be long."""
    compared, find = [], Beginnings.of
    monkeypatch.setattr(Beginnings, "of", lambda kept, tokens: compared.append(tokens) or find(kept, tokens))
    batch = ContinuousBatch(tiny(dtype=torch.float32), (Shelf(2, 40), Shelf(1, 200)))
    long = batch.join(Continuation(draw(90, 7), Sampling(20)))
    waiting = Continuation(ROOT + draw(10, 9), Sampling(2))
    for _ in range(4):
        batch.step()
        assert not batch.has_room(waiting)
    assert sum(tokens is waiting.tokens for tokens in compared) == 1
    batch.leave(long)
    for i in range(3):
        served_with_others(batch, Continuation(ROOT + draw(10, i), Sampling(1)))
    batch.join(Continuation(draw(90, 8), Sampling(20)))
    assert batch.has_room(waiting)  # what it begins with is kept now, so that it needs a short slot
    assert sum(tokens is waiting.tokens for tokens in compared) == 2


def test_beginnings_are_few_and_bounded():
    kept = Beginnings(limit_tokens=200)
    for number in range(20):
        root = draw(96, number)
        for i in range(3):
            text = root + draw(8, 100 * number + i)
            length = kept.shared_length(text)
            assert length == (96 if i == 2 else 0)
            if length:
                kept.keep(Prefix(text[:length], ()))
            kept.remember(text)
    assert [len(prefix.tokens) for prefix in kept._kept] == [96, 96]
    assert kept.of((*draw(96, 19), 5)) is kept._kept[-1]
    assert kept.of(draw(96, 19)) is None  # nothing of its own would be left
    assert kept.of((*draw(96, 3), 5)) is None
    assert kept.shared_length(draw(96, 19) + draw(9, 5)) == 0  # kept already


def test_beginnings_that_running_texts_hold_are_bounded_too():
    model = tiny(dtype=torch.float32, num_hidden_layers=1)
    batch = ContinuousBatch(model, (Shelf(6, 60), Shelf(1, 200)))
    running = []
    for number in range(6):
        root = draw(150, number)
        for i in range(2):
            served_with_others(batch, Continuation(root + draw(6, 10 * number + i), Sampling(1)))
        asked = Continuation(root + draw(6, 10 * number + 2), Sampling(40))
        served_with_others(batch, Continuation(asked.tokens, Sampling(1)))
        if batch.has_room(asked):
            running.append((batch.join(asked), asked))
            batch.step()
        prefixes = [prefix for filled in batch._shelves for prefix in filled.slots.prefixes]
        held = {id(p): len(p.tokens) for p in (*prefixes, *batch._beginnings.kept) if p is not None}
        assert sum(held.values()) <= 400  # twice the longest slot
    while batch.rows:
        batch.step()
    assert len(running) > 2
    assert [row.result for row, _ in running] == [alone(model, asked) for _, asked in running]


def served_with_others(batch, asked):
    """Joins as soon as it may; steps until it has ended."""
    for _ in range(1000):
        if batch.has_room(asked):
            break
        batch.step()
    row = batch.join(asked)
    while not row.over:
        batch.step()


def test_any_beginning_of_a_running_text_can_be_kept():
    """Of one that is on a prefix itself, a shorter beginning, this prefix, and a longer one."""
    model = tiny(dtype=torch.float64)
    batch = ContinuousBatch(model, (Shelf(4, 200),))
    for i in range(3):
        served(model, [Continuation(ROOT + draw(10, i), Sampling(2))], batch=batch)
    row = batch.join(Continuation(ROOT + draw(10, 3), Sampling(9)))
    batch.step()
    slots = batch._shelves[0].slots
    assert len(slots._prefixes[0].tokens) == 80
    for length in (48, 80, 96):
        found = slots.beginning(0, row.asked.tokens[:length])
        expected = compute_prefix(batch._found.parts, row.asked.tokens[:length], None)
        assert found.tokens == expected.tokens
        for a, b in zip(found.layers, expected.layers, strict=True):
            torch.testing.assert_close(a, b)


def held_bytes():
    gc.collect()
    return sum(x.numel() * x.element_size() for x in gc.get_objects() if type(x) is torch.Tensor)


def test_nothing_grows_with_the_number_of_texts():
    model = tiny(dtype=torch.float32, num_hidden_layers=1)
    batch = ContinuousBatch(model, (Shelf(8, 40), Shelf(2, 120)))

    def some(count, first):
        asked = []
        for i in range(first, first + count):
            beginning = draw(70, i // 50) if i % 2 else ()
            asked.append(Continuation(beginning + draw(3 + i % 9, i), Sampling(1 + i % 3), i, top_logps=1))
        return asked

    served(model, some(200, 0), batch=batch, at_once=8)
    before = held_bytes()
    served(model, some(1000, 200), batch=batch, at_once=8)
    assert held_bytes() - before < 1000  # less than a byte a text
    assert (batch.used, batch.rows) == (0, [])
    assert all(filled.free == filled.size.slots for filled in batch._shelves)


@pytest.mark.parametrize("family", ["gemma2", "mamba"])
def test_the_plain_path_serves_one_after_another(family):
    model = tiny(family, torch.float32)
    asked = mixed(6)
    rows = served(model, asked)
    assert [row.result for row in rows] == [alone(model, one) for one in asked]
    assert {row.result.path for row in rows} == {"plain"}
    assert len(rows[1].logps) == len(rows[1].tokens)


def test_a_text_behind_a_short_window_goes_plain_next_to_packed_ones():
    model = tiny("mistral", torch.float32, sliding_window=40)
    asked = mixed(9)
    rows = served(model, asked)
    assert [row.result for row in rows] == [alone(model, one) for one in asked]
    assert {row.result.path for row in rows} == {"plain", "packed"}


def test_a_plain_text_may_leave_in_the_middle():
    model = tiny("gemma2", torch.float32)
    batch = ContinuousBatch(model, SHELVES)
    row = batch.join(Continuation(ROOT, Sampling(100)))
    batch.step()
    batch.step()
    batch.leave(row)
    assert batch.rows == []
    assert 2 <= len(row.tokens) < 100
    one = Continuation(ROOT[:9], Sampling(5))
    assert served(model, [one], batch=batch)[0].result == alone(model, one)


def test_a_fault_of_one_row_is_its_own():
    model = tiny(dtype=torch.float32)

    def broken(so_far):
        if len(so_far) == 2:
            raise ValueError("the grammar broke")

    faults = [
        Continuation(ROOT[:9], Sampling(6), allowed=broken),
        Continuation(ROOT[:8], Sampling(6), stopped=broken),
        Continuation(ROOT[:7], Sampling(6), allowed=lambda so_far: torch.zeros(VOCABULARY, dtype=torch.bool)),
    ]
    fine = [Continuation(ROOT[:n], settings, n) for n, settings in ((5, Sampling(6)), (12, DRAWN))]
    rows = served(model, [*faults, *fine], shelves=(Shelf(5, 60),), at_once=5)
    assert [str(row.error) for row in rows[:2]] == ["the grammar broke"] * 2
    assert "no token is allowed" in str(rows[2].error)
    assert [len(row.tokens) for row in rows[:3]] == [2, 2, 0]
    assert [row.result for row in rows[3:]] == [alone(model, one) for one in fine]


def test_logits_that_are_not_finite_end_their_row_and_leave_nothing_behind():
    model = tiny(dtype=torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight[2] = torch.nan  # of a token that no other text holds
    batch = ContinuousBatch(model, (Shelf(2, 60),))
    bad = Continuation((5, 2, 6, 7, 8, 9, 10, 11, 12), Sampling(6))
    fine = [Continuation(ROOT[:n], Sampling(12, 1.0), n) for n in (2, 6, 3)]  # in the slot first the shorter
    [row] = served(model, [bad], batch=batch)
    assert "not finite" in str(row.error)
    assert [row.result for row in served(model, fine, batch=batch)] == [alone(model, one) for one in fine]


def test_a_forward_that_fails_on_new_texts_fails_them_alone(monkeypatch):
    model = tiny(dtype=torch.float32)
    asked = [Continuation(draw(6 + i, i), Sampling(8), i) for i in range(4)]
    batch = ContinuousBatch(model, (Shelf(4, 60),))
    first = [batch.join(one) for one in asked[:2]]
    batch.step()
    batch.step()
    late = batch.join(asked[2])
    forward = continuous.trunk_hidden

    def failing(trunk, ids, positions, attends):
        forward(trunk, ids, positions, attends)
        raise RuntimeError("no memory")

    monkeypatch.setattr(continuous, "trunk_hidden", failing)
    assert batch.step() == [late]
    assert str(late.error) == "no memory"
    monkeypatch.setattr(continuous, "trunk_hidden", forward)
    again = batch.join(asked[3])
    while batch.rows:
        batch.step()
    assert [row.result for row in (*first, again)] == [alone(model, asked[i]) for i in (0, 1, 3)]


def test_a_forward_that_fails_without_new_texts_fails_all_and_the_batch_lives_on(monkeypatch):
    model = tiny(dtype=torch.float32)
    asked = [Continuation(draw(6 + i, i), Sampling(8), i) for i in range(3)]
    batch = ContinuousBatch(model, (Shelf(2, 60),))
    rows = [batch.join(one) for one in asked[:2]]
    batch.step()
    with monkeypatch.context() as patch:
        patch.setattr(continuous, "trunk_hidden", lambda *_: 1 / 0)
        assert batch.step() == rows
    assert all(isinstance(row.error, ZeroDivisionError) for row in rows)
    assert (batch.rows, batch.used) == ([], 0)
    assert served(model, asked[2:], batch=batch)[0].result == alone(model, asked[2])


def test_reading_never_keeps_the_others_waiting():
    """While a long text is read, texts that decode get a token at every step, and short ones are read beside it."""
    model = tiny(dtype=torch.float32, max_position_embeddings=4096)
    batch = ContinuousBatch(model, (Shelf(4, 60), Shelf(1, 3000)))
    running = batch.join(Continuation(draw(5, 1), Sampling(40)))
    batch.step()
    long = batch.join(Continuation(draw(2500, 2), Sampling(2)))
    short = batch.join(Continuation(draw(20, 3), Sampling(4)))
    counts = read_tokens(model)
    while not long.tokens:
        before = len(running.tokens)
        batch.step()
        assert len(running.tokens) == before + 1
    assert max(counts) <= 2 * continuous.PREFILL_TOKENS + 3  # two are read, and one waits for them
    assert len(short.tokens) == 4
    assert long.tokens[0] == alone(model, long.asked).tokens[0]


def test_no_room_and_empty_texts_are_refused():
    batch = ContinuousBatch(tiny(dtype=torch.float32), SHELVES)
    assert not batch.fits(Continuation(ROOT * 2, Sampling(30)))
    assert not batch.has_room(Continuation(ROOT * 2, Sampling(30)))
    for asked, says in ((Continuation(ROOT * 2, Sampling(30)), "no room"), (Continuation((), Sampling(3)), "empty")):
        with pytest.raises(ContractError, match=says):
            batch.join(asked)


def test_clearing_gives_every_slot_back():
    batch = ContinuousBatch(tiny(dtype=torch.float32), SHELVES)
    one = Continuation(draw(5, 1), Sampling(9))
    rows = [batch.join(one), batch.join(one)]
    batch.step()
    rows.append(batch.join(one))
    assert set(map(id, batch.clear())) == set(map(id, rows))
    assert (batch.rows, batch.used, batch.step()) == ([], 0, [])
    assert all(isinstance(row.error, ContractError) for row in rows)


def test_rows_of_one_length_need_no_mask_and_get_the_same_bit_for_bit(monkeypatch):
    """As of a text that is served alone: nothing is hidden from anybody."""
    model = tiny(dtype=torch.float32)
    texts = [ROOT + draw(20, 1), ROOT + draw(20, 2), ROOT + draw(20, 3)]

    def answers():
        asked = [Continuation(text, Sampling(9), 0, top_logps=2) for text in texts]
        return [row.logps for row in served(model, asked, shelves=(Shelf(3, 200),))]

    masked = list[bool]()
    begin_step = Slots.begin_step

    def noted(slots):
        begin_step(slots)
        masked.append(slots._bias is not None)

    def with_a_mask(slots):
        begin_step(slots)
        if slots._bias is None:
            slots._bias = torch.zeros(len(slots.lengths), 1, 1, max(slots.lengths))
            slots._rows = torch.arange(len(slots.lengths))
            slots._places = torch.tensor(slots.lengths) - 1

    monkeypatch.setattr(Slots, "begin_step", noted)
    found = answers()
    assert set(masked) == {True, False}
    monkeypatch.setattr(Slots, "begin_step", with_a_mask)
    assert answers() == found


MORE = [{}, {"top_logps": 2}, {"allowed": even}, {"settings": DRAWN}]


@pytest.mark.parametrize("more", MORE, ids=["greedy", "reported", "grammar", "drawn"])
def test_no_logits_of_a_gpu_come_to_the_host(more, monkeypatch):
    """Whether in a batch of its own or in a server's."""
    model, texts = tiny(dtype=torch.float32), [ROOT + draw(3, 8), draw(5, 9)]
    asked = [Continuation(text, **{"settings": Sampling(6), **more}) for text in texts]
    expected = [alone(model, one).tokens for one in asked]
    monkeypatch.setattr(Far, "cpu", lambda x: pytest.fail(f"{tuple(x.shape)} are copied"))
    with pretend("cuda") as device:
        moved(model, device)
        assert [alone(model, one).tokens for one in asked] == expected
        assert [row.result.tokens for row in served(model, asked)] == expected


def test_logits_of_a_gpu_that_are_not_finite_end_their_row():
    row, logits = LiveRow(Continuation((1, 2), Sampling(6))), torch.zeros(1, VOCABULARY)
    logits[0, 5] = torch.nan
    with pretend("cuda") as device:
        advance([row], Far(logits, device))
    assert "not finite" in str(row.error)
