"""What is computed for a request: the winner's own prompt and decoding, as measured, unless the request says otherwise."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lastresort.errors import CandidateError
from lastresort.knowledge.chunks import Chunk
from lastresort.models.scripted import ScriptedModel
from lastresort.serve.answers import AnswerJob, RequestComposer
from lastresort.serve.refusals import Refusal, read_request
from lastresort.serve.schema import ChatRequest, CompletionRequest
from lastresort.systems.answerer import Answerer
from lastresort.systems.system import Retriever, Shot
from lastresort.types import Decoding, Grammar, Message
from serve_support import ABOUT, SCRIPT, answerer, system, user

OBJECT = {"type": "object", "properties": {"team": {"type": "string"}}, "required": ["team"]}
SHOTS = tuple(Shot((Message("user", f"in {n}"),), f"out {n}") for n in range(3))
PASSAGE = Chunk("a#b:1", "a", "a#b", ("A", "B"), "", 0, 4, "text")


def chat_job(answering: Answerer | None = None, *, raw: bool = False, **body: Any) -> AnswerJob:
    body = {"model": "winner", "messages": user("late parcel"), **body}
    request = read_request(json.dumps(body).encode(), ChatRequest)
    return RequestComposer(answering or answerer(), raw=raw).chat(request)


def text_job(answering: Answerer | None = None, *, raw: bool = False, **body: Any) -> AnswerJob:
    request = read_request(json.dumps({"model": "winner", "prompt": "late parcel", **body}).encode(), CompletionRequest)
    return RequestComposer(answering or answerer(), raw=raw).completions(request)


def decoding(**body: Any) -> Decoding:
    [work] = chat_job(answerer(decoding=Decoding(64, stop=("#",), seed=3)), **body).works
    return work.decoding


def test_the_prompt_is_the_one_that_was_measured() -> None:
    answering = answerer(prompt=replace(system().prompt, shots=SHOTS, k=2, selection="nearest", layout="sections"))
    turns = (Message("user", "in 1"), Message("assistant", "b"), Message("user", "in 2"))
    body = [{"role": turn.role, "content": turn.content} for turn in turns]
    [work] = chat_job(answering, messages=body).works
    assert work.prompt == answering.prompt(turns)
    assert work.decoding == answering.system.decoding
    assert work.top_logprobs is None
    [work] = text_job(answering).works
    assert work.prompt == answering.prompt((Message("user", "late parcel"),))


def test_system_turns_of_a_client_follow_the_winners_own() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "In English."}, *user("a")]
    [work] = chat_job(messages=messages).works
    assert work.prompt == (Message("system", f"{ABOUT}\n\nBe brief.\n\nIn English."), Message("user", "a"))


def test_text_parts_are_joined_and_names_are_kept() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    [work] = chat_job(messages=[{"role": "user", "content": parts, "name": "Ann"}]).works
    assert work.prompt[1] == Message("user", "a\nb", {"name": "Ann"})


def test_the_bare_model_gets_the_messages_as_they_are() -> None:
    own = Decoding(64, stop=("#",), grammar=Grammar(choices=("a", "b")))
    answering = answerer(decoding=own, has_logprobs=True)
    [work] = chat_job(answering, raw=True).works
    assert work.prompt == (Message("user", "late parcel"),)
    assert work.decoding == Decoding(64)
    [work] = text_job(answering, raw=True).works
    assert work.prompt == "late parcel"
    with pytest.raises(Refusal, match="no text is continued"):  # of an endpoint
        text_job(raw=True)


def test_a_request_overrides_only_what_it_names() -> None:
    own = Decoding(64, stop=("#",), seed=3)
    assert decoding() == own
    assert decoding(temperature=0.5, top_p=0.9, top_k=5) == replace(own, temperature=0.5, top_p=0.9, top_k=5)
    assert decoding(max_tokens=5) == decoding(max_completion_tokens=5) == replace(own, max_new_tokens=5)
    assert decoding(max_tokens=5, max_completion_tokens=5) == replace(own, max_new_tokens=5)
    assert decoding(stop="x").stop == ("x",)
    assert decoding(stop=[]).stop == ()
    assert decoding(seed=0).seed == 0
    assert decoding(temperature=0).temperature == 0.0


def test_several_answers_are_the_samples_of_a_repeated_prompt() -> None:
    job = chat_job(n=3, seed=7, temperature=1)
    assert [work.decoding.seed for work in job.works] == [7, 8, 9]
    texts = text_job(answerer(has_logprobs=True), raw=True, prompt=["a", "b"], n=2, seed=7)
    assert [(work.prompt, work.decoding.seed) for work in texts.works] == [("a", 7), ("a", 8), ("b", 7), ("b", 8)]


class Enforcing(ScriptedModel):
    """Enforces no schema that has "hard" in it."""

    def check_decoding(self, decoding: Decoding) -> None:
        if "hard" in str(decoding.grammar):
            raise CandidateError("it is too hard")


@pytest.mark.parametrize("own", [None, Grammar(choices=("a",)), Grammar(json_schema=OBJECT), Grammar(json_schema={})])
def test_a_response_format_is_the_grammar(own: Grammar | None) -> None:
    answering = Answerer(replace(system(), decoding=Decoding(9, grammar=own)), Enforcing(SCRIPT))

    def grammar(wanted: Any) -> Grammar | None:
        return chat_job(answering, response_format=wanted).works[0].decoding.grammar

    assert grammar(None) == own
    assert grammar({"type": "text"}) is None
    any_object = Grammar(json_schema={"type": "object"})
    assert grammar({"type": "json_object"}) == (own if own == Grammar(json_schema=OBJECT) else any_object)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    assert grammar(wanted) == Grammar(json_schema=schema)


@pytest.mark.parametrize(
    ("schema", "status", "code"),
    [
        ({"type": "hard"}, 400, "invalid_schema"),
        ({"type": "object", "title": "hard"}, 422, "unsupported_schema"),
        ({"$ref": "https://example.org/schema.json"}, 400, "invalid_schema"),
        ({"$ref": "#"}, 400, "invalid_schema"),
        ({"pattern": "(a"}, 400, "invalid_schema"),
        ({"description": "x" * 70_000}, 400, "invalid_schema"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused(schema: Any, status: int, code: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    with pytest.raises(Refusal) as raised:
        chat_job(Answerer(system(), Enforcing(SCRIPT)), response_format=wanted)
    assert (raised.value.status, raised.value.code) == (status, code)
    assert raised.value.param == "response_format.json_schema.schema"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [*user("a"), {"role": "assistant", "content": "b"}]}, "messages[1].role"),
        ({"messages": [{"role": "system", "content": "b"}]}, "messages"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_what_has_no_answer_is_refused(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as raised:
        chat_job(**body)
    assert raised.value.param == param


def test_too_many_answers_are_refused() -> None:
    assert len(text_job(prompt=["a"] * 8, n=2).works) == 16
    with pytest.raises(Refusal, match="9 prompts with n 2 make 18 answers"):
        text_job(prompt=["a"] * 9, n=2)


def test_logprobs_are_passed_on_where_the_model_has_them() -> None:
    answering = answerer(has_logprobs=True)
    assert chat_job(answering, logprobs=True).works[0].top_logprobs == 0
    assert chat_job(answering, logprobs=True, top_logprobs=3).works[0].top_logprobs == 3
    assert chat_job(answering, logprobs=False).works[0].top_logprobs is None
    assert text_job(answering, logprobs=2).works[0].top_logprobs == 2


def test_the_passages_of_a_prompt_are_its_sources(tmp_path: Any) -> None:
    answering = answerer(retriever=Retriever(tmp_path, 1), lookup=lambda turns: (PASSAGE,))
    job = chat_job(answering)
    assert job.sources == (PASSAGE,)
    assert "[1] a: A > B\ntext" in job.works[0].prompt[-1].content  # type: ignore[union-attr]
    assert text_job(answering, prompt=["a", "b"]).sources == (PASSAGE,)
    assert chat_job(answering, raw=True).sources is None
    assert chat_job().sources is None


@pytest.mark.parametrize("said", ["a b", "  a b \n", "", " ", "So.\nAnswer: b", "Answer: a\nAnswer:  b \n"])
@pytest.mark.parametrize("reasoning", [False, True])
def test_what_is_shown_is_the_answer_however_it_is_cut(said: str, reasoning: bool) -> None:
    answering = answerer(prompt=replace(system().prompt, reasoning=reasoning))
    for size in (1, 2, 50):
        shown = RequestComposer(answering, raw=False).text()
        pieces = [shown.grow(said[start : start + size]) for start in range(0, len(said), size)]
        bare = RequestComposer(answering, raw=True).text()
        whole = "".join([*pieces, shown.finish(said)])
        assert whole == (said.rpartition("Answer:")[2] if reasoning else said).strip()
        assert "".join(bare.grow(said[start : start + size]) for start in range(0, len(said), size)) == said
        assert bare.finish(said) == ""
        assert not (reasoning and any(pieces))
