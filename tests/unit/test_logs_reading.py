"""Sample logs of lm-eval and of Inspect become scores that can be paired; what is no log, or holds too much, is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lastresort.errors import DataError, PrerequisiteError
from lastresort.gate.from_logs import read_logs
from lastresort.gate.logs import inspect as inspect_files
from lastresort.gate.logs.inspect import AT_ONCE, ArchiveLimits, inspect_log, measures_of, value_of
from lastresort.gate.logs.lm_eval import Results, log_of, pooled
from lastresort.gate.logs.logged import LoggedItem, LoggedMeasure, pair_measures
from lastresort.report.words import gate as words
from logs_support import FOLDER, lm_eval_row, write_inspect, write_samples

LM_EVAL, INSPECT = FOLDER / "lm_eval", FOLDER / "inspect"


def measure(path: Path, name: str) -> LoggedMeasure:
    return next(one for one in read_logs(path).measures if one.name == name)


def test_the_tasks_of_a_group_of_lm_eval_are_one_measure() -> None:
    logs = read_logs(LM_EVAL / "base")
    assert [one.name for one in logs.measures] == ["lm_eval:letters", "lm_eval:said"]
    letters = logs.measures[0]
    assert (len(letters.items), letters.metric) == (24, "acc")
    assert {item.stratum for item in letters.items} == {"letters_one", "letters_two"}
    assert sum(item.score for item in letters.items) / 24 == 0.25  # what lm-eval says of the group
    assert {item.chance for item in letters.items} == {0.25}
    assert (letters.items[0].id, letters.items[0].answered) == (
        "letters_one/0",
        "b",
    )  # of logps -11.1 -10.9 -11.2 -11.1
    assert letters.items[0].asked == "Which letter is number 1?\nAnswer:"


def test_of_several_metrics_and_filters_the_first_counts_and_the_others_are_named() -> None:
    said = measure(LM_EVAL / "base", "lm_eval:said")
    assert (said.metric, len(said.items)) == ("exact_match, filter strict", 4)
    assert said.others == ("filter loose",)
    assert pair_measures(said, said).notes == (
        "lm_eval:said is judged by exact_match, filter strict, not by filter loose.",
    )
    assert {item.chance for item in said.items} == {None}


def test_a_group_names_what_the_logs_of_its_tasks_also_hold_once() -> None:
    """By its own name, also where a task is called like a part of it."""
    logs = [
        LoggedMeasure(f"lm_eval:{task}", "acc", (LoggedItem("0", 1.0, {}),), "here", others=others)
        for task, others in (("sums", ("f1", "bleu")), ("sums_hard", ("f1", "ter")))
    ]
    (found,) = pooled(logs, Results(groups={"all_sums": frozenset({"sums", "sums_hard"})}), "here")
    assert pair_measures(found, found).notes == ("lm_eval:all_sums is judged by acc, not by f1, bleu, ter.",)


def test_a_single_file_of_lm_eval_is_one_task() -> None:
    path = next((LM_EVAL / "base").glob("samples_letters_one*"))
    assert [one.name for one in read_logs(path).measures] == ["lm_eval:letters_one"]


def test_epochs_of_inspect_are_one_item_with_their_mean(tmp_path: Path) -> None:
    sums = measure(INSPECT / "base" / "sums.eval", "inspect:sums/match")
    assert (len(sums.items), {item.score for item in sums.items}) == (8, {1.0})
    scored = [
        {"id": 1, "epoch": epoch, "input": "?", "target": "!", "scores": {"match": {"value": value}}}
        for epoch, value in ((1, "C"), (2, "I"), (3, "P"), (4, "N"))
    ]
    (found,), faults = measures_of({"eval": {"task": "sums"}, "status": "success"}, scored, "log")
    assert (found.items[0].score, len(found.items), faults) == (0.375, 1, [])


def test_choices_of_inspect_have_a_chance_and_json_reads_as_a_zip_does() -> None:
    letters = measure(INSPECT / "base", "inspect:letters/choice")
    assert {item.chance for item in letters.items} == {0.25}
    assert [item.score for item in letters.items] == [1.0] * 4
    assert [item.answered for item in letters.items] == [f"ANSWER: {letter}" for letter in "ABCD"]


@pytest.mark.parametrize(
    ("value", "score"),
    [
        *(("C", 1.0), ("I", 0.0), ("P", 0.5), ("N", 0.0), ("yes", 1.0), ("False", 0.0), ("0.25", 0.25), (0.75, 0.75)),
        *((True, 1.0), (1, 1.0), ("A", None), (None, None), (float("inf"), None), ([1], None)),
    ],
)
def test_values_of_inspect(value: object, score: float | None) -> None:
    assert value_of(value) == score


def test_what_inspect_could_not_score_is_left_out_and_counted() -> None:
    samples = [
        {"id": "a", "scores": {"match": {"value": "C"}}},
        {"id": "b", "error": {"message": "cut off"}, "scores": {}},
        {"id": "c", "scores": {"match": {"value": float("nan")}}},
        {"id": "d", "scores": {"match": {"value": "C"}}, "invalidation": {"reason": "leaked"}},
    ]
    (found,), _ = measures_of({"eval": {"task": "sums"}, "status": "error"}, samples, "sums.json")
    assert [item.id for item in found.items] == ["a"]
    assert any("3 samples of sums.json have no score" in note for note in found.notes)
    assert any("did not finish (error)" in note for note in found.notes)


def test_several_scorers_are_several_measures_and_what_cannot_be_weighed_is_named() -> None:
    scores = {"match": {"value": "C"}, "judge": {"value": {"tone": 0.5, "length": 12}}}
    found, faults = measures_of({"eval": {"task": "notes"}}, [{"id": 1, "scores": scores}], "log")
    assert [one.name for one in found] == ["inspect:notes/match", "inspect:notes/judge/tone"]
    assert "the value 12" in str(faults[0])


def test_pairs_of_what_the_tools_wrote() -> None:
    for side, name, lost in (("lm_eval", "lm_eval:letters", 0), ("inspect", "inspect:sums/match", 4)):
        found = pair_measures(measure(FOLDER / side / "base", name), measure(FOLDER / side / "tuned", name))
        assert sum(pair.tuned - pair.base for pair in found.pairs) == -lost
        assert found.binary


def test_an_item_that_one_side_lacks_is_left_out_and_counted(tmp_path: Path) -> None:
    base = measure(write_samples(tmp_path / "a", [1.0] * 10), "lm_eval:letters")
    tuned = measure(write_samples(tmp_path / "b", [1.0] * 7), "lm_eval:letters")
    found = pair_measures(base, tuned)
    assert [pair.id for pair in found.pairs] == [str(number) for number in range(7)]
    assert "3 items of" in found.notes[0]
    assert "were left out" in found.notes[0]


def test_logs_that_hardly_share_an_item_are_refused(tmp_path: Path) -> None:
    base = measure(write_samples(tmp_path / "a", [1.0] * 10), "lm_eval:letters")
    rows = [lm_eval_row(number, 1.0) for number in range(6, 16)]
    path = tmp_path / "samples_letters.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError, match="4 items that are in both logs, of 10 and 10"):
        pair_measures(base, measure(path, "lm_eval:letters"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"doc_hash": "of another version"}, "another document"),
        ({"target_hash": "other"}, "another target"),
        ({"arguments": {"gen_args_0": {"arg_0": "<|user|>Question", "arg_1": " a"}}}, "another prompt"),
    ],
)
def test_another_version_of_a_task_is_refused(tmp_path: Path, change: dict[str, object], told: str) -> None:
    base = measure(write_samples(tmp_path / "a", [1.0] * 4), "lm_eval:letters")
    tuned = measure(write_samples(tmp_path / "b", [1.0] * 4, **change), "lm_eval:letters")
    with pytest.raises(DataError, match=f"4 of 4 items with {told}"):
        pair_measures(base, tuned)


def test_two_metrics_are_not_compared(tmp_path: Path) -> None:
    base = measure(write_samples(tmp_path / "a", [1.0] * 4), "lm_eval:letters")
    tuned = measure(write_samples(tmp_path / "b", [1.0] * 4, metrics=["acc_norm"], acc_norm=1.0), "lm_eval:letters")
    with pytest.raises(DataError, match="the metrics acc and acc_norm"):
        pair_measures(base, tuned)


def test_less_is_better_is_turned_round_and_unbounded_metrics_are_refused(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a", [1.0], metrics=["brier_score"], brier_score=0.25)
    assert [item.score for item in measure(path, "lm_eval:letters").items] == [0.75]
    path = write_samples(tmp_path / "b", [1.0], metrics=["word_perplexity"], word_perplexity=(-80.5, 20))
    with pytest.raises(DataError, match="a value that is no number"):
        read_logs(path)
    path = write_samples(tmp_path / "c", [1.0], metrics=["loudness"], loudness=0.5)
    with pytest.raises(DataError, match='the direction of the metric "loudness" of letters is unknown'):
        read_logs(path)
    results = {"higher_is_better": {"letters": {"loudness": True}}}
    (tmp_path / "c" / "results_2026.json").write_text(json.dumps(results), encoding="utf-8")
    assert [item.score for item in measure(path, "lm_eval:letters").items] == [0.5]


def test_of_several_runs_in_a_folder_the_newest_counts(tmp_path: Path) -> None:
    write_samples(tmp_path, [0.0, 0.0], date="2026-01-01T00-00-00.000000")
    write_samples(tmp_path, [1.0, 1.0], date="2026-01-02T00-00-00.000000")
    logs = read_logs(tmp_path)
    assert [item.score for item in logs.measures[0].items] == [1.0, 1.0]
    assert "found several runs of letters; the newest of each was used" in logs.notes[0]
    write_samples(tmp_path / "other", [1.0, 1.0])
    with pytest.raises(DataError, match="the logs of one model"):
        read_logs(tmp_path)


def test_a_measure_that_cannot_be_weighed_is_named_beside_others(tmp_path: Path) -> None:
    write_samples(tmp_path, [1.0])
    write_samples(tmp_path, [1.0], task="text", metrics=["word_perplexity"], word_perplexity=(-80.5, 20))
    logs = read_logs(tmp_path)
    assert [one.name for one in logs.measures] == ["lm_eval:letters"]
    assert logs.notes[0].startswith("Left out: ")
    assert "word_perplexity" in logs.notes[0]


ASKED = {"epoch": 1, "input": "?", "target": "!"}


def inspect_json(*samples: dict[str, object]) -> str:
    """As somebody else may write it, right or wrong."""
    about = {"created": "2026-01-02T03:04:05+00:00", "task": "x", "dataset": {}, "model": "m", "config": {}}
    return json.dumps({"version": 2, "eval": about, "samples": list(samples)})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("samples_a.jsonl", "", "no sample"),
        ("samples_a.jsonl", '{"doc_id": 0}\nnonsense', "row 2, which is not JSON"),
        ("samples_a.jsonl", '{"output": 0}\n', "row 1, which is no sample of lm-eval"),
        ("samples_a.jsonl", json.dumps(lm_eval_row(0, 1.0)) * 2, "row 1, which is not JSON"),
        ("samples_a.jsonl", (json.dumps(lm_eval_row(0, 1.0)) + "\n") * 2, "1 items of a occur more than once"),
        ("a.eval", "no zip", "no zip that can be opened"),
        ("a.json", "[1]", "what inspect_ai cannot read"),
        ("a.json", '{"rows": []}', r"inspect_ai cannot read \(eval: Field required\)"),
        ("a.json", inspect_json({"scores": {}}), r"inspect_ai cannot read \(samples\.0\.id: Field required\)"),
        ("a.json", inspect_json({"id": 1, **ASKED}), "no score in the samples of x"),
        ("a.json", inspect_json(), "no score in the samples of x"),
        ("a.csv", "", "another kind of file"),
        ("a.json", "[" * 100_000, "what inspect_ai cannot read"),
        ("samples_a.jsonl", json.dumps(lm_eval_row(0, 10**400)), "a number too large for a float"),
        ("samples_a.jsonl", json.dumps(lm_eval_row(0, 1.0, metrics=5)), "another shape than lm-eval writes"),
        ("samples_a.jsonl", json.dumps(lm_eval_row(0, 1.0, filtered_resps={"a": 1})), "another shape than lm-eval"),
        ("a.json", inspect_json({"id": 1, **ASKED, "scores": [1]}), r"inspect_ai cannot read \(samples\.0\.scores"),
        (
            "a.json",
            inspect_json({"id": 1, **ASKED, "messages": ["a"]}),
            r"inspect_ai cannot read \(samples\.0\.messages",
        ),
        ("a.json", inspect_json({"id": 1, **ASKED, "output": "a"}), r"inspect_ai cannot read \(samples\.0\.output"),
    ],
)
def test_what_is_no_log_is_refused_with_a_sentence(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=told) as caught:
        read_logs(tmp_path / name)
    assert name in str(caught.value)


def test_a_folder_without_logs_and_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="a folder without logs"):
        read_logs(tmp_path)
    with pytest.raises(DataError, match="nothing on disk"):
        read_logs(tmp_path / "missing")


def repacked(path: Path, source: Path, members: dict[str, str | None], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    """The members of a log, of which some are replaced, left out (None) or added."""
    import inspect_ai.log  # noqa: F401 with it zipfile reads Zstandard, as it does by itself from Python 3.14 on

    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", packing) as new:
        for name in dict.fromkeys((*old.namelist(), *members)):
            body = members[name] if name in members else old.read(name)
            if body is not None:
                new.writestr(name, body)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    scores = {"match": {"value": "C"}}
    return write_inspect(tmp_path / "whole.eval", [{"id": number, "scores": scores} for number in (1, 2)])


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, log: Path) -> None:
    bomb = json.dumps({"id": 2, "scores": {}, "padding": " " * 5_000_000})
    path = repacked(tmp_path / "a.eval", log, {"samples/2_epoch_1.json": bomb})
    assert path.stat().st_size < 50_000
    with pytest.raises(DataError, match="larger than 1,000,000 bytes"):
        inspect_log(path, ArchiveLimits(member_bytes=1_000_000))
    with pytest.raises(DataError, match=r"found samples/2_epoch_1\.json, which is larger than"):
        inspect_log(path, ArchiveLimits(all_bytes=1_000_000))
    with pytest.raises(DataError, match=r"\d members, of which 2 are read at most"):
        inspect_log(path, ArchiveLimits(members=2))


def test_a_huge_json_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_files, "LARGEST_JSON", 10_000)
    with pytest.raises(DataError, match="found 0 MiB, expected at most 0 MiB"):
        read_logs(INSPECT / "base" / "letters.json")


def test_a_member_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path, log: Path) -> None:
    path = repacked(tmp_path / "a.eval", log, {"samples/2_epoch_1.json": " " * 3_000_000})
    body = bytearray(path.read_bytes())
    said = body.rindex((3_000_000).to_bytes(4, "little"))  # in the directory at the end
    body[said : said + 4] = (3).to_bytes(4, "little")
    path.write_bytes(bytes(body))
    with zipfile.ZipFile(path) as opened:
        assert opened.getinfo("samples/2_epoch_1.json").file_size == 3
    with pytest.raises(DataError, match="larger than 1,000,000 bytes"):
        inspect_log(path, ArchiveLimits(member_bytes=1_000_000))


def test_a_cut_or_altered_archive_is_refused(tmp_path: Path) -> None:
    whole = (INSPECT / "base" / "sums.eval").read_bytes()
    (tmp_path / "cut.eval").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="no zip that can be opened"):
        read_logs(tmp_path / "cut.eval")
    altered = bytearray(whole)
    within = whole.index(b"samples/s0") + 300
    altered[within : within + 20] = bytes(20)
    (tmp_path / "altered.eval").write_bytes(bytes(altered))
    with pytest.raises(DataError, match=r"altered\.eval: found .*which cannot be unpacked"):
        read_logs(tmp_path / "altered.eval")


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_altered_score_is_refused_however_it_is_packed(tmp_path: Path, log: Path, packing: int) -> None:
    """Stored, it is JSON as before, and only its checksum tells."""
    path = repacked(tmp_path / "a.eval", log, {}, packing)
    body = path.read_bytes()
    within = body.index(b'"C"') + 1 if packing == zipfile.ZIP_STORED else 100
    path.write_bytes(body[:within] + b"I" + body[within + 1 :])
    with pytest.raises(DataError, match="which cannot be unpacked"):
        read_logs(path)


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"header.json": None, "_journal/start.json": None}, r"a zip without header\.json"),
        ({"header.json": "nonsense"}, "what inspect_ai cannot read"),
        ({"header.json": "[" * 100_000}, "what inspect_ai cannot read"),
        ({"header.json": '{"eval": {"task": "x"}}'}, r"inspect_ai cannot read \(eval\.created: Field required\)"),
        ({"samples/1_epoch_1.json": "{}"}, r"inspect_ai cannot read \(id: Field required\)"),
        ({"samples/1_epoch_1.json": None}, "1 samples, of which its summary names 2"),
        ({"samples/3_epoch_1.json": "{}"}, "3 samples, of which its summary names 2"),
        ({"summaries.json": "[]"}, "2 samples, of which its summary names 0"),
    ],
)
def test_a_part_that_is_missing_or_has_another_shape(
    tmp_path: Path, log: Path, members: dict[str, str | None], told: str
) -> None:
    with pytest.raises(DataError, match=told) as caught:
        inspect_log(repacked(tmp_path / "a.eval", log, members))
    assert str(caught.value).startswith(str(tmp_path / "a.eval"))


def test_a_log_of_a_later_version_is_refused(tmp_path: Path, log: Path) -> None:
    with zipfile.ZipFile(repacked(tmp_path / "a.eval", log, {})) as opened:
        header = json.loads(opened.read("header.json"))
    later = json.dumps({**header, "version": 99})
    with pytest.raises(DataError, match="version 99 of the format of logs"):
        read_logs(repacked(tmp_path / "b.eval", log, {"header.json": later}))
    (tmp_path / "c.json").write_text(later, encoding="utf-8")
    with pytest.raises(DataError, match="Unable to read version 99"):
        read_logs(tmp_path / "c.json")


def test_a_json_log_is_read_anew_where_its_file_changed(tmp_path: Path) -> None:
    for value, score in (("C", 1.0), ("I", 0.0)):
        path = write_inspect(tmp_path / "a.json", [{"id": 1, "scores": {"match": {"value": value}}}])
        assert read_logs(path).measures[0].items[0].score == score


def test_long_texts_that_are_kept_apart_are_put_back(tmp_path: Path) -> None:
    def sample(text: str) -> dict[str, object]:
        turns = [{"role": "user", "content": text}]
        return {"id": 1, "input": turns, "messages": turns, "scores": {"match": {"value": "C"}}}

    whole = read_logs(write_inspect(tmp_path / "whole.json", [sample("Why?")])).measures[0].items[0]
    assert whole.asked == "Why?"
    for name in ("a.eval", "a.json"):
        apart = write_inspect(tmp_path / name, [{**sample("attachment://7"), "attachments": {"7": "Why?"}}])
        assert read_logs(apart).measures[0].items[0] == whole


def test_more_samples_than_are_read_at_once(tmp_path: Path) -> None:
    samples = [{"id": n, "scores": {"match": {"value": n % 2}}} for n in range(AT_ONCE + 2)]
    items = read_logs(write_inspect(tmp_path / "a.eval", samples)).measures[0].items
    assert {item.id: item.score for item in items} == {str(n): float(n % 2) for n in range(AT_ONCE + 2)}


def test_without_inspect_ai_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    for path in (INSPECT / "base" / "sums.eval", INSPECT / "base" / "letters.json", INSPECT / "base"):
        with pytest.raises(PrerequisiteError, match=r"pip install 'lastresort\[evals\]'"):
            read_logs(path)
    write_samples(tmp_path, [1.0])
    (tmp_path / "package.json").write_text("{}", encoding="utf-8")
    assert [one.name for one in read_logs(tmp_path).measures] == ["lm_eval:letters"]


@pytest.mark.slow
def test_reading_opens_no_connection_starts_nothing_and_loads_no_torch() -> None:
    code = f"from {read_logs.__module__} import read_logs\n"
    code += """
import sys, pathlib
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "pickle.find_class"):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(watch)
assert len(read_logs(pathlib.Path(sys.argv[1])).measures) == 2
assert not {"torch", "transformers"}.intersection(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(INSPECT / "base")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_row_without_its_filter_beside_rows_with_one() -> None:
    rows = [lm_eval_row(0, 1.0), lm_eval_row(1, 0.0, filter="strict")]
    del rows[0]["filter"]
    assert [item.id for item in log_of("x", rows, {}, "here").items] == ["0"]


def test_an_evaluation_that_was_cut_off_has_only_its_beginning(tmp_path: Path, log: Path) -> None:
    path = repacked(tmp_path / "a.eval", log, {"header.json": None, "summaries.json": None})
    (found,), _ = inspect_log(path)
    assert (len(found.items), found.notes) == (
        2,
        (f"inspect:sums: the evaluation in {path} did not finish (started).",),
    )


def test_what_is_left_out_of_a_log_is_counted_as_one_or_many() -> None:
    assert [words.unpaired("m", n, "a", "b") for n in (1, 2000)] == [
        "m: 1 item of a is not in b and was left out.",
        "m: 2,000 items of a are not in b and were left out.",
    ]
    assert [words.unscored("m", n, "a") for n in (1, 2)] == [
        "m: 1 sample of a has no score and was left out.",
        "m: 2 samples of a have no score and were left out.",
    ]
    assert [words.partly_scored("m", n, "a") for n in (1, 2)] == [
        "m: 1 sample of a has a score in only some of the epochs.",
        "m: 2 samples of a have a score in only some of the epochs.",
    ]
