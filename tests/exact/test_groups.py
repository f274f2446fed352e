"""Groups of a step: by seed, resumed = uninterrupted, advantages and masks as they must be, a rewarded answer rises."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from engine_support import twin
from groups_support import (
    ADAPTER,
    REWARDS,
    SETTINGS,
    RewardTerm,
    examples,
    python_reward,
    reward_file,
    sampled_groups,
    tiny_and_tokenizer,
)
from lastresort.engine.choose import Sampling, choose, random_stream
from lastresort.engine.logp import target_logps
from lastresort.engine.sampling import generate
from lastresort.engine.support import check_first_batch
from lastresort.errors import DataError, InputError
from lastresort.records.training import FirstBatch
from lastresort.train.adapters.adapters import trainable
from lastresort.train.groups.groups import groups_from
from lastresort.train.groups.sampling import member_seed
from lastresort.train.loop.loop import train
from lastresort.train.loop.policy import token_logps
from lastresort.train.settings import GroupSettings, Objective, TrainSettings

FIRST = "def first(completion):\n    return float(ord(completion[0]) % 2) if completion else 0.5\n"


def settings_of(name="grpo", **changes):
    known = {"epochs": 2, "batch_size": 3, "adapter": ADAPTER, "seed": 5, "max_pass_tokens": 512, **changes}
    return TrainSettings(learning_rate=1e-2, objective=Objective(name, known.pop("options", ())), **known)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "completions.jsonl").read_text("utf-8").splitlines()]


def run(folder, name="grpo", **arguments):
    folder.mkdir(exist_ok=True)
    model, tokenizer = tiny_and_tokenizer(folder)
    seen = []
    options = arguments.pop("options", ())
    with sampled_groups(folder, tokenizer, objective=name) as groups:
        train(
            model,
            groups,
            settings_of(name, options=options),
            folder=folder / "run",
            max_new_tokens=SETTINGS.max_new_tokens,
            on_step=seen.append,
            **arguments,
        )
    return {n: p.detach().clone() for n, p in trainable(model)}, seen


def test_groups_follow_seed_and_step_and_leave_the_mode(tmp_path):
    model, tokenizer = tiny_and_tokenizer(tmp_path)
    with sampled_groups(tmp_path, tokenizer) as groups, sampled_groups(tmp_path, tokenizer, seed=6) as others:
        model.train()
        first, again, later, other = (
            groups.at(0, model, None),
            groups.at(0, model, None),
            None,
            others.at(0, model, None),
        )
        later = groups.at(1, model, None)
        assert model.training
        model.eval()
        assert groups.at(0, model, None).items == first.items
        assert not model.training
    assert first.items == again.items
    assert len(first.items) == 12
    assert first.items != later.items
    assert first.items != other.items
    answers = [item.rows[0].ids for item in first.items]
    assert len(set(answers)) == 12  # members of a group differ


def test_a_prompt_that_comes_again_gets_other_answers(tmp_path):
    model, tokenizer = tiny_and_tokenizer(tmp_path)
    with sampled_groups(tmp_path, tokenizer) as groups:
        for step in range(4):  # two epochs
            groups.at(step, model, None)
    by_example = {}
    for line in lines_of(tmp_path):
        by_example.setdefault(line["example"], {}).setdefault(line["step"], []).append(line["completion"])
    assert len(by_example) == 6
    for once, again in (steps.values() for steps in by_example.values()):
        assert set(once).isdisjoint(again)


@pytest.mark.slow
def test_a_group_computes_its_prompt_once_and_chunks_change_nothing(tmp_path):
    model, tokenizer = tiny_and_tokenizer(tmp_path, dtype="float64")
    computed = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, given, out: computed.append(given[0].numel()))
    found, counts = [], []
    for rows_at_once in (64, 4, 1):
        small = replace(SETTINGS, rows_at_once=rows_at_once)
        with sampled_groups(tmp_path, tokenizer, settings=small) as groups:
            groups.at(0, model, None)  # the engine's first look at a model computes tokens of its own
            computed.clear()
            found.append(groups.at(0, model, None).items)
            counts.append(sum(computed))
    hook.remove()
    assert found[0] == found[1] == found[2]
    prompt = len(found[0][0].rows[0].prompt)
    answers = 12 * SETTINGS.max_new_tokens
    assert counts[0] < 2 * prompt + answers  # of three prompts that differ in their last letter
    assert counts[0] < counts[1] == counts[2] < 3 * prompt + answers + 12  # of one group a chunk, each prompt once


def test_answers_are_what_is_trained_and_rewarded(tmp_path):
    model, tokenizer = tiny_and_tokenizer(tmp_path)
    with sampled_groups(tmp_path, tokenizer, settings=replace(SETTINGS, max_new_tokens=200)) as groups:
        batch = groups.at(0, model, None)
    lines = lines_of(tmp_path)
    assert len(lines) == 12
    by_text = {}
    for line in lines:
        assert line["step"] == 0
        assert line["reward"] == sum(map(ord, line["completion"])) % 101 / 100
        assert line["rewards"] == {"spread": line["reward"]}
        by_text[line["completion"]] = line
    for item in batch.items:
        (row,) = item.rows
        start = len(row.prompt)
        assert all(row.targets[start:])
        assert tokenizer.decode(row.ids[:start]).endswith("<|im_start|>assistant\n")
        line = by_text[tokenizer.decode(row.ids[start:], skip_special_tokens=True)]
        assert item.advantage == line["advantage"]
        assert line["cut"] == (row.ids[-1] != tokenizer.eos_token_id)
        assert 2 not in row.ids[start:-1]
    cut = sum(line["cut"] for line in lines) / 12
    assert batch.figures["cut_answers"] == pytest.approx(cut)
    assert 0 < cut < 1
    rewards = torch.tensor([line["reward"] for line in lines])
    assert batch.figures["reward"] == pytest.approx(float(rewards.mean()))
    assert batch.figures["reward_std"] == pytest.approx(float(rewards.std()))
    assert batch.figures["reward_spread"] == batch.figures["reward"]
    length = sum(sum(item.rows[0].targets) for item in batch.items) / 12
    assert batch.figures["answer_length"] == pytest.approx(length)


@pytest.mark.parametrize(("name", "divisor"), [("grpo", "std"), ("dapo", "std"), ("dr_grpo", None)])
def test_advantages_are_those_of_the_objective(name, divisor, tmp_path):
    model, tokenizer = tiny_and_tokenizer(tmp_path)
    with sampled_groups(tmp_path, tokenizer, objective=name) as groups:
        groups.at(0, model, None)
    lines = lines_of(tmp_path)
    for start in range(0, len(lines), 4):
        rewards = torch.tensor([line["reward"] for line in lines[start : start + 4]], dtype=torch.float64)
        wanted = rewards - rewards.mean()
        if divisor:
            wanted = wanted / (rewards.std() + 1e-4)
        assert [line["advantage"] for line in lines[start : start + 4]] == pytest.approx(wanted.tolist())


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("name", "options"), [("grpo", (("kl_weight", 0.05),)), ("dr_grpo", ()), ("dapo", ())])
def test_resumed_is_uninterrupted_bit_for_bit(name, options, tmp_path):
    whole, seen_whole = run(tmp_path / "a", name, options=options)
    run(tmp_path / "b", name, options=options, until=2)
    resumed, seen = run(tmp_path / "b", name, options=options)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert [(s.loss, s.figures) for s in seen] == [(s.loss, s.figures) for s in seen_whole[2:]]
    assert lines_of(tmp_path / "a") == lines_of(tmp_path / "b")
    assert not all(s.skipped for s in seen_whole)


def test_a_step_raises_the_rewarded_answers(tmp_path):
    model, tokenizer = tiny_and_tokenizer(tmp_path)
    settings = settings_of(epochs=1, batch_size=6)
    with sampled_groups(tmp_path, tokenizer, batch_size=6) as groups:
        items = groups.at(0, model, None).items
        rows = [item.rows[0] for item in items]
        before = [sum(logps) for logps in token_logps(model, rows, 1536)]
        train(model, groups, settings, folder=tmp_path / "run")
        after = [sum(logps) for logps in token_logps(model, rows, 1536)]
    gain = [b - a for a, b in zip(before, after, strict=True)]
    better = [g for g, item in zip(gain, items, strict=True) if item.advantage > 0]
    worse = [g for g, item in zip(gain, items, strict=True) if item.advantage < 0]
    assert sum(better) / len(better) > 0.1 > sum(worse) / len(worse) + 0.1


def test_groups_of_equal_reward_are_dropped_and_dapo_draws_others(tmp_path):
    model, tokenizer = tiny_and_tokenizer(tmp_path)
    path = reward_file(tmp_path, FIRST)
    small = GroupSettings(group_size=2, max_new_tokens=2)
    more = replace(small, tries=10)
    arguments = {"rewards": [python_reward(path, "first")], "examples": examples(40)}
    with sampled_groups(tmp_path, tokenizer, batch_size=6, settings=small, **arguments) as groups:
        batch = groups.at(0, model, None)
    lines = lines_of(tmp_path)
    alike = [lines[i]["reward"] == lines[i + 1]["reward"] for i in range(0, 12, 2)]
    assert 0 < sum(alike) < 6
    assert [line["dropped"] for line in lines] == [a for a in alike for _ in range(2)]
    assert batch.figures["dropped_groups"] == sum(alike) / 6
    assert len(batch.items) == 2 * (6 - sum(alike))
    assert batch.dropped == 2 * sum(alike)
    with sampled_groups(tmp_path, tokenizer, batch_size=6, objective="dapo", settings=more, **arguments) as groups:
        filled = groups.at(0, model, None)
    assert filled.items[: len(batch.items)] == batch.items
    assert len(filled.items) == 12
    assert filled.dropped == 0
    drawn = [line["example"] for line in lines_of(tmp_path)[::2]]
    assert len(set(drawn)) == len(drawn)
    assert filled.figures["further_groups"] == len(drawn) - 6


def test_a_step_that_teaches_nothing_and_runs_out_of_prompts(tmp_path):
    model, tokenizer = tiny_and_tokenizer(tmp_path)
    path = reward_file(tmp_path, "def same(completion):\n    return 1\n")
    rewards = [python_reward(path, "same")]
    with sampled_groups(tmp_path, tokenizer, objective="dapo", rewards=rewards) as groups:
        batch = groups.at(0, model, None)
    assert batch.items == ()
    assert batch.figures["dropped_groups"] == 1
    assert batch.figures["further_groups"] == 3  # all that there were


def test_the_engine_s_answers_come_from_the_policy_of_the_update(tmp_path):
    """No `old`: the loss of a step's only update is the negative mean advantage, as every ratio is 1."""
    model, tokenizer = tiny_and_tokenizer(tmp_path)
    seen = []
    with sampled_groups(tmp_path, tokenizer) as groups:
        items = groups.at(0, model, None).items
        train(model, groups, settings_of(), folder=tmp_path / "run", until=1, on_step=seen.append)
    assert all(item.old == () for item in items)
    assert seen[0].loss == pytest.approx(-sum(item.advantage for item in items) / len(items), abs=1e-6)
    assert seen[0].grad_norm > 0


def failed(*_):
    return FirstBatch.not_compared("packed and plain differ", gradient_difference=1.0)


@pytest.mark.parametrize("asked", [True, False], ids=["asked for", "the check failed"])
def test_a_run_that_takes_the_plain_path_takes_it_from_its_first_answer_on(asked, tmp_path, monkeypatch):
    """Sampling and the reference too; and so does a run that goes on."""
    scored, sampled = [], []

    def score(*arguments, **named):
        found = target_logps(*arguments, **named)
        scored.append(found.path)
        return found

    def sample(*arguments, **named):
        found = generate(*arguments, **named)
        sampled.extend(answer.path for answer in found)
        return found

    monkeypatch.setattr("lastresort.train.loop.policy.target_logps", score)
    monkeypatch.setattr("lastresort.train.groups.sampling.generate", sample)
    arguments = {"plain": True} if asked else {}
    if not asked:
        monkeypatch.setattr("lastresort.train.loop.policy.check_first_batch", failed)
    options = (("kl_weight", 0.05),)
    for until in (1, 2):
        run(tmp_path / "run", options=options, until=until, **arguments)
        assert set(scored) == set(sampled) == {"plain"}
        assert len(scored) >= 2, "the reference and what trains"
        scored.clear()
        sampled.clear()


def test_the_check_is_made_before_anything_is_sampled_on_groups_as_they_will_be(tmp_path, monkeypatch):
    """Two answers to each of two prompts of the first step, and once a run."""
    model, tokenizer = tiny_and_tokenizer(tmp_path)
    seen, events = [], []

    def check(model, rows):
        seen.append(rows)
        events.append("check")
        return check_first_batch(model, rows)

    def sample(*arguments, **named):
        events.append("sample")
        return generate(*arguments, **named)

    monkeypatch.setattr("lastresort.train.loop.policy.check_first_batch", check)
    monkeypatch.setattr("lastresort.train.groups.sampling.generate", sample)
    with sampled_groups(tmp_path, tokenizer) as groups:
        trained = train(model, groups, settings_of(epochs=1), folder=tmp_path / "run")
        prompts = [item.rows[0].prompt for item in groups.at(0, model, None).items]
    assert events[:2] == ["check", "sample"]
    assert events.count("check") == 1
    (rows,) = seen
    assert [row.prompt for row in rows] == [prompts[0], prompts[0], prompts[4], prompts[4]]
    assert all(sum(row.targets) == SETTINGS.max_new_tokens for row in rows)
    assert len({row.ids for row in rows}) == 4
    assert trained.check.ok
    assert trained.check.gradient_difference is not None


def is_plain_answer(answer, model, tokenizer, prompt, seed, settings):
    """Whether a loop through the model's own forward would draw this answer, looking at the whole text after each token.

    What it computes at each length is what one forward of all computes there.
    """
    drawing = Sampling(
        settings.max_new_tokens, temperature=settings.temperature, top_p=settings.top_p, top_k=settings.top_k
    )
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *answer]])).logits[:, len(prompt) - 1 :]
    stream = random_stream(seed, 0)
    for place, token in enumerate(answer):
        if choose(logits[:, place], drawing, [stream.random()]) != [token]:
            return False
        text = tokenizer.decode(answer[: place + 1], skip_special_tokens=True)
        ends = token == tokenizer.eos_token_id or any(stop in text for stop in settings.stop)
        if ends or place + 1 == settings.max_new_tokens:
            return place + 1 == len(answer)
    return False


@pytest.mark.sampled(4)
@pytest.mark.parametrize("narrow", [{}, {"top_k": 60}, {"top_p": 0.7}, {"temperature": 0.8}], ids=str)
def test_an_answer_ends_with_the_token_that_completes_a_stop_string(narrow, tmp_path):
    """That token is trained, no end token follows, the reward sees what stands before: as a plain loop has it, for each token."""
    model, tokenizer = tiny_and_tokenizer(tmp_path, dtype="float64")
    free = replace(SETTINGS, max_new_tokens=30, **narrow)
    with sampled_groups(tmp_path, tokenizer, settings=free) as groups:
        groups.at(0, model, None)
    whole = next(line["completion"] for line in lines_of(tmp_path) if line["completion"][4:7].isascii())
    stops = (whole[4:7], "é", *"aeiou0123")  # three letters that do come, a character of two tokens, some of one
    stopping = replace(free, stop=stops)
    with sampled_groups(tmp_path, tokenizer, settings=stopping) as groups:
        batch, again = groups.at(0, model, None), groups.at(0, model, None)
    assert again.items == batch.items
    plain, stopped = twin(model), set()
    for line, item, member in zip(lines_of(tmp_path), batch.items, list(range(4)) * 3, strict=True):
        (row,) = item.rows
        start = len(row.prompt)
        answer = row.ids[start:]
        seed = member_seed(5, 0, line["example"], member)
        assert is_plain_answer(answer, plain, tokenizer, row.ids[:start], seed, stopping)
        text = tokenizer.decode(answer, skip_special_tokens=True)
        stopped |= {stop for stop in stops if stop in text}
        assert line["completion"] == text[: min((text.index(stop) for stop in stops if stop in text), default=None)]
        assert line["cut"] == (len(answer) == 30 and answer[-1] != 2 and line["completion"] == text)
        assert line["reward"] == sum(map(ord, line["completion"])) % 101 / 100
        assert all(row.targets[start:])
    assert whole[4:7] in stopped
    assert len(stopped) >= 3
    assert len({len(item.rows[0].ids) for item in batch.items}) > 3


def test_weights_scorers_and_columns(tmp_path):
    model, tokenizer = tiny_and_tokenizer(tmp_path)
    text = """
def lists(prompts, completions, bonus, **columns):
    assert sorted(columns) == ["expected"] and len(prompts) == len(completions) == 12
    return [b + len(c) for b, c in zip(bonus, completions)]
def as_scorer(answer, expected):
    return expected == "answer 0"
"""
    path = reward_file(tmp_path, text)
    rewards = [
        python_reward(path, "lists", 2.0),
        python_reward(path, "as_scorer", -1.0),
        RewardTerm("regex", {"pattern": ".*"}, 0.5),
        RewardTerm("regex", {"pattern": "impossible"}),
    ]
    columns = {f"e{i}": {"bonus": 10 * i} for i in range(6)}
    with sampled_groups(tmp_path, tokenizer, rewards=rewards, columns=columns) as groups:
        batch = groups.at(0, model, None)
    for line in lines_of(tmp_path):
        number = int(line["example"][1:])
        values = line["rewards"]
        assert values["lists"] == 10 * number + len(line["completion"])
        assert values["as_scorer"] == float(number == 0)
        assert line["reward"] == 2 * values["lists"] - values["as_scorer"] + 0.5 * values["regex"] + values["regex_2"]
    assert {"reward_lists", "reward_as_scorer", "reward_regex", "reward_regex_2"} <= batch.figures.keys()
    with pytest.raises(DataError, match='no column "bonus", expected what the reward lists needs'):
        sampled_groups(tmp_path, tokenizer, rewards=rewards, columns={**columns, "e4": {}})
    nothing = [replace(example, output="") for example in examples()]
    with pytest.raises(DataError, match="no expected answer"):
        sampled_groups(tmp_path, tokenizer, rewards=[RewardTerm("exact", {})], examples=nothing)


def test_fingerprints_change_with_what_decides_a_batch(tmp_path):
    _, tokenizer = tiny_and_tokenizer(tmp_path)

    def fingerprint(**changes):
        with sampled_groups(tmp_path, tokenizer, **changes) as groups:
            return groups.fingerprint()

    first = fingerprint()
    assert fingerprint() == first
    others = [
        fingerprint(settings=replace(SETTINGS, temperature=0.9)),
        fingerprint(columns={"e0": {"size": 3}}),
        fingerprint(examples=examples(5)),
        fingerprint(objective="dapo"),
        fingerprint(settings=replace(SETTINGS, stop=("e",))),
        fingerprint(rewards=[python_reward(reward_file(tmp_path), weight=2.0)]),
        fingerprint(rewards=[python_reward(reward_file(tmp_path, FIRST), "first")]),
    ]
    assert len({first, *others}) == 8
    assert fingerprint(settings=replace(SETTINGS, rows_at_once=4)) == first
    assert fingerprint(rewards=[python_reward(reward_file(tmp_path, REWARDS + "# corrected\n"))]) == first
    (tmp_path / "moved").mkdir()
    assert fingerprint(rewards=[python_reward(reward_file(tmp_path / "moved"))]) == first


def test_what_cannot_work_is_refused_before_anything_is_sampled(tmp_path):
    _, tokenizer = tiny_and_tokenizer(tmp_path)
    for changes, message in (
        ({"group_size": 1}, "grpo.group_size: found 1, expected at least 2"),
        ({"temperature": 0.0}, "grpo.temperature: found 0.0"),
        ({"top_p": 0.0}, "grpo.top_p"),
        ({"max_new_tokens": 0}, "grpo.max_new_tokens"),
        ({"tries": 0}, "grpo.tries"),
        ({"stop": ("END", "")}, "grpo.stop: found an empty string"),
    ):
        with pytest.raises(InputError, match=message):
            GroupSettings(**changes)
    with pytest.raises(InputError, match="expected one of grpo"):
        sampled_groups(tmp_path, tokenizer, objective="dpo")
    with pytest.raises(
        DataError, match=r"example e0: .* prompt tokens and 6 for the answer, expected at most the model's context"
    ):
        sampled_groups(tmp_path, tokenizer, context_tokens=20)
    with pytest.raises(InputError, match="at least one"):
        groups_from(examples(), [], objective="grpo", tokenizer=tokenizer, batch_size=2, seed=0)
    with pytest.raises(DataError, match='example e2: found the id "e2" of example e2 again'):
        sampled_groups(tmp_path, tokenizer, examples=examples() + examples()[2:3])
