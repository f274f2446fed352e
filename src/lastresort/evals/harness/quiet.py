"""What lm-eval does to its surroundings, undone: it seeds the generators of the whole process, logs, and draws bars of its own."""

from __future__ import annotations

import contextlib
import io
import logging
import random
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(seed: int) -> Iterator[None]:
    """Inside, everything that draws at random begins at the seed; afterwards all is as it was. Nothing reaches the terminal."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    log = logging.getLogger("lm_eval")
    level = log.level
    try:
        random.seed(seed)
        np.random.seed(seed)
        log.setLevel(logging.ERROR)
        with (
            torch.random.fork_rng(),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        log.setLevel(level)
