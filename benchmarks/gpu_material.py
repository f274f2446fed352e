"""What benchmarks.gpu measures on: models of known shapes with random weights, a tokenizer whose tokens are words, and the works.

Nothing is downloaded. A work's rows are random, of set lengths, and the same for every peer.
"""

from __future__ import annotations

import itertools
import random
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from benchmarks.material import Case, PairCase, Pairs, pairs_of, rows_of
from lastresort.engine.forest import Row

Part = Literal["sft", "kernels", "pairs", "update", "groups", "sampling", "fewshot", "scoring"]
FLOPS_A_WEIGHT = {"sft": 4, "kernels": 4, "pairs": 6, "update": 4, "sampling": 2, "fewshot": 2, "scoring": 2}
"""Of one token: 2 forward, 2 backward through a frozen base, 2 for DPO's reference. Of groups there is no one number."""


@dataclass(frozen=True)
class Shape:
    name: str
    kind: str
    hidden: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int
    tied: bool

    @property
    def config(self) -> Mapping[str, Any]:
        """As transformers names it. Its tokens of begin, end and padding are those of `tokenizer`."""
        return {
            "model_type": self.kind,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_heads,
            "max_position_embeddings": 8192,
            "bos_token_id": SPECIAL.index(BEGIN),
            "eos_token_id": SPECIAL.index(END),
            "pad_token_id": SPECIAL.index(PAD),
        }


PAD, BEGIN, END, UNKNOWN = "<|pad|>", "<|im_start|>", "<|im_end|>", "<|unknown|>"
SPECIAL = (PAD, BEGIN, END, UNKNOWN, "system", "user", "assistant")
SHAPES = (
    Shape("Qwen2.5-0.5B", "qwen2", 896, 4864, 24, 14, 2, 151_936, True),
    Shape("Qwen2.5-1.5B", "qwen2", 1536, 8960, 28, 12, 2, 151_936, True),
    Shape("Qwen2.5-7B", "qwen2", 3584, 18944, 28, 28, 4, 152_064, False),
    Shape("Llama-3-8B", "llama", 4096, 14336, 32, 32, 8, 128_256, False),
    Shape("tiny", "llama", 64, 128, 2, 4, 2, 512, False),
)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS_DRAWN = 4096


@dataclass(frozen=True)
class Built:
    """A model of random weights on its device, with its tokenizer. words: each of them is one token."""

    model: Any
    tokenizer: Any
    words: tuple[str, ...]


def build(shape: Shape, device: str) -> Built:
    """The same weights for every peer, made in bfloat16 on the device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape.config), dtype=torch.bfloat16)
    words = (*SPECIAL, *itertools.islice(_letters(), shape.vocabulary - len(SPECIAL)))
    drawn = random.Random(0).sample(words[len(SPECIAL) :], min(WORDS_DRAWN, shape.vocabulary - len(SPECIAL)))
    return Built(model.requires_grad_(False).eval(), _tokenizer(words), tuple(drawn))


def _letters() -> Iterator[str]:
    """ "a", "b", ... "z", "aa", "ab" and so on."""
    for length in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=length))


def _tokenizer(words: tuple[str, ...]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": PAD, "bos_token": BEGIN, "eos_token": END, "unk_token": UNKNOWN}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@dataclass(frozen=True)
class Work:
    """shared: tokens that all rows begin with; prompt, answer: of each row's own. batch: rows of a step (pairs; prompts of groups;
    questions). members: answers to a prompt. vary: whether own parts differ in length, by a fifth, of which the
    shortest still holds the answer."""

    name: str
    part: Part
    shared: int
    prompt: int
    answer: int
    batch: int
    members: int = 1
    vary: bool = True

    @property
    def rows(self) -> int:
        """What is counted as a row, of a step."""
        return self.batch * self.members

    @property
    def small(self) -> Work:
        """For the tiny shape: a sixteenth of each length, a quarter of the rows."""
        whole = {name: getattr(self, name) for name in ("shared", "prompt", "answer")}
        lengths = {name: max(min(tokens, 2), tokens // 16) for name, tokens in whole.items()}
        return replace(self, batch=max(2, self.batch // 4), members=min(self.members, 4), **lengths)


WORKS = (
    Work("SFT, 1,280 tokens, 1,024 shared", "sft", 1024, 56, 200, 32),
    Work("SFT, 768 tokens, 512 shared", "sft", 512, 56, 200, 32),
    Work("SFT, 4,096 tokens, nothing shared", "sft", 0, 1, 4095, 8, vary=False),
    Work("kernels, 1,280 tokens, 1,024 shared", "kernels", 1024, 56, 200, 32),
    Work("kernels, 4,096 tokens, nothing shared", "kernels", 0, 1, 4095, 8, vary=False),
    Work("DPO, prompts of 512 all different, answers of 256", "pairs", 0, 512, 256, 16),
    Work("DPO, common instruction of 1,024, prompts and answers of 128", "pairs", 1024, 128, 128, 16),
    Work("GRPO's update, 8 prompts of 512 x 16 answers of 256", "update", 0, 512, 256, 8, 16),
    Work("GRPO with its sampling, 8 prompts of 512 x 16 answers of 256", "groups", 0, 512, 256, 8, 16),
    Work("sampling, 8 prompts of 512 x 16 answers of 256", "sampling", 0, 512, 256, 8, 16),
    Work("few-shot answers, shots of 1,024, 48 questions of 64, answers of 32", "fewshot", 1024, 64, 32, 48),
    Work("few-shot scoring, shots of 1,024, 48 questions of 64 x 4 options of 8", "scoring", 1024, 64, 8, 48, 4),
)


def sft_rows(work: Work, built: Built, steps: int) -> list[Row]:
    case = Case(work.name, work.shared, work.prompt + work.answer, work.answer, work.batch, work.vary)
    return rows_of(case, built.tokenizer, work.batch * steps, known=built.words)


def preference_pairs(work: Work, built: Built, steps: int) -> Pairs:
    case = PairCase(work.name, work.shared, work.prompt, work.answer, work.batch)
    return pairs_of(case, built.tokenizer, work.batch * steps, known=built.words)


def answered(work: Work, built: Built) -> list[list[Row]]:
    """For each prompt its rows, one for each of the answers, whose lengths are equal."""
    draw = random.Random(work.name)
    known = built.tokenizer.convert_tokens_to_ids(list(built.words))

    def ids(n: int) -> tuple[int, ...]:
        return tuple(draw.choices(known, k=n))

    shared = ids(work.shared)
    prompts = [(*shared, *ids(work.prompt)) for _ in range(work.batch)]
    targets = (*[False] * (work.shared + work.prompt), *[True] * work.answer)
    return [[Row((*prompt, *ids(work.answer)), targets) for _ in range(work.members)] for prompt in prompts]
