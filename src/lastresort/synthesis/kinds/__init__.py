"""Kinds of synthetic rows. A new one is a file and a line in the table."""

from lastresort.synthesis.kinds.answer import ANSWER
from lastresort.synthesis.kinds.expansion import EXPANSION
from lastresort.synthesis.kinds.harder import HARDER
from lastresort.synthesis.kinds.kind import Kind
from lastresort.synthesis.kinds.paraphrase import PARAPHRASE

KINDS: dict[str, Kind] = {kind.name: kind for kind in (PARAPHRASE, ANSWER, EXPANSION, HARDER)}

__all__ = ["KINDS", "Kind"]
