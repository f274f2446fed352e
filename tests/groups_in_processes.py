"""Groups as each of several processes sees them: the engine's, those whose reward fails in one process, and a server's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from groups_support import python_reward, reward_file, sampled_groups, tiny_and_tokenizer
from lastresort.errors import DataError, InputError
from lastresort.models.api.model import ApiModel
from lastresort.models.endpoint import parse_endpoint
from lastresort.train.groups.server import ServedAdapter
from server_support import FakeVllm

REWARD = """
import os
def spread(completion):
    return sum(map(ord, completion)) % 101 / 100
def in_the_second(completion):
    return None if os.environ["RANK"] == "1" else 1.0
"""


def prepared(folder: Path) -> Path:
    """The rewards and the model, written before any process starts; returns the model's folder."""
    folder.mkdir()
    reward_file(folder, REWARD)
    tiny_and_tokenizer(folder)
    return folder / "tiny"


def refusing_the_third(server: FakeVllm) -> None:
    """The adapter of the third step is not loaded."""
    loads = server.load
    server.load = lambda body: loads(body) if "policy-2-" not in body["lora_name"] else (500, {"message": "too many"})


def seen_by_this_process(folder: Path, server: str) -> dict[str, Any]:
    """Called by all of them."""
    model, tokenizer = tiny_and_tokenizer(folder, dtype="float64")
    found: dict[str, Any] = {"items": [], "shown": [], "failed": "", "served": [], "refused": ""}
    with sampled_groups(folder, tokenizer, rewards=[python_reward(folder / "rewards.py")]) as groups:
        for step in range(2):
            batch = groups.at(step, model, None)
            found["items"].append([[item.rows[0].ids, item.advantage] for item in batch.items])
            found["shown"].append(batch.figures)
    rewards = [python_reward(folder / "rewards.py", "in_the_second")]
    with sampled_groups(folder, tokenizer, rewards=rewards, log=folder / "other.jsonl") as groups:
        try:
            groups.at(0, model, None)
        except DataError as error:
            found["failed"] = str(error)
    asked = ApiModel(parse_endpoint(server))
    adapter = ServedAdapter(asked, folder / "out")
    with sampled_groups(folder, tokenizer, server=asked, served=adapter, log=folder / "served.jsonl") as groups:
        for step in range(2):
            batch = groups.at(step, model, None)
            found["served"].append([[item.rows[0].ids, item.advantage, item.old] for item in batch.items])
        try:
            groups.at(2, model, None)
        except InputError as error:
            found["refused"] = str(error)
    return found
