"""Named templates whose text is known here, so that rows can be written as LLaMA-Factory renders them, token for token.

A turn that asks, with the beginning of its answer, is one piece of text, an answer with its end another; each is tokenised by
itself. Facts of data/template.py of the released package (0.9.5). Templates that it ends in another way (`efficient_eos`),
or with a begin-of-text token before every turn, are not written here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from lastresort.interop.llamafactory.turns import AlignedRow, Turn

Segment = dict[str, Any]
_NO_THOUGHT = "<think>\n\n</think>\n\n"


@dataclass(frozen=True, slots=True)
class Slot:
    """before + text + after; end: then the tokenizer's end-of-text token; tail: text behind that."""

    before: str = ""
    after: str = ""
    end: bool = False
    tail: str = ""

    def segments(self, text: str, *, train: bool) -> Iterator[Segment]:
        whole = f"{self.before}{text}{self.after}"
        if whole or self.end:
            yield {"text": whole} | ({"train": True} if train else {}) | ({"end": True} if self.end else {})
        if self.tail:
            yield {"text": self.tail} | ({"train": True} if train else {})


@dataclass(frozen=True, slots=True)
class TurnTemplate:
    """system_in_user: the system's text stands inside the first question. default_system: where a row has none. thinks: an answer
    without a thought gets an empty one."""

    user: Slot
    assistant: Slot = Slot(end=True)
    system: Slot = Slot()
    system_in_user: bool = False
    default_system: str = ""
    thinks: bool = False

    def with_system(self, text: str | None) -> TurnTemplate:
        return self if text is None else replace(self, default_system=text)


def _headed(start: str, end: str, separator: str, *, line: str = "") -> TurnTemplate:
    """A header with the role, the text, and an end marker. separator: between header and text. line: behind an end marker."""

    def opened(role: str) -> str:
        return f"{start}{role}{separator}"

    return TurnTemplate(
        user=Slot(opened("user"), f"{end}{line}{opened('assistant')}"),
        assistant=Slot("", f"{end}{line}"),
        system=Slot(opened("system"), f"{end}{line}"),
    )


_CHATML = _headed("<|im_start|>", "<|im_end|>", "\n", line="\n")
_GEMMA = TurnTemplate(
    user=Slot("<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"),
    assistant=Slot("", "<end_of_turn>\n"),
    system=Slot("", "\n\n"),
    system_in_user=True,
)
_PHI = TurnTemplate(
    user=Slot("<|user|>\n", "<|end|>\n<|assistant|>\n"),
    assistant=Slot("", "<|end|>\n"),
    system=Slot("<|system|>\n", "<|end|>\n"),
)
TEMPLATES: dict[str, TurnTemplate] = {
    "llama3": _headed("<|start_header_id|>", "<|eot_id|>", "<|end_header_id|>\n\n"),
    "chatml": _CHATML,
    "yi": _CHATML,
    "smollm": _CHATML,
    "smollm2": replace(_CHATML, default_system="You are a helpful AI assistant named SmolLM, trained by Hugging Face."),
    "qwen": replace(_CHATML, default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "qwen3": replace(_CHATML, thinks=True),
    "qwen3_nothink": _CHATML,
    "lfm2": replace(_CHATML, default_system="You are a helpful AI assistant."),
    "phi": _PHI,
    "phi4": _headed("<|im_start|>", "<|im_end|>", "<|im_sep|>"),
    "gemma": _GEMMA,
    "gemma3": _GEMMA,
    "granite3": _headed("<|start_of_role|>", "<|end_of_text|>", "<|end_of_role|>", line="\n"),
    "mistral": TurnTemplate(
        user=Slot("[INST] ", "[/INST]"),
        assistant=Slot(" ", end=True),
        system=Slot("", "\n\n"),
        system_in_user=True,
    ),
    "ministral": TurnTemplate(user=Slot("[INST]", "[/INST]"), system=Slot("", "\n\n"), system_in_user=True),
    "deepseek": TurnTemplate(user=Slot("User: ", "\n\nAssistant:"), system=Slot("", "\n\n")),
    "deepseek3": TurnTemplate(user=Slot("<｜User｜>", "<｜Assistant｜>")),
    "deepseekr1": TurnTemplate(user=Slot("<｜User｜>", "<｜Assistant｜>"), thinks=True),
    "zephyr": TurnTemplate(
        user=Slot("<|user|>\n", end=True, tail="<|assistant|>\n"),
        system=Slot("<|system|>\n", end=True),
        default_system="You are Zephyr, a helpful assistant.",
    ),
    "vicuna": TurnTemplate(
        user=Slot("USER: ", " ASSISTANT:"),
        default_system=(
            "A chat between a curious user and an artificial intelligence assistant. "
            "The assistant gives helpful, detailed, and polite answers to the user's questions."
        ),
    ),
    "alpaca": TurnTemplate(
        user=Slot("### Instruction:\n", "\n\n### Response:\n"),
        assistant=Slot(end=True, tail="\n\n"),
        default_system=(
            "Below is an instruction that describes a task. "
            "Write a response that appropriately completes the request.\n\n"
        ),
    ),
    "default": TurnTemplate(
        user=Slot("Human: ", end=True, tail="\nAssistant:"),
        assistant=Slot(end=True, tail="\n"),
        system=Slot("System: ", end=True, tail="\n"),
    ),
    "empty": TurnTemplate(user=Slot(), assistant=Slot()),
}


@dataclass(frozen=True, slots=True)
class RowWriting:
    """How rows become segments. thinking: enable_thinking. keep_thoughts: preserve_thinking. train_prompt: train_on_prompt.
    last_turn: mask_history."""

    template: TurnTemplate
    thinking: bool | None = True
    keep_thoughts: bool = False
    train_prompt: bool = False
    last_turn: bool = False

    def completion(self, row: AlignedRow) -> list[Segment]:
        """Of sft: prompt and answers, with what is trained of them."""
        drop = self.last_turn and not self.keep_thoughts
        turns = (*row.prompt, row.answers[0])
        return list(self._written(row, turns, drop_earlier=drop, think_always=not drop, last_only=self.last_turn))

    def answered(self, row: AlignedRow) -> tuple[list[Segment], list[list[Segment]]]:
        """Of dpo and kto: the prompt, and each answer behind it; earlier thoughts are taken out unless they are kept."""
        prompts, answers = [], []
        for answer in row.answers:
            turns, drop = (*row.prompt, answer), not self.keep_thoughts
            whole = list(self._written(row, turns, drop_earlier=drop, think_always=False, last_only=True))
            start = next(number for number, segment in enumerate(whole) if segment.get("train"))
            prompts.append(whole[:start])
            answers.append(whole[start:])
        return prompts[0], answers

    def _written(
        self, row: AlignedRow, turns: tuple[Turn, ...], *, drop_earlier: bool, think_always: bool, last_only: bool
    ) -> Iterator[Segment]:
        """drop_earlier: thoughts before the last answer. think_always: every answer gets a thought, not the last alone."""
        template = self.template
        system = row.system or template.default_system
        if system and not template.system_in_user:
            yield from template.system.segments(system, train=self.train_prompt)
        for number, turn in enumerate(turns):
            is_last, text = number == len(turns) - 1, turn.text
            if number % 2 == 0:
                if system and number == 0 and template.system_in_user:
                    text = f"{template.system.before}{system}{template.system.after}{text}"
                yield from template.user.segments(text, train=self.train_prompt)
                continue
            trained = is_last or not last_only
            if template.thinks:
                if (drop_earlier and not is_last) or (self.thinking is False and (think_always or is_last)):
                    text = without_thought(text)
                if (think_always or is_last) and "<think>" not in text and "</think>" not in text:
                    train_thought = trained if self.thinking else self.train_prompt
                    yield {"text": _NO_THOUGHT} | ({"train": True} if train_thought else {})
            yield from template.assistant.segments(text, train=trained)


def without_thought(text: str) -> str:
    """The text without what stands between <think> and </think>."""
    return re.sub(r"<think>\n.*?\n</think>\n\n", "", text, flags=re.DOTALL).lstrip("\n")
