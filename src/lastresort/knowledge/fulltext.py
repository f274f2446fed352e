"""Text as the full-text index takes it.

LanceDB's simple tokenizer parts words at white space and marks; Chinese, Japanese and Thai have neither between words, so that a
whole sentence would be one word. Their characters are set apart here, in chunks and questions alike. (Its ICU tokenizer parts
such text into words, but drops digits that stand alone: "version 2.0" would find nothing.)
"""

from __future__ import annotations

import re
from typing import Any

_UNSPACED = re.compile(r"([\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
COLUMN = "searched"


def searchable(text: str) -> str:
    return text if text.isascii() else _UNSPACED.sub(r" \1 ", text)


def index_config(language: str) -> Any:
    """BM25 over stems, without stop words and accents. Words of any length count: an identifier may be long."""
    from lancedb.index import FTS

    plain = language == "none"
    return FTS(
        with_position=False,
        base_tokenizer="simple",
        language="English" if plain else language,
        stem=not plain,
        remove_stop_words=not plain,
        max_token_length=None,
    )


def match(question: str) -> Any:
    """A chunk matches if it has any word of the question. The question is words and never a query language."""
    from lancedb.query import MatchQuery

    return MatchQuery(searchable(question), COLUMN)
