"""The gate of adapters that plain PEFT wrote and of whole folders, on a tiny random model: nothing is converted."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from climb_support import scripted_task
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.errors import DataError, InputError
from lastresort.gate import built_in as suites
from lastresort.gate.sides import check_fit, refuse_other_rendering, resolve_sides
from lastresort.spec.sections import SuiteFacts
from lastresort.spec.training import load_training
from lastresort.train.files.run import run_training
from lastresort.types import SilentProgress
from tiny_model import TEMPLATE, save_tiny_model
from train_support import training_file

SHAPE = {"vocab_size": 259, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def adapter(folder: Path, *, scale: float = 0.0, hidden_size: int = 48, layers: int = 2, base_name: str = "") -> Path:
    """As PEFT itself saves one; scale: of the random B, 0 as PEFT begins."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("llama", hidden_size=hidden_size, num_hidden_layers=layers, **SHAPE)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        settings = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
        model = get_peft_model(AutoModelForCausalLM.from_config(config), settings)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(torch.randn(parameter.shape) * scale)
    if base_name:
        model.peft_config["default"].base_model_name_or_path = base_name
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture
def gate(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setattr(suites, "SUITES", {"general": SuiteFacts("gate_support:steady", 0.03)})
    monkeypatch.chdir(tmp_path)
    changes = {"model": str(tiny), "split": {"dev": 20, "test": 48}, "keep": {"general": 0.1}}
    scripted_task(tmp_path, quality=[], task={**changes, "decode": {"max_new_tokens": 4}})

    def run(tuned: Path, *arguments: str) -> tuple[int, dict[str, Any] | None, str]:
        words = ["lastresort", "gate", "task.yaml", "--base", str(tiny), "--tuned", str(tuned), "--quick", "--json"]
        monkeypatch.setattr(sys, "argv", [*words, *arguments])
        code = guarded(app)
        out, error = capsys.readouterr()
        return code, json.loads(out) if out else None, error

    return run


@pytest.mark.slow
def test_an_adapter_that_changes_nothing_is_never_rejected(gate: Any, tmp_path: Path) -> None:
    code, found, error = gate(adapter(tmp_path / "new"))
    assert code == 0, error
    assert found["verdict"] == "HOLD"  # it is no better at the task
    (suite,) = found["suites"]
    assert (suite["verdict"], suite["difference"], suite["changed"]) == ("NON_INFERIOR", 0.0, [])
    assert (found["target"]["better"], found["tuned"]["kind"]) == (False, "adapter")
    assert found["fingerprints"]["base"] != found["fingerprints"]["tuned"]


@pytest.mark.slow
def test_another_workspace_asks_the_tuned_model_only(gate: Any, tmp_path: Path) -> None:
    _, first, _ = gate(adapter(tmp_path / "new"))
    shutil.rmtree(tmp_path / "runs")
    _, again, error = gate(tmp_path / "new", "--out", "again")
    (suite,) = again["suites"]
    assert (suite, again["verdict"]) == (first["suites"][0], first["verdict"]), error
    assert (first["spent"]["asked_now"], again["spent"]["asked_now"]) == (2 * suite["n"], suite["n"])


def test_a_broken_adapter_is_rejected(gate: Any, tmp_path: Path) -> None:
    code, found, error = gate(adapter(tmp_path / "broken", scale=30.0))
    assert code == 1, error
    assert found["verdict"] == "REJECT"
    assert found["suites"][0]["verdict"] == "REGRESSED"
    assert found["suites"][0]["changed"][0]["question"]


def test_a_whole_model_of_another_seed_is_another_model(gate: Any, tmp_path: Path) -> None:
    code, found, error = gate(save_tiny_model(tmp_path / "other", seed=5))
    assert code == 1, error
    assert found["tuned"]["kind"] == "model"


@pytest.fixture
def trained(tmp_path: Path, tiny: Path) -> Path:
    """The output of a training, with an adapter in it."""
    path = training_file(tmp_path, "sft", model=str(tiny), max_steps=1)
    run_training(load_training(path), resume=False, progress=SilentProgress())
    return tmp_path / "out"


@pytest.mark.usefixtures("trained")
def test_the_output_of_a_training_is_taken_for_what_it_saved(tmp_path: Path, tiny: Path) -> None:
    sides = resolve_sides(str(tiny), "out", {}, tmp_path)
    assert (sides.kind, sides.tuned.name) == ("adapter", "out/adapter")
    assert sides.tuned.opening is not None
    assert sides.tuned.opening.adapter == tmp_path / "out" / "adapter"


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_an_adapter_and_the_training_that_it_is_in_are_one_gate(gate: Any, tmp_path: Path) -> None:
    _, first, error = gate(Path("out"))
    (tmp_path / "gates" / "routing-1" / "gate.json").unlink()
    _, again, _ = gate(Path("out/adapter"))
    assert [path.name for path in (tmp_path / "gates").iterdir()] == ["routing-1"], error
    assert (again["tuned"]["name"], again["test_reuse"]) == (first["tuned"]["name"], first["test_reuse"])


@pytest.mark.usefixtures("trained")
def test_a_whole_model_that_was_trained_from_another_base_is_said_to_be(tmp_path: Path, tiny: Path) -> None:
    """As of an adapter, by the record next to it."""
    (tmp_path / "out" / "adapter").rename(tmp_path / "adapter")
    save_tiny_model(tmp_path / "out" / "adapter", seed=5)
    other = save_tiny_model(tmp_path / "other")
    for name in ("out", "out/adapter"):
        assert resolve_sides(str(tiny), name, {}, tmp_path).notes == ()
        (note,) = resolve_sides(str(other), name, {}, tmp_path).notes
        assert note == f"out/adapter was trained from {tiny}; here it is compared with {other}."


def test_a_training_whose_adapter_has_gone_is_no_name_of_the_hub(trained: Path, tmp_path: Path, tiny: Path) -> None:
    shutil.rmtree(trained / "adapter")
    with pytest.raises(
        DataError, match=r"out: no adapter/ there, though training\.json says .* Put it back, or train again"
    ):
        resolve_sides(str(tiny), "out", {}, tmp_path)


def test_a_training_that_has_not_finished_is_said_to_be_that(trained: Path, tmp_path: Path, tiny: Path) -> None:
    (trained / "training.json").unlink()
    for _ in ("with the adapter saved", "before"):
        with pytest.raises(
            InputError, match=r"a training that has not finished.* Finish it: lastresort train FILE --resume\."
        ):
            resolve_sides(str(tiny), "out", {}, tmp_path)
        shutil.rmtree(trained / "adapter", ignore_errors=True)


def test_another_framework_may_have_written_a_file_of_the_name_of_our_record(tmp_path: Path, tiny: Path) -> None:
    whole, part = save_tiny_model(tmp_path / "whole", seed=5), adapter(tmp_path / "part")
    for folder in (whole, part):
        (folder / "training.json").write_text('{"lr": 1e-4}')
    assert resolve_sides(str(tiny), str(whole), {}, tmp_path).kind == "model"
    assert resolve_sides(str(tiny), str(part), {}, tmp_path).kind == "adapter"


def test_the_base_is_not_compared_with_itself(gate: Any, tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "link").symlink_to(tiny)
    for same in (str(tiny), "link", f"../{tmp_path.name}/link"):
        code, found, error = gate(Path(same))
        assert (code, found) == (2, None)
        assert f"found {same}, which is also the base (--base)" in error.replace("\n", " ")
    for name in ("embedded", "org/not-on-this-machine"):  # before the base is opened or fetched
        with pytest.raises(InputError, match=r"also the base \(--base\)"):
            resolve_sides(name, name, {}, tmp_path)


def with_template(folder: Path, template: str) -> Path:
    """The folder's tokenizer with another chat template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    tokenizer.chat_template = template
    tokenizer.save_pretrained(str(folder))
    return folder


def test_another_chat_template_stops_it_with_one_sentence_that_names_both(
    gate: Any, tmp_path: Path, tiny: Path
) -> None:
    other = with_template(save_tiny_model(tmp_path / "other"), TEMPLATE.replace("<|im_end|>", "<|im_end|> "))
    code, found, error = gate(other)
    assert (code, found) == (2, None)
    assert f"the chat template or the special tokens of {other} differ from those of {tiny}" in error
    assert not (tmp_path / ".lastresort").exists()
    assert "Traceback" not in error


def test_the_tokenizer_that_an_adapter_brings_tells_how_it_was_trained(tmp_path: Path, tiny: Path) -> None:
    trained = adapter(tmp_path / "trained")
    save_tokenizer(tiny, trained, TEMPLATE)
    named = resolve_sides(str(tiny), str(trained), {}, tmp_path)
    refuse_other_rendering(named.base, named.tuned)
    save_tokenizer(tiny, trained, TEMPLATE.replace("\n", " "))
    named = resolve_sides(str(tiny), str(trained), {}, tmp_path)
    with pytest.raises(InputError, match="the chat template or the special tokens of"):
        refuse_other_rendering(named.base, named.tuned)


def save_tokenizer(base: Path, folder: Path, template: str, **tokens: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(base))
    tokenizer.chat_template = template
    for name, token in tokens.items():
        setattr(tokenizer, name, token)
    tokenizer.save_pretrained(str(folder))


def test_a_padding_token_of_the_trainers_own_is_no_other_rendering(tmp_path: Path, tiny: Path) -> None:
    trained = adapter(tmp_path / "trained")
    save_tokenizer(tiny, trained, TEMPLATE, pad_token="<|im_end|>")
    named = resolve_sides(str(tiny), str(trained), {}, tmp_path)
    refuse_other_rendering(named.base, named.tuned)
    save_tokenizer(tiny, trained, TEMPLATE, eos_token="<|endoftext|>")
    named = resolve_sides(str(tiny), str(trained), {}, tmp_path)
    with pytest.raises(InputError, match="special tokens"):
        refuse_other_rendering(named.base, named.tuned)


@pytest.mark.parametrize(
    ("shape", "found"),
    [({"hidden_size": 24}, r"lora_. of \S+ with \d+ \w+, while"), ({"layers": 3}, "the layer model.layers.2.")],
)
def test_an_adapter_of_another_base_is_refused_before_anything_is_asked(
    gate: Any, tmp_path: Path, shape: dict[str, int], found: str
) -> None:
    trained = adapter(tmp_path / "trained", base_name="org/other-model", **shape)
    code, document, error = gate(trained)
    assert (code, document) == (2, None)
    assert "this one was trained on org/other-model" in error
    assert "Traceback" not in error
    with pytest.raises(DataError, match=found):
        check_fit(trained, Path(json.loads((tmp_path / "model.json").read_text())["base"]), "base")


@pytest.fixture(autouse=True)
def _remember_base(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"base": str(tiny)}))


@pytest.mark.slow
def test_an_adapter_that_names_another_base_of_the_same_shape_is_asked_and_that_is_said(
    gate: Any, tmp_path: Path
) -> None:
    code, found, error = gate(adapter(tmp_path / "trained", base_name="org/other-model"))
    assert code == 0, error
    assert "names org/other-model as its base" in found["notes"][0]


@pytest.mark.parametrize(
    "told", ["small.Q4_1.gguf", "files/small.Q4_1.gguf", "small.Q4_1", "small.Q4_1-0123456789abcdef-v1"]
)
def test_a_base_that_was_converted_from_a_gguf_goes_by_the_name_of_the_file_too(
    tmp_path: Path, tiny: Path, told: str
) -> None:
    base = shutil.copytree(tiny, tmp_path / "small.Q4_1-0123456789abcdef-v1")
    assert resolve_sides(str(base), str(adapter(tmp_path / "trained", base_name=told)), {}, tmp_path).notes == ()
    other = adapter(tmp_path / "other", base_name="small.Q8_0.gguf")
    assert "small.Q8_0.gguf" in resolve_sides(str(base), str(other), {}, tmp_path).notes[0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\x00" * 64), "cut short or damaged"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "no adapter_model.safetensors"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "invalid JSON"),
    ],
)
def test_a_spoilt_adapter_is_one_sentence(gate: Any, tmp_path: Path, spoil: Any, message: str) -> None:
    trained = adapter(tmp_path / "trained", base_name="")
    spoil(trained)
    code, _, error = gate(trained)
    assert code == 2
    assert message in error
    assert "Traceback" not in error
