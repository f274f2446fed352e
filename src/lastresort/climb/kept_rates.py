"""How fast this machine was a moment ago, in the user's cache: a climb that starts right after its forecast times nothing again.

Kept for minutes only, as another program may have slowed what was timed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lastresort.embedded import cache_folder
from lastresort.errors import InfrastructureError
from lastresort.hardware.threads import SET_BY_USER
from lastresort.records.atomic import write_atomically
from lastresort.rungs.forecast import Rates
from lastresort.version import __version__

KEPT_S = 600.0

_log = logging.getLogger("lastresort")


@dataclass(frozen=True, slots=True)
class KeptRates:
    """at_s: when they were measured, in seconds since 1970."""

    rates: Rates
    at_s: float


_READ = TypeAdapter(KeptRates)


def kept_rates(config: Mapping[str, Any], *, reduced: bool, now_s: float) -> KeptRates | None:
    """Of a model with this config.json, in bfloat16 if `reduced`. None where nothing was measured in the last KEPT_S seconds, with
    these versions and as many threads, or where the file cannot be read.
    """
    try:
        found = _READ.validate_json(_file(config, reduced).read_bytes())
    except (OSError, ValidationError):
        return None
    sound = all(math.isfinite(rate) and rate > 0 for rate in asdict(found.rates).values())
    return found if sound and 0 <= now_s - found.at_s <= KEPT_S else None


def keep_rates(config: Mapping[str, Any], rates: Rates, *, reduced: bool, now_s: float) -> None:
    try:
        write_atomically(_file(config, reduced), _READ.dump_json(KeptRates(rates, now_s)))
    except InfrastructureError as error:  # only slower the next time
        _log.debug("rates not kept: %s", error)


def _file(config: Mapping[str, Any], reduced: bool) -> Path:
    """Named by all that decides them: the model's shape, the machine, its threads and the versions of what computes."""
    import torch

    threads = {name: os.environ.get(name) for name in SET_BY_USER} | {"torch": torch.get_num_threads()}
    decides = (dict(config), reduced, platform.node(), platform.machine(), threads, torch.__version__, __version__)
    name = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()
    return cache_folder() / "rates" / f"{name}.json"
