"""Training files: what they mean, and how what is wrong with them is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lastresort.errors import TaskError
from lastresort.evals.user_code.process import CodeLimits
from lastresort.spec.training import TrainingKeys, load_training
from lastresort.spec.values import ELSEWHERE
from lastresort.train.settings import AdapterSettings, ServerPlan, TrainingFile

ROWS = '{"input": "a", "output": "b"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("rows.jsonl", "more.jsonl", "eval.jsonl"):
        (tmp_path / name).write_text(ROWS, encoding="utf-8")
    (tmp_path / "docs").mkdir()
    (tmp_path / "rewards.py").write_text("def score(answer, expected):\n    return 1.0\n", encoding="utf-8")
    return tmp_path


def load(folder: Path, text: str, **overrides: Any) -> TrainingFile:
    path = folder / "sft.yaml"
    path.write_text(text, encoding="utf-8")
    return load_training(path, overrides)


def test_data_is_all_that_must_be_said(folder: Path) -> None:
    file = load(folder, "data: rows.jsonl\n")
    assert (file.model, file.objective, file.settings.objective.options) == ("embedded", "sft", ())
    assert file.data.train == (folder.resolve() / "rows.jsonl",)
    assert file.settings.adapter == AdapterSettings("lora", 16, 32.0, "attention", 0.0)
    assert file.output == folder.resolve() / "sft-out"
    assert (file.settings.epochs, file.settings.batch_size, file.settings.learning_rate, file.longer_rows) == (
        3,
        16,
        2e-4,
        "refuse",
    )
    assert file.groups is None


@pytest.mark.parametrize(
    ("objective", "adapter", "rate"),
    [("sft", "lora", 2e-4), ("text", "full", 2e-5), ("dpo", "dora", 1e-5), ("kto", "full", 1e-6)],
)
def test_the_learning_rate_follows_objective_and_adapter(
    folder: Path, objective: str, adapter: str, rate: float
) -> None:
    file = load(folder, f"data: rows.jsonl\nobjective: {objective}\nadapter: {adapter}\n")
    assert file.settings.learning_rate == rate
    assert (
        load(folder, f"data: rows.jsonl\nobjective: {objective}\nlearning_rate: 5e-5\n").settings.learning_rate == 5e-5
    )


def test_every_way_to_name_data(folder: Path) -> None:
    here = folder.resolve()
    assert load(folder, "data: [rows.jsonl, more.jsonl]").data.train == (here / "rows.jsonl", here / "more.jsonl")
    both = load(folder, "data: {train: rows.jsonl, eval: [eval.jsonl]}").data
    assert (both.train, both.eval, both.eval_share) == ((here / "rows.jsonl",), (here / "eval.jsonl",), None)
    assert load(folder, "data: {train: rows.jsonl, eval: 0.25}").data.eval_share == 0.25
    assert load(folder, "data: {train: rows.jsonl, eval: 30}").data.eval_share == 30
    assert load(folder, "objective: text\ndata: docs").data.train == (here / "docs",)


def test_an_objective_with_options(folder: Path) -> None:
    file = load(folder, "data: rows.jsonl\nobjective: {dpo: {beta: 0.2, label_smoothing: 0.1}}")
    assert (file.objective, file.settings.objective.options) == ("dpo", (("beta", 0.2), ("label_smoothing", 0.1)))
    assert file.settings.objective.option("beta", 0.0) == 0.2


def test_an_option_that_is_true_or_false(folder: Path) -> None:
    file = load(folder, "data: rows.jsonl\nobjective: {ipo: {per_token: true}}")
    assert file.settings.objective.options == (("per_token", True),)
    assert file.resolved["objective"] == {"ipo": {"per_token": True}}
    assert load(folder, yaml.safe_dump(dict(file.resolved))) == file


@pytest.mark.parametrize(
    ("adapter", "kind", "quantize"),
    [
        ("rslora", "rslora", None),
        ("qlora", "lora", "nf4"),
        ("full", "none", None),
        ("{kind: dora, r: 8}", "dora", None),
    ],
)
def test_adapters_as_the_loop_takes_them(folder: Path, adapter: str, kind: str, quantize: str | None) -> None:
    settings = load(folder, f"data: rows.jsonl\nadapter: {adapter}").settings.adapter
    assert (settings.kind, settings.quantize) == (kind, quantize)


def test_lora_plus_reaches_the_loop_and_is_nothing_beside_all_weights(folder: Path) -> None:
    assert load(folder, "data: rows.jsonl\nloraplus_lr_ratio: 4").settings.loraplus_lr_ratio == 4
    assert "loraplus_lr_ratio" not in load(folder, "data: rows.jsonl").resolved  # so that runs begun before it go on
    with pytest.raises(TaskError, match=r'key "loraplus_lr_ratio".*together with adapter: full'):
        load(folder, "data: rows.jsonl\nadapter: full\nloraplus_lr_ratio: 4")


def test_targets_by_name(folder: Path) -> None:
    assert load(folder, "data: rows.jsonl\nadapter: {target: [q_proj, v_proj]}").settings.adapter.target == (
        "q_proj",
        "v_proj",
    )
    assert load(folder, "data: rows.jsonl\nadapter: {target: q_proj}").settings.adapter.target == ("q_proj",)


def test_groups(folder: Path) -> None:
    text = (
        'data: rows.jsonl\nobjective: grpo\nreward: [{python: "rewards.py:score", weight: 2}, exact]\ngroup_size: 4\n'
    )
    groups = load(folder, text).groups
    assert groups is not None
    assert [(term.name, term.weight) for term in groups.reward] == [("python", 2.0), ("exact", 1.0)]
    assert (groups.sampling.group_size, groups.sampling.max_new_tokens, groups.sampling.temperature) == (4, 256, 1.0)
    assert (
        groups.sampling.top_p,
        groups.sampling.top_k,
        groups.sampling.stop,
        groups.sampling.tries,
        groups.sampling.rows_at_once,
    ) == (1.0, 0, (), 1, 64)
    assert (groups.on_error, groups.limits, groups.server) == ("stop", CodeLimits(), None)


GRPO = "data: rows.jsonl\nobjective: grpo\nreward: [exact]\n"


def test_how_groups_are_drawn_and_rewarded(folder: Path) -> None:
    text = GRPO + (
        'stop: ["\\n", " END"]\ntop_p: 0.9\ntop_k: 50\ntries: 3\nrows_at_once: 8\non_error: zero\n'
        "limits: {time_s: 2.5, memory_gib: 0.5}\n"
    )
    groups = load(folder, text).groups
    assert groups is not None
    assert groups.sampling.stop == ("\n", " END")  # spaces are part of it
    assert (groups.sampling.top_p, groups.sampling.top_k, groups.sampling.tries, groups.sampling.rows_at_once) == (
        0.9,
        50,
        3,
        8,
    )
    assert groups.on_error == "zero"
    assert groups.limits == CodeLimits(2.5, 1 << 29, 120.0)
    groups = load(folder, GRPO.replace("grpo", "dapo") + "limits: {memory_gib: none}\nstop: END\n").groups
    assert groups is not None
    assert (groups.sampling.tries, groups.sampling.stop, groups.limits.memory_bytes) == (4, ("END",), None)


@pytest.mark.parametrize(
    ("server", "plan"),
    [
        ("http://h:8000/v1#base", ServerPlan("http://h:8000/v1#base", 1, "policy", None)),
        ('{model: "http://h/v1#base", sync: 4}', ServerPlan("http://h/v1#base", 4)),
        (
            '{model: "http://h/v1#org/base", adapter_name: mine, output_seen_as: /mnt/out}',
            ServerPlan("http://h/v1#org/base", 1, "mine", "/mnt/out"),
        ),
        ("{model: openai:gpt-4o, sync: never}", ServerPlan("openai:gpt-4o", None)),
    ],
)
def test_a_server_that_samples(folder: Path, server: str, plan: ServerPlan) -> None:
    groups = load(folder, f"{GRPO}server: {server}\n").groups
    assert groups is not None
    assert groups.server == plan


@pytest.mark.parametrize(
    "text",
    [
        "data: rows.jsonl",
        "data: {train: [rows.jsonl, more.jsonl], eval: 0.2}\nobjective: {orpo: {weight: 0.2}}\nadapter: {kind: rslora, r: 8}",
        "data: rows.jsonl\nobjective: kto\npairs_as_labels: true\nadapter: full\nmax_steps: 7\ntrack: tensorboard",
        "data: rows.jsonl\nobjective: dapo\nreward: [{regex: 'a+', weight: 0.5}]",
        "data: rows.jsonl\nobjective: grpo\nreward: [exact]\nserver: http://h/v1#m\nstop: ' x'\nlimits: {memory_gib: none}",
        "data: rows.jsonl\nobjective: grpo\nreward: [exact]\nserver: {model: 'http://h/v1#m', sync: never, output_seen_as: /o}",
    ],
)
def test_what_is_resolved_loads_as_the_same(folder: Path, text: str) -> None:
    file = load(folder, text)
    assert load(folder, yaml.safe_dump(dict(file.resolved))) == file


def test_overrides_are_checked_like_the_file_and_can_take_a_key_back(folder: Path) -> None:
    text = "data: rows.jsonl\nadapter: {r: 8}\nepochs: 1\n"
    assert load(folder, text, **{"adapter.r": 4}).settings.adapter.r == 4
    assert load(folder, text, epochs=None).settings.epochs == 3
    with pytest.raises(TaskError, match=r'key "adapter\.r" \(from --set\): found text'):
        load(folder, text, **{"adapter.r": "many"})


WRONG: dict[str, tuple[str, str]] = {
    "empty": ("", "found an empty file, expected a training"),
    "a list": ("[a, b]", "expected keys with values, such as `data: rows.jsonl`"),
    "two documents": ("data: rows.jsonl\n---\ndata: rows.jsonl", "expected one training a file"),
    "no data": ("epochs: 3", 'key "data": found nothing, expected what to train on'),
    "unknown key": ("data: rows.jsonl\nepocs: 3", 'found the unknown key "epocs", expected epochs. Write "epochs"'),
    "a key twice": ("data: rows.jsonl\nseed: 1\nseed: 2", 'line 3, key "seed": found the key a second time'),
    "misplaced key": ("data: rows.jsonl\nr: 8", "Write adapter: {r: …}"),
    "another trainer's key": ("data: rows.jsonl\nnum_train_epochs: 3", 'Write "epochs"'),
    "a rank below its section": ("data: rows.jsonl\nadapter: {kind: lora, rank: 8}", 'expected r. Write "r"'),
    "a rate above 1": ("data: rows.jsonl\nlearning_rate: 2", "Write a number above 0 and at most 1, such as 1e-4."),
    "accumulation": ("data: rows.jsonl\ngradient_accumulation_steps: 4", "the rows of a whole optimizer step"),
    "no such file": ("data: row.jsonl", 'Did you mean "rows.jsonl"?'),
    "no such file in a list": ("data: [rows.jsonl, x.jsonl]", 'key "data[1]": found no file "x.jsonl"'),
    "eval file missing": ("data: {train: rows.jsonl, eval: evals.jsonl}", 'key "data.eval": found no file'),
    "eval alone": ("data: {eval: eval.jsonl}", 'key "data.train": found nothing'),
    "eval is train": ("data: {train: rows.jsonl, eval: rows.jsonl}", 'found "rows.jsonl" a second time'),
    "eval out of range": ("data: {train: rows.jsonl, eval: 1.5}", "expected a file, a share strictly between 0 and 1"),
    "unknown part": ("data: {train: rows.jsonl, dev: eval.jsonl}", 'found the unknown key "dev"'),
    "empty list": ("data: []", "found an empty list"),
    "a folder of rows": ("data: docs", 'found the folder "docs"'),
    "unknown objective": ("data: rows.jsonl\nobjective: dpoo", 'found the unknown objective "dpoo"'),
    "unknown option": ("data: rows.jsonl\nobjective: {dpo: {bta: 1}}", 'key "objective.dpo.bta": found the unknown'),
    "option out of range": ("data: rows.jsonl\nobjective: {dpo: {beta: -1}}", "expected a number above 0"),
    "option of none": ("data: rows.jsonl\nobjective: {sft: {beta: 1}}", "expected none, since it has none"),
    "option not a number": ("data: rows.jsonl\nobjective: {kto: {beta: high}}", 'key "objective.kto.beta"'),
    "switch not a switch": ("data: rows.jsonl\nobjective: {ipo: {per_token: 1}}", "expected true or false"),
    "two objectives": ("data: rows.jsonl\nobjective: {dpo: {}, ipo: {}}", "expected a name, or a name with options"),
    "unknown adapter": ("data: rows.jsonl\nadapter: lorra", 'key "adapter.kind": found text ("lorra")'),
    "rank of a full": ("data: rows.jsonl\nadapter: {kind: full, r: 8}", 'found "r" together with kind: full'),
    "misspelt target": ("data: rows.jsonl\nadapter: {target: atention}", "Write attention"),
    "a number as target": ("data: rows.jsonl\nadapter: {target: [3]}", 'key "adapter.target[0]": found a number (3)'),
    "no target": ("data: rows.jsonl\nadapter: {target: []}", "names such as [q_proj, v_proj]"),
    "eval true": ("data: {train: rows.jsonl, eval: true}", "found true (a truth value), expected a file, or a list"),
    "rank 0": ("data: rows.jsonl\nadapter: {r: 0}", 'key "adapter.r": found a number (0)'),
    "rate as text": ("data: rows.jsonl\nlearning_rate: 1e-4x", "Write a number without a unit"),
    "warmup in percent": ("data: rows.jsonl\nwarmup: 5%", "Write 0.05"),
    "half a step of warmup": ("data: rows.jsonl\nwarmup: 2.5", "0, a share below 1 or a count of at least 1"),
    "unknown schedule": ("data: rows.jsonl\nschedule: cosin", 'Write "cosine"'),
    "unknown precision": ("data: rows.jsonl\nprecision: fp16", "expected auto, float32 or bfloat16"),
    "unknown tracker": ("data: rows.jsonl\ntrack: [wandd]", 'expected wandb. Write "wandb".'),
    "no such tracker": ("data: rows.jsonl\ntrack: comet", "expected tensorboard, mlflow, wandb or trackio"),
    "a number as tracker": ("data: rows.jsonl\ntrack: [3]", 'key "track[0]": found a number (3), expected tensorboard'),
    "a long tracker": (f"data: rows.jsonl\ntrack: {'x' * 99}", f'found the unknown tracker "{"x" * 59}…", expected'),
    "a tracker twice": ("data: rows.jsonl\ntrack: [wandb, wandb]", "found wandb twice"),
    "an endpoint": ("data: rows.jsonl\nmodel: openai:gpt-4o", "expected a model that can be trained here"),
    "no such model": ("data: rows.jsonl\nmodel: ./nothing", 'found no file "nothing"'),
    "no such adapter": ("data: rows.jsonl\nstart_from: out/adapter", 'key "start_from": found no file'),
    "two adapters": ("data: rows.jsonl\nstart_from: docs\nadapter: lora", "found it together with start_from"),
    "reward without groups": ("data: rows.jsonl\nreward: [exact]", "found it together with objective: sft"),
    "groups without reward": ("data: rows.jsonl\nobjective: grpo", "found no reward, which grpo needs"),
    "a group of one": ("data: rows.jsonl\nobjective: grpo\nreward: [exact]\ngroup_size: 1", "of at least 2"),
    "a server without groups": (
        "data: rows.jsonl\nserver: http://h/v1#m",
        'key "server": found it together with objective: sft',
    ),
    "stop strings without groups": (
        "data: rows.jsonl\nobjective: dpo\nstop: x",
        "expected it only with grpo, dr_grpo and dapo",
    ),
    "a judge's price": (
        "data: rows.jsonl\nobjective: grpo\nreward: [exact, {judge: {model: embedded, rubric: x, output_price: 1}}]",
        'key "reward[1].judge.output_price": found output_price of a judge that is a reward, expected it only in a task',
    ),
    "unknown on_error": (GRPO + "on_error: skip", 'key "on_error": found text ("skip"), expected stop or zero'),
    "unknown limit": (GRPO + "limits: {seconds: 3}", 'key "limits.seconds": found the unknown key "seconds"'),
    "no time": (GRPO + "limits: {time_s: 0}", 'key "limits.time_s": found a number (0), expected a number above 0'),
    "memory as text": (GRPO + "limits: {memory_gib: 4GB}", 'key "limits.memory_gib": found text ("4GB")'),
    "limits as a number": (GRPO + "limits: 10", "expected a mapping with time_s, memory_gib or load_s"),
    "top_p above 1": (GRPO + "top_p: 90", 'key "top_p": found a number (90)'),
    "top_k below 0": (GRPO + "top_k: -1", 'key "top_k": found a number (-1), expected a whole number of at least 0'),
    "no try": (GRPO + "tries: 0", 'key "tries": found a number (0), expected a whole number of at least 1'),
    "an empty stop string": (GRPO + 'stop: ["a", ""]', 'key "stop[1]": found an empty string'),
    "a number as stop string": (GRPO + "stop: [4]", 'key "stop[0]": found a number (4)'),
    "a stop string twice": (GRPO + "stop: [a, a]", 'key "stop[1]": found text ("a") twice'),
    "stop strings as a mapping": (GRPO + "stop: {a: b}", "expected a string or a list of strings"),
    "a server without a model": (
        GRPO + "server: http://h/v1",
        'key "server": found text ("http://h/v1") without a model',
    ),
    "a local server": (
        GRPO + "server: {model: embedded}",
        'key "server.model": found text ("embedded"), expected http://host',
    ),
    "a server without an address": (GRPO + "server: {sync: 1}", 'key "server.model": found nothing'),
    "a server with a password": (GRPO + "server: http://me:secret@h/v1#m", "give the key in the environment"),
    "unknown key of a server": (
        GRPO + "server: {model: 'http://h/v1#m', sinc: 1}",
        'found the unknown key "sinc", expected sync',
    ),
    "sync of half a step": (
        GRPO + "server: {model: 'http://h/v1#m', sync: 0.5}",
        "never or a whole number of at least 1",
    ),
    "an adapter's name with a slash": (
        GRPO + "server: {model: 'http://h/v1#m', adapter_name: a/b}",
        'key "server.adapter_name": found text ("a/b")',
    ),
    "openai cannot load": (GRPO + "server: openai:gpt-4o", "Write server: {model: openai:gpt-4o, sync: never}"),
    "openai has no top_k": (
        GRPO + "top_k: 5\nserver: {model: 'openai:m', sync: never}",
        'key "top_k": found it together with openai',
    ),
    "all weights to a server": (
        GRPO + "adapter: full\nserver: http://h/v1#m",
        'key "adapter": found full together with a server',
    ),
    "dora to a server": (GRPO + "adapter: dora\nserver: http://h/v1#m", "lora, rslora or qlora"),
    "another trainer's server": (GRPO + "vllm_server_base_url: http://h", 'Write "server"'),
    "eval of groups": ("data: {train: rows.jsonl, eval: 0.1}\nobjective: grpo\nreward: [exact]", "together with grpo"),
    "no such reward": (
        "data: rows.jsonl\nobjective: grpo\nreward: [{python: 'rewards.py:scores'}]",
        "rewards.py:score",
    ),
    "a reserved template argument": (
        "data: rows.jsonl\nchat_template_kwargs: {tokenize: true}",
        'key "chat_template_kwargs.tokenize": found "tokenize", which rendering itself decides',
    ),
    "columns of pairs": (
        "data: rows.jsonl\nobjective: dpo\ncolumns: {input: a, output: b}",
        "expected it only with sft",
    ),
    "turns of pairs": ("data: rows.jsonl\nobjective: dpo\ntrained_turns: last", "expected it only with sft"),
    "labels of pairs": ("data: rows.jsonl\nobjective: dpo\npairs_as_labels: true", "expected it only with kto"),
    "qlora in float32": ("data: rows.jsonl\nadapter: qlora\nprecision: float32", "found float32 with qlora"),
    "not true or false": ("data: rows.jsonl\ncheckpointing: maybe", "expected true or false"),
    "output not text": ("data: rows.jsonl\noutput: 5", "expected the name of a folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_file(folder: Path, case: str) -> None:
    text, said = WRONG[case]
    with pytest.raises(TaskError) as caught:
        load(folder, text)
    assert said in str(caught.value)
    assert "sft.yaml" in str(caught.value)
    assert "task file" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="expected a training file"):
        load_training(tmp_path / "sft.yaml")


def test_names_of_other_trainers_lead_to_keys_that_exist() -> None:
    for ours in ELSEWHERE.values():
        assert ours.partition(":")[0] in TrainingKeys.model_fields
