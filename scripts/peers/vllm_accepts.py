"""Run by vLLM's own python: does it accept the command, the request and the adapter? One line of JSON a folder.

Its compiled parts are not needed, nor is a GPU: the platform is set to that of a processor before anything asks for it.
"""

from __future__ import annotations

from handed_over import answer_for_each, command, request


def accepts() -> str:
    from vllm.config.lora import LoRAConfig
    from vllm.entrypoints.common.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.lora.peft_helper import PEFTHelper
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    program, subcommand, *words = command()
    assert (program, subcommand) == ("vllm", "serve")
    found = make_arg_parser(FlexibleArgumentParser()).parse_args(words)
    validate_parsed_serve_args(found)
    asked = ChatCompletionRequest(**request())
    unknown = sorted((asked.model_extra or {}).keys())
    assert not unknown, f"keys that it does not know: {unknown}"
    limits = asked.structured_outputs or asked.response_format
    names = list(found.served_model_name)
    for module in found.lora_modules or ():
        config = LoRAConfig(max_lora_rank=found.max_lora_rank)
        PEFTHelper.from_local_dir(module.path, None).validate_legal(config)
        names.append(module.name)
    assert asked.model in names, f"{asked.model} is none of {names}"
    kind = "none" if limits is None else type(limits).__name__
    return f"{found.model_tag} as {', '.join(names)}; rank {found.max_lora_rank}; form: {kind}"


if __name__ == "__main__":
    import vllm.platforms
    from vllm.platforms.cpu import CpuPlatform

    vllm.platforms._current_platform = CpuPlatform()
    answer_for_each(accepts)
