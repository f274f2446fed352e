"""Run by LiteLLM's own python: does it accept the command and the configuration? One line of JSON a folder."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from handed_over import answer_for_each, command, request


def accepts() -> str:
    from litellm import Router
    from litellm.proxy.proxy_cli import run_server
    from litellm.proxy.proxy_server import ProxyConfig

    program, *words = command()
    assert program == "litellm"
    context = run_server.make_context("litellm", list(words))
    os.environ.setdefault("UPSTREAM_URL", "http://127.0.0.1:8000/v1")
    config = asyncio.run(ProxyConfig().get_config(str(Path(context.params["config"]).resolve())))
    (deployment,) = Router(model_list=config["model_list"]).get_model_list() or []
    asked = request()["model"]
    assert deployment["model_name"] == asked, f"{asked} is not {deployment['model_name']}"
    return f"{asked} -> {deployment['litellm_params']['model']} at port {context.params['port']}"


if __name__ == "__main__":
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network for prices
    answer_for_each(accepts)
