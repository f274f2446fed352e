"""Make an environment of its own for each framework whose files are read or written here: their pins contradict each other.

    python scripts/peer_environments.py FOLDER [NAME …]

FOLDER/NAME becomes a virtual environment that `check_exports.py` and `neighbour_configs.py` use; one that is there already is
left as it is. TRL needs none: it is among this project's own development packages. torch comes from whichever index pip is
set up with; a CPU build is enough.
"""

from __future__ import annotations

import argparse
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Peer:
    """framework: the packages under test, installed without what they ask for where `needed` is given, which is then what is
    installed beside them. left_out: what that leaves out, and why."""

    framework: tuple[str, ...]
    needed: tuple[str, ...] | None = None
    left_out: str = ""


# What the argument parsers of vLLM and SGLang import, and their requests.
_PARSING = (
    "torch>=2.11", "transformers>=5.16.1", "accelerate", "huggingface_hub", "aiohttp", "boto3", "certifi", "dill", "fastapi",
    "filelock", "llguidance", "msgspec", "numpy", "openai>=2.25.0", "orjson", "packaging", "pillow", "prometheus_client", "psutil",
    "pybase64", "pydantic", "pyyaml", "pyzmq", "regex", "requests", "safetensors", "scipy", "sentencepiece", "setuptools",
    "tiktoken", "tqdm", "triton", "xgrammar==0.2.8",
)  # fmt: skip
_PARSING_VLLM = (
    "cachetools", "cbor2", "cloudpickle", "openai-harmony", "opentelemetry-api", "partial-json-parser", "py-cpuinfo", "uvloop",
)  # fmt: skip
_UNCOMPUTED = "what loads and computes a model, which needs a GPU: only what it is told is read."


PEERS = {
    "axolotl": Peer(
        ("axolotl==0.19.0",),
        (
            "torch>=2.11,<=2.13",
            "packaging==26.0",
            "huggingface_hub==1.17.0",
            "peft==0.20.0",
            "tokenizers==0.23.1",
            "transformers==5.16.1",
            "accelerate==1.13.0",
            "datasets==4.8.4",
            "trl==1.9.0",
            "pydantic==2.12.5",
            "PyYAML==6.0.3",
            "typer==0.25.1",
            "python-dotenv==1.0.1",
            "posthog==6.7.11",
            "addict",
            "fire",
            "colorama",
            "art",
            "requests",
            "sentencepiece",
            "pillow",
            "psutil",
            "einops",
            "numba>=0.63.1,<1.0",
        ),
        "xformers, triton, torchao, bitsandbytes, liger-kernel, fla-core and flash-linear-attention need CUDA or a compiler; "
        "the clients of clouds, trackers, gradio, modal and lm_eval are not asked when a configuration is parsed.",
    ),
    "llamafactory": Peer(
        ("llamafactory==0.9.5",),
        (
            "torch>=2.4",
            "torchvision>=0.19",
            "av<=16.0.0,>=10.0.0",
            "accelerate<=1.11.0,>=1.3.0",
            "datasets<=4.0.0,>=2.16.0",
            "peft<=0.18.1,>=0.18.0",
            "transformers!=4.52.0,!=4.57.0,<=5.6.0,>=4.55.0",
            "trl<=0.24.0,>=0.18.0",
            "omegaconf",
            "einops",
            "fire",
            "numpy",
            "packaging",
            "pandas",
            "protobuf",
            "pydantic",
            "pyyaml",
            "safetensors",
            "scipy",
            "sentencepiece",
            "tiktoken",
            "pillow",
        ),
        "torchaudio wants torch with CUDA, and reads sound; torchdata streams; gradio, fastapi, "
        "uvicorn, sse-starlette, matplotlib, modelscope and tyro belong to its pages and hubs.",
    ),
    "unsloth": Peer(
        ("unsloth==2026.10.9", "unsloth_zoo==2026.10.9", "trl==1.15.0", "transformers==5.17.0", "peft==0.21.0"),
        (),
        "everything that it asks for: it refuses to be imported without a GPU, so its source is read and not run. TRL, "
        "transformers and PEFT are the newest that it allows, whose arguments its scripts give.",
    ),
    "skypilot": Peer(("skypilot==0.14.1",)),
    "vllm": Peer(("vllm==0.33.0",), (*_PARSING, *_PARSING_VLLM), _UNCOMPUTED),
    "sglang": Peer(("sglang==0.5.23",), (*_PARSING, "ipython"), _UNCOMPUTED),
    "litellm": Peer(
        ("litellm==1.110.2",),
        (
            "litellm==1.110.2",
            "fastapi",
            "uvicorn",
            "gunicorn",
            "websockets",
            "backoff",
            "orjson",
            "apscheduler",
            "fastapi-sso",
            "pyjwt",
            "python-multipart",
            "cryptography",
            "pynacl",
            "boto3",
            "mcp",
            "rq",
            "pyyaml",
            "uvloop",
            "rich",
            "semver",
            "expression",
            "soundfile",
        ),
        "of the extra proxy: what keeps keys and spending in clouds and databases.",
    ),
    "llamacpp": Peer(("llama-cpp-python[server]==0.3.36",)),
}


def make(name: str, folder: Path) -> Path:
    """The environment's python, made if it is not there. Raises CalledProcessError where pip fails."""
    peer, place = PEERS[name], folder / name
    python = place / "bin" / "python"
    done = place / ".done"
    if done.is_file():
        return python
    venv.create(place, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if peer.needed is None:
        subprocess.run([*pip, *peer.framework], check=True)
    else:
        if peer.needed:
            subprocess.run([*pip, *peer.needed], check=True)
        subprocess.run([*pip, "--no-deps", *peer.framework], check=True)
    done.touch()
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description="Environments of the frameworks whose files are read or written here.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)}; all by default")
    asked = parser.parse_args()
    unknown = sorted(set(asked.names) - set(PEERS))
    if unknown:
        parser.error(f"found {', '.join(unknown)}, expected some of {', '.join(PEERS)}")
    for name in asked.names or PEERS:
        print(f"{name}: {make(name, asked.folder.absolute())}", flush=True)
        if PEERS[name].left_out:
            print(f"  left out: {PEERS[name].left_out}")


if __name__ == "__main__":
    main()
