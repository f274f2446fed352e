"""Constrained decoding: at every step only the tokens that can still lead to a valid answer are allowed. Also stop strings.

JSON is written on one line, with an optional space after each comma and colon and no other whitespace. Free whitespace would
be valid JSON, too, but a small model whose next key is forced may keep indenting until it runs out of tokens. A fixed style
without spaces would force rare tokens on a model that learnt the other style. Keys come in the order of the schema.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lastresort.errors import CandidateError, ContractError
from lastresort.types import Grammar

if TYPE_CHECKING:
    import torch

SETTLED_TOKENS = 16
"""Of a growing answer, after which its text is settled."""
SPARE = 8
"""Extra tokens and characters: tokens may decode to nothing, and a tail may begin inside a character."""


def holds_stop(tokens: Sequence[int], stops: Sequence[str], decode: Callable[[Sequence[int]], str]) -> bool:
    """Whether the text of `tokens` contains one of `stops`, given that it contained none before the newest token.

    Only the necessary tail is decoded: what the newest token completes is in its own text and in as many characters before
    it as the longest string has. So the cost of an answer is linear in its tokens, not quadratic.
    """
    longest = max(map(len, stops), default=0)
    taken = max((len(stop.encode()) for stop in stops), default=0) + 2 * SPARE
    while True:
        tail = tokens[-taken:]
        text = decode(tail)
        if any(stop in text for stop in stops):
            whole = decode(tokens)  # a tail may begin with what the whole text lacks
            return any(stop in whole for stop in stops)
        if taken >= len(tokens) or len(decode(tail[:-1])) >= longest + SPARE:
            return False
        taken *= 2


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string in it."""
    ends = [position for stop in stops if (position := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


class GrowingText:
    """The text of a growing list of tokens, of which only the end is decoded each time: so the cost of an answer is linear in its
    tokens.

    What comes before is settled at a token after which the text ends in a whole character, and a few tokens before it are decoded
    along, as a token's text can depend on those before it. Where new tokens change what was settled, all is decoded again: bytes
    that follow one another are a text together, or none of them is.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._settled, self._known = "", ""
        self._start, self._end = 0, 0  # of the tokens whose text is known; all before their end is settled

    def of(self, tokens: Sequence[int]) -> str:
        """The text of these tokens, which begin with those of the last call."""
        count = len(tokens)  # another thread may append meanwhile
        tail = self._decode(tokens[self._start : count])
        if not tail.startswith(self._known):
            self._settled, self._known, self._start, self._end = "", "", 0, 0
            tail = self._decode(tokens[:count])
        text = self._settled + tail[len(self._known) :]
        if count - self._end >= SETTLED_TOKENS and text and text[-1] != "\N{REPLACEMENT CHARACTER}":
            known = self._decode(tokens[self._end : count])
            if known.strip():  # a decoder may drop the space that a text begins with
                self._settled, self._known, self._start, self._end = text, known, self._end, count
        return text


class StreamedText:
    """The part of a growing answer that can be shown: no incomplete character, nothing that may become a stop string."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops, self._shown = stops, ""

    def grow(self, text: str) -> str:
        """What can be shown next, if `text` is the whole text so far."""
        text = text.rstrip("\N{REPLACEMENT CHARACTER}")  # as a character of several tokens decodes until its last
        text = cut_at_stop(text, self._stops)
        text = text[: len(text) - self._partial_stop(text)]
        return self.finish(text) if text.startswith(self._shown) else ""

    def finish(self, text: str) -> str:
        """What is left to show, if `text` is the whole text."""
        more, self._shown = text[len(self._shown) :], text
        return more

    def _partial_stop(self, text: str) -> int:
        """How many characters at the end of the text may be the start of a stop string."""
        lengths = [n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n])]
        return max(lengths, default=0)


_WRITTEN = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}


_GRAMMARS_KEPT = 8


class TokenTable:
    """A tokenizer as llguidance needs it. Built once per model, as that takes a third of a second.

    vocab_tokens: width of the logits, which may exceed the tokenizer. stop_ids: any of them may end a complete answer.
    Raises CandidateError if the tokenizer is not from the tokenizers library. The newest grammars are kept, since an application
    sends the same with each request, and a large one takes most of a second.
    """

    def __init__(self, tokenizer: Any, vocab_tokens: int, stop_ids: frozenset[int]) -> None:
        from llguidance.hf import from_tokenizer

        self.vocab_tokens = vocab_tokens
        if not getattr(tokenizer, "is_fast", False):
            raise CandidateError(
                "this model's tokenizer does not allow constrained decoding (it is not from the tokenizers library)",
                where="output",
                remedy="Use another model, or measure without constrained decoding.",
            )
        self.table: Any = from_tokenizer(
            tokenizer, n_vocab=max(vocab_tokens, len(tokenizer)), eos_token=sorted(stop_ids)
        )
        self._starts: OrderedDict[str, Any] = OrderedDict()

    def start(self, grammar: Grammar) -> Any:
        """llguidance's matcher before the first token, to be copied. Raises CandidateError if it cannot compile the grammar."""
        from llguidance import LLMatcher

        try:
            source = _source(grammar)
            if source in self._starts:
                self._starts.move_to_end(source)
                return self._starts[source]
            failed, reasons = LLMatcher.validate_grammar_with_warnings(source, self.table)
        except ValueError as error:  # a number that it does not hold
            source, failed, reasons = "", True, [str(error)]
        if failed:
            raise CandidateError(
                f"the output format cannot be enforced ({'; '.join(' '.join(reason.split()) for reason in reasons)})",
                where="output",
                expected="a JSON schema with keywords that llguidance supports"
                if grammar.choices is None
                else "choices",
                remedy="Simplify it, or measure without constrained decoding.",
            )
        self._starts[source] = LLMatcher(self.table, source, log_level=0)
        if len(self._starts) > _GRAMMARS_KEPT:
            self._starts.popitem(last=False)
        return self._starts[source]


class Constraint:
    """One grammar over a batch of rows. Each row has its own state and consumes only the tokens that are new since the last call.

    Raises CandidateError with llguidance's reason if it cannot compile the schema.
    """

    def __init__(self, table: TokenTable, grammar: Grammar) -> None:
        self._table = table
        self._start = table.start(grammar)
        self._rows: dict[int, tuple[Any, int]] = {}

    def allowed(self, row: int, tokens: Sequence[int]) -> torch.Tensor:
        """Mask of shape (vocabulary,), True for tokens that may come next. A complete answer may also stop."""
        import torch

        matcher = self._after(row, tokens)
        bias = torch.frombuffer(bytearray(matcher.compute_logit_bias()), dtype=torch.uint8)
        return bias[: self._table.vocab_tokens].bool()

    def complete(self, row: int, tokens: Sequence[int]) -> bool:
        """Whether only the end can follow."""
        return bool(self._after(row, tokens).is_stopped())

    def _after(self, row: int, tokens: Sequence[int]) -> Any:
        matcher, consumed = self._rows.get(row) or (self._start.deep_copy(), 0)
        new = list(tokens[consumed:])
        if len(tokens) < consumed or not matcher.consume_tokens(new):
            raise ContractError(
                f"row {row} holds tokens that the grammar does not allow ({matcher.get_error() or 'it became shorter'})",
                where="constrained decoding",
            )
        self._rows[row] = (matcher, len(tokens))
        return matcher


def _source(grammar: Grammar) -> str:
    from llguidance import LLMatcher

    if grammar.choices is not None:
        alternatives = " | ".join(json.dumps(choice) for choice in grammar.choices)
        return str(LLMatcher.grammar_from_lark(f"start: {alternatives}"))
    return str(LLMatcher.grammar_from_json_schema(grammar.json_schema, overrides=_WRITTEN))
