"""Identity preference optimisation."""

from __future__ import annotations

from torch import Tensor

from lastresort.objectives.contract import positive
from lastresort.objectives.pairs import PairLogps


def ipo(pairs: PairLogps, *, beta: float = 0.1, per_token: bool = False) -> Tensor:
    """Bring the chosen/rejected margin above the reference's to a fixed target, and no further.

    loss = (m - 1/(2 beta))^2,  m = (chosen - ref_chosen) - (rejected - ref_rejected)
    per_token: each of the two differences is divided by the tokens of its answer first.

    pairs: with reference; with token counts if per_token. beta: 1/nats, > 0, the paper's tau. Returns the loss of each pair
    in squared nats, shape (batch,), not averaged. Raises ContractError if beta <= 0, or reference or counts are missing.
    Source: Azar et al. 2023, eq. 17, where pi(y|x) is the probability of the whole answer, hence per_token=False. TRL divides
    by the tokens, which its authors say the paper's experiments did too, so that beta does not depend on the length: that is
    per_token=True, and a beta tuned for one does not serve the other. Oracle: TRL `ipo` for True; by hand for False.
    """
    positive("ipo", beta=beta)
    chosen, rejected = pairs.gains("ipo")
    if per_token:
        chosen_tokens, rejected_tokens = pairs.tokens("ipo")
        chosen, rejected = chosen / chosen_tokens, rejected / rejected_tokens
    return (chosen - rejected - 1 / (2 * beta)) ** 2
