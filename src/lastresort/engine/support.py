"""Which models the packed form serves, and by which kernel, found by their configuration and by trying; and the check at the
start of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lastresort.engine.attention import Attends, ForestKernel, Packed, enable
from lastresort.engine.forest import Row, plan_forest
from lastresort.engine.kernel_choice import HeadShape, candidates, kernel_named, trial
from lastresort.engine.parts import Head, Parts, back_into_shards, take_apart, trunk_hidden, whole
from lastresort.errors import ContractError
from lastresort.records.training import FirstBatch

# Of the probe's logits (relative, by norm), of a first batch's loss (nats), of its gradient (relative, by norm).
TOLERANCES = {
    torch.float64: (1e-6, 1e-9, 1e-6),
    torch.float32: (1e-4, 1e-4, 1e-3),
    torch.bfloat16: (1.5e-1, 3e-2, 1.5e-1),
    torch.float16: (5e-2, 1e-2, 1e-1),
}
# Where almost nothing is left to learn, rounding is much of a gradient. A packed one may then be off by so many times what the
# plain one differs from itself, the same rows one by one: seen on a trained adapter in bf16 are 5 to 22%, against 10 to 17%.
OWN_DIFFERENCES = 3


@dataclass(frozen=True, slots=True)
class Support:
    """What is known of a model. refused: why it cannot take the packed form, None if it can. head: how its hidden states
    become logits, None if that is not known. equal_lengths: whether a row's answer depends on the length of its batch.
    kernel: what computes its attention in the packed form. passed_over: faster kernels, with the reason against each."""

    parts: Parts
    refused: str | None
    head: Head | None
    equal_lengths: bool
    kernel: ForestKernel
    passed_over: tuple[str, ...] = ()


def support(model: Any) -> Support:
    """Look at a model, once: the finding stays on the transformers model it is about."""
    parts = take_apart(model)
    asked = parts.causal.__dict__.get("_lastresort_kernel")
    known = parts.causal.__dict__.get("_lastresort_support")
    if known is not None and known[0] == (parts.causal.device, parts.causal.dtype, asked):
        refused, head_known, equal_lengths, kernel, passed_over = known[1:]
    else:
        equal_lengths = _length_changes_angles(parts.config) or _keeps_state(parts)
        head_known = not _probe_head(parts)
        refused = _refused_by_configuration(parts)
        if refused is None and not head_known:
            refused = "its logits are not a known function of its hidden states"
        kernels = candidates(parts.causal.device, parts.causal.dtype)
        kernel, passed_over = kernels[-1], ()
        if refused is None:
            refused, kernel, passed_over = _find_kernel(parts, kernels, asked)
        found = ((parts.causal.device, parts.causal.dtype, asked), refused, head_known, equal_lengths)
        parts.causal.__dict__["_lastresort_support"] = (*found, kernel, passed_over)
    if refused is None:
        enable(
            parts.causal
        )  # again: under an implementation set since, the packed form would be attention without a mask
    return Support(parts, refused, parts.head if head_known else None, equal_lengths, kernel, passed_over)


def use_kernel(model: Any, name: str | None) -> None:
    """Compute the model's packed attention by this kernel (flash, levels, efficient, products, flex), or by the fastest that
    serves it with None. It is tried like any other, and where it fails the model takes the plain path with that reason.

    Raises ContractError for a name that the model's device has not.
    """
    causal = take_apart(model).causal
    if name is not None:
        kernel_named(name, causal.device)
    causal.__dict__["_lastresort_kernel"] = name


def computed_by(model: Any) -> str:
    """What computes the model's attention here, by name: it changes an answer by rounding only."""
    found = support(model)
    return found.kernel.name if found.refused is None else "plain"


def why_plain_batch(found: Support, longest: int) -> str | None:
    """Why the model as it is cannot take texts of up to `longest` tokens in the packed form, None if it can."""
    if found.refused is None:
        window = sliding_window(found.parts.config)
        if window is not None and longest > window:
            return f"a text of {longest} tokens is longer than the sliding window of {window}"
    return found.refused or _dropout(found.parts)


def sliding_window(config: Any) -> int | None:
    """The shortest window of any layer, None if all layers see everything."""
    window = getattr(config, "sliding_window", None)
    layer_types = getattr(config, "layer_types", None)
    if not window or getattr(config, "use_sliding_window", True) is False:
        return None
    if layer_types is not None and "sliding_attention" not in layer_types:
        return None
    return int(window)


def longest_packed(model: Any) -> int | None:
    """Tokens of the longest text that the packed form takes of this model, None where any length is."""
    return sliding_window(take_apart(model).config)


def check_first_batch(model: Any, rows: Sequence[Row]) -> FirstBatch:
    """Compare loss and gradients of the packed form with the plain forward; the parameters' gradients stay as they are."""
    from lastresort.engine.logp import target_logps

    known = support(model)
    passed_over = "; ".join(known.passed_over)
    reason = why_plain_batch(known, max(len(row.ids) for row in rows))
    if reason is not None:
        return FirstBatch.not_compared(reason, passed_over)
    trained = [p for p in model.parameters() if p.requires_grad]

    def losses_of(some: Sequence[Row], *, plain: bool) -> Tensor:
        found = target_logps(model, some, plain=plain)
        counts = torch.bincount(found.row, minlength=len(some)).clamp(min=1)
        return found.per_token.new_zeros(len(some)).index_add(0, found.row, -found.per_token) / counts

    def computed(*, plain: bool, one_by_one: bool = False) -> tuple[Tensor, list[Tensor] | None]:
        """The mean loss of each row, and the gradients of their mean."""
        parts = [[row] for row in rows] if one_by_one else [rows]
        loss = torch.cat([losses_of(part, plain=plain) for part in parts])
        if not (trained and loss.requires_grad):
            return loss.detach(), None
        return loss.detach(), _gradients(loss.mean(), trained)

    expected, expected_gradients = computed(plain=True)
    try:
        losses, gradients = computed(plain=False)
    except torch.OutOfMemoryError:
        raise
    except _FAILURES as error:
        failure = f"the packed form fails on the first batch: {error}"
        return FirstBatch.not_compared(failure, passed_over, gradient_difference=1.0, kernel=known.kernel.name)
    _, loss_limit, gradient_limit = TOLERANCES[next(model.parameters()).dtype]
    difference, largest = float((losses - expected).abs().max()), float(expected.abs().max())
    wrong = not difference <= loss_limit * max(1.0, largest)
    relative, told = None, ""
    if expected_gradients is not None:
        relative, gradients = _apart(gradients, expected_gradients), None
        told = f", gradient {relative:.2g}"
        if not (wrong or relative <= gradient_limit):
            own = _apart(computed(plain=True, one_by_one=True)[1], expected_gradients)
            told += f", the plain one from itself {own:.2g}"
            gradient_limit = max(gradient_limit, OWN_DIFFERENCES * own)
        wrong = wrong or not relative <= gradient_limit
    reason = f"packed and plain forward differ on the first batch (loss {difference:.2g}{told})"
    return FirstBatch(
        loss_difference=difference,
        gradient_difference=relative,
        ok=not wrong,
        reason=reason if wrong else None,
        kernel=known.kernel.name,
        passed_over=passed_over,
        largest_loss=largest,
        loss_limit=loss_limit,
        gradient_limit=gradient_limit,
    )


def _gradients(loss: Tensor, trained: Sequence[nn.Parameter]) -> list[Tensor]:
    """By a backward, which torch.autograd.grad is not to FSDP; gradients that are there already stay as they are."""
    kept = [parameter.grad for parameter in trained]
    try:
        for parameter in trained:
            parameter.grad = None
        torch.autograd.backward(loss)
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    finally:
        for parameter, grad in zip(trained, kept, strict=True):
            parameter.grad = grad


def _apart(a: Sequence[Tensor] | None, b: Sequence[Tensor]) -> float:
    """Norm of the difference over the norm of b. None means all zeros, which need no memory."""
    norm = sum(_square(y) for y in b)
    apart = norm if a is None else sum(_square(_wide(x) - _wide(y)) for x, y in zip(a, b, strict=True))
    return (apart / norm) ** 0.5 if norm else float(apart > 0)


def _square(x: Tensor) -> float:
    """Of the norm: without a second tensor as large as this one, which may be an embedding."""
    return float(whole(torch.linalg.vector_norm(x, dtype=torch.promote_types(x.dtype, torch.float32)))) ** 2


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _refused_by_configuration(parts: Parts) -> str | None:
    config, causal = parts.config, parts.causal
    reasons = (
        (len({p.device for p in causal.parameters()}) > 1, "its weights lie on several devices"),
        (getattr(causal.config, "is_encoder_decoder", False), "it has an encoder"),
        (_keeps_state(parts), "its layers keep a recurrent or chunked state"),
        (_length_changes_angles(config), "its rotary angles depend on the length of the text (dynamic or longrope)"),
        (getattr(config, "attn_logit_softcapping", None), "its attention scores are soft-capped"),
        (
            not getattr(causal, "_supports_attention_backend", False) or not causal._can_set_attn_implementation(),
            f"{type(causal).__name__} does not take its attention from transformers' AttentionInterface",
        ),
        (causal.dtype not in TOLERANCES, f"its weights are {causal.dtype}"),
    )
    return next((reason for wrong, reason in reasons if wrong), None)


def _keeps_state(parts: Parts) -> bool:
    kinds = set(getattr(parts.config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    return bool(kinds) or bool(getattr(parts.causal, "_is_stateful", False))


def _length_changes_angles(config: Any) -> bool:
    found = [getattr(config, "rope_parameters", None), getattr(config, "rope_scaling", None)]
    found += [inner for outer in found if isinstance(outer, dict) for inner in outer.values()]
    return any(isinstance(rope, dict) and rope.get("rope_type") in ("dynamic", "longrope") for rope in found)


def _dropout(parts: Parts) -> str | None:
    causal = parts.causal
    if not causal.training:
        return None
    for name, module in causal.named_modules():
        rate = _random_rate(module) if module.training else 0.0
        if rate > 0:
            return f"dropout is on while training ({name or type(causal).__name__}, p = {rate})"
    rate = getattr(parts.config, "attention_dropout", 0.0)
    return f"attention dropout is on while training (p = {rate})" if rate else None


def _random_rate(module: nn.Module) -> float:
    """The rate of a module's own dropout. Not all hold an nn.Dropout: OPT and StarCoder2 call functional.dropout, OPT skips
    layers and routers of experts add jitter, at rates that are attributes of the module."""
    if isinstance(module, nn.Dropout):
        return float(module.p)
    rates = (rate for name, rate in vars(module).items() if "drop" in name or "jitter" in name)
    return max((rate for rate in rates if isinstance(rate, float)), default=0.0)


PROBE_TOKENS = 10
_FAILURES = (ContractError, RuntimeError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class _Watched:
    """Attention that notes the shapes of the layers it serves."""

    inner: Attends
    shapes: set[HeadShape] = field(default_factory=set)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        self.shapes.add(HeadShape(query.shape[1], key.shape[1], query.shape[3]))
        return self.inner.attend(layer, query, key, value, scale)


def _find_kernel(
    parts: Parts, kernels: Sequence[ForestKernel], asked: str | None
) -> tuple[str | None, ForestKernel, tuple[str, ...]]:
    """Why the model is refused, else the first kernel that serves it, and the reasons against those before it."""
    device, surest = parts.causal.device, kernels[-1]
    shapes: set[HeadShape] = set()
    refused = _probe_packed(parts, surest, shapes)
    if refused is not None:
        return refused, surest, ()
    faster = kernels[:-1] if asked is None else (kernel_named(asked, device),)
    reasons: list[str] = []
    for kernel in faster:
        tried = (trial(kernel, shape, device, parts.causal.dtype) for shape in sorted(shapes))
        reason = next((reason for reason in tried if reason is not None), None) or _probe_packed(parts, kernel, set())
        if reason is None:
            return None, kernel, tuple(reasons)
        reasons.append(reason)
    if asked is not None:
        return f"the kernel that was asked for fails here ({reasons[0]})", surest, ()
    return None, surest, tuple(reasons)


def _probe_head(parts: Parts) -> str | None:
    """Whether trunk and head give the model's own logits."""
    ids = _probe_ids(parts)
    with _still(parts.causal):
        own = parts.causal(input_ids=ids, use_cache=False).logits[0]
        output = parts.trunk(input_ids=ids, use_cache=False)
        hidden = getattr(output, "last_hidden_state", None)
        if hidden is None or hidden.shape[:-1] != ids.shape:
            return "no hidden states"
        return _far(parts.head.logits(hidden)[0], own)


def _probe_packed(parts: Parts, kernel: ForestKernel, shapes: set[HeadShape]) -> str | None:
    """Try a small forest: two branches on a common beginning. The model keeps the implementation if it serves.

    shapes: takes those of the model's layers.
    """
    own_implementation = parts.causal.config._attn_implementation
    ids = tuple(_probe_ids(parts)[0].tolist())
    texts = (ids, ids[:5] + ids[7:])
    forest = plan_forest([Row((*t, 0), (*[False] * len(t), True)) for t in texts], min_shared=1)
    with _still(parts.causal):
        own = [
            parts.causal(input_ids=torch.tensor([t], device=parts.causal.device), use_cache=False).logits[0, -1]
            for t in texts
        ]
        enable(parts.causal)
        try:
            attends = _Watched(Packed(forest.nodes, kernel=kernel), shapes)
            tokens, positions = (
                torch.tensor([numbers], device=parts.causal.device) for numbers in (forest.ids, forest.positions)
            )
            hidden = trunk_hidden(parts.trunk, tokens, positions, attends)[0]
            ends = hidden[torch.tensor(forest.pick, device=hidden.device)]
            reason = _far(parts.head.logits(ends), torch.stack(own))
        except _FAILURES as error:
            reason = f"the packed form fails on it: {error}"
    if reason is not None:
        parts.causal.set_attn_implementation(own_implementation)
    return reason


def _probe_ids(parts: Parts) -> Tensor:
    """Spread over the vocabulary: special tokens stand at its ends, and a text of them makes reduced precision erratic."""
    vocabulary = parts.config.vocab_size
    ids = [vocabulary * (3 * i + 5) // 41 for i in range(PROBE_TOKENS)]
    return torch.tensor([ids], device=parts.causal.device)


def _far(a: Tensor, b: Tensor) -> str | None:
    """Whether logits a [tokens, vocabulary] are not b up to rounding."""
    limit = TOLERANCES.get(b.dtype, TOLERANCES[torch.float16])[0]
    a, b = (x - x.mean(-1, keepdim=True) for x in (_wide(a), _wide(b)))
    apart = float(((a - b).norm(dim=-1) / b.norm(dim=-1).clamp(min=1e-12)).max())
    return None if apart <= limit else f"its logits come out otherwise than by its own forward (by {100 * apart:.2g}%)"


@contextmanager
def _still(causal: Any) -> Iterator[None]:
    """Without gradients and dropout, and every module's mode as before afterwards."""
    training = [module for module in causal.modules() if module.training]
    causal.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
        back_into_shards(causal)
