"""`lastresort serve RUN --all`: the winner, its base model and the best prompt side by side, each as it was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest

from decision_support import decide
from lastresort.errors import DataError, InputError
from lastresort.models.local import LocalModel, load_local
from lastresort.models.scripted import Script
from lastresort.records.decision import RunView, WinnerView
from lastresort.records.events.search import SystemFrozen, SystemKept
from lastresort.records.gate import is_uncleared
from lastresort.records.record import Record
from lastresort.serve.opening import ServeRequest, open_served
from lastresort.systems.files import artefact_sha256, folder_sha256, load_system, save_system
from lastresort.systems.running import open_answerer, open_system
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Message
from models_support import save_adapter, save_tiny
from report_support import make
from serve_support import answerer, served, serving, user

ITEMS = [f"the parcel {number} is {'very ' * (number % 4)}late" for number in range(12)]
PROMPT = System("few-shot", "", PromptDesign("Route the ticket to a team."), Decoding(24), precision="float32")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(base, tmp_path_factory.mktemp("adapter"))


def pinned(system: System, folder: Path) -> System:
    """With the fingerprint of the model that it is measured with."""
    opened = open_answerer(system, folder)
    opened.close()
    return replace(system, fingerprint=opened.model.fingerprint)


def decided(run: Path, winner: System, prompt: System | None, *, kind: str = "adapter", held: bool = False) -> Path:
    """A run in which `prompt` went to the test of its rung, and `winner` won."""
    make(run, "prompting-met")
    save_system(winner, run / "winner")
    if prompt is not None:
        folder = run / "candidates" / "prompting" / prompt.name
        save_system(prompt, folder)
        with Record.open(run) as record:
            record.append(SystemFrozen(rung="prompting", name=prompt.name, sha256=artefact_sha256(folder)))
    was = RunView.model_validate_json((run / "decision.json").read_text(encoding="utf-8"))
    sha256 = folder_sha256(run / "winner")
    decide(run, was.replaced(winner=WinnerView(kind=kind, path="winner", held=held, sha256=sha256)))  # type: ignore[arg-type]
    return run


def tuned_run(run: Path, base: Path, adapter: Path, **options: Any) -> Path:
    prompt = pinned(replace(PROMPT, model=str(base)), run)
    design = PromptDesign("Name the team.")
    winner = pinned(replace(PROMPT, name="sft", model=str(base), adapter=adapter, prompt=design), run)
    return decided(run, winner, prompt, **options)


def texts_of(system: System, folder: Path) -> list[str]:
    opened = open_answerer(system, folder)
    texts = [answer.text for answer in opened.answer([(Message("user", item),) for item in ITEMS])]
    opened.close()
    return texts


def base_texts(folder: Path) -> list[str]:
    model = LocalModel(load_local(folder, precision="float32"), name="base")
    return [answer.text for answer in model.generate([(Message("user", item),) for item in ITEMS], PROMPT.decoding)]


def said(url: str, model: str, content: str) -> str:
    body = {"model": model, "messages": user(content)}
    reply = httpx.post(f"{url}/chat/completions", json=body, timeout=120).json()
    assert reply["model"] == model
    return str(reply["choices"][0]["message"]["content"])


@pytest.mark.slow
def test_each_of_the_three_answers_as_it_does_alone_while_the_others_answer(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    """In float32, item by item."""
    run = tuned_run(tmp_path / "run", base, adapter)
    winner = open_system(run)
    expected = {
        "winner": [answer.text for answer in winner.answer([(Message("user", item),) for item in ITEMS])],
        "base": base_texts(base),
        "prompt": texts_of(replace(PROMPT, model=str(base)), run),
    }
    winner.close()
    assert len({text for texts in expected.values() for text in texts}) > 2 * len(ITEMS)
    asked = [(name, place) for place in range(len(ITEMS)) for name in expected]
    with serving(ServeRequest(run, beside=True)) as (found, lines), ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda one: said(found.url, one[0], ITEMS[one[1]]), asked))
        metrics = httpx.get(f"{found.url.removesuffix('/v1')}/metrics", timeout=60).text
    for name, texts in expected.items():
        assert [answer for answer, (model, _) in zip(answers, asked, strict=True) if model == name] == texts
        counted = f'lastresort:request_success_total{{finished_reason="length",model_name="{name}"}}'
        ended = f'lastresort:request_success_total{{finished_reason="stop",model_name="{name}"}}'
        assert sum(_value(metrics, metric) for metric in (counted, ended)) == len(ITEMS)
        assert _value(metrics, f'lastresort:num_requests_running{{model_name="{name}"}}') == 0
        posts = [
            line for line in lines if re.search(rf"POST /v1/chat/completions 200 \S+s {name} \d+\+\d+ tokens", line)
        ]
        assert len(posts) == len(ITEMS)
    assert [(one.name, one.prompted) for one in found.names] == [("winner", True), ("base", False), ("prompt", True)]


def _value(page: str, metric: str) -> float:
    return next((float(line.split()[-1]) for line in page.splitlines() if line.startswith(metric)), 0.0)


def test_base_and_prompt_are_computed_by_the_weights_of_the_winner(base: Path, adapter: Path, tmp_path: Path) -> None:
    run = tuned_run(tmp_path / "run", base, adapter)
    winner, bare, prompt = (
        one.answerer.model for one in open_served(ServeRequest(run, beside=True), approve=_nobody, log=print)
    )
    assert isinstance(winner, LocalModel)
    assert isinstance(bare, LocalModel)
    assert bare is prompt
    held = {parameter.data_ptr() for parameter in winner.loaded.model.parameters()}
    assert {parameter.data_ptr() for parameter in bare.loaded.model.parameters()} < held


def _nobody(question: str) -> bool:
    raise AssertionError(question)


@pytest.mark.slow
def test_an_adapter_that_changes_its_base_has_its_base_loaded_again(base: Path, adapter: Path, tmp_path: Path) -> None:
    """As one with biases, which stay in the base once the adapter is taken off."""
    changing = tmp_path / "adapter"
    changing.mkdir()
    (changing / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    (changing / "adapter_config.json").write_text(json.dumps({**settings, "init_lora_weights": "pissa"}))
    run = tuned_run(tmp_path / "run", base, changing)
    with serving(ServeRequest(run, beside=True)) as (found, _):
        assert [said(found.url, "base", item) for item in ITEMS[:4]] == base_texts(base)[:4]
        assert [said(found.url, "prompt", item) for item in ITEMS[:4]] == texts_of(
            replace(PROMPT, model=str(base)), run
        )[:4]


def test_a_winner_that_is_the_prompt_itself_is_listed_once(base: Path, tmp_path: Path) -> None:
    prompt = pinned(replace(PROMPT, model=str(base)), tmp_path)
    run = decided(tmp_path / "run", prompt, prompt, kind="prompt")
    with serving(ServeRequest(run, beside=True)) as (found, lines):
        listed = httpx.get(f"{found.url}/models", timeout=60).json()["data"]
        assert said(found.url, "base", ITEMS[0]) == base_texts(base)[0]
    owners = [(card["id"], card["owned_by"], card["root"]) for card in listed]
    assert owners == [("winner", "lastresort", "few-shot"), ("base", "lastresort-raw", "base")]
    assert "The best prompt is the winner itself, so it is not served a second time." in lines


def test_a_run_without_a_tested_prompt_serves_the_other_two(base: Path, adapter: Path, tmp_path: Path) -> None:
    winner = pinned(replace(PROMPT, name="sft", model=str(base), adapter=adapter), tmp_path)
    alone = tmp_path / "alone"
    save_system(winner, alone)
    with serving(ServeRequest(alone, beside=True)) as (found, lines):
        assert [one.name for one in found.names] == ["winner", "base"]
    assert any("not in the folder of a run that tested one" in line for line in lines)


def with_rung(run: Path, system: System, rung: str = "retrieval") -> Path:
    """A run in which this rung tested the system, too."""
    folder = run / "candidates" / rung / system.name
    save_system(system, folder)
    with Record.open(run) as record:
        record.append(SystemFrozen(rung=rung, name=system.name, sha256=artefact_sha256(folder)))
    return run


@pytest.mark.slow
def test_what_another_rung_tested_is_served_as_measured_by_the_weights_that_are_there(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    run = tuned_run(tmp_path / "run", base, adapter)
    other = pinned(replace(PROMPT, name="other", model=str(base), prompt=PromptDesign("Say a word.")), run)
    with_rung(run, other)
    with serving(ServeRequest(run, beside=True, rungs=("retrieval",))) as (found, _):
        assert [one.name for one in found.names] == ["winner", "base", "prompt", "retrieval"]
        assert [said(found.url, "retrieval", item) for item in ITEMS[:4]] == texts_of(other, run)[:4]
    served = open_served(ServeRequest(run, beside=True, rungs=("retrieval",)), approve=_nobody, log=print)
    assert served[3].answerer.model is served[1].answerer.model
    inside = run / "candidates" / "prompting" / "few-shot"
    assert [
        one.name for one in open_served(ServeRequest(inside, rungs=("retrieval",)), approve=_nobody, log=print)
    ] == [
        "winner",
        "retrieval",
    ]
    with pytest.raises(InputError, match='no system of the rung "full" was tested'):
        open_served(ServeRequest(run, rungs=("full",)), approve=_nobody, log=print)


def with_candidates(run: Path, base: Path, adapter: Path) -> dict[str, System]:
    """A run that measured systems on dev alone, too: an untrained one, and one that no gate has seen."""
    plain = pinned(replace(PROMPT, name="plain", model=str(base), prompt=PromptDesign("Say a word.")), run)
    tuned = pinned(replace(PROMPT, name="early", model=str(base), adapter=adapter), run)
    for rung, system in (("prompting", plain), ("sft", tuned)):
        folder = run / "candidates" / rung / system.name
        save_system(system, folder)
        with Record.open(run) as record:
            record.append(SystemKept(rung=rung, name=system.name, sha256=artefact_sha256(folder)))
    return {"prompting/plain": plain, "sft/early": tuned}


@pytest.mark.slow
def test_any_system_that_was_measured_is_served_by_its_rung_and_name(base: Path, adapter: Path, tmp_path: Path) -> None:
    run = tuned_run(tmp_path / "run", base, adapter)
    plain = with_candidates(run, base, adapter)["prompting/plain"]
    save_system(replace(plain, name="unknown"), run / "candidates" / "prompting" / "unknown")
    with serving(ServeRequest(run, beside=True, rungs=("prompting/plain",))) as (found, _):
        assert [one.name for one in found.names] == ["winner", "base", "prompt", "prompting/plain"]
        assert [said(found.url, "prompting/plain", item) for item in ITEMS[:4]] == texts_of(plain, run)[:4]
    named = ServeRequest(run, rungs=("prompting/plain", "prompting/few-shot"))
    assert len(open_served(named, approve=_nobody, log=print)) == 3
    names = ("prompting/gone", "prompting/unknown", "sft/plain", "prompting/../sft/early", "prompting/", "/plain")
    for name in names:
        with pytest.raises(InputError, match="measured no system"):
            open_served(ServeRequest(run, rungs=(name,)), approve=_nobody, log=print)
    for name in ("", "/few-shot"):
        with pytest.raises(InputError, match='no system of the rung "" was tested'):
            open_served(ServeRequest(run, rungs=(name,)), approve=_nobody, log=print)
    with pytest.raises(InputError, match=r"no gate has cleared the system of sft/early.*Add --allow-held"):
        open_served(ServeRequest(run, rungs=("sft/early",)), approve=_nobody, log=print)
    leave = ServeRequest(run, rungs=("sft/early",), allow_held=True)
    assert open_served(leave, approve=_nobody, log=print)[1].name == "sft/early"


def test_a_candidate_is_served_only_as_it_was_measured(base: Path, adapter: Path, tmp_path: Path) -> None:
    """An untrained one needs no gate, so weights that were put into it would pass as cleared."""
    run = tuned_run(tmp_path / "run", base, adapter)
    plain = with_candidates(run, base, adapter)["prompting/plain"]
    folder = run / "candidates" / "prompting" / "plain"
    elsewhere = replace(plain, model="/etc", fingerprint="")
    for changed in (replace(plain, adapter=adapter), elsewhere, replace(plain, prompt=PromptDesign("Lie."))):
        save_system(changed, folder)
        with pytest.raises(DataError, match="not those that the climb measured"):
            open_served(ServeRequest(run, rungs=("prompting/plain",)), approve=_nobody, log=print)


def test_what_a_gate_did_not_clear_needs_leave(base: Path, adapter: Path, tmp_path: Path) -> None:
    run = tuned_run(tmp_path / "run", base, adapter)
    tuned = pinned(replace(PROMPT, name="one", model=str(base), adapter=adapter), run)
    with_rung(run, tuned, "sft")
    request = ServeRequest(run, rungs=("sft",))
    with pytest.raises(InputError, match=r"no gate has cleared the system of sft.*Add --allow-held"):
        open_served(request, approve=_nobody, log=print)
    leave = replace(request, allow_held=True)
    assert [one.name for one in open_served(leave, approve=_nobody, log=print)] == ["winner", "sft"]
    gates = [SimpleNamespace(rung="sft", system="one", verdict=verdict) for verdict in ("SHIP", "REJECT")]
    assert not is_uncleared(gates[:1], "sft", "one")  # type: ignore[arg-type]
    assert is_uncleared(gates, "sft", "one")  # type: ignore[arg-type]
    assert is_uncleared(gates, "sft", "another"), "trained, and seen by no gate"  # type: ignore[arg-type]
    assert not is_uncleared([], "retrieval", "one")


def test_a_winner_needs_no_further_leave_as_the_system_of_its_rung(base: Path, adapter: Path, tmp_path: Path) -> None:
    """As after --gate none."""
    run = tuned_run(tmp_path / "run", base, adapter)
    with_rung(run, load_system(run / "winner"), "sft")
    served = open_served(ServeRequest(run, rungs=("sft",)), approve=_nobody, log=print)
    assert [one.name for one in served] == ["winner", "sft"]


def test_a_held_winner_needs_leave(base: Path, adapter: Path, tmp_path: Path) -> None:
    save_system(replace(PROMPT, name="sft", model=str(base), adapter=adapter), tmp_path / "winner")
    winner = {"kind": "adapter", "path": "winner", "held": True, "sha256": folder_sha256(tmp_path / "winner")}
    (tmp_path / "decision.json").write_text(json.dumps({"winner": winner}), encoding="utf-8")
    with pytest.raises(InputError, match="--allow-held"):
        open_served(ServeRequest(tmp_path, beside=True), approve=_nobody, log=print)
    allowed = open_served(ServeRequest(tmp_path, beside=True, allow_held=True), approve=_nobody, log=print)
    assert [one.name for one in allowed] == ["winner", "base"]


def test_a_prompt_that_was_changed_is_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    run = tuned_run(tmp_path / "run", base, adapter)
    file = run / "candidates" / "prompting" / "few-shot" / "system.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("to a team", "to a tram"), encoding="utf-8")
    with pytest.raises(DataError, match="not those that the climb measured"):
        open_served(ServeRequest(run, beside=True), approve=_nobody, log=print)


@pytest.mark.parametrize("options", [{"raw": True}, {"upstream": "http://localhost:1/v1", "model": "a"}])
def test_what_cannot_be_served_side_by_side(tmp_path: Path, options: Mapping[str, Any]) -> None:
    with (
        pytest.raises(InputError, match=r"--all.*Leave one of them out"),
        serving(ServeRequest(tmp_path, beside=True, **options)),
    ):
        pass


def two_scripts() -> dict[str, Any]:
    return {"answering": answerer(Script(default="won")), "beside": {"prompt": answerer(Script(default="prompted"))}}


def test_another_name_is_refused_with_those_that_there_are() -> None:
    with served(**two_scripts()) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        assert [card.id for card in client.models.list().data] == ["winner", "prompt"]
        assert client.models.retrieve("prompt").id == "prompt"
        messages: Any = user("a")
        got = client.chat.completions.create(model="prompt", messages=messages)
        assert (got.choices[0].message.content, got.model) == ("prompted", "prompt")
        chunks = list(client.chat.completions.create(model="prompt", messages=messages, stream=True))
        assert {chunk.model for chunk in chunks} == {"prompt"}
        for asked in (
            lambda: client.chat.completions.create(model="base", messages=messages),
            lambda: client.models.retrieve("base"),
        ):
            with pytest.raises(openai.NotFoundError, match='no model "base" here, only "winner" and "prompt"') as found:
                asked()
            assert found.value.code == "model_not_found"


def _answered(operation: Any, name: str) -> bool:
    """Whether the model of this name answers requests by the document. All its replies are by the document."""
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    statuses = set[int]()

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
    def check(case: Any) -> None:
        if isinstance(case.body, dict):
            case.body["model"] = name
        response = case.call()
        case.validate_response(response, excluded_checks=[positive_data_acceptance])
        statuses.add(response.status_code)
        assert response.status_code != 404 or case.method == "GET"

    check()
    return 200 in statuses


@pytest.mark.slow
def test_the_document_describes_the_replies_of_each() -> None:
    import schemathesis

    with served(**two_scripts()) as server:
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations()]
        posts = [operation for operation in operations if operation.method == "post"]
        assert len(posts) == 2
        assert all(_answered(operation, name) for operation in posts for name in ("winner", "prompt"))
        for operation in operations:
            if operation.method == "get":
                _answered(operation, "")
