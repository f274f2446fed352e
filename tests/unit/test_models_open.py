"""Names of models: what each leads to, and what is said of a name that leads nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastresort.errors import InfrastructureError, PrerequisiteError, TaskError
from lastresort.models.loading import load_local
from lastresort.models.open import local_weights, open_model
from lastresort.models.protocol import is_endpoint


def test_names_without_weights_are_told_apart() -> None:
    assert all(map(is_endpoint, ["openai:gpt", "http://h/v1#m", "https://h#m", "scripted:a.json"]))
    assert not any(map(is_endpoint, ["embedded", "org/name", "folder", "model.gguf", "httpd/model"]))
    with pytest.raises(TaskError, match="no local weights"):
        local_weights("openai:gpt", Path())


def test_a_folder_goes_before_a_hub_id_of_the_same_spelling(tmp_path: Path) -> None:
    assert local_weights("org/name", tmp_path) == "org/name"
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert local_weights("org/name", tmp_path) == tmp_path / "org" / "name"
    assert local_weights(str(tmp_path / "org"), Path("/elsewhere")) == tmp_path / "org"


@pytest.mark.parametrize(
    "name", ["embeded", "tiny", "./org/name", "a/b/c", "model.gguf", "org/", "with space/x", "~/none"]
)
def test_a_name_that_leads_nowhere_is_an_error_that_lists_what_may_stand_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(TaskError, match=r"nothing on disk.*hub id") as caught:
        open_model(name, base_folder=tmp_path)
    assert name in str(caught.value)


def test_the_nearest_name_is_proposed(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match='Did you mean "embedded"'):
        open_model("embeded", base_folder=tmp_path)
    (tmp_path / "smollm-tickets").mkdir()
    with pytest.raises(TaskError, match='Did you mean "smollm-tickets"'):
        open_model("./smolm-tickets", base_folder=tmp_path)


def test_folders_that_hold_no_model_say_what_they_hold(tmp_path: Path) -> None:
    for name, files, says in [
        ("empty", [], "empty"),
        ("text", ["README.md"], "no config.json"),
        ("adapter", ["adapter_config.json"], "an adapter, not a model"),
        ("pickled", ["config.json", "pytorch_model.bin"], "safetensors"),
        ("garbage", ["config.json", "model.safetensors"], "cannot be loaded"),
    ]:
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
        with pytest.raises(TaskError, match=says) as caught:
            open_model(name, base_folder=tmp_path)
        assert str(tmp_path / name) in str(caught.value)
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(TaskError, match="this is a file"):
        open_model("file.txt", base_folder=tmp_path)


def test_a_path_never_becomes_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no such folder"):
        load_local(tmp_path / "org" / "name")


def test_openai_takes_no_arguments_of_a_chat_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with pytest.raises(TaskError, match=r"openai:gpt takes no chat_template_kwargs"):
        open_model("openai:gpt", base_folder=tmp_path, template_kwargs={"enable_thinking": False})
    open_model("openai:gpt", base_folder=tmp_path, template_kwargs={})
    open_model("http://127.0.0.1:9/v1#m", base_folder=tmp_path, template_kwargs={"enable_thinking": False})


def test_an_adapter_cannot_be_put_on_an_endpoint(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="adapter"):
        open_model("http://127.0.0.1:9/v1#m", base_folder=tmp_path, adapter=tmp_path)


def test_prices_and_template_arguments_reach_the_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert open_model("openai:gpt", base_folder=tmp_path).name == "openai:gpt"
    served = "http://127.0.0.1:9/v1#m"
    plain, other = (open_model(served, base_folder=tmp_path, template_kwargs=kwargs) for kwargs in (None, {"a": 1}))
    assert plain.fingerprint != other.fingerprint


@pytest.mark.parametrize(("kind", "says"), [("offline", "HF_HUB_OFFLINE is set"), ("unreachable", "cannot be reached")])
def test_a_hub_id_that_cannot_be_had_is_one_sentence_and_a_lost_network_a_stop(
    monkeypatch: pytest.MonkeyPatch, kind: str, says: str
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fails(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("several\nlines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if kind == "offline" else "0")
    with pytest.raises(PrerequisiteError if kind == "offline" else InfrastructureError, match=says) as caught:
        open_model("org/name", base_folder=Path("/nowhere"))
    assert "\n" not in str(caught.value)
