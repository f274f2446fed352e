"""Tiny random models of every family and rows of every shape, with a reference that knows nothing of the engine."""

from __future__ import annotations

import copy
import random
from contextlib import contextmanager

import torch
from torch.autograd.graph import saved_tensors_hooks

from lastresort.engine.forest import Row
from lastresort.engine.support import support, why_plain_batch

VOCABULARY = 97
FAMILIES = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "mistral": {"sliding_window": None},
    "phi": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "gemma": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 16},
    "granite": {"logits_scaling": 3.0},
    "cohere": {"logit_scale": 0.25},
}
REFUSED = {
    "gemma2": ({"head_dim": 16}, "soft-capped"),
    "mamba": ({}, "recurrent"),
    "bloom": ({"n_layer": 2, "n_head": 4}, "AttentionInterface"),
    "llama": ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}, "rotary"),
}


def why_plain(model):
    """Why the model as it is cannot take the packed form, whatever the lengths."""
    return why_plain_batch(support(model), 1)


def tiny(family="llama", dtype=torch.float64, *, seed=0, **changes):
    """A model whose weights are large enough that attention decides what it says."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    if family == "gpt2":
        shape = {
            "vocab_size": VOCABULARY,
            "n_positions": 256,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": 0,
        }
    config = AutoConfig.for_model(family, **{**shape, **FAMILIES.get(family, {}), **changes})
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.2)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)
    return model.to(dtype)


def draw(count, seed):
    return tuple(random.Random(seed).choices(range(3, VOCABULARY), k=count))


def row(*pieces):
    """Pieces of tokens; every second one is a target."""
    ids, targets = [], []
    for number, piece in enumerate(pieces):
        ids += piece
        targets += [number % 2 == 1] * len(piece)
    return Row(tuple(ids), tuple(targets))


def shapes():
    """Name -> rows, each a way in which packing could go wrong."""
    root, prompts = draw(21, 1), [draw(n, 10 + n) for n in (18, 20, 3)]
    pairs = [row(root + p, draw(3 + i, 50 + 7 * i + j)) for i, p in enumerate(prompts) for j in range(2)]
    return {
        "several levels": pairs,
        "one row": pairs[:1],
        "nothing shared": [row(draw(5 + i, 100 + i), draw(2 + i, 200 + i)) for i in range(4)],
        "prefix longer than any branch": [row(draw(60, 3), draw(1 + i, 300 + i)) for i in range(3)],
        "identical rows": [pairs[0], pairs[1], pairs[0], pairs[0]],
        "one beginning of another": [
            row(root, draw(20, 4)),
            row(root, draw(20, 4) + draw(5, 5)),
            row(root, draw(19, 4)),
        ],
        "one token completions": [row(root, draw(1, 400 + i)) for i in range(5)],
        "several turns": [row(root, draw(4, 6), draw(9, 7), draw(3, 8 + i), draw(2, 9)) for i in range(2)],
        "trailing text that is no target": [row(root, draw(4, 6), draw(9, i)) for i in range(3)],
        "same text, other targets": [
            row(root, draw(18, 6), draw(4, 7), draw(2, 8)),
            row(root + draw(18, 6), draw(6, 9)),
        ],
    }


def every_row():
    return [r for rows in shapes().values() for r in rows]


def reference(model, rows):
    """Row by row, through the model's own forward and full logits: log p of each target, in order."""
    parts = []
    for r in rows:
        ids = torch.tensor([r.ids])
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
        logps = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        parts.append(logps.gather(1, ids[0, 1:, None])[:, 0][torch.tensor(r.targets[1:])])
    return torch.cat(parts)


def twin(model):
    """The same model, on which the engine has never been."""
    other = copy.deepcopy(model)
    other.__dict__.pop("_lastresort_support", None)
    return other


def gradients(model, logps):
    """Of a loss in which every target weighs differently, so that a mixed-up order is seen."""
    model.zero_grad()
    weights = torch.linspace(0.5, 1.5, len(logps), dtype=logps.dtype, device=logps.device)
    (-(logps * weights).sum() / len(logps)).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def relative_difference(a, b):
    assert a.keys() == b.keys()
    apart = sum(float((a[k].double() - b[k].double()).square().sum()) for k in b)
    return (apart / sum(float(b[k].double().square().sum()) for k in b)) ** 0.5


@contextmanager
def saved_beside_weights(model):
    """Bytes of each storage that autograd saves for a backward inside, those of the model's weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield saved
