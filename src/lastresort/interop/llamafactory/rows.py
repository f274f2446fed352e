"""Aligned rows -> rows of our own: turns for the model's own chat template, or segments.

Segments are written by a named template whose text is known here, so that rows are as LLaMA-Factory renders them, token for token.
A turn that asks, with the beginning of its answer, is one piece of text, an answer with its end another; each is tokenised by
itself. Facts of data/template.py of the released package (0.9.5). Templates that it ends in another way (`efficient_eos`), or
with a begin-of-text token before every turn, are not written here.

Segments are also written with the model's own template, where a training file cannot express the rows: each with its own tools,
or a tool call as the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lastresort.data.chat_template import ChatTemplate, accepted_turns, rendered_text, template_of
from lastresort.data.rendering import turn_end_ids
from lastresort.errors import DataError
from lastresort.foreign import NotJson, parse_json
from lastresort.interop.llamafactory.keys import Stage
from lastresort.interop.llamafactory.turns import AlignedRow, Turn
from lastresort.types import JsonObject, Message, Role

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
    """system_in_user: the system's text is inside the first question. default_system: where a row has none. thinks: an answer
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
    """The text without what is between <think> and </think>."""
    kept: list[str] = []
    opening, closing = "<think>\n", "\n</think>\n\n"
    while opening in text:
        before, _, after = text.partition(opening)
        _, closed, after = after.partition(closing)
        if not closed:
            break
        kept, text = [*kept, before], after
    return "".join([*kept, text]).lstrip("\n")


@dataclass(frozen=True, slots=True)
class TokenizerWriting:
    """arguments: of the chat template, other than the tools. last_turn: mask_history."""

    tokenizer: Any
    arguments: Mapping[str, Any]
    last_turn: bool = False

    def completion(self, row: AlignedRow) -> list[Segment]:
        """Of sft: every answer is trained with its end token, or the last alone."""
        prompt, answers = _messages(row)
        return self._segments(row, (*prompt, answers[0]), last_only=self.last_turn)

    def answered(self, row: AlignedRow) -> tuple[list[Segment], list[list[Segment]]]:
        """Of dpo and kto: the prompt, and each answer behind it."""
        prompt, answers = _messages(row)
        found = [self._segments(row, (*prompt, answer), last_only=True) for answer in answers]
        if any(segments[0] != found[0][0] for segments in found):
            raise DataError(
                "the prompt is written otherwise before chosen than before rejected",
                where=row.place,
                expected="the same prompt",
                remedy="Remove the row.",
            )
        return found[0][:1], [segments[1:] for segments in found]

    def _segments(self, row: AlignedRow, turns: Sequence[Message], *, last_only: bool) -> list[Segment]:
        tools = {"tools": tools_of(row)} if row.tools else {}
        template = template_of(self.tokenizer, {**self.arguments, **tools})
        turns = accepted_turns(self.tokenizer, template, turns)
        whole = rendered_text(self.tokenizer, template, turns, prompt=False)
        answers = [number for number, turn in enumerate(turns) if turn.role == "assistant" and number > 0]
        segments: list[Segment] = []
        at = 0
        for number in answers[-1:] if last_only else answers:
            start, stop = self._span(template, turns, number, whole, row.place)
            segments += [{"text": whole[at:start]}, {"text": whole[start:stop], "train": True}]
            at = stop
        return [*segments, {"text": whole[at:]}] if whole[at:] else segments

    def _span(
        self, template: ChatTemplate, turns: Sequence[Message], number: int, whole: str, place: str
    ) -> tuple[int, int]:
        """Where an answer begins in the whole text, and where its end token ends."""
        before = rendered_text(self.tokenizer, template, turns[:number], prompt=True)
        done = rendered_text(self.tokenizer, template, turns[: number + 1], prompt=False)
        ends = turn_end_ids(self.tokenizer, template_kwargs=dict(template.arguments))
        end = str(self.tokenizer.decode(list(ends))) if ends else ""
        stop = done.rfind(end, len(before)) + len(end) if end and end in done[len(before) :] else len(done)
        if not whole.startswith(before) or not whole.startswith(done[:stop]):
            raise DataError(
                f"the model's chat template writes turn {number + 1} otherwise once others follow",
                where=place,
                expected="a conversation that is only added to",
                remedy="Write mask_history: true, or name a template.",
            )
        return len(before), stop


_ROLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "observation": "tool"}


def written_row(row: AlignedRow, stage: Stage, writing: RowWriting | TokenizerWriting | None) -> JsonObject:
    """The row as `lastresort train` reads it. writing: None for turns, which the model's own chat template renders later."""
    if stage == "pt":
        return {"text": row.prompt[0].text}
    if writing is None:
        return _turns(row, stage)
    if stage == "sft":
        return {"segments": writing.completion(row)}
    prompt, answers = writing.answered(row)
    if stage == "dpo":
        return {"segments": prompt, "chosen_segments": answers[0], "rejected_segments": answers[1]}
    return {"segments": [*prompt, *answers[0]], "label": row.label}


def _turns(row: AlignedRow, stage: Stage) -> JsonObject:
    prompt, answers = ([message.as_dict() for message in messages] for messages in _messages(row))
    if stage == "dpo":
        return {"prompt": prompt, "chosen": [answers[0]], "rejected": [answers[1]]}
    return {"messages": [*prompt, *answers], **({"label": row.label} if stage == "kto" else {})}


def _messages(row: AlignedRow) -> tuple[list[Message], list[Message]]:
    """The prompt, and the answers."""
    system = [Message("system", row.system)] if row.system else []
    prompt = [*system, *(_message(turn, row.place) for turn in row.prompt)]
    return prompt, [_message(turn, row.place) for turn in row.answers]


def _message(turn: Turn, place: str) -> Message:
    if turn.role == "function":
        return Message("assistant", "", {"tool_calls": _calls(turn.text, place)})
    return Message(_ROLES[turn.role], turn.text)


def _calls(text: str, place: str) -> list[JsonObject]:
    """A call, or a list of them, as JSON with name and arguments."""
    try:
        found = parse_json(text, lenient=True)
        calls = found if isinstance(found, list) else [found]
        functions = [{"name": call["name"], "arguments": _arguments(call["arguments"])} for call in calls]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            "found a call of a function that is no JSON with name and arguments",
            where=place,
            expected='{"name": …, "arguments": {…}}',
            remedy="Correct it, or remove the row.",
        ) from error
    return [{"type": "function", "function": function} for function in functions]


def _arguments(value: Any) -> Any:
    return parse_json(value, lenient=True) if isinstance(value, str) else value


def tools_of(row: AlignedRow) -> Any:
    """The tools of a row that has some. Raises DataError where they are no JSON."""
    try:
        return parse_json(row.tools, lenient=True)
    except NotJson as error:
        raise DataError(
            f"found tools that are no JSON ({error.reason})",
            where=row.place,
            expected="a list of functions as JSON",
            remedy="Correct them, or remove the row.",
        ) from error
