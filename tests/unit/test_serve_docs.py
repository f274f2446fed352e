"""docs/serve.md shows what works: its Python and its curl are run against a server, its keys and codes are those of the program."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from lastresort.cli.main import app
from lastresort.serve.schema import ChatRequest
from serve_support import answerer, served

PAGE = (Path(__file__).parent.parent.parent / "docs" / "serve.md").read_text(encoding="utf-8")


def test_the_python_and_the_curl_of_the_page_get_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with served(answerer()) as server:
        names: dict[str, Any] = {}
        blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        assert len(blocks) == 2
        for block in blocks:
            exec(compile(block.replace("http://127.0.0.1:8000", server.url), "serve.md", "exec"), names)
        assert capsys.readouterr().out == "other\nother"
        [command] = [block for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) if block.startswith("curl")]
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        command = command.replace("http://127.0.0.1:8000", server.url)
        said = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=60).stdout
        assert b'"content":"other"' in said


def test_the_application_has_ten_lines() -> None:
    block = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    assert len([line for line in block.splitlines() if line]) <= 10


def test_the_page_names_every_option_and_every_key() -> None:
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    assert {option for option in options - {"--help"} if f"`{option}" not in PAGE and f" {option}" not in PAGE} == set()
    keys = set(ChatRequest.model_fields) - {
        "messages",
        "service_tier",
        "store",
        "modalities",
        "function_call",
        "tool_choice",
    }
    missing = {key for key in keys if key not in PAGE and "penalty" not in key}
    assert missing == set()


def test_every_metric_of_the_page_is_there() -> None:
    with served() as server:
        server.chat()
        with server.client() as asking:
            page = asking.get("/metrics").text
    named = re.findall(r"`(\w+)`", PAGE.split("## Metrics")[1].split("## The same")[0])
    metrics = [name for name in named if "_" in name and name != "finished_reason"]
    assert len(metrics) == 10
    assert [name for name in metrics if f"lastresort:{name}" not in page] == []
