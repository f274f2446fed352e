"""`--json`: one document on stdout."""

from __future__ import annotations

import json
import sys
from typing import Any


def print_document(document: Any) -> None:
    """Print it as JSON; letters are escaped where stdout cannot write all of them."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("_", "-")
    print(json.dumps(document, ensure_ascii=encoding not in ("utf-8", "utf8"), indent=2))
