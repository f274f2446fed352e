"""Which framework to train with: when to use it, what it is good at and what it lacks.

Read from their released packages and sources in November 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from lastresort.advice.facts import Facts
from lastresort.records.advice import FrameworkFit

FITS: tuple[FrameworkFit, ...] = get_args(FrameworkFit)
SMALL, LARGE = 2_000_000_000, 30_000_000_000
SHARED_ENOUGH = 0.4


@dataclass(frozen=True, slots=True)
class Framework:
    """take_when, good_at, lacks: for any task, in words. fit: for these facts, with the reason as a sentence."""

    name: str
    take_when: str
    good_at: str
    lacks: str
    fit: Callable[[Facts], tuple[FrameworkFit, str]]


@dataclass(frozen=True, slots=True)
class RatedFramework:
    framework: Framework
    fit: FrameworkFit
    because: str


def chosen_frameworks(facts: Facts) -> tuple[RatedFramework, ...]:
    """Every framework with its fit, best first, each fit in the order of the table."""
    found = [RatedFramework(framework, *framework.fit(facts)) for framework in FRAMEWORKS]
    return tuple(sorted(found, key=lambda one: FITS.index(one.fit)))


def _large(facts: Facts) -> bool:
    return facts.parameters is not None and facts.parameters >= LARGE


def _many_cards(facts: Facts) -> bool:
    return facts.cards is not None and facts.cards > 1


def _ours(facts: Facts) -> tuple[FrameworkFit, str]:
    if _large(facts):
        return (
            "NOT",
            "A model of this size needs kernels and sharding that the large frameworks have and this one does not.",
        )
    if facts.cards == 0 and facts.parameters is not None and facts.parameters <= SMALL:
        return "TAKE", "A small model trains on the CPU here, several times faster than with TRL."
    if facts.preferences == "pairs" and "preference" in facts.ladder and not _many_cards(facts):
        return "TAKE", "Pairs share their prompt, which is computed once here and twice elsewhere."
    if facts.shared_share is not None and facts.shared_share >= SHARED_ENOUGH and not _many_cards(facts):
        return "TAKE", f"{facts.shared_share:.0%} of a row is the same in all rows and is computed once here."
    return "CAN", "It trains on one machine, and a climb measures what comes out."


def _trl(facts: Facts) -> tuple[FrameworkFit, str]:
    if facts.for_grpo and facts.cards:
        return "TAKE", "Its GRPO has the most variants and samples through vLLM."
    return "CAN", "Take it to write the loop yourself in Python, or for an objective that is new this month."


def _axolotl(facts: Facts) -> tuple[FrameworkFit, str]:
    if facts.cards == 0:
        return "NOT", "It needs a GPU."
    if _many_cards(facts) or _large(facts):
        return (
            "TAKE",
            "One YAML file runs over many GPUs and nodes (FSDP2, DeepSpeed), with packing and fused kernels.",
        )
    return "CAN", "It pays off with a second GPU or node; mind that rows beyond 512 tokens are dropped by default."


def _unsloth(facts: Facts) -> tuple[FrameworkFit, str]:
    if _many_cards(facts) or _large(facts):
        return "CAN", "Training over several GPUs is only partly there."
    if facts.cards == 1:
        return "TAKE", "Its own kernels make LoRA and QLoRA fast and lean on one GPU, and it writes GGUF for Ollama."
    return "CAN", "It is made for one CUDA GPU; its CPU support is new."


def _llama_factory(facts: Facts) -> tuple[FrameworkFit, str]:
    if facts.for_grpo:
        return "NOT", "It has no GRPO."
    if facts.cards == 0:
        return "NOT", "It needs a GPU."
    if facts.web_ui:
        return "TAKE", "LlamaBoard covers data, training, chat and export without code."
    return "CAN", "It knows very many models and chat templates; its libraries are pinned far back."


def _ms_swift(facts: Facts) -> tuple[FrameworkFit, str]:
    if facts.cards == 0:
        return "NOT", "It needs a GPU."
    if facts.web_ui and facts.for_grpo:
        return "TAKE", "It has both a web page and GRPO."
    if facts.for_grpo and _many_cards(facts):
        return "TAKE", "It runs GRPO over many GPUs, and it packs preference pairs too."
    return "CAN", "It is at its best with the Qwen family and with images and sound."


def _torchtune(facts: Facts) -> tuple[FrameworkFit, str]:
    return "NOT", "It is no longer maintained (last release 0.6.1)."


def _hosted(facts: Facts) -> tuple[FrameworkFit, str]:
    if facts.private:
        return "NOT", "Your data must stay in-house."
    if facts.cards == 0 and (facts.parameters is None or facts.parameters > SMALL):
        return "TAKE", "Without a GPU, a service that tunes open models and hands out the adapter is the quickest way."
    return "CAN", "It spares you the GPU; take one that hands out the weights."


FRAMEWORKS = (
    Framework(
        "lastresort train",
        "rows share a prefix or come in pairs, or you train on one machine, even on a CPU",
        "shared prefixes computed once, no padding, CPU; measured in a climb on your own test set; bitwise resume on a CPU",
        "kernels of its own for GPUs, very large models, images and sound",
        _ours,
    ),
    Framework(
        "TRL",
        "you write Python, or want the newest objective",
        "reference implementations, most GRPO variants, logits only where needed, vLLM",
        "shared prompts in training (asked for: #3549); ORPO and CPO/SimPO are experimental and may vanish",
        _trl,
    ),
    Framework(
        "Axolotl",
        "there are several GPUs or nodes, or a large model",
        "FSDP2, DeepSpeed, packing, FP8, one YAML file, all objectives from SFT to GRPO",
        "packing for preferences, a web page for training, a forecast of memory",
        _axolotl,
    ),
    Framework(
        "Unsloth",
        "there is one CUDA GPU and memory is tight",
        "own Triton kernels, little memory, shared prompts for GRPO, GGUF and Ollama, Studio",
        "several nodes; objectives beyond TRL's, on which it depends (TRL 1.15 at most)",
        _unsloth,
    ),
    Framework(
        "LLaMA-Factory",
        "people who do not code will train",
        "LlamaBoard, many models and templates, many quantisations",
        "GRPO; current libraries (TRL 0.24 at most); DPO without full logits",
        _llama_factory,
    ),
    Framework(
        "ms-swift",
        "the model is a Qwen or reads images, or a web page and GRPO are both wanted",
        "packing for SFT and DPO, GRPO, web page, many modalities",
        "current TRL (below 1.0); a forecast of memory",
        _ms_swift,
    ),
    Framework(
        "torchtune",
        "never for anything new",
        "plain recipes to learn from",
        "maintainers",
        _torchtune,
    ),
    Framework(
        "hosted tuning",
        "you have no GPU, and data may leave your machines",
        "nothing to install; large models",
        "weights that stay yours: OpenAI takes no new tuning jobs from January 2027, Cohere none since September 2025",
        _hosted,
    ),
)
