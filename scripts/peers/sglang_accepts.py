"""Run by SGLang's own python: does it accept the command, the request and the adapter? One line of JSON a folder."""

from __future__ import annotations

import argparse

from handed_over import answer_for_each, command, request


def accepts() -> str:
    from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest
    from sglang.srt.lora.lora_config import LoRAConfig
    from sglang.srt.server_args import ServerArgs

    *program, module = (words := command())[:3]
    assert (program, module) == (["python3", "-m"], "sglang.launch_server")
    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    found = parser.parse_args(words[3:])
    body = request()
    unknown = sorted(set(body) - set(ChatCompletionRequest.model_fields))
    assert not unknown, f"keys that it does not know: {unknown}"
    asked = ChatCompletionRequest(**body)
    names = [found.served_model_name]
    for pair in found.lora_paths or ():
        name, _, path = pair.partition("=")
        adapter = LoRAConfig(path)
        assert adapter.r <= found.max_lora_rank
        assert not adapter.use_dora
        names.append(f"{found.served_model_name}:{name}")
    assert asked.model in names, f"{asked.model} is none of {names}"
    form = "regex" if asked.regex else "response_format" if asked.response_format else "none"
    return f"{found.model_path} as {', '.join(names)}; rank {found.max_lora_rank}; form: {form}"


if __name__ == "__main__":
    answer_for_each(accepts)
