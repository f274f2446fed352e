"""Whatever a user's reward function does wrong is one sentence or, by choice, a counted 0; and its process never stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from groups_support import examples, python_reward, reward_file, sampled_groups, tiny_and_tokenizer
from lastresort.errors import DataError, TaskError
from lastresort.evals.user_code.process import CodeLimits
from lastresort.train.rewards import RewardFunction, Rewards

QUICK = CodeLimits(time_s=0.5, memory_bytes=600 << 20, load_s=20)
FAULTY = """
import os, signal, subprocess, sys, time

def raises(completion):
    if completion == "bad":
        raise ValueError("no such unit")
    return 1.0

def hangs(completion):
    while completion == "bad":
        pass
    return 1.0

def sleeps_with_a_child(completion):
    if completion == "bad":
        child = subprocess.Popen(["sleep", "60"])
        open(__file__ + ".pid", "w").write(str(child.pid))
        child.wait()
    return 1.0

def eats(completion):
    return float(len(bytearray(4 << 30)) > 0) if completion == "bad" else 1.0

def dies(completion):
    if completion == "bad":
        os.kill(os.getpid(), signal.SIGSEGV)
    return 1.0

def exits(completion):
    if completion == "bad":
        os._exit(3)
    return 1.0

def leaves(completion):
    if completion == "bad":
        sys.exit("enough")
    return 1.0

def nothing(completion):
    return None if completion == "bad" else 1.0

def not_a_number(completion):
    return float("nan") if completion == "bad" else 1.0

def infinite(completion):
    return 10 ** 400 if completion == "bad" else 1.0

def text(completion):
    return "0.5" if completion == "bad" else 1.0

def too_few(completions):
    return [1.0] * (len(completions) - ("bad" in completions))

def no_list(completions):
    return 1.0 if "bad" in completions else [1.0] * len(completions)
"""
FAULTS = {
    "raises": "raised ValueError: no such unit",
    "hangs": "took longer than 0.5 seconds",
    "sleeps_with_a_child": "took longer than 0.5 seconds",
    "eats": "ran out of memory (limit 0.585938 GiB)",
    "dies": "ended its process (SIGSEGV)",
    "exits": "ended its process (exit code 3)",
    "leaves": "raised SystemExit: enough",
    "nothing": "returned None",
    "not_a_number": "returned nan",
    "infinite": "returned 1" + "0" * 78 + "…",
    "text": "returned '0.5'",
    "too_few": "returned 2 rewards for 3 answers",
    "no_list": "returned 1.0 for 3 answers",
}
LISTS = ("too_few", "no_list")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def until(condition) -> bool:
    """Whether it comes true; a bound on waiting, not a claim about speed."""
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.sampled(9)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_stops_with_one_sentence_or_counts_as_0(name, tmp_path):
    path = reward_file(tmp_path, FAULTY)
    three, answers = examples(3), ["good", "bad", "good"]
    stopping = Rewards([python_reward(path, name)], {}, limits=QUICK)
    with pytest.raises(DataError) as failed:
        stopping.score(three, answers)
    stopping.close()
    called_for = "e0" if name in LISTS else "e1"
    limit = {"hangs": "time_s", "sleeps_with_a_child": "time_s", "eats": "memory_gib"}.get(name)
    raised = f" raise {limit} next to the function," if limit else ""
    assert str(failed.value) == (
        f"rewards.py, {name}(), called for example {called_for}: {FAULTS[name]}, expected a finite number for each answer. "
        f"Correct the function,{raised} or count such answers as 0 with on_error: zero."
    )
    going_on = Rewards([python_reward(path, name)], {}, limits=QUICK, on_error="zero")
    scored = going_on.score(three, answers)
    assert [found.total for found in scored] == ([0, 0, 0] if name in LISTS else [1, 0, 1])
    named = [dict(found.faults) for found in scored]
    assert named == [{name: FAULTS[name]}] * 3 if name in LISTS else [{}, {name: FAULTS[name]}, {}]
    assert [found.total for found in going_on.score(three, ["good"] * 3)] == [1, 1, 1]  # it was started again
    going_on.close()
    started = path.with_name("rewards.py.pid")
    assert started.exists() == (name == "sleeps_with_a_child")
    assert not started.exists() or until(lambda: gone(int(started.read_text())))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("on_error", "calls"), [("stop", 2), ("zero", 6)])
def test_a_run_that_stops_waits_for_one_answer_and_not_for_all(on_error, calls, tmp_path):
    text = """
def score(completion):
    open(__file__ + ".calls", "a").write("x")
    while completion == "bad":
        pass
    return 1.0
"""
    path = reward_file(tmp_path, text)
    rewards = Rewards([python_reward(path, "score")], {}, limits=CodeLimits(time_s=0.2), on_error=on_error)
    answers = ["good", "bad", "bad", "bad", "bad", "good"]
    if on_error == "stop":
        with pytest.raises(DataError, match=r"called for example e1: took longer than 0\.2 seconds"):
            rewards.score(examples(6), answers)
    else:
        assert [found.total for found in rewards.score(examples(6), answers)] == [1, 0, 0, 0, 0, 1]
    rewards.close()
    assert path.with_name("rewards.py.calls").read_text() == "x" * calls


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def score(completion:\n", "SyntaxError"),
        ("import no_such_module_at_all\n", "No module named 'no_such_module_at_all'"),
        ("raise SystemExit(4)\n", "SystemExit: 4"),
        ("def other(completion):\n    return 1\n", "no function 'score', expected one of other"),
        ("def score(a, b):\n    return 1\n", r"a function that takes \(a, b\), expected \(prompt, completion"),
        ("import os\nos._exit(7)\n", r"ended its process \(exit code 7\)"),
        ("while True:\n    pass\n", r"took longer than 1 seconds.* or raise load_s next to the function"),
    ],
)
def test_what_cannot_be_loaded_is_always_an_error(text, message, tmp_path):
    reward = python_reward(reward_file(tmp_path, text), "score")
    rewards = Rewards([reward], {}, on_error="zero", limits=CodeLimits(load_s=1))
    with pytest.raises(TaskError, match=message):
        rewards.check(examples(1))
    rewards.close()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TaskError, match="is not there"):
        Rewards([python_reward(tmp_path / "none.py")], {})


def test_prints_go_to_stderr_and_input_is_empty(tmp_path, capfd):
    text = """
import os, sys
def score(completion):
    print("printed", completion)
    os.write(1, b"written\\n")
    os.system("echo from a shell")
    return float(sys.stdin.read() == "")
"""
    process = RewardFunction(reward_file(tmp_path, text), "score")
    assert process.values([{"completion": "x"}, {"completion": "y"}]) == [1.0, 1.0]
    process.close()
    out, err = capfd.readouterr()
    assert out == ""
    for line in ("printed x", "printed y", "written", "from a shell"):
        assert line in err


def test_values_travel_whole_and_numbers_of_other_libraries_count(tmp_path):
    text = """
import numpy
def score(prompt, completion, expected, extra):
    assert (prompt, expected) == ("p", "e\\u2028\\udcff"), (prompt, expected)
    return numpy.float32(extra["n"][1])
def array(completions):
    return numpy.arange(len(completions)) / 2
def truth(completion, missing=None, **columns):
    return numpy.bool_(missing is None and columns["size"] == 3)
"""
    path = reward_file(tmp_path, text)
    row = {"prompt": "p", "completion": "c\n", "expected": "e\u2028\udcff", "extra": {"n": [0, 0.25]}, "size": 3}
    found = {}
    for name in ("score", "array", "truth"):
        process = RewardFunction(path, name)
        found[name] = process.values([row, row])
        if name == "score":
            assert process.needs == ("extra",)
        process.close()
    assert found == {"score": [0.25, 0.25], "array": [0.0, 0.5], "truth": [1.0, 1.0]}


def test_the_process_ends_when_it_is_closed_dropped_or_the_program_is_killed(tmp_path):
    text = "import os\ndef score(completion):\n    return os.getpid()\n"
    path = reward_file(tmp_path, text)
    closed, dropped = RewardFunction(path, "score"), RewardFunction(path, "score")
    [first], [second] = closed.values([{"completion": ""}]), dropped.values([{"completion": ""}])
    closed.close()
    closed.close()
    del dropped
    assert until(lambda: gone(int(first)) and gone(int(second)))
    script = (
        "import sys, os, signal\nfrom pathlib import Path\nfrom lastresort.train.rewards import RewardFunction\n"
        "process = RewardFunction(Path(sys.argv[1]), 'score')\n"
        "print(int(process.values([{'completion': ''}])[0]), flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert killed.returncode == -9
    assert until(lambda: gone(int(killed.stdout)))


def test_faults_are_counted_and_named_in_the_log(tmp_path):
    model, tokenizer = tiny_and_tokenizer(tmp_path)
    text = "def odd(completion):\n    return None if len(completion) % 2 else len(completion)\n"
    rewards = [python_reward(reward_file(tmp_path, text), "odd")]
    with sampled_groups(tmp_path, tokenizer, rewards=rewards, on_error="zero") as groups:
        shown = groups.at(0, model, None).figures
    lines = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_text().splitlines()]
    faulty = [line for line in lines if "faults" in line]
    assert 0 < len(faulty) < 12
    assert shown["reward_faults"] == len(faulty)
    for line in faulty:
        assert (line["faults"], line["reward"]) == ({"odd": "returned None"}, 0)
    with (
        sampled_groups(tmp_path, tokenizer, rewards=rewards) as groups,
        pytest.raises(DataError, match=r"odd\(\), called for example e\d: returned None"),
    ):
        groups.at(0, model, None)
