"""`lastresort handoff`: what each server gets, and which winners it is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from scripts.peer_environments import PEERS

import lastresort as lr
from adapters_support import family_folder, tuned
from handoff_support import NASTY, flags, handed, run_of, started_with, system
from lastresort.errors import DataError, DiskError, InputError
from lastresort.handoff import TARGETS
from lastresort.handoff.servers import Launch, launch_files
from lastresort.handoff.source import LocalWeights, open_winner
from lastresort.handoff.weights import copied_bytes, written_bytes
from lastresort.handoff.write import write_handoff
from lastresort.models.quantized import QuantizedBase
from lastresort.records.decision import BAR_NOTES, RunView
from lastresort.report.decision import read_decision
from lastresort.report.markdown import summary
from lastresort.report.words.titles import headline
from lastresort.systems.files import save_system
from lastresort.systems.system import PromptDesign
from lastresort.train.adapters.folder import stored_dtype
from lastresort.types import Decoding, Grammar, SilentProgress
from models_support import save_adapter, save_tiny
from train_support import lastresort
from verify_support import won_run

ALWAYS = {"README.md", "handoff.json", "client.py", "request.json", "request.sh", "start.sh"}
FILES = {
    "vllm": {"model", "docker-compose.yaml"},
    "sglang": {"model", "docker-compose.yaml"},
    "llamacpp": {"tickets-F32.gguf", "chat_template.jinja", "docker-compose.yaml"},
    "ollama": {"tickets-F32.gguf", "Modelfile", "docker-compose.yaml"},
    "litellm": {"config.yaml", "docker-compose.yaml"},
    "transformers": {"tickets"},
}
APART = {"vllm", "sglang"}  # servers that load an adapter next to its base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tiny(tmp_path_factory.mktemp("model") / "base")
    (folder / "generation_config.json").write_text('{"temperature": 0.3, "repetition_penalty": 1.5, "eos_token_id": 7}')
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(base, tmp_path_factory.mktemp("model") / "adapter")


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("runs") / "tickets", system(base))


@pytest.fixture(scope="module")
def tuned_run(base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("runs") / "tickets", system(base, adapter=adapter), kind="adapter")


def text_of(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("to", TARGETS)
def test_a_prompt_on_its_model(to: str, run: Path) -> None:
    found = handed(run, to)
    assert set(found.files) == ALWAYS | FILES[to]
    assert {path.name for path in found.folder.iterdir()} == set(found.files)
    readme = text_of(found.folder, "README.md").splitlines()
    assert readme[0] == f"# tickets on {TARGETS[to].title}"
    assert len(readme) == 5
    assert found.url in readme[-1]
    subprocess.run(["sh", "-n", str(found.folder / "start.sh")], check=True)
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("to", TARGETS)
def test_an_adapter_goes_along_or_is_merged(to: str, tuned_run: Path) -> None:
    found = handed(tuned_run, to)
    assert set(found.files) == ALWAYS | FILES[to] | ({"adapter"} if to in APART else set())
    if to in APART:
        assert sorted(path.name for path in (found.folder / "adapter").iterdir()) == [
            "adapter_config.json",
            "adapter_model.safetensors",
        ]
        merged = handed(tuned_run, to, merged=True)
        assert set(merged.files) == ALWAYS | FILES[to]
        assert "--enable-lora" not in started_with(merged)


def test_what_is_handed_over_can_be_edited_but_for_linked_weights(tuned_run: Path, base: Path) -> None:
    found = handed(tuned_run, "vllm")
    kept = [*(found.folder / "adapter").iterdir(), found.folder / "model" / "config.json"]
    assert {path.stat().st_nlink for path in kept} == {1}
    assert (found.folder / "model" / "model.safetensors").samefile(base / "model.safetensors")


@pytest.mark.parametrize(("to", "merged", "copies"), [("vllm", False, 0), ("vllm", True, 1), ("llamacpp", False, 2)])
def test_a_disk_without_room_for_the_weights_is_refused_before_anything_is_written(
    to: str, merged: bool, copies: int, tuned_run: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A linked model needs nothing. A GGUF is made of a merged model, and both are there for a while."""
    weights = copies * (base / "model.safetensors").stat().st_size
    out, winner = tmp_path / "new" / "out", open_winner(tuned_run)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=weights - 1 if copies else 0))
    if copies:
        with pytest.raises(
            DiskError, match=rf"{out}: the weights need .* GiB, and .* GiB are free. Free some space, or"
        ):
            write_handoff(winner, to, out, merged=merged)
        assert not out.parent.exists()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=weights))
    write_handoff(winner, to, out, merged=merged)


def test_a_disk_that_is_full_in_the_midst_is_named_by_the_folder_that_was_asked_for(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("lastresort.handoff.weights.shutil.copyfile", full)
    with pytest.raises(DiskError, match=rf"^{tmp_path / 'out' / 'model'}: the disk is full"):
        write_handoff(open_winner(run), "vllm", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_disk_need_room(base: Path) -> None:
    assert copied_bytes(base, base) == 0
    assert copied_bytes(base, Path("/dev")) == (base / "model.safetensors").stat().st_size


def test_weights_that_lie_there_twice_are_written_once(base: Path, tmp_path: Path) -> None:
    source = tmp_path / "base"
    shutil.copytree(base, source)
    shutil.copyfile(source / "model.safetensors", source / "consolidated.safetensors")
    weights = LocalWeights(source, None, stored_dtype(source), "", None, ())
    assert written_bytes(weights) == (source / "model.safetensors").stat().st_size


def test_a_hand_over_from_python_shows_its_stages_where_it_is_told_to(run: Path) -> None:
    seen: list[str] = []

    class Stages(SilentProgress):
        def stage(self, name: str, *_: object, **__: object) -> None:
            seen.append(name)

    lr.handoff(run, "litellm", progress=Stages())
    assert seen == ["opening the winner"]


def test_what_takes_long_has_a_stage(tuned_run: Path) -> None:
    seen: list[str] = []

    class Stages(SilentProgress):
        def stage(self, name: str, *_: object, **__: object) -> None:
            seen.append(name)

    handed(tuned_run, "llamacpp", progress=Stages())
    assert [stage.split()[0] for stage in seen] == ["reading", "merging", "writing", "comparing", "writing"]


def test_the_readme_says_what_the_run_found(tmp_path: Path) -> None:
    run = won_run(tmp_path)
    title, answer, facts, of_run, *rest = (
        text_of(handed(run, "litellm").folder, "README.md").replace("\n\n", "\n").splitlines()
    )
    assert title == "# routing-1 on LiteLLM"
    decision = read_decision(run)
    assert answer == headline(decision)
    assert facts.startswith("**MET** · task routing · model ./model · bar 50% · confidence 95% · winner prompt")
    assert re.fullmatch(r"Run routing-1, decided on \d{4}-\d\d-\d\d, system zero-shot.*\.", of_run)
    assert rest[0].startswith("- Start")
    held = decision.model_dump(mode="json", by_alias=True)
    held["winner"]["held"] = True
    assert "winner prompt (held)" in summary(RunView.model_validate(held))[1]


def test_vllm_with_an_adapter(tuned_run: Path) -> None:
    found = handed(tuned_run, "vllm")
    words = started_with(found)
    assert words == [
        "vllm", "serve", "model", "--chat-template", "model/chat_template.jinja", "--generation-config", "vllm",
        "--dtype", "float32", "--enable-lora", "--lora-modules", "tickets=adapter", "--max-lora-rank", "8",
        "--served-model-name", "tickets-base", "--host", "127.0.0.1", "--port", "8000",
    ]  # fmt: skip
    assert found.model == "tickets"
    service = yaml.safe_load(text_of(found.folder, "docker-compose.yaml"))["services"]["server"]
    assert service["entrypoint"] + service["command"] == [word.replace("127.0.0.1", "0.0.0.0") for word in words]
    assert service["ports"] == ["127.0.0.1:8000:8000"]
    assert service["volumes"] == ["./:/handoff:ro"]


@pytest.mark.parametrize("to", [to for to in TARGETS if to != "transformers"])
def test_a_compose_file_names_the_version_that_was_checked_or_says_that_its_tag_moves(to: str, run: Path) -> None:
    compose = text_of(handed(run, to).folder, "docker-compose.yaml")
    image = yaml.safe_load(compose)["services"]["server"]["image"]
    checked = [f":v{package.removeprefix(f'{to}==')}" for package in PEERS[to].framework] if to in PEERS else []
    is_checked = any(image.endswith(tag) for tag in checked)
    assert is_checked is (to in ("vllm", "sglang"))
    assert ("whose arguments and requests were checked" in compose) is is_checked
    assert ("moves with each release" in compose) is not is_checked


@pytest.mark.parametrize("is_checked", [True, False])
def test_whether_an_image_was_checked_is_not_read_from_its_tag(is_checked: bool) -> None:
    target = replace(TARGETS["vllm"], image="mirror/vllm:vnext" if not is_checked else "mirror/vllm:0.33.0")
    compose = launch_files(
        Launch(commands=(("vllm", "serve"),), model="m", needs=""), replace(target, image_checked=is_checked)
    )["docker-compose.yaml"]
    assert ("whose arguments and requests were checked" in compose) is is_checked
    assert ("moves with each release" in compose) is not is_checked


def test_sglang_with_an_adapter_asks_for_it_by_the_bases_name(tuned_run: Path) -> None:
    found = handed(tuned_run, "sglang", name="billing_2")
    given = flags(started_with(found))
    assert given["--lora-paths"] == "billing_2=adapter"
    assert (given["--served-model-name"], given["--max-lora-rank"]) == ("billing_2-base", "4")
    assert given["--sampling-defaults"] == "openai"
    assert found.model == "billing_2-base:billing_2"
    assert json.loads(text_of(found.folder, "request.json"))["model"] == found.model


def test_llama_cpp_gets_the_template_the_context_and_neutral_sampling(run: Path) -> None:
    found = handed(run, "llamacpp")
    given = flags(started_with(found))
    assert given["--model"] == "tickets-F32.gguf"
    assert (given["--cache-type-k"], given["--cache-type-v"]) == ("f32", "f32")
    assert given["--ctx-size"] == "256"  # all that the tiny model has
    sampling = {name: given[name] for name in ("--temp", "--top-k", "--top-p", "--min-p", "--repeat-penalty")}
    assert list(sampling.values()) == ["0", "0", "1", "0", "1"]
    body = json.loads(text_of(found.folder, "request.json"))  # for a server that was started otherwise
    assert {name: body[name] for name in ("repeat_penalty", "top_k", "min_p")} == {
        "repeat_penalty": 1,
        "top_k": 0,
        "min_p": 0,
    }
    assert given["--jinja"] == ""
    assert "<|im_start|>" in text_of(found.folder, given["--chat-template-file"])


def test_ollama_sets_context_and_sampling_in_its_modelfile(run: Path) -> None:
    found = handed(run, "ollama")
    lines = text_of(found.folder, "Modelfile").splitlines()
    assert lines[0] == "FROM ./tickets-F32.gguf"
    assert [line for line in lines if line.startswith("PARAMETER")] == [
        'PARAMETER stop "<|im_end|>"',
        "PARAMETER temperature 0",
        "PARAMETER top_k 0",
        "PARAMETER top_p 1",
        "PARAMETER min_p 0",
        "PARAMETER repeat_penalty 1",
        "PARAMETER num_ctx 256",
    ]
    assert "\nollama create tickets -f Modelfile || exit 1\n" in text_of(found.folder, "start.sh")
    assert found.notes == ()


def test_ollama_says_where_no_go_template_is_known(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    (other / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
    )
    found = handed(run_of(tmp_path / "tickets", system(other)), "ollama")
    assert "template in Go" in found.notes[0]
    assert "TEMPLATE" not in text_of(found.folder, "Modelfile")


def test_a_default_system_turn_that_would_end_the_modelfile_is_left_to_ollama(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    template = (base / "chat_template.jinja").read_text()
    for said, known in (("Be kind.", True), ('Say """ now.\nPARAMETER temperature 2', False)):
        start = f"{{% if messages[0]['role'] != 'system' %}}<|im_start|>system\n{said}<|im_end|>\n{{% endif %}}"
        (other / "chat_template.jinja").write_text(start + template)
        written = text_of(handed(run_of(tmp_path / f"run-{known}", system(other)), "ollama").folder, "Modelfile")
        assert ("TEMPLATE" in written, "temperature 2" in written) == (known, False)


def test_the_models_own_generation_settings_are_put_aside(run: Path, base: Path) -> None:
    for to, name in (("vllm", "model"), ("transformers", "tickets")):
        folder = handed(run, to).folder / name
        own = json.loads(text_of(folder, "generation_config.json"))
        assert own == {"do_sample": False, "eos_token_id": [2], "bos_token_id": 1, "pad_token_id": 2}
    assert "repetition_penalty" in text_of(base, "generation_config.json")  # the base's own file is as it was


def test_sampling_reaches_servers_that_take_it_from_the_model(base: Path, tmp_path: Path) -> None:
    """transformers serve refuses top_k in a request, and never samples where do_sample is false."""
    sampled = system(base, decoding=Decoding(8, temperature=0.7, top_p=0.9, top_k=20))
    found = handed(run_of(tmp_path / "tickets", sampled), "transformers")
    own = json.loads(text_of(found.folder / "tickets", "generation_config.json"))
    assert {key: own[key] for key in ("do_sample", "temperature", "top_p", "top_k")} == {
        "do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 20,
    }  # fmt: skip
    body = json.loads(text_of(found.folder, "request.json"))
    assert "top_k" not in body
    assert (body["temperature"], body["top_p"]) == (0.7, 0.9)
    other = json.loads(text_of(handed(tmp_path / "tickets", "vllm").folder, "request.json"))
    assert other["top_k"] == 20


def test_weights_are_those_of_the_base_and_the_template_needs_no_arguments(base: Path, tmp_path: Path) -> None:
    from lastresort.models.tokenizer import read_tokenizer

    other = tmp_path / "other"
    shutil.copytree(base, other)
    chatml = (base / "chat_template.jinja").read_text()
    (other / "chat_template.jinja").write_text(
        "{% if mode is defined %}[{{ mode }}|{{ quiet }}|{{ names[0] }}]{% endif %}" + chatml
    )
    kwargs: dict[str, Any] = {"mode": NASTY, "quiet": True, "names": ['a"b', None, 0.5]}
    found = handed(run_of(tmp_path / "tickets", system(other, template_kwargs=kwargs)), "transformers")
    folder = found.folder / "tickets"
    assert (folder / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    turns = [{"role": "user", "content": "hi"}]
    mine, own = read_tokenizer(folder).tokenizer, read_tokenizer(other).tokenizer
    rendered = mine.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendered.startswith(f'[{NASTY}|True|a"b]<|im_start|>user')
    assert rendered == own.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **kwargs)
    assert "chat_template_kwargs" not in json.loads(text_of(found.folder, "request.json"))


def test_template_arguments_that_cannot_be_written_into_it_are_refused(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    with pytest.raises(DataError, match="renders otherwise once its arguments"):
        handed(run_of(tmp_path / "tickets", system(other, template_kwargs={"no name": 1})), "vllm")


def test_litellm_passes_on_to_a_server_or_to_the_endpoint(run: Path, tmp_path: Path) -> None:
    found = handed(run, "litellm")
    config = yaml.safe_load(text_of(found.folder, "config.yaml"))
    assert config["general_settings"] == {"master_key": "os.environ/LITELLM_MASTER_KEY"}  # it starts with none else
    (model,) = config["model_list"]
    assert model == {
        "model_name": "tickets",
        "litellm_params": {"model": "openai/tickets", "api_base": "os.environ/UPSTREAM_URL", "api_key": "none"},
    }
    assert 'export UPSTREAM_URL="${UPSTREAM_URL:-http://127.0.0.1:8000/v1}"' in text_of(found.folder, "start.sh")
    assert "--name tickets" in found.notes[0]
    hostile = "http://127.0.0.1:9/v1#a: b # 'c' \"d\" ${X}"
    over = handed(run_of(tmp_path / "over", system(hostile, precision="auto")), "litellm")
    (model,) = yaml.safe_load(text_of(over.folder, "config.yaml"))["model_list"]
    assert model["litellm_params"] == {
        "model": "openai/a: b # 'c' \"d\" ${X}",
        "api_base": "http://127.0.0.1:9/v1",
        "api_key": "os.environ/LASTRESORT_API_KEY",
    }
    assert json.loads(text_of(over.folder, "request.json"))["model"] == "over"


def test_an_endpoint_has_nothing_to_load(tmp_path: Path) -> None:
    run = run_of(tmp_path / "over", system("openai:gpt-x", precision="auto"))
    for to in set(TARGETS) - {"litellm"}:
        with pytest.raises(InputError, match="would have nothing to load"):
            handed(run, to)
    body = json.loads(text_of(handed(run, "litellm").folder, "request.json"))
    assert (body["model"], body["max_completion_tokens"]) == ("over", 8)


def test_a_script_is_served_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no server runs"):
        open_winner(run_of(tmp_path / "run", system("scripted:answers.json")))


@pytest.mark.parametrize(
    ("change", "found", "vllm_too"),
    [
        ({"modules_to_save": ["lm_head"]}, "modules_to_save", True),
        ({"use_dora": True}, "DoRA", True),
        ({"bias": "all"}, "biases", True),
        ({"lora_bias": True}, "biases", True),
        ({"init_lora_weights": "pissa"}, "started from pissa", True),
        ({"layer_replication": [[0, 1]]}, "replicated", True),
        ({"rank_pattern": {"q_proj": 8}}, "different rank", False),
        ({"use_rslora": True}, "rsLoRA", False),
        ({"target_modules": ".*q_proj"}, "a pattern", False),
    ],
)
def test_adapters_that_a_server_would_refuse_or_compute_otherwise(
    change: dict[str, Any], found: str, vllm_too: bool, tmp_path: Path
) -> None:
    from lastresort.handoff.weights import refuse_adapter

    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none", **change}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=rf"SGLang cannot serve .*{found}.*Add --merged"):
        refuse_adapter(tmp_path, "SGLang", plain=True)
    if vllm_too:
        with pytest.raises(InputError, match=rf"vLLM cannot serve .*{found}"):
            refuse_adapter(tmp_path, "vLLM", plain=False)
    else:
        refuse_adapter(tmp_path, "vLLM", plain=False)


def test_an_adapter_of_a_base_in_4_bits_is_merged_first(tmp_path: Path) -> None:
    from lastresort.handoff.weights import refuse_adapter

    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    refuse_adapter(tmp_path, "vLLM", plain=False)
    (tmp_path / "trained_on.json").write_text(json.dumps(asdict(QuantizedBase("nf4", "bfloat16"))))
    with pytest.raises(InputError, match=r"a base in 4 bits.*Add --merged"):
        refuse_adapter(tmp_path, "vLLM", plain=False)


def test_dora_is_refused_apart_and_written_merged(tmp_path: Path) -> None:
    base = family_folder(tmp_path / "base")
    from transformers import AutoModelForCausalLM

    tuned(AutoModelForCausalLM.from_pretrained(base), "dora", base_name=str(base)).save_pretrained(tmp_path / "adapter")
    run = run_of(tmp_path / "tickets", system(base, adapter=tmp_path / "adapter"), kind="adapter")
    with pytest.raises(InputError, match=r"vLLM cannot serve DoRA.*Add --merged"):
        handed(run, "vllm")
    assert not (run / "handoff-vllm").exists()
    found = handed(run, "vllm", merged=True)
    assert set(found.files) == ALWAYS | FILES["vllm"]


def test_the_rank_is_one_that_vllm_allows(tmp_path: Path) -> None:
    from lastresort.handoff.servers import _allowed

    assert [_allowed(rank) for rank in (1, 2, 8, 9, 16, 33, 257, 321, 512)] == [1, 8, 8, 16, 16, 64, 320, 512, 512]
    with pytest.raises(InputError, match=r"rank 513.*at most 512.*--merged"):
        _allowed(513)


@pytest.mark.parametrize("selection", ["fixed", "nearest"])
def test_a_held_winner_is_handed_over_only_on_demand_and_every_command_says_so(
    selection: Any, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = system(base)
    held = replace(plain, prompt=replace(plain.prompt, selection=selection))
    run = run_of(tmp_path / "tickets", held, held=True)
    with pytest.raises(InputError, match="the gate holds this winner"):
        open_winner(run)
    for named, report in {".": run, str(run): run, "../tickets": "../tickets"}.items():
        monkeypatch.chdir(run / "winner" if named == "." else run)
        with pytest.raises(
            InputError, match=rf"`lastresort report {re.escape(str(report))}` says what would settle it"
        ):
            open_winner(Path(named))
    spaced = run_of(tmp_path / "a run", held, held=True)
    with pytest.raises(InputError, match=rf"`lastresort report '{re.escape(str(spaced))}'` says"):
        open_winner(spaced)
    assert lastresort(monkeypatch, "handoff", str(run), "--to", "litellm", "--allow-held") == 0
    out, error = capsys.readouterr()
    written = text_of(run / "handoff-litellm", "README.md")
    for command in ("lastresort verify", "lastresort serve")[: 1 if selection == "fixed" else 2]:
        (shown,) = [line for line in out.splitlines() if command in line]
        assert shown.endswith(" --allow-held")
        (shown,) = [line for line in written.splitlines() if command in line]
        assert shown.endswith(" --allow-held`.")
    assert "The gate holds this winner" in error
    free = run_of(tmp_path / "free", held)
    assert lastresort(monkeypatch, "handoff", str(free), "--to", "litellm", "--allow-held") == 0
    assert "allow-held" not in "".join(capsys.readouterr())


def test_a_winner_that_is_not_shown_to_meet_the_bar_is_called_so(base: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path / "tickets", system(base))
    assert not set(BAR_NOTES.values()) & set(handed(run, "litellm").notes)
    decision = json.loads((run / "decision.json").read_text())
    for verdict, note in BAR_NOTES.items():
        tested = {"stopped_at": "prompting", "rungs": [{"name": "prompting", "test": {"verdict": verdict}}]}
        (run / "decision.json").write_text(json.dumps({**decision, **tested}))
        assert set(BAR_NOTES.values()) & set(handed(run, "litellm").notes) == {note}


def test_neither_another_winner_nor_another_base_is_handed_over(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    with_print = replace(system(other), fingerprint=open_winner_fingerprint(other))
    run = run_of(tmp_path / "tickets", with_print)
    open_winner(run)
    save_tiny(other, seed=5)
    with pytest.raises(DataError, match="differ from what system few-shot was measured with"):
        open_winner(run)
    (run / "winner" / "more.txt").write_text("x")
    with pytest.raises(DataError, match="not those that its run measured"):
        open_winner(run)


def open_winner_fingerprint(folder: Path) -> str:
    from lastresort.models.loading import load_local

    return load_local(folder, precision="float32").fingerprint


@pytest.mark.parametrize(
    "name", ["", "a b", "$(id)", "../x", "a/b", "a.gguf", "-x", "a:b", "ü", "a" * 64, "a\nb", 'a"b']
)
def test_names_that_are_no_names_everywhere(name: str, run: Path) -> None:
    with pytest.raises(InputError, match="--name"):
        handed(run, "litellm", name=name)


def test_the_name_of_a_folder_becomes_one(base: Path, tmp_path: Path) -> None:
    run = run_of(tmp_path / "my run: $(id) 1", system(base))
    assert handed(run, "litellm").model == "my-run-id-1"
    assert handed(run_of(tmp_path / "東", system(base)), "litellm").model == "winner"


def test_what_does_not_go_together(run: Path, tuned_run: Path) -> None:
    with pytest.raises(InputError, match="the winner has no adapter"):
        handed(run, "vllm", merged=True)
    with pytest.raises(InputError, match="LiteLLM loads no model"):
        handed(tuned_run, "litellm", merged=True)
    with pytest.raises(InputError, match='found "tgi", expected vllm, '):
        handed(run, "tgi")
    with pytest.raises(InputError, match='Did you mean "llamacpp"'):
        handed(run, "llama.cpp")


def test_a_model_that_no_gguf_can_hold_is_refused_by_name(tmp_path: Path) -> None:
    base = family_folder(tmp_path / "base", "gpt2")
    run = run_of(tmp_path / "tickets", system(base))
    with pytest.raises(DataError, match=r"the family gpt2.*Serve the merged folder"):
        handed(run, "llamacpp")
    assert not (run / "handoff-llamacpp").exists()


def test_only_a_hand_over_is_replaced_and_never_the_winner(run: Path) -> None:
    found = handed(run, "litellm")
    (found.folder / "mine.txt").touch()
    with pytest.raises(InputError, match=r"holds something else \(mine.txt\)"):
        handed(run, "litellm")
    (found.folder / "mine.txt").unlink()
    handed(run, "litellm")
    for inside in (run / "winner", run / "winner" / "out"):
        with pytest.raises(InputError, match="part of the winner"):
            lr.handoff(run, "litellm", out=inside)


def test_nothing_is_copied_through_a_link_that_leads_out(base: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    other = tmp_path / "other"
    shutil.copytree(base, other)
    (other / "vocab.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(InputError, match="found a link to"):
        handed(run_of(tmp_path / "tickets", system(other)), "vllm")
    assert not (tmp_path / "tickets" / "handoff-vllm").exists()


def test_only_files_of_the_model_go_along(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    for name in ("modeling_evil.py", "pytorch_model.bin", "optimizer.pt", ".env"):
        (other / name).write_text("x")
    folder = handed(run_of(tmp_path / "tickets", system(other)), "vllm").folder / "model"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".jinja", ".safetensors"}


@pytest.mark.parametrize(
    ("to", "grammar", "told"),
    [
        (
            "vllm",
            Grammar(json_schema={"type": "object"}),
            "vLLM enforces the measured schema (response_format).",
        ),
        ("ollama", Grammar(json_schema={"type": "object"}), "but its white space may differ"),
        ("transformers", Grammar(json_schema={"type": "object"}), "accepts response_format and ignores it"),
        ("litellm", Grammar(json_schema={"type": "object"}), "The server behind LiteLLM"),
        ("vllm", Grammar(choices=("a", "b")), "limits the answers to the measured choices (structured_outputs"),
        ("ollama", Grammar(choices=("a", "b")), "Nothing limits the answers"),
        ("transformers", Grammar(choices=("a", "b")), "Nothing limits the answers"),
    ],
)
def test_who_keeps_the_answers_to_their_form(to: str, grammar: Grammar, told: str, base: Path, tmp_path: Path) -> None:
    found = handed(run_of(tmp_path / "tickets", system(base, decoding=Decoding(8, grammar=grammar))), to)
    assert told in found.form
    assert found.form in text_of(found.folder, "README.md")
    given = flags(started_with(found))
    backends = {
        "vllm": ("--structured-outputs-config", '{"backend": "guidance"}'),
        "sglang": ("--grammar-backend", "llguidance"),
    }
    if to in backends:
        assert given[backends[to][0]] == backends[to][1]


def test_a_saved_system_has_no_run_to_be_verified_with(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_system(system(base, prompt=PromptDesign("Route.")), tmp_path / "saved")
    assert lastresort(monkeypatch, "handoff", str(tmp_path / "saved"), "--to", "litellm") == 0
    assert "verify" not in capsys.readouterr().out
    written = tmp_path / "saved-handoff-litellm"  # the saved system stays as it is
    assert "verify" not in text_of(written, "README.md")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved", "saved-handoff-litellm"]
    monkeypatch.chdir(tmp_path / "saved")
    assert lr.handoff(".", "litellm").folder == written


def test_commands_work_from_where_the_hand_over_was_typed(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    assert lastresort(monkeypatch, "handoff", "tickets", "--to", "litellm") == 0
    _, start, ask, check = capsys.readouterr().out.splitlines()
    assert start.startswith("start: sh tickets/handoff-litellm/start.sh (")
    assert ask.startswith("ask: python tickets/handoff-litellm/client.py 'your input' (")
    request = "tickets/handoff-litellm/request.json"
    assert check == f"verify: lastresort verify tickets http://127.0.0.1:4000/v1 --request {request}"
    assert "`sh start.sh`" in text_of(run / "handoff-litellm", "README.md")  # which is read in the folder


@pytest.mark.parametrize("to", TARGETS)
def test_another_port_is_in_every_file(to: str, run: Path) -> None:
    found = handed(run, to, port=8123)
    assert found.url == "http://127.0.0.1:8123/v1"
    for name in ("start.sh", "client.py", "request.sh", "README.md"):
        assert "8123" in text_of(found.folder, name)
    usual = str(TARGETS[to].port)
    for path in found.folder.iterdir():
        if path.suffix in {".sh", ".py", ".md", ".yaml"} and path.name != "config.yaml":
            kept = "http://127.0.0.1:8000/v1}" if to == "litellm" else ""
            assert usual not in path.read_text().replace(kept, "")
    if to != "transformers":  # which has no public image
        assert "8123:8123" in text_of(found.folder, "docker-compose.yaml")


@pytest.mark.parametrize("port", [0, 65536, 8100])
def test_ports_that_are_none(port: int, run: Path) -> None:
    with pytest.raises(InputError, match="--port"):
        lr.handoff(run, "litellm", port=port)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "--to is missing, expected --to vllm|sglang|llamacpp|ollama|litellm|transformers. Name one of them."),
        (("--to", "gguf"), '--to: found "gguf", expected vllm, sglang, llamacpp, ollama, litellm, transformers. '
         "For a GGUF, name llamacpp or ollama."),
        (("--to", "GGUF"), "For a GGUF, name llamacpp or ollama."),
        (("--to", "llama.cpp"), 'Did you mean "llamacpp"?'),
        (("--to", "vllm", "--port", "8100"), "--port: found 8100"),
    ],
)  # fmt: skip
def test_a_server_that_is_none_is_refused_before_the_winner_is_opened(
    options: tuple[str, ...],
    sentence: str,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("lastresort.handoff.source.open_winner", refuse_to_open)
    assert lastresort(monkeypatch, "handoff", str(run), *options) == 2
    assert sentence in capsys.readouterr().err


def refuse_to_open(*_: object, **__: object) -> None:
    raise AssertionError("the winner was opened")


def test_a_winner_named_by_its_own_folder_is_verified_with_its_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lastresort(monkeypatch, "handoff", str(run / "winner"), "--to", "litellm") == 0
    assert f"verify: lastresort verify {run} http" in capsys.readouterr().out


def test_the_command(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "tickets", system(base, prompt=PromptDesign("Route.")))
    assert lastresort(monkeypatch, "handoff", str(run), "--to", "litellm", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["folder"] == str(run / "handoff-litellm")
    assert (document["to"], document["model"], document["url"]) == ("litellm", "tickets", "http://127.0.0.1:4000/v1")
    assert (
        lastresort(monkeypatch, "handoff", str(run), "--to", "litellm", "--out", str(tmp_path / "o"), "--name", "n")
        == 0
    )
    said = capsys.readouterr()
    request = f"--request {tmp_path / 'o' / 'request.json'}"
    assert said.out.splitlines()[-1] == f"verify: lastresort verify {run} http://127.0.0.1:4000/v1 {request}"
    readme = (tmp_path / "o" / "README.md").read_text(encoding="utf-8")
    assert "`lastresort verify ../tickets http://127.0.0.1:4000/v1 --request request.json`" in readme
    assert "LiteLLM passes requests on" in said.err
    assert lastresort(monkeypatch, "handoff", str(run), "--to", "litellm", "--merged") == 2
    assert "has no adapter" in capsys.readouterr().err
