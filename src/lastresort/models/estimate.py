"""How many tokens a text has, where no tokenizer is at hand."""

from __future__ import annotations

from lastresort.models.protocol import Prompt

BYTES_PER_TOKEN = 4


def estimated_tokens(text: str) -> int:
    """UTF-8 bytes / 4, rounded up: near enough for prices and limits of English text, low for most other languages."""
    return -(-len(text.encode(errors="surrogatepass")) // BYTES_PER_TOKEN)


def estimated_prompt_tokens(prompt: Prompt) -> int:
    return sum(estimated_tokens(message.content) for message in prompt)
