"""`lastresort data mix`: exact portions, a fair draw, and what it says of them."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lastresort.app.data_mix import MixRequest, mix_files, source_of
from lastresort.data.conversion.mixing import AllOf, Portion, RowsOf, ShareOf, drawn, in_mixed_order, plan_mix
from lastresort.data.read import read_examples
from lastresort.errors import DataError, InputError
from lastresort.report.words.data_files import MixedFile
from lastresort.types import SilentProgress


def file_of(folder: Path, name: str, count: int, **more: Any) -> Path:
    path = folder / name
    rows = ({"input": f"{path.stem} {number}", "output": "yes", **more} for number in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def mix(folder: Path, *sources: str, name: str = "mix.jsonl", **options: Any) -> MixedFile:
    request = MixRequest(tuple(source_of(f"{folder}/{source}") for source in sources), folder / name, **options)
    return mix_files(request, SilentProgress())


def inputs(found: MixedFile) -> list[str]:
    return [json.loads(line)["input"] for line in found.path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("sizes", "portions", "rows", "repeat", "taken", "used_up"),
    [
        ((10, 5), (AllOf(), AllOf()), None, False, (10, 5), None),
        ((10, 5), (AllOf(), RowsOf(2)), None, False, (10, 2), None),
        ((80, 100), (AllOf(), ShareOf(0.2)), None, False, (80, 20), None),
        ((80, 10), (AllOf(), ShareOf(0.2)), None, False, (40, 10), 1),
        ((80, 10), (AllOf(), ShareOf(0.2)), None, True, (80, 20), None),
        ((100, 30), (ShareOf(0.5), ShareOf(0.5)), None, False, (30, 30), None),
        ((100, 30), (ShareOf(0.5), ShareOf(0.5)), None, True, (100, 100), None),
        ((100, 30), (ShareOf(0.5), ShareOf(0.5)), 50, False, (25, 25), None),
        ((100, 30), (ShareOf(0.5), ShareOf(0.5)), 100, False, (30, 30), 1),
        ((100, 30), (ShareOf(0.5), ShareOf(0.5)), 100, True, (50, 50), None),
        ((60, 30), (AllOf(), AllOf()), 9, False, (6, 3), None),
        ((60, 30), (AllOf(), AllOf()), 180, True, (120, 60), None),
        ((7, 7, 7), (ShareOf(1 / 3), ShareOf(1 / 3), ShareOf(1 / 3)), 10, False, (4, 3, 3), None),
        ((5,), (RowsOf(12),), None, True, (12,), None),
        ((10, 3), (AllOf(), ShareOf(0.2)), None, False, (10, 2), None),
        ((10, 2), (AllOf(), ShareOf(0.2)), None, False, (10, 2), None),
        ((10, 1), (RowsOf(6), ShareOf(0.2)), None, False, (6, 1), 1),
    ],
)
def test_a_plan_takes_what_the_portions_say(
    sizes: tuple[int, ...], portions: tuple[Portion, ...], rows: int | None, repeat: bool, taken: Any, used_up: Any
) -> None:
    plan = plan_mix(sizes, portions, rows, repeat=repeat)
    assert (plan.taken, plan.used_up) == (taken, used_up)


def test_no_plan_takes_more_than_there_is_or_misses_a_share_by_a_row() -> None:
    dice, refused = Random(0), 0
    for _ in range(2000):
        sizes = [dice.randrange(1, 200) for _ in range(dice.randrange(2, 5))]
        parts = [dice.random() + 0.01 for _ in sizes]
        shares = [part / sum(parts) for part in parts]
        try:
            plan = plan_mix(
                sizes, [ShareOf(share) for share in shares], dice.choice([None, dice.randrange(1, 400)]), repeat=False
            )
        except InputError as error:
            assert "which is less than one row" in str(error)  # noqa: PT017  some of the mixes are that small
            refused += 1
            continue
        assert all(count <= size for count, size in zip(plan.taken, sizes, strict=True))
        total = sum(plan.taken)
        assert all(abs(count - share * total) <= 1.5 for count, share in zip(plan.taken, shares, strict=True))
    assert 0 < refused < 500


@pytest.mark.parametrize(
    ("portions", "rows", "said"),
    [
        ((ShareOf(0.5), ShareOf(0.6)), None, "shares that add up to 1.1, expected 1"),
        ((AllOf(), ShareOf(0.6), ShareOf(0.4)), None, "leaves nothing for the other files"),
        ((AllOf(), ShareOf(0.6)), 10, "found --rows 10, shares of some files"),
        ((AllOf(), RowsOf(6)), 10, "found --rows 10 and numbers of rows"),
        ((ShareOf(0.9), ShareOf(0.1)), 3, "a share of 0.1 in a mix of 3 rows, which is less than one row"),
        ((AllOf(), RowsOf(600)), None, "found 9 rows in a file of which 600 are to be taken"),
    ],
)
def test_portions_that_contradict_each_other_are_refused(
    portions: tuple[Portion, ...], rows: int | None, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        plan_mix([9] * len(portions), portions, rows, repeat=False)


def test_a_file_with_too_few_rows_is_named(tmp_path: Path) -> None:
    file_of(tmp_path, "a.jsonl", 3)
    file_of(tmp_path, "b.jsonl", 2)
    for portion, said in (("=5", r"b\.jsonl: found 2 rows"), ("=1%", r"b\.jsonl: found a share of 0\.01")):
        with pytest.raises(InputError, match=said):
            mix(tmp_path, "a.jsonl", f"b.jsonl{portion}")


def test_every_set_of_rows_and_every_order_is_drawn_equally_often() -> None:
    """Three of five rows, and three with two of another file: ten ways each, expected 600 times, give or take 23."""
    sets, orders = Counter[tuple[int, ...]](), Counter[str]()
    for seed in range(6000):
        sets[tuple(row for row, _ in drawn(lambda: iter(range(5)), 5, 3, Random(seed)))] += 1
        streams = [iter("aaa"), iter("bb")]
        orders["".join(letter for _, letter in in_mixed_order(streams, [3, 2], Random(seed)))] += 1
    for counts in (sets, orders):
        assert len(counts) == 10
        assert max(abs(count - 600) for count in counts.values()) < 5 * 23


def test_a_file_comes_round_again_before_any_row_comes_a_third_time() -> None:
    rows = [row for row, _ in drawn(lambda: iter(range(4)), 4, 10, Random(1))]
    assert sorted(Counter(rows).values()) == [2, 2, 3, 3]
    assert rows[:8] == [0, 1, 2, 3] * 2
    assert [first for _, first in drawn(lambda: iter(range(4)), 4, 6, Random(1))] == [True] * 4 + [False] * 2


def test_a_mix_holds_its_shares_says_what_it_took_and_is_the_same_with_the_same_seed(tmp_path: Path) -> None:
    file_of(tmp_path, "mine.jsonl", 80, group="g")
    file_of(tmp_path, "replay.jsonl", 300)
    found = mix(tmp_path, "mine.jsonl", "replay.jsonl=20%")
    assert Counter(text.split()[0] for text in inputs(found)) == {"mine": 80, "replay": 20}
    assert len(set(inputs(found))) == 100
    assert inputs(found)[:30] != [f"mine {n}" for n in range(30)], "the order is mixed"
    assert found.lines() == [
        f"100 rows in {tmp_path}/mix.jsonl, in the shape input-output.",
        f"  {tmp_path}/mine.jsonl: 80 of 80 rows, 80.0% of the mix",
        f"  {tmp_path}/replay.jsonl: 20 of 300 rows, 20.0% of the mix",
    ]
    again = mix(tmp_path, "mine.jsonl", "replay.jsonl=0.2", name="again.jsonl")
    assert again.path.read_bytes() == found.path.read_bytes()
    other = mix(tmp_path, "mine.jsonl", "replay.jsonl=0.2", name="other.jsonl", seed=1)
    assert {*inputs(other)} != {*inputs(found)}


def test_pairs_of_two_equal_answers_are_counted(tmp_path: Path) -> None:
    pairs = [{"prompt": "a", "chosen": "b", "rejected": one} for one in "bcb"]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    found = mix(tmp_path, "pairs.jsonl")
    assert found.equal_answers == 2
    assert "Pairs whose two answers are the same: 2. Training leaves them out." in found.lines()


def test_a_file_that_is_used_up_ends_the_mix_or_repeats_and_both_are_said(tmp_path: Path) -> None:
    file_of(tmp_path, "mine.jsonl", 80)
    file_of(tmp_path, "replay.jsonl", 8)
    short = mix(tmp_path, "mine.jsonl", "replay.jsonl=0.2", name="short.jsonl")
    assert (short.rows, short.wanted) == (40, 100)
    assert short.lines()[-1] == (
        f"The mix ends at 40 of 100 rows, since {tmp_path}/replay.jsonl is used up. Add --repeat to take its rows again."
    )
    full = mix(tmp_path, "mine.jsonl", "replay.jsonl=0.2", name="full.jsonl", repeat=True)
    assert Counter(Counter(text for text in inputs(full) if text.startswith("replay")).values()) == {2: 4, 3: 4}
    assert "20 of 8 rows, 2.5 times the file, 20.0% of the mix" in full.lines()[2]
    assert full.sources[1].within == 0, "what --repeat took again is no copy in the file"


def test_equal_rows_are_counted_within_and_across_files_whatever_their_shape(tmp_path: Path) -> None:
    file_of(tmp_path, "mine.jsonl", 5)
    talk = [{"role": "user", "content": "mine 3"}, {"role": "assistant", "content": "yes"}]
    other = [{"role": "user", "content": "mine 4"}, {"role": "assistant", "content": "no"}]
    rows = [{"messages": turns} for turns in (talk, talk, other)]
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = mix(tmp_path, "mine.jsonl", "talk.jsonl", to="alpaca")
    assert [(source.within, source.in_earlier) for source in found.sources] == [(0, 0), (1, 1)]
    assert found.lines()[2].endswith("; repeats within the file: 1; also in an earlier file: 1")


def test_rows_with_one_id_are_counted_since_a_task_takes_no_id_twice(tmp_path: Path) -> None:
    for name, ids in (("a.jsonl", [0, 1, 2, 3]), ("b.jsonl", ["3", "4"])):
        rows = [{"id": given, "input": f"{name} {given}", "output": "x"} for given in ids]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = mix(tmp_path, "a.jsonl", "b.jsonl")
    assert found.equal_ids == 1
    assert "Rows with the id of an earlier row: 1. A task refuses duplicate ids: add --drop id." in found.lines()
    with pytest.raises(DataError, match="which is also the id of row"):
        read_examples(found.path)
    assert mix(tmp_path, "a.jsonl=6", repeat=True, name="again.jsonl").equal_ids == 2
    without = mix(tmp_path, "a.jsonl", "b.jsonl", drop=("id",), name="without.jsonl")
    assert (without.equal_ids, len(read_examples(without.path))) == (0, 6)


def test_equal_turns_are_equal_in_whatever_order_their_keys_come(tmp_path: Path) -> None:
    call = {"function": {"name": "f", "arguments": {"a": 1, "b": 2}}}
    other = {"function": {"arguments": {"b": 2, "a": 1}, "name": "f"}}
    for name, one in (("a", call), ("b", other)):
        turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [one]}]
        turns += [{"role": "tool", "content": "3"}, {"role": "assistant", "content": "y"}]
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    assert mix(tmp_path, "a.jsonl", "b.jsonl").sources[1].in_earlier == 1


@pytest.mark.parametrize("seed", range(6))
def test_a_table_has_the_columns_of_all_files_whichever_row_is_drawn_first(seed: int, tmp_path: Path) -> None:
    file_of(tmp_path, "a.jsonl", 3)
    file_of(tmp_path, "b.jsonl", 3, id="x")
    found = mix(tmp_path, "a.jsonl", "b.jsonl", name="mix.csv", seed=seed)
    assert found.path.read_text().splitlines()[0] == "input,output,id"
    assert found.rows == 6


def test_what_drop_names_and_no_row_has_is_said(tmp_path: Path) -> None:
    """No error: one of the files may have it another time."""
    file_of(tmp_path, "a.jsonl", 3)
    found = mix(tmp_path, "a.jsonl", drop=("wieght",))
    assert (found.unused, found.lines()[-1]) == (("wieght",), "Nothing to drop: no row has a column wieght.")


def test_only_drawn_rows_must_fit_the_shape_and_only_they_count_as_dropped(tmp_path: Path) -> None:
    path = file_of(tmp_path, "mine.jsonl", 50, weight=1)
    found = mix(tmp_path, "mine.jsonl=10", to="prompt-completion", drop=("weight",))
    assert (found.rows, found.dropped) == (10, {"weight": 10})
    path.write_text(path.read_text() + '{"input": "a"}\n')
    with pytest.raises(DataError, match="row 51: found the keys input"):
        mix(tmp_path, "mine.jsonl", name="all.jsonl")
    assert not (tmp_path / "all.jsonl").exists()


def test_a_file_that_became_shorter_between_counting_and_drawing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_of(tmp_path, "mine.jsonl", 5)
    monkeypatch.setattr("lastresort.app.data_mix.count_rows", lambda path: 6)
    with pytest.raises(DataError, match=r"mine\.jsonl: the file changed while it was read"):
        mix(tmp_path, "mine.jsonl")
    assert not (tmp_path / "mix.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "portion"),
    [
        ("a.csv", AllOf()),
        ("a.csv=0.25", ShareOf(0.25)),
        ("a=b.csv=25%", ShareOf(0.25)),
        ("a.csv=7", RowsOf(7)),
        ("x=y.csv", AllOf()),
    ],
)
def test_a_portion_is_read_behind_the_last_sign(text: str, portion: Portion) -> None:
    assert source_of(text).portion == portion
    assert str(source_of(text).path) == (text if portion == AllOf() else text.rpartition("=")[0])


@pytest.mark.parametrize("text", ["a.csv=0", "a.csv=1.5", "a.csv=-1", "a.csv=nan", "a.csv=100%", "a.csv=1,000"])
def test_another_number_behind_the_sign_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected a share above 0 and below 1, or above 0% and below 100%, or"):
        source_of(text)


def test_a_further_column_is_refused_only_where_a_row_that_is_drawn_does_not_fit(tmp_path: Path) -> None:
    rows = [{"input": "a", "output": "b", "tags": ["x"]}, *({"input": f"{n}", "output": "c"} for n in range(99))]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = 0
    for seed in range(6):
        with suppress(DataError):
            written += mix(tmp_path, "a.jsonl", name=f"{seed}.csv", rows=10, seed=seed).rows == 10
    assert written >= 4
    with pytest.raises(DataError, match=r'a\.jsonl, row 1, key "tags": found a list'):
        mix(tmp_path, "a.jsonl", name="all.csv")


def test_a_table_that_the_shape_does_not_fit_is_refused_by_its_own_name(tmp_path: Path) -> None:
    file_of(tmp_path, "a.jsonl", 2)
    with pytest.raises(
        DataError, match=r'^\S+mix\.csv: found a list of 2 in column "messages" of rows in the shape messages'
    ):
        mix(tmp_path, "a.jsonl", name="mix.csv", to="messages")
    assert not (tmp_path / "mix.csv").exists()
