"""`lastresort data pairs`: pairs of train rows alone, by the task's scorer, and what became of everything else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from climb_support import TEAMS, calls, scripted_task
from endpoint_support import Handler, completion, serving
from lastresort.app.data_pairs import PairsRequest, forecast_pairs, pair_samples
from lastresort.climb.prepare import prepare
from lastresort.climb.room import max_new_tokens
from lastresort.climb.workload import machine_of
from lastresort.climb.workspace import RESPONSES, SHARED
from lastresort.data.check import check_preferences
from lastresort.data.preferences import read_preferences
from lastresort.data.split import Split
from lastresort.errors import (
    BudgetError,
    CandidateError,
    DataError,
    InfrastructureError,
    InputError,
    StopRequestedError,
    TooLongError,
)
from lastresort.knowledge.chunks import Chunk
from lastresort.models.cached import CachedModel
from lastresort.models.open import absolute_name
from lastresort.models.protocol import Prompt, SharedTokens
from lastresort.models.scripted import ScriptedModel
from lastresort.records.atomic import held
from lastresort.records.events.run import FilesRead, TaskRead
from lastresort.records.events.training import PromptCounts, RankedAnswer, RankedPair, SamplesPaired
from lastresort.records.record import Record
from lastresort.records.responses import ResponseCache
from lastresort.report.words.data_files import PairedFile, SampledAnswers
from lastresort.rungs.forecast import answering
from lastresort.rungs.open_models import OpenModels
from lastresort.rungs.preference.samples import own_pairs
from lastresort.rungs.prompting.prompts import instruction, prompting_decoding
from lastresort.rungs.rung import Workbench
from lastresort.spec.task import load_task
from lastresort.stop import NEVER, Stop, StopSignal
from lastresort.synthesis.pairs import samples_of
from lastresort.systems.answerer import Answerer
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Answer, Decoding, Example, Message, SilentProgress
from tuning_support import Cut, CutAt, tiny_task


@pytest.fixture
def routing(tmp_path: Path) -> Path:
    return scripted_task(tmp_path / "task", quality=[{"right": 1.0}])


def split_of(task: Path) -> Split:
    return prepare(load_task(task), begins=False).split


def wrong(example: Example, number: int = 1) -> str:
    return TEAMS[(TEAMS.index(example.output) + number) % 3]


def pairs(task: Path, rows: list[dict[str, Any]], **options: Any) -> PairedFile:
    path = task.parent / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pair_samples(PairsRequest(task, path, **options), SilentProgress())


def written(found: PairedFile) -> list[tuple[str, str, str]]:
    rows = [json.loads(line) for line in found.path.read_text().splitlines()]
    return [(row["prompt"], row["chosen"], row["rejected"]) for row in rows]


def test_each_train_row_gives_its_best_sample_against_its_worst(routing: Path) -> None:
    right, mixed, hopeless, even = split_of(routing).train[:4]
    rows = [
        {"input": right.input_text, "samples": [right.output] * 3},
        {"input": mixed.input_text, "samples": [wrong(mixed), mixed.output, wrong(mixed), wrong(mixed, 2)]},
        {"input": hopeless.input_text, "samples": [wrong(hopeless), wrong(hopeless, 2)]},
        {"prompt": "a case of nobody", "samples": ["a", "b"]},
        {"id": even.id, "samples": [wrong(even), even.output]},
    ]
    found = pairs(routing, rows)
    assert written(found) == [
        (mixed.input_text, mixed.output, wrong(mixed)),
        (mixed.input_text, mixed.output, wrong(mixed, 2)),
        (even.input_text, even.output, wrong(even)),
    ]
    assert (found.pairs, found.prompts) == (3, 2)
    left = found.left_out
    assert (left.unknown, left.all_right, left.all_wrong) == (2, 1, 1)
    assert found.lines()[-2:] == [
        "No pair: 2 samples for prompts that train does not have, 1 prompt whose samples are all right and "
        "1 prompt whose samples are all wrong.",
        "To train on them, write in task.yaml: preferences: routing-pairs.jsonl",
    ]
    assert len(read_preferences(found.path)) == 3
    routing.write_text(routing.read_text() + "preferences: routing-pairs.jsonl\n")
    load_task(routing)


def test_pairs_in_another_folder_are_named_as_the_task_finds_them(routing: Path) -> None:
    row = split_of(routing).train[0]
    found = pairs(
        routing,
        [{"input": row.input_text, "samples": [row.output, wrong(row)]}],
        out=routing.parent.parent / "my pairs.jsonl",
    )
    (line,) = found.lines()[-1:]
    routing.write_text(routing.read_text() + line.partition(": ")[2] + "\n")
    load_task(routing)


def test_no_sample_of_a_held_out_item_or_of_a_near_copy_makes_a_pair(routing: Path) -> None:
    split = split_of(routing)
    rows = [{"input": split.train[0].input_text, "samples": [split.train[0].output, wrong(split.train[0])]}]
    for item in (*split.dev, *split.test):
        rows += [{"input": item.input_text, "samples": [item.output, wrong(item)]}]
        rows += [{"input": f"Please, {item.input_text}!", "samples": [item.output, wrong(item)]}]
        rows += [{"id": item.id, "samples": [item.output, wrong(item)]}]
    found = pairs(routing, rows)
    assert (found.pairs, found.left_out.held_out, found.left_out.unknown) == (1, 6 * 180, 0)
    held = {item.input_text for item in (*split.dev, *split.test)}
    assert not held & {prompt for prompt, _, _ in written(found)}


def test_an_id_that_a_train_row_and_a_held_out_item_share_means_neither(tmp_path: Path) -> None:
    task = scripted_task(tmp_path / "task", quality=[{"right": 1.0}])
    lines = [json.loads(line) for line in (task.parent / "rows.jsonl").read_text().splitlines()]
    parts = {"train": lines[:80], "dev": lines[80:140], "test": lines[140:]}
    for name, part in parts.items():
        parts[name] = [{**row, "id": f"{name}-{n}" if n else "first"} for n, row in enumerate(part)]
    with_rows(task, **parts)
    samples = [TEAMS[0], TEAMS[1], TEAMS[2]]
    found = pairs(task, [{"id": "first", "samples": samples}, {"id": "train-1", "samples": samples}])
    assert {prompt for prompt, _, _ in written(found)} == {lines[1]["input"]}
    assert found.left_out.held_out == 3


def test_a_system_prompt_of_the_samples_does_not_hide_a_row(routing: Path) -> None:
    row = split_of(routing).train[0]
    turns = [{"role": "system", "content": "Route the case."}, {"role": "user", "content": row.input_text}]
    rows = [
        {"prompt": turns, "completion": [{"role": "assistant", "content": text}], "finish": finish}
        for text, finish in ((row.output, "length"), (wrong(row), "stop"), (f"{row.output} ", "stop"))
    ]
    assert written(pairs(routing, rows)) == [(row.input_text, f"{row.output} ", wrong(row))], (
        "a cut answer is never chosen"
    )


def test_the_rows_own_answer_is_chosen_only_where_no_sample_is_right(routing: Path) -> None:
    hopeless, mixed = split_of(routing).train[:2]
    rows = [
        {"input": hopeless.input_text, "samples": [wrong(hopeless)]},
        {"input": mixed.input_text, "samples": [wrong(mixed), f"{mixed.output}."]},
    ]
    assert written(pairs(routing, rows, own_answers=True)) == [
        (hopeless.input_text, hopeless.output, wrong(hopeless)),
        (mixed.input_text, f"{mixed.output}.", wrong(mixed)),
    ]


def graded(folder: Path) -> tuple[Path, Example]:
    task = scripted_task(folder / "task", quality=[{"right": 1.0}], task={"score": "token_f1", "output": {}})
    return task, split_of(task).train[0]


def test_ties_small_margins_and_nearly_the_same_answers_make_no_pair(tmp_path: Path) -> None:
    task, row = graded(tmp_path)
    one, two = split_of(task).train[1:3]
    rows = [
        {"input": row.input_text, "samples": [f"{row.output} of the town", f"{row.output} of a town, said the clerk"]},
        {"input": one.input_text, "samples": [f"{one.output} x", f"x {one.output}"]},
        {"input": two.input_text, "samples": [f"{two.output} desk at the harbour", f"{two.output} desk at the harbor"]},
    ]
    everything = pairs(task, [*rows, {"input": two.input_text, "samples": ["nothing"]}], out=tmp_path / "a.jsonl")
    assert everything.left_out.ties == 1
    assert everything.pairs == 2
    assert pairs(task, rows[:1], out=tmp_path / "b.jsonl").pairs == 1
    with pytest.raises(DataError, match=r"no pair is left .1 prompt whose scores differ by less than the margin"):
        pairs(task, rows[:1], margin=0.5)
    near = f"{two.output} answered by the harbour office"
    with pytest.raises(DataError, match="1 pair of nearly the same answers"):
        pairs(task, [{"input": two.input_text, "samples": [near, near.replace("harbour", "harbuor") + " please"]}])


def test_at_most_so_many_pairs_of_a_prompt_and_the_length_of_the_answers_is_said(tmp_path: Path) -> None:
    task, row = graded(tmp_path)
    samples = [row.output, *(f"{word} {word} {word}" for word in ("lorem", "ipsum", "dolor", "amet"))]
    found = pairs(task, [{"input": row.input_text, "samples": samples}], most=2)
    assert (found.pairs, found.left_out.beyond, found.longer) == (2, 2, 0.0)
    assert found.lines()[2].startswith(
        "warning: the better answer is the shorter one in 100% of comparisons, so a model may learn"
    )
    assert found.rejected_characters == 17


def noted(example: Example, score: float = 1.0, *, whole: bool = True) -> RankedPair:
    return RankedPair(
        example=example.id,
        chosen=RankedAnswer(text=example.output, score=score, whole=True),
        rejected=RankedAnswer(text=wrong(example), score=0.0, whole=whole),
    )


def run_of(task: Path, folder: Path, *pairs: RankedPair) -> Path:
    """The record of a climb that sampled these pairs."""
    record = Record.create(folder)
    prepared = prepare(load_task(task), begins=False)
    record.append(TaskRead(task=prepared.task.resolved()))
    record.append(FilesRead(files=prepared.files))
    counts = PromptCounts(9, 3, 3, 5, 1, 0, 0, conflicting=2)
    if pairs:
        record.append(
            SamplesPaired(rung="preference", pairs=pairs, counts=counts, tokens_in=0, tokens_out=0, seconds=0.0)
        )
    record.close()
    return folder


def test_the_pairs_of_a_run_are_those_that_it_noted_without_answers_that_were_cut(
    routing: Path, tmp_path: Path
) -> None:
    first, second, third = split_of(routing).train[:3]
    run = run_of(routing, tmp_path / "run", noted(first), noted(second, 0.2), noted(third, whole=False))
    found = pair_samples(PairsRequest(routing, run=run, margin=0.5), SilentProgress())
    assert written(found) == [(first.input_text, first.output, wrong(first))]
    left = found.left_out
    assert (left.cut, left.within, left.all_right, left.all_wrong, left.conflicting) == (1, 1, 5, 1, 2)
    routing.write_text(routing.read_text() + "preferences: routing-pairs.jsonl\n")
    again = pair_samples(PairsRequest(routing, run=run, out=tmp_path / "again.jsonl"), SilentProgress())
    assert again.pairs == 2, "what was added does not change the rows"
    with pytest.raises(InputError, match="this run made no pairs of its own samples"):
        pair_samples(
            PairsRequest(routing, run=run_of(routing, tmp_path / "other"), out=tmp_path / "c.jsonl"), SilentProgress()
        )


@pytest.mark.parametrize("change", ["rows", "split", "score"])
def test_the_run_of_another_task_makes_no_pairs(change: str, routing: Path, tmp_path: Path) -> None:
    """Its ids may be those of other rows."""
    run = run_of(routing, tmp_path / "run", noted(split_of(routing).train[0]))
    rows, text = routing.parent / "rows.jsonl", routing.read_text()
    if change == "rows":
        rows.write_text(rows.read_text().replace(TEAMS[0], "?").replace(TEAMS[1], TEAMS[0]).replace("?", TEAMS[1]))
    elif change == "split":
        routing.write_text(text.replace("dev: 60", "dev: 59"))
    else:
        routing.write_text(text.replace("score: choice", "score: exact"))
    said = {"rows": "rows.jsonl", "split": "split", "score": "score"}[change]
    with pytest.raises(InputError, match=f"found the run of a task that differs in {said}"):
        pair_samples(PairsRequest(routing, run=run), SilentProgress())


def with_rows(task: Path, **parts: list[dict[str, Any]]) -> Path:
    """The task with a file for train, dev and test each."""
    lines = [json.loads(line) for line in (task.parent / "rows.jsonl").read_text().splitlines()]
    parts = {"train": lines[:80], "dev": lines[80:140], "test": lines[140:]} | parts
    for name, part in parts.items():
        (task.parent / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    named = "examples: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl}"
    text = task.read_text().replace("examples: rows.jsonl", named).replace("split:\n  dev: 60\n  test: 120\n", "")
    task.write_text(text)
    return task


def talk(system: str, question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


def test_samples_go_to_the_row_whose_whole_prompt_they_have(routing: Path) -> None:
    lines = [json.loads(line) for line in (routing.parent / "rows.jsonl").read_text().splitlines()]
    one, two = "Route for the city, in the north, by lorry.", "Answer as the lighthouse keeper would, at night."
    first, third, fourth = (lines[n]["input"] for n in (0, 2, 3))
    train = [
        {"input": talk(one, first), "output": TEAMS[0]},
        {"input": "Parcel at berth 5 is late", "output": TEAMS[0]},
        {"input": "PARCEL AT BERTH 5 IS LATE", "output": TEAMS[1]},
        {"input": talk(one, third), "output": TEAMS[0]},
        {"input": talk(two, third), "output": TEAMS[1]},
        {"input": fourth, "output": TEAMS[2]},
        *lines[5:80],
    ]
    test = [{"input": talk(two, first), "output": TEAMS[1]}, *lines[140:]]
    task = with_rows(routing, train=train, test=test)
    samples = TEAMS[:2]
    found = pairs(
        task,
        [
            {"prompt": talk(two, first), "samples": samples},  # of test
            {"prompt": first, "samples": samples},  # of train or of test
            {"prompt": talk(one, first), "samples": samples},
            {"prompt": "PARCEL AT BERTH 5 IS LATE", "samples": samples},
            {"prompt": "parcel at berth 5 is late.", "samples": samples},  # of one of two rows
            {"prompt": third, "samples": samples},  # the same
            {"prompt": talk("Anything.", fourth), "samples": [TEAMS[2], TEAMS[1]]},
        ],
    )
    rows = [json.loads(line) for line in found.path.read_text().splitlines()]
    assert [(row["prompt"][-1]["content"], row["chosen"][0]["content"]) for row in rows] == [
        (first, TEAMS[0]),
        ("PARCEL AT BERTH 5 IS LATE", TEAMS[1]),
        (fourth, TEAMS[2]),
    ]
    assert rows[0]["prompt"][0]["content"] == one
    left = found.left_out
    assert (left.held_out, left.ambiguous, left.unknown) == (4, 4, 0)


def test_blank_samples_are_counted_and_make_no_pair(routing: Path) -> None:
    row, other = split_of(routing).train[:2]
    found = pairs(
        routing,
        [
            {"input": row.input_text, "samples": [" ", "", row.output, wrong(row)]},
            {"input": other.input_text, "samples": [" ", other.output]},
        ],
    )
    assert written(found) == [(row.input_text, row.output, wrong(row))]
    assert (found.left_out.blank, found.left_out.all_right) == (3, 1)
    assert len(read_preferences(found.path)) == 1


def test_a_cut_answer_is_neither_chosen_nor_rejected(routing: Path) -> None:
    row, other = split_of(routing).train[:2]
    rows = [
        {"input": item.input_text, "output": text, "finish": finish}
        for item, text, finish in (
            (row, row.output, "stop"),
            (row, wrong(row), "length"),
            (other, other.output, "stop"),
            (other, wrong(other), "stop"),
        )
    ]
    found = pairs(routing, rows)
    assert written(found) == [(other.input_text, other.output, wrong(other))]
    assert found.left_out.cut == 1


def test_the_most_is_counted_after_near_copies_are_gone(tmp_path: Path) -> None:
    task, row = graded(tmp_path)
    words = ("lorem", "ipsum", "dolor", "amet", "magna", "aliqua")
    samples = [row.output, *(f"{word} {word} {word}" for word in words)]
    found = pairs(task, [{"input": row.input_text, "samples": samples}])
    assert (found.pairs, found.left_out.beyond) == (4, 2)


def test_samples_of_an_alpaca_task_are_found_by_instruction_and_input(routing: Path) -> None:
    lines = [json.loads(line) for line in (routing.parent / "rows.jsonl").read_text().splitlines()]
    train = [{"instruction": "Route it.", "input": row["input"], "output": row["output"]} for row in lines[:80]]
    task = with_rows(routing, train=train)
    asked = {"instruction": "Route it.", "input": lines[3]["input"]}
    assert pairs(task, [{**asked, "samples": TEAMS}]).prompts == 1


def test_options_and_samples_that_cannot_be_used_are_refused(routing: Path, tmp_path: Path) -> None:
    row = split_of(routing).train[0]
    for options, said in (
        ({}, "found no samples"),
        ({"samples": tmp_path, "run": tmp_path}, "found --samples and --from"),
        ({"samples": tmp_path, "margin": float("nan")}, "found nan"),
        ({"samples": tmp_path, "most": 5}, "expected 1 to 4"),
    ):
        with pytest.raises(InputError, match=said):
            pair_samples(PairsRequest(routing, **options), SilentProgress())
    for bad, said in (
        ({"samples": ["a"]}, "found samples without a prompt"),
        ({"input": "a", "samples": "b"}, 'key "samples": found text, expected a list of texts'),
        (
            {"input": "a", "samples": ["b"], "finish": "length"},
            'key "finish": found how one answer ended beside a list',
        ),
        ({"input": row.input_text, "id": split_of(routing).test[0].id, "samples": ["a"]}, "with the id of another"),
        (
            {
                "prompt": [{"role": "user", "content": row.input_text}],
                "completion": [
                    {"role": "assistant", "content": "a"},
                    {"role": "tool", "content": "b"},
                    {"role": "assistant", "content": "c"},
                ],
            },
            "found an answer of 3 turns",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "found preference pairs, expected one sample a row"),
    ):
        with pytest.raises(DataError, match=said):
            pairs(routing, [{"input": row.input_text, "samples": ["a"]}, bad])
    assert not (routing.parent / "routing-pairs.jsonl").exists()
    judged = scripted_task(
        tmp_path / "judged", quality=[{"right": 1.0}], task={"score": {"judge": "scripted:script.json"}, "output": {}}
    )
    with pytest.raises(InputError, match="found a task scored by a judge"):
        pairs(judged, [{"input": row.input_text, "samples": ["a"]}])


def half_right(folder: Path, **script: Any) -> Path:
    """The task's model gives the answer of a row in one half of its samples."""
    return scripted_task(folder / "task", quality=[{"right": 0.5}], script={"wrong": list(TEAMS), **script})


def sampling(task: Path, **options: Any) -> PairsRequest:
    runs = task.parent / "runs"
    return PairsRequest(task, **{"model": "scripted:script.json", "n": 4, "rows": 20, "runs": runs, **options})


def test_a_model_is_sampled_for_rows_of_train_and_its_best_answers_are_paired_with_its_worst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the same answers, and the second time none is asked for."""
    prompts, generate = list[str](), ScriptedModel.generate

    def spied(self: ScriptedModel, given: Sequence[Prompt], *rest: Any) -> Any:
        prompts.extend(prompt[-1].content for prompt in given)
        return generate(self, given, *rest)

    monkeypatch.setattr(ScriptedModel, "generate", spied)
    task = half_right(tmp_path)
    split = split_of(task)
    found = pair_samples(sampling(task), SilentProgress())
    asked = calls(task.parent)
    drawn = Random(0).sample(split.train, len(split.train))[:20]
    assert Counter(prompts) == {example.input_text: 4 for example in drawn}
    assert not {*prompts} & {example.input_text for example in (*split.dev, *split.test)}
    assert len(asked) == 20 * 4
    train = {example.input_text: example.output for example in split.train}
    made = written(found)
    assert 0 < found.prompts <= 20
    assert all(train[prompt] == chosen != rejected for prompt, chosen, rejected in made)
    assert found.sampled == SampledAnswers("scripted:script.json", 20, 4, 0.0)
    assert found.lines()[0] == "scripted:script.json gave 4 answers to each of 20 training rows."
    left = found.left_out
    assert found.prompts + left.all_right + left.all_wrong == 20
    again = pair_samples(sampling(task, out=tmp_path / "again.jsonl"), SilentProgress())
    assert written(again) == made
    assert len(calls(task.parent)) == len(asked)
    more = pair_samples(sampling(task, rows=None, out=tmp_path / "more.jsonl"), SilentProgress())
    assert {one[0] for one in made} < {one[0] for one in written(more)}  # fewer rows are the first of all
    assert len(calls(task.parent)) == 4 * len(split.train)


def test_sampling_that_is_cut_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    whole = written(pair_samples(sampling(half_right(tmp_path / "whole")), SilentProgress()))
    task = half_right(tmp_path)
    with pytest.raises(Cut):
        pair_samples(sampling(task), CutAt("sampling answers", 5))
    before = len(calls(task.parent))
    assert 0 < before < 20 * 4
    assert written(pair_samples(sampling(task), SilentProgress())) == whole
    assert len(calls(task.parent)) == 20 * 4


def test_a_stop_pays_for_no_answer_twice(tmp_path: Path) -> None:
    """What an endpoint is asked for comes to its end, since only what a call returns is kept."""
    task, signal = half_right(tmp_path), StopSignal()

    def stopping_at_the_third(handler: Handler, request: dict[str, Any]) -> None:
        if len(server.requests) >= 3:
            signal.request()
        usage = {"prompt_tokens": 7, "completion_tokens": 2}
        handler.send(200, {**completion(TEAMS[len(server.requests) % 3], usage=usage), "model": request["model"]})

    with serving() as server:
        server.otherwise = stopping_at_the_third
        asked = sampling(task, model=server.name, prompt_price=1.0, output_price=1.0)
        with pytest.raises(StopRequestedError):
            pair_samples(asked, SilentProgress(), signal)
        before = len(server.requests)
        found = pair_samples(asked, SilentProgress())
        assert 3 <= before < len(server.requests) == 20 * 4
    assert found.sampled is not None
    assert found.sampled.rows == 20


def test_nothing_is_left_of_what_wrote_no_pairs(tmp_path: Path) -> None:
    task = half_right(tmp_path)
    before = {*task.parent.iterdir()}
    elsewhere = tmp_path / "typo" / "x" / "pairs.jsonl"
    for out in (None, elsewhere):
        declined = sampling(task, model="http://127.0.0.1:9/v1#m", out=out)
        with pytest.raises(StopRequestedError):
            pair_samples(declined, SilentProgress(), go_on=lambda question, stop: False)
    with pytest.raises(DataError, match="no pair is left"):
        pair_samples(sampling(half_right(tmp_path / "blank", wrong=[" "])), SilentProgress())
    assert {path.name for path in task.parent.iterdir()} - {path.name for path in before} == {"runs"}
    assert not (tmp_path / "typo").exists()
    assert not (tmp_path / "blank" / "task" / ".routing-pairs.jsonl").exists()
    with pytest.raises(InfrastructureError, match="File name too long"):
        pair_samples(sampling(task, out=tmp_path / f"{'a' * 249}.jsonl"), SilentProgress())
    (task.parent / ".routing-pairs.jsonl").touch()
    with pytest.raises(InputError, match=r"--out .*: found a file at \S+/\.routing-pairs\.jsonl, expected"):
        pair_samples(sampling(task), SilentProgress())


@pytest.mark.parametrize(("of_prose", "warns"), [(9, True), (8, False)])
def test_pairs_that_reject_nearly_always_by_the_form_come_with_a_warning(
    routing: Path, of_prose: int, *, warns: bool
) -> None:
    """Of ten pairs, each of another row: a label against prose, else against another label."""
    rows = [
        {
            "input": row.input_text,
            "samples": [row.output, "Let me think about it." if number < of_prose else wrong(row)],
        }
        for number, row in enumerate(split_of(routing).train[:10])
    ]
    found = pairs(routing, rows)
    assert (found.pairs, found.by_form) == (10, of_prose)
    warning = (
        "warning: in 9 of 10 pairs the rejected answer lacks the form that the task asks for, so these pairs teach the form and "
        "little else: train SFT on the rows first, and sample that model"
    )
    assert (warning in found.lines()) is warns
    assert warns or "lacks the form" not in " ".join(found.lines())


def test_a_limit_of_money_stops_before_it_is_passed_and_counts_all_sessions(tmp_path: Path) -> None:
    """A prompt and its answer cost under a cent; nothing is written until the samples are complete."""
    task = half_right(tmp_path)
    priced = {"prompt_price": 100.0, "output_price": 100.0}
    whole = pair_samples(sampling(task, **priced, runs=tmp_path / "other"), SilentProgress())
    assert whole.sampled is not None
    assert whole.sampled.usd
    expected = written(whole)
    whole.path.unlink()
    half = whole.sampled.usd / 2
    with pytest.raises(
        BudgetError, match=r"--usd: .*Raise it, or give --rows \d+ to pair what there is. Give the"
    ) as error:
        pair_samples(sampling(task, usd=half, **priced), SilentProgress())
    assert not whole.path.exists()
    done = int(str(error.value).partition("--rows ")[2].partition(" ")[0])
    assert 0 < done < 20
    fewer = pair_samples(sampling(task, usd=half, rows=done, out=tmp_path / "few.jsonl", **priced), SilentProgress())
    assert fewer.sampled is not None
    assert fewer.sampled.usd is not None
    assert 0 < fewer.sampled.usd <= half
    with pytest.raises(BudgetError):
        pair_samples(sampling(task, usd=half, **priced), SilentProgress())
    found = pair_samples(sampling(task, usd=2 * whole.sampled.usd, **priced), SilentProgress())
    assert written(found) == expected
    assert found.sampled is not None
    assert found.sampled.usd == pytest.approx(whole.sampled.usd)


def test_paid_calls_are_asked_about_first(tmp_path: Path) -> None:
    task, asked = half_right(tmp_path), list[str]()

    def no(question: str, stop: Stop) -> bool:
        asked.append(question)
        return False

    elsewhere = sampling(task, model="http://127.0.0.1:9/v1#m")
    with pytest.raises(StopRequestedError, match="nobody agreed to the paid calls"):
        pair_samples(elsewhere, SilentProgress(), go_on=no)
    with pytest.raises(StopRequestedError):
        pair_samples(replace(elsewhere, prompt_price=20.0, output_price=20.0), SilentProgress(), go_on=no)
    first, second = asked
    assert first == ("This samples 80 answers of http://127.0.0.1:9/v1#m to 20 rows, at an unknown price. Start it?")
    assert second.endswith(" rows, for about $0.08 if each answer has the maximum length. Start it?")
    with pytest.raises(InputError, match="a limit of 1 USD without the prices of"):
        pair_samples(replace(elsewhere, usd=1.0), SilentProgress(), go_on=no)


def test_a_dry_run_says_what_would_be_asked_for_and_what_is_kept_and_asks_nothing(tmp_path: Path) -> None:
    task, priced = half_right(tmp_path), {"prompt_price": 100.0, "output_price": 100.0}
    new = forecast_pairs(sampling(task, **priced), SilentProgress())
    assert (new.model, new.rows, new.n, new.asked, new.kept) == ("scripted:script.json", 20, 4, 80, 0)
    assert new.tokens_in > new.tokens_out > 0
    assert new.usd == pytest.approx((new.tokens_in + new.tokens_out) / 1e4)
    assert not calls(task.parent)
    assert not (task.parent / "runs").exists()
    pair_samples(sampling(task, rows=15), SilentProgress()).path.unlink()
    before = len(calls(task.parent))
    some = forecast_pairs(sampling(task, **priced), SilentProgress())
    assert (some.asked, some.kept) == (20, 60)
    assert 0 < some.tokens_in < new.tokens_in
    assert some.lines() == [
        "Forecast: 80 answers of scripted:script.json, 4 to each of 20 training rows; kept: 60, to sample: 20.",
        f"To sample: about {some.tokens_in} tokens of prompts and at most 320 of answers without thinking, for about $0.10 if "
        "each answer has the maximum length.",
    ]
    limited = forecast_pairs(sampling(task, **priced, usd=0.0001), SilentProgress())
    assert limited.lines() == [
        *some.lines(),
        "The limit of 0.0001 USD may end it before that: raise it, or give fewer --rows or --n.",
    ]
    assert forecast_pairs(sampling(task, **priced, usd=1.0), SilentProgress()).lines() == some.lines()
    (line,) = forecast_pairs(sampling(task, rows=15), SilentProgress()).lines()
    assert (
        line
        == "Forecast: no call, since all are kept: 60 answers of scripted:script.json, 4 to each of 15 training rows."
    )
    unknown = forecast_pairs(sampling(task, model="http://127.0.0.1:9/v1#m"), SilentProgress())
    assert unknown.usd is None
    assert unknown.lines()[1].endswith(", at an unknown price.")
    assert len(calls(task.parent)) == before
    assert [path.name for path in task.parent.iterdir() if "pairs" in path.name] == []


def test_a_dry_run_counts_answers_as_long_as_they_may_be_and_times_a_local_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong answers of 400 words, which the limit cuts, cost what was forecast."""
    script = half_right(tmp_path, wrong=[f"{'word ' * 400}{team}" for team in TEAMS])
    priced = {"prompt_price": 0.0, "output_price": 100.0}
    told = forecast_pairs(sampling(script, **priced), SilentProgress())
    assert told.tokens_out == 80 * 16
    assert (told.usd, told.seconds) == (pytest.approx(80 * 16 * 1e-4), None)
    task = tiny_task(tmp_path / "tiny")
    n_prompts: list[int] = []
    shared_tokens = CachedModel.shared_tokens

    def shared(model: CachedModel, prompts: Sequence[Prompt]) -> SharedTokens:
        n_prompts.append(len(prompts))
        return shared_tokens(model, prompts)

    monkeypatch.setattr(CachedModel, "shared_tokens", shared)
    shown = forecast_pairs(sampling(task, model="model", rows=4), SilentProgress())
    assert n_prompts == [4], "each prompt once, not once for each of its samples"
    assert (shown.asked, shown.tokens_out, shown.usd) == (16, 16 * 6, 0.0)
    machine = machine_of(load_task(task), "model", (0.0, 0.0))
    known = answering("", machine, 16, shown.tokens_in / 16, 0, 6).seconds
    assert known is not None
    assert 0.5 * known < (shown.seconds or 0.0) < known, "less what the prompts begin with alike"
    assert " on this machine if each answer has the maximum length." in shown.lines()[-1]


@pytest.mark.parametrize(("words", "limit"), [(0, 0.6), (30, 0.45)])
def test_a_dry_run_after_the_limit_has_ended_it_says_that_the_limit_ends_it_again(
    tmp_path: Path, words: int, limit: float
) -> None:
    """What is missing alone stays below it. words: by which wrong answers are longer than the rows' outputs."""
    task = half_right(tmp_path, wrong=[f"{'word ' * words}{team}" for team in TEAMS])
    priced = {"prompt_price": 1.0, "output_price": 100.0} if words else {"prompt_price": 100.0, "output_price": 100.0}
    whole = forecast_pairs(sampling(task, **priced), SilentProgress())
    assert whole.usd is not None
    assert whole.needed_usd is not None
    assert whole.needed_usd == pytest.approx(whole.usd)
    limited = sampling(task, **priced, usd=round(limit * whole.usd, 4))
    with pytest.raises(BudgetError):
        pair_samples(limited, SilentProgress())
    again = forecast_pairs(limited, SilentProgress())
    assert again.kept > 0
    assert again.usd is not None
    assert again.limit_usd is not None
    assert again.usd < again.limit_usd
    assert again.needed_usd is not None
    assert again.needed_usd > again.limit_usd
    ends = f"The limit of {again.limit_usd:g} USD may end it before that: raise it, or give fewer --rows or --n."
    assert again.lines()[-1] == ends
    asked = len(calls(task.parent))
    with pytest.raises(BudgetError):
        pair_samples(limited, SilentProgress())
    assert len(calls(task.parent)) == asked


def test_two_commands_do_not_ask_for_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them would write nothing, after all its calls."""
    task = half_right(tmp_path)
    folder = task.parent / ".routing-pairs.jsonl"
    folder.mkdir()
    with (
        held(folder, "", expected="", remedy=""),
        pytest.raises(InputError, match="another process is making these pairs, expected one process a file"),
    ):
        pair_samples(sampling(task), SilentProgress())
    assert not calls(task.parent)
    found = pair_samples(sampling(task), SilentProgress())
    assert found.path.name == "routing-pairs.jsonl"
    assert not folder.exists()
    (folder / "journal.jsonl").parent.mkdir()
    (folder / "journal.jsonl").touch()  # of synthetic rows that once had this name
    found.path.unlink()
    pair_samples(sampling(task), SilentProgress())
    assert [path.name for path in folder.iterdir()] == ["journal.jsonl"]


def test_answers_that_are_kept_cost_what_their_price_is_now_and_are_no_reason_to_stop(tmp_path: Path) -> None:
    """First sampled without a price. Then a limit just above what they cost stops nothing, and one below stops what is new."""
    task, priced = half_right(tmp_path), {"prompt_price": 100.0, "output_price": 100.0}
    pair_samples(sampling(task), SilentProgress())
    before = len(calls(task.parent))
    known = pair_samples(sampling(task, out=tmp_path / "a.jsonl", **priced), SilentProgress()).sampled
    assert known is not None
    assert known.usd
    limit = 1.001 * known.usd
    again = pair_samples(sampling(task, out=tmp_path / "b.jsonl", usd=limit, **priced), SilentProgress())
    assert again.sampled == known
    assert len(calls(task.parent)) == before
    with pytest.raises(BudgetError):
        pair_samples(sampling(task, out=tmp_path / "c.jsonl", rows=25, usd=limit, **priced), SilentProgress())
    assert len(calls(task.parent)) == before


def ambiguous(folder: Path) -> set[str]:
    """Makes train of 20 rows, 5 of them again with another output and 3 again as they are. Returns the 5 prompts."""
    task = folder / "task" / "task.yaml"
    lines = [json.loads(line) for line in (task.parent / "rows.jsonl").read_text().splitlines()]
    other = [{**row, "output": TEAMS[(TEAMS.index(row["output"]) + 1) % 3]} for row in lines[:5]]
    with_rows(task, train=[*lines[:20], *other, *lines[5:8]])
    return {row["input"] for row in other}


def test_a_prompt_that_train_answers_in_several_ways_is_not_sampled_and_an_equal_row_once(tmp_path: Path) -> None:
    """Else one sample would be better and worse than another in the same file."""
    task, other = half_right(tmp_path), ambiguous(tmp_path)
    found = pair_samples(sampling(task, rows=None), SilentProgress())
    assert found.sampled is not None
    assert (found.sampled.rows, found.left_out.conflicting) == (15, 10)
    made = written(found)
    assert not {(prompt, worse, better) for prompt, better, worse in made} & {*made}
    assert not {prompt for prompt, _, _ in made} & other
    assert "10 rows whose prompt has another answer in train" in found.left_out.sentence


def test_the_rung_makes_no_pairs_of_such_prompts_either(tmp_path: Path) -> None:
    """It would train on pairs that contradict each other. Asked are the 15 other rows, 8 times each."""
    task_file = half_right(tmp_path)
    other = ambiguous(tmp_path)
    prepared, system = (
        prepare(load_task(task_file), begins=False),
        System("a", "scripted:script.json", PromptDesign(""), Decoding(8)),
    )
    task, train = prepared.task, prepared.split.train
    with ResponseCache(tmp_path / "kept.sqlite") as cache, Record.create(tmp_path / "run") as record:
        models = OpenModels(cache, base_folder=task.folder, base_name="a", tuned_name="a")
        bench = Workbench(task, train, (), prepared.scorer, record, tmp_path, models, SilentProgress(), 8, str)
        found = own_pairs(bench, "preference", system)
        noted_counts = record.last(SamplesPaired)
        again = own_pairs(bench, "preference", system)
    assert noted_counts is not None
    assert (noted_counts.counts.prompts, noted_counts.counts.conflicting) == (15, 10)
    assert len(calls(task_file.parent)) == 15 * task.preference.samples
    assert found.preferences
    assert not {preferred.prompt_text for preferred in found.preferences} & other
    assert check_preferences(found.preferences, 0, {}).opposed == 0
    assert found.summary.endswith("; left out: 10 rows whose prompt has another answer in train")
    assert again == found


def test_the_rung_and_the_command_draw_the_same_samples_of_the_same_system(tmp_path: Path) -> None:
    """Whichever comes second finds all of them in the cache."""
    task_file = half_right(tmp_path)
    prepared = prepare(load_task(task_file), begins=False)
    task, train = prepared.task, prepared.split.train
    model = absolute_name("scripted:script.json", task.folder)
    system = System("plain", model, PromptDesign(instruction(task)), Decoding(8))
    runs = task_file.parent / "runs"
    (runs / SHARED).mkdir(parents=True)
    with ResponseCache(runs / SHARED / RESPONSES) as cache, Record.create(tmp_path / "run") as record:
        models = OpenModels(cache, base_folder=task.folder, base_name="a", tuned_name="a")
        limit = max_new_tokens(prepared, models.open(system))
        system = replace(system, decoding=prompting_decoding(task, limit))
        bench = Workbench(task, train, (), prepared.scorer, record, tmp_path, models, SilentProgress(), 8, str)
        own_pairs(bench, "preference", system)
        noted_pairs = record.last(SamplesPaired)
    assert noted_pairs is not None
    before = len(calls(task_file.parent))
    assert before == task.preference.samples * len(train)
    found = pair_samples(sampling(task_file, n=task.preference.samples, rows=None), SilentProgress())
    assert len(calls(task_file.parent)) == before
    prompts = {example.id: example.input_text for example in train}
    pairs_of_rung = {(prompts[one.example], one.chosen.text, one.rejected.text) for one in noted_pairs.pairs}
    assert pairs_of_rung
    assert {*written(found)} == pairs_of_rung


PASSAGE = Chunk("a#1", "a", "a", (), "", 0, 5, "Here.")


def test_a_sample_keeps_what_a_system_looks_up_and_its_seed_is_its_number() -> None:
    class Noted:
        context_tokens, rendering, rendering_fingerprint, fingerprint, name = None, "", "", "", "noted"

        def __init__(self) -> None:
            self.decodings = list[Decoding]()

        def generate(self, prompts: Sequence[Prompt], decoding: Decoding, on_answer: Any = None) -> list[Answer]:
            self.decodings.append(decoding)
            return [Answer(prompt[-1].content, 1, 1, "stop") for prompt in prompts]

    model, row = Noted(), Example("a", (Message("user", "Where?"),), "here")
    answerer = Answerer(
        System("a", "m", PromptDesign(""), Decoding(8, seed=3)), cast(Any, model), lambda turns: (PASSAGE,)
    )
    found = list(samples_of(answerer, [row], 2, first=4, stop=NEVER))
    assert [answer.passages for (answer,) in found] == [(PASSAGE.id,)] * 2
    assert [(one.seed, one.temperature) for one in model.decodings] == [(8, 1.0), (9, 1.0)]


def test_a_row_that_the_model_finds_too_long_is_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint may say so only once it is asked."""
    task = half_right(tmp_path)
    long = Random(0).sample(split_of(task).train, 20)[7].input_text
    generate = ScriptedModel.generate

    def refusing(self: ScriptedModel, given: Sequence[Prompt], *rest: Any) -> Any:
        if any(prompt[-1].content == long for prompt in given):
            raise TooLongError("the prompt is too long")
        return generate(self, given, *rest)

    monkeypatch.setattr(ScriptedModel, "generate", refusing)
    found = pair_samples(sampling(task), SilentProgress())
    assert found.sampled is not None
    assert (found.sampled.rows, found.left_out.no_room) == (19, 1)
    assert long not in {prompt for prompt, _, _ in written(found)}


@pytest.mark.parametrize("rows", [30, 5])
def test_a_model_that_finds_every_row_too_long_ends_it_with_what_it_says(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[int]()

    def refusing(self: ScriptedModel, given: Sequence[Prompt], *rest: Any) -> Any:
        asked.append(len(given))
        raise TooLongError("the prompt and its answer are too long", remedy="lower decode.max_new_tokens.")

    monkeypatch.setattr(ScriptedModel, "generate", refusing)
    with pytest.raises(TooLongError, match=r"lower decode\.max_new_tokens"):
        pair_samples(sampling(half_right(tmp_path), rows=rows), SilentProgress())
    assert asked.count(1) == min(rows, 16)


def test_a_refusal_for_another_reason_than_length_is_no_row_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: Any) -> Any:
        raise CandidateError("the server does not support this response format")

    monkeypatch.setattr(ScriptedModel, "generate", refusing)
    with pytest.raises(CandidateError, match="does not support this response format"):
        pair_samples(sampling(half_right(tmp_path)), SilentProgress())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"run": Path("runs/a")}, "found --from and --model, expected --samples FILE, --from RUN or --model MODEL"),
        ({"model": None}, "found no samples"),
        ({"model": None, "samples": Path("a"), "usd": 1.0}, "found --usd with --samples, expected --usd with --model"),
        ({"n": 1}, "--n: found 1, expected a number of at least 2"),
        ({"prompt_price": 1.0}, "--prompt-price: found one price"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], said: str, routing: Path) -> None:
    free = {"n": None, "rows": None} if options.get("model", "") is None else {}
    with pytest.raises(InputError, match=said):
        pair_samples(sampling(routing, **{**free, **options}), SilentProgress())


def test_a_model_that_is_nothing_is_refused_by_its_option_before_anything_is_made(routing: Path) -> None:
    before = {*routing.parent.iterdir()}
    for command in (pair_samples, forecast_pairs):
        with pytest.raises(InputError, match=r'^--model: found "embeddedd", which is nothing on disk'):
            command(sampling(routing, model="embeddedd"), SilentProgress())
    assert {*routing.parent.iterdir()} == before


def test_a_judge_is_not_sampled_for_and_blank_answers_are_counted(tmp_path: Path) -> None:
    judged = scripted_task(
        tmp_path / "judged", quality=[], task={"score": {"judge": "scripted:script.json"}, "output": {}}
    )
    with pytest.raises(InputError, match="found a task scored by a judge"):
        pair_samples(sampling(judged), SilentProgress())
    assert not (judged.parent / "calls.jsonl").exists()
    blank = half_right(tmp_path, wrong=[" "])
    with pytest.raises(
        DataError, match=r"no pair is left \(\d+ samples without text and \d+ prompts whose samples are"
    ):
        pair_samples(sampling(blank), SilentProgress())
