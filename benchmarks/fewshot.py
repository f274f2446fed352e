"""Few-shot evaluation, 5 shots and 48 questions: `python -m benchmarks.fewshot PEER PRECISION BATCH` prints one JSON line."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.material import embedded
from benchmarks.meter import now, peak_bytes
from lastresort.data.read import read_examples
from lastresort.data.rendering import render_prompt, stop_token_ids
from lastresort.types import Message

QUESTIONS, SHOTS, NEW_TOKENS = 48, 5, 48
TICKETS = Path(__file__).parent.parent / "examples" / "tickets" / "tickets.jsonl"


def prompts_of(tokenizer: Any) -> list[list[int]]:
    """Questions of the tickets example, the same five shots before each."""
    examples = read_examples(TICKETS)
    random.Random(7).shuffle(examples)
    head = [Message("system", "Route the ticket. Answer only with a JSON object.")]
    for example in examples[:SHOTS]:
        head += [*example.input, Message("assistant", example.output)]
    return [render_prompt(tokenizer, [*head, *example.input]) for example in examples[SHOTS : SHOTS + QUESTIONS]]


def ours(
    loaded: Any, prompts: list[list[int]], batch: int, new_tokens: int = NEW_TOKENS, temperature: float = 0.0
) -> list[list[int]]:
    from lastresort.engine.choose import Sampling
    from lastresort.engine.sampling import generate

    stop = frozenset(stop_token_ids(loaded.tokenizer))
    settings = Sampling(new_tokens, temperature, stop_ids=stop, rows_at_once=batch)
    return [list(found.tokens) for found in generate(loaded.model, prompts, settings=settings)]


def transformers(
    loaded: Any,
    prompts: list[list[int]],
    batch: int,
    new_tokens: int = NEW_TOKENS,
    temperature: float = 0.0,
    **more: Any,
) -> list[list[int]]:
    """Batches of generate(), left-padded, with its own cache, longest prompts together. more: as generate() takes it."""
    stop = list(stop_token_ids(loaded.tokenizer))
    pad = loaded.tokenizer.pad_token_id or stop[0]
    answers: dict[int, list[int]] = {}
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    for start in range(0, len(order), batch):
        part = [prompts[i] for i in order[start : start + batch]]
        longest = max(map(len, part))
        ids = [[pad] * (longest - len(prompt)) + prompt for prompt in part]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in part]
        with torch.no_grad():
            out = loaded.model.generate(
                input_ids=torch.tensor(ids, device=loaded.model.device),
                attention_mask=torch.tensor(mask, device=loaded.model.device),
                max_new_tokens=new_tokens,
                **(
                    {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
                ),
                eos_token_id=stop,
                pad_token_id=pad,
                **more,
            )
        for i, row in zip(order[start:], out[:, longest:].tolist(), strict=False):
            ends = [place for place, token in enumerate(row) if token in stop]
            answers[i] = row[: ends[0]] if ends else row
    return [answers[i] for i in range(len(prompts))]


def main(peer: str, precision: str, batch: int) -> dict[str, Any]:
    loaded = embedded(precision)
    loaded.model.eval()
    prompts = prompts_of(loaded.tokenizer)
    answer = ours if peer == "ours" else transformers
    answer(loaded, prompts[:2], batch)  # warm up
    began = now("cpu")
    answers = answer(loaded, prompts, batch)
    seconds = now("cpu") - began
    stop = set(stop_token_ids(loaded.tokenizer))
    return {
        "questions_per_s": len(prompts) / seconds,
        "peak_bytes": peak_bytes("cpu"),
        "prompt_tokens": sum(map(len, prompts)),
        "new_tokens": sum(map(len, answers)),
        "answers": [loaded.tokenizer.decode([token for token in tokens if token not in stop]) for tokens in answers],
    }


if __name__ == "__main__":
    peer, precision, batch = sys.argv[1:]
    print(json.dumps(main(peer, precision, int(batch))))
