"""An endpoint that limits, cuts and garbles makes the same rows: retried, counted, within the money."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from endpoint_support import Handler, completion, cut_mid_body, model, raw, reply, serving, status
from lastresort.app.synth import SynthRequest, synth_data
from lastresort.errors import InfrastructureError
from lastresort.types import SilentProgress
from synth_support import fresh_rows, made, routing, team_of


class Writer:
    """A step of the endpoint that writes rows and answers inputs."""

    def __init__(self) -> None:
        self.write, self.lock, self.bodies = fresh_rows(), threading.Lock(), list[dict[str, Any]]()

    def __call__(self, handler: Handler, request: dict[str, Any]) -> None:
        said = request["messages"][-1]["content"]
        with self.lock:
            self.bodies.append(request)
            text = self.write(said, 0) if '{"rows": ' in said else team_of(said)
        handler.send(200, completion(text, usage={"prompt_tokens": 100, "completion_tokens": 50}))


def test_an_endpoint_that_falters_is_asked_again_and_paid_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, writer = routing(tmp_path), Writer()
    with serving() as server:
        prices = {"prompt_price": 10.0, "output_price": 20.0}
        monkeypatch.setattr(
            "lastresort.models.open.open_model",
            lambda name, **how: model(server, concurrency=4, on_lost=how["on_lost"], **prices),
        )
        request = SynthRequest(path, server.name, n=12, runs=tmp_path / "runs", **prices)
        server.script = [
            status(429, retry_after="0"), status(503), raw(b"<html>"), cut_mid_body, reply({"choices": []}),
        ]  # fmt: skip
        server.otherwise = writer
        found = synth_data(request, SilentProgress())
        assert (found.made, found.ended) == (12, "rows")
        each = (100 * 10 + 50 * 20) / 1e6
        assert found.tally.calls == len(writer.bodies)
        assert found.usd is not None
        assert found.usd >= each * found.tally.calls
        assert found.usd < each * (found.tally.calls + 40), "replies that were lost may have been charged"
        assert {row["synthetic"]["teacher"] for row in made(found)} == {server.name}
        server.script, asked = [], len(server.requests)
        assert synth_data(request, SilentProgress()).made == 12
        assert len(server.requests) == asked
        server.otherwise = status(500)
        with pytest.raises(InfrastructureError, match="Give the same command again"):
            synth_data(SynthRequest(path, server.name, n=20, runs=tmp_path / "runs", **prices), SilentProgress())
        server.otherwise = writer
        more = synth_data(SynthRequest(path, server.name, n=20, runs=tmp_path / "runs", **prices), SilentProgress())
        assert more.made == len({row["input"] for row in made(more)}) == 20
        assert more.tally.calls == len(writer.bodies)
