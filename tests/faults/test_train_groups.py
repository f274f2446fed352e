"""`lastresort train` on groups where something fails: reward code, the line to a server, memory. Nothing done is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from server_support import BASE, FakeVllm, hang_up, serving
from tiny_model import save_tiny_model
from train_support import data_for, lastresort, record, training_file

REWARD = "def score(completion):\n    return sum(map(ord, completion)) % 101 / 100\n"
FAILING = "def score(completion):\n    return sum(map(ord, completion)) % 101 / 100 if len(completion) % 3 else None\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def server(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVllm]:
    monkeypatch.setattr("lastresort.models.calls.wait_s", lambda *_: 0.0)
    with serving(model) as running:
        running.alphabet = "abcdefgh"
        yield running


def run(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, *words: str, **keys: Any) -> int:
    rewards = folder / "rewards.py"
    if not rewards.exists():
        folder.mkdir(exist_ok=True)
        rewards.write_text(REWARD, encoding="utf-8")
    known = {"group_size": 4, "max_new_tokens": 6, "reward": [{"python": "rewards.py:score"}], "checkpoint_every_s": 0}
    file = training_file(folder, "grpo", data_for("sft")[:8], model=str(model), **{**known, **keys})
    return lastresort(monkeypatch, "train", str(file), *words)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = load_file(folder / "out" / "adapter" / "adapter_model.safetensors")
    return found


def logged(folder: Path, name: str = "log.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_a_server_samples_and_nothing_of_it_is_left(
    model: Path, server: FakeVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path, model, monkeypatch, server=server.name, stop="c", chat_template_kwargs={"x": 1}) == 0
    found = record(tmp_path / "out")
    assert found["file"]["server"] == {"model": server.name, "sync": 1, "adapter_name": "policy"}
    assert found["data"]["findings"] == []
    assert len(found["steps"]) == 4
    loads = [name for what, name in server.commands() if what == "load"]
    assert [name.rsplit("-", 1)[0] for name in loads] == [f"policy-{step}" for step in range(4)]
    assert len({name.rsplit("-", 1)[1] for name in loads}) == 4
    assert server.loaded == {}
    assert not (tmp_path / "out" / "served").exists()
    assert all(chat["stop"] == ["c"] and chat["chat_template_kwargs"] == {"x": 1} for chat in server.chats())
    answers = logged(tmp_path, "completions.jsonl")
    assert len(answers) == 4 * 4 * 4
    assert not any("c" in answer["completion"] for answer in answers)


@pytest.mark.slow
def test_a_cut_line_stops_the_run_which_goes_on_elsewhere(
    model: Path, server: FakeVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = server.load

    def until_the_third(body: dict[str, Any]) -> tuple[int, Any]:
        if body["lora_name"].startswith("policy-2-"):
            server.troubles = [hang_up] * 300
        return commands(body)

    monkeypatch.setattr(server, "load", until_the_third)
    assert run(tmp_path, model, monkeypatch, server=server.name) == 4
    told = capsys.readouterr().err
    assert "the connection failed" in told
    assert "--resume" in told
    assert [line["step"] for line in logged(tmp_path)] == [1, 2]
    with serving(model) as another:
        another.alphabet = "abcdefgh"
        assert run(tmp_path, model, monkeypatch, "--resume", server=another.name) == 0
        assert [name.rsplit("-", 1)[0] for what, name in another.commands() if what == "load"] == [
            "policy-2",
            "policy-3",
        ]
    assert [line["step"] for line in logged(tmp_path)] == [1, 2, 3, 4]


@pytest.mark.slow
def test_another_policy_is_named_in_the_record(
    model: Path, server: FakeVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    never = {"model": server.name, "sync": "never"}
    assert run(tmp_path, model, monkeypatch, server=never, max_steps=1, adapter={"kind": "dora", "r": 4}) == 0
    said = "8 prompts whose answers come from another policy than the one that is trained, since sync is never"
    out, told = capsys.readouterr()
    assert said in out
    assert said in told
    (finding,) = record(tmp_path / "out")["data"]["findings"]
    assert (finding["count"], finding["places"]) == (8, [server.name])
    assert {chat["model"] for chat in server.chats()} == {BASE}
    assert server.commands() == []


def test_a_server_that_cannot_load_leaves_nothing_behind(
    model: Path, server: FakeVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.loads_adapters = False
    assert run(tmp_path, model, monkeypatch, server=server.name) == 2
    assert "the server loads no adapters while it runs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_endpoint_without_its_key(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert run(tmp_path, model, monkeypatch, server={"model": "openai:m", "sync": "never"}) == 3
    assert "Set OPENAI_API_KEY" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("host", ["models.example:8000", "169.254.169.254"])
def test_a_key_is_not_sent_to_a_server_unencrypted(
    host: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LASTRESORT_API_KEY", "sk-a-key-that-must-not-be-seen")
    server = {"model": f"http://{host}/v1#m", "sync": "never"}
    assert run(tmp_path, model, monkeypatch, server=server) == 2
    error = capsys.readouterr().err
    assert "LASTRESORT_API_KEY is set and would be sent unencrypted" in error
    assert "sk-a-key" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_reward_code_that_fails_is_corrected_and_the_run_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "whole", model, monkeypatch) == 0
    counted = "from pathlib import Path\n\n" + REWARD.replace(
        "    return",
        "    asked = Path(__file__).with_name('asked')\n    asked.open('a').write('x')\n"
        "    if asked.stat().st_size > 40:\n        raise ValueError('too often')\n    return",
    )
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "rewards.py").write_text(counted, encoding="utf-8")
    assert run(tmp_path / "cut", model, monkeypatch) == 2
    assert "rewards.py, score(), called for" in capsys.readouterr().err
    assert len(logged(tmp_path / "cut")) == 2  # of 16 answers each
    (tmp_path / "cut" / "rewards.py").write_text(REWARD, encoding="utf-8")
    assert run(tmp_path / "cut", model, monkeypatch, "--resume") == 0
    assert "rewards.py has changed since this run began" in capsys.readouterr().err
    whole, found = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], found[name]) for name in whole)


def test_reward_code_that_fails_counts_as_0_where_asked(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rewards.py").write_text(FAILING, encoding="utf-8")
    assert run(tmp_path, model, monkeypatch) == 2
    assert "count such answers as 0 with on_error: zero" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(tmp_path, model, monkeypatch, on_error="zero", limits={"time_s": 5, "memory_gib": 2}) == 0
    answers = logged(tmp_path, "completions.jsonl")
    faults = [answer for answer in answers if "faults" in answer]
    assert faults
    assert all(answer["faults"] == {"score": "returned None"} and answer["reward"] == 0 for answer in faults)
    assert sum(line.get("reward_faults", 0) for line in logged(tmp_path)) == len(faults)


@pytest.mark.parametrize(
    ("limits", "code", "said"),
    [
        ({"time_s": 0.3}, "while True:\n        pass", "took longer than 0.3 seconds"),
        ({"memory_gib": 0.5}, "return len(bytearray(1 << 30))", "ran out of memory (limit 0.5 GiB)"),
    ],
)
def test_limits_of_reward_code(
    limits: dict[str, float],
    code: str,
    said: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "rewards.py").write_text(f"def score(completion):\n    {code}\n", encoding="utf-8")
    assert run(tmp_path, model, monkeypatch, limits=limits, group_size=2, batch_size=1) == 2
    told = capsys.readouterr().err
    assert said in told
    assert f"raise {next(iter(limits))} next to the function" in told


def hungry(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Passes whose backward asks for more than any machine has, as a batch that does not fit does, from pass `after` on."""
    from lastresort.train.loop import gradients

    share, done = gradients._share, []

    def eating(*arguments: Any) -> Any:
        done.append(0)
        if len(done) > after:
            torch.empty(1 << 50)
        return share(*arguments)

    monkeypatch.setattr(gradients, "_share", eating)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 2])
def test_a_batch_that_does_not_fit_says_what_to_lower_and_goes_on_with_less(
    after: int, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "whole", model, monkeypatch, max_pass_tokens=512) == 0
    with monkeypatch.context() as patch:
        hungry(patch, after)
        assert run(tmp_path / "cut", model, patch, max_pass_tokens=512) == 4
    told = capsys.readouterr().err
    assert "training: there is not enough memory for 4,194,304.0 GiB more: the plan says that it holds 0." in told
    assert "Go on with max_pass_tokens: 400, with which the plan comes to 0." in told
    assert "--resume" in told
    assert "Traceback" not in told
    assert (tmp_path / "cut" / "out" / "checkpoint" / "state.json").exists() == (after > 0)
    less = {"max_pass_tokens": 64, "checkpointing": True, "rows_at_once": 4}
    assert run(tmp_path / "cut", model, monkeypatch, "--resume", **less) == 0
    assert len(logged(tmp_path / "cut")) == 4
    whole, found = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    for name in whole:
        torch.testing.assert_close(found[name], whole[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_row_longer_than_a_pass_goes_alone(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, tokens in (("wide", 4096), ("narrow", 8)):
        folder = tmp_path / name
        path = training_file(folder, "sft", model=str(model), max_pass_tokens=tokens)
        assert lastresort(monkeypatch, "train", str(path)) == 0
    wide, narrow = weights(tmp_path / "wide"), weights(tmp_path / "narrow")
    for key in wide:
        torch.testing.assert_close(narrow[key], wide[key], rtol=1e-3, atol=1e-4)
