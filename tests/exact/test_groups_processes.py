"""Two processes sample half of the groups each, and both see all of them as one process would."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from groups_support import python_reward, reward_file, sampled_groups, tiny_and_tokenizer
from server_support import serving

SCRIPT = """
import json, sys
from pathlib import Path
from accelerate import Accelerator
from groups_support import python_reward, sampled_groups, tiny_and_tokenizer
from lastresort.errors import DataError, InputError
from lastresort.models.api import ApiModel
from lastresort.models.endpoint import parse_endpoint
from lastresort.train.served_adapter import ServedAdapter

place = Accelerator(cpu=True).process_index
folder = Path(sys.argv[1])
model, tokenizer = tiny_and_tokenizer(folder, dtype="float64")
with sampled_groups(folder, tokenizer, rewards=[python_reward(folder / "rewards.py")]) as groups:
    batches = [groups.at(step, model, None) for step in range(2)]
items = [[[item.rows[0].ids, item.advantage] for item in batch.items] for batch in batches]
error = ""
rewards = [python_reward(folder / "rewards.py", "in_the_second")]
with sampled_groups(folder, tokenizer, rewards=rewards, log=folder / "other.jsonl") as groups:
    try:
        groups.at(0, model, None)
    except DataError as failed:
        error = str(failed)
server, served, refused = ApiModel(parse_endpoint(sys.argv[2])), [], ""
adapter = ServedAdapter(server, folder / "out")
with sampled_groups(folder, tokenizer, server=server, served=adapter, log=folder / "served.jsonl") as groups:
    for step in range(2):
        batch = groups.at(step, model, None)
        served.append([[item.rows[0].ids, item.advantage, item.old] for item in batch.items])
    try:
        groups.at(2, model, None)
    except InputError as failed:
        refused = str(failed)
found = [items, [batch.shown for batch in batches], error, served, refused]
(folder / f"found-{place}.json").write_text(json.dumps(found))
"""
REWARD = """
import os
def spread(completion):
    return sum(map(ord, completion)) % 101 / 100
def in_the_second(completion):
    return None if os.environ["RANK"] == "1" else 1.0
"""


def in_two_processes(folder: Path, server: str) -> list:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    paths = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder), server],
            env={**os.environ, **shared, "RANK": str(i), "LOCAL_RANK": str(i), "PYTHONPATH": paths},
            stderr=subprocess.PIPE,
        )
        for i in range(2)
    ]
    errors = [process.communicate(timeout=120)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(errors)
    return [json.loads((folder / f"found-{i}.json").read_text()) for i in range(2)]


def test_two_processes_see_the_groups_of_one_and_stop_together(tmp_path):
    """Of three groups the second process has one; in the second part its reward alone fails. With a server the first process
    alone gives it the weights, and where it refuses them both stop."""
    reward_file(tmp_path, REWARD)
    model, tokenizer = tiny_and_tokenizer(tmp_path, dtype="float64")
    with serving(tmp_path / "tiny") as server:
        loads = server.load
        server.load = lambda body: (
            loads(body) if "policy-2-" not in body["lora_name"] else (500, {"message": "too many"})
        )
        first, second = in_two_processes(tmp_path, server.name)
    assert first == second
    items, shown, error, served, refused = first
    alone = tmp_path / "alone.jsonl"
    with sampled_groups(tmp_path, tokenizer, rewards=[python_reward(tmp_path / "rewards.py")], log=alone) as groups:
        batches = [groups.at(step, model, None) for step in range(2)]
    assert items == [
        [[list(item.rows[0].ids), pytest.approx(item.advantage)] for item in batch.items] for batch in batches
    ]
    assert [len(batch.items) for batch in batches] == [12, 12]
    assert shown == [pytest.approx(batch.shown) for batch in batches]
    assert (tmp_path / "completions.jsonl").read_bytes() == alone.read_bytes()
    assert "in_the_second(), called for example e" in error
    assert "returned None, expected a finite number for each answer. Correct the function" in error
    assert [len(batch) for batch in served] == [12, 12]
    assert [what for what, _ in server.commands()] == ["load", "load", "unload", "load", "unload", "unload"]
    assert len(server.chats()) == 24
    assert "the server does not load the adapter" in refused
    assert "(500: too many)" in refused
