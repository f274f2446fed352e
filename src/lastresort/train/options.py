"""Whether an objective takes the numbers that it is given: it is asked before anything is loaded."""

from __future__ import annotations

from typing import Any

import torch

from lastresort.errors import ContractError
from lastresort.objectives.pairs import PairLogps
from lastresort.train.objective import Objective


def refused_options(objective: Objective) -> ContractError | None:
    """What the objective says of its options, by a call on one row; None where it takes them."""
    one, count = torch.full((1,), -1.0), torch.ones(1, dtype=torch.long)
    arguments: tuple[Any, ...] = (one,)
    more: dict[str, Any] = {}
    if objective.need == "pairs":
        arguments = (PairLogps(one, one, one, one, count, count),)
    elif objective.need == "labels":
        arguments = (one, one, torch.ones(1, dtype=torch.bool), torch.zeros(()))
    elif objective.need == "groups":
        arguments, more = (one, one, one), {"per_token_ref_logps": one}
    try:
        objective.function()(*arguments, **more, **dict(objective.options))
    except ContractError as error:
        return error
    return None
