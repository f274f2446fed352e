"""The log of sampled answers holds every step once, whatever was cut or done twice."""

from __future__ import annotations

import json

import pytest

from lastresort.errors import InfrastructureError
from lastresort.train.groups.groups import CompletionsLog

LINES = [{"completion": "a\u2028b"}, {"completion": "\ud800 and a line\n"}]


def steps_of(path):
    return [json.loads(line)["step"] for line in path.read_bytes().split(b"\n")[:-1]]


def test_a_resumed_run_writes_its_steps_over_and_mends_a_cut_line(tmp_path):
    path = tmp_path / "run" / "completions.jsonl"
    log = CompletionsLog(path)
    for step in range(4):
        log.append(step, LINES)
    assert steps_of(path) == [0, 0, 1, 1, 2, 2, 3, 3]
    with path.open("ab") as file:
        file.write(b'{"step": 4, "compl')
    resumed = CompletionsLog(path)
    resumed.append(2, LINES)
    resumed.append(3, LINES[:1])
    assert steps_of(path) == [0, 0, 1, 1, 2, 2, 3]
    resumed.append(3, LINES)
    assert steps_of(path) == [0, 0, 1, 1, 2, 2, 3, 3]
    CompletionsLog(path).append(0, LINES[:1])
    assert steps_of(path) == [0]
    assert json.loads(path.read_bytes())["completion"] == "a\u2028b"


def test_a_cut_line_alone_goes(tmp_path):
    path = tmp_path / "completions.jsonl"
    CompletionsLog(path).append(0, LINES)
    path.write_bytes(path.read_bytes()[:-5])
    CompletionsLog(path).append(1, LINES[:1])
    assert steps_of(path) == [0, 1]


def test_a_disk_that_refuses_is_no_wrong_answer(tmp_path):
    (tmp_path / "completions.jsonl").mkdir()
    with pytest.raises(InfrastructureError):
        CompletionsLog(tmp_path / "completions.jsonl").append(0, LINES)
