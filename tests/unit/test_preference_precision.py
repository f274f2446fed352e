"""The study of the precision of preference training: what is left to run, what its table says, and what it rounds."""

import pytest
import torch
from scripts.preference_noise import Rounding, gains, moved
from scripts.preference_precision import BOTH, EXACT, LOGITS, NOW, RESIDUAL, difference, missing, table, widened
from tests.engine_support import every_row, tiny

from lastresort.train.adapters.adapters import attach_adapter
from lastresort.train.settings import AdapterSettings


def _cell(way: str, seed: int, margins: list[float], step_s: float = 1.0) -> dict[str, object]:
    return {"way": way, "seed": seed, "losses": [0.7, 0.6 + seed / 100], "step_s": step_s, "margins": margins}


def test_what_is_finished_is_not_run_again_and_seeds_are_filled_one_by_one() -> None:
    cells = [_cell(NOW, 0, [1.0]), _cell(EXACT, 1, [1.0])]
    assert list(missing(cells, (NOW, EXACT), 2)) == [(EXACT, 0), (NOW, 1)]


def test_a_difference_is_paired_by_pair_and_averaged_over_seeds() -> None:
    """Per pair .5 and .3 less than float32: mean -.4, standard error .1, t of one degree of freedom 12.706."""
    exact = [[1.0, 5.0], [3.0, 7.0]]
    own = [[0.4, 4.7], [2.6, 6.7]]
    assert difference(own, exact) == "-0.4000 (-1.6706 to +0.8706)"


def test_the_table_compares_the_same_seeds_and_leaves_out_a_way_that_lacks_one() -> None:
    cells = [_cell(EXACT, 0, [1.0, 2.0]), _cell(EXACT, 1, [2.0, -1.0])]
    cells += [_cell(NOW, 0, [1.5, 2.0], 0.5), _cell(NOW, 1, [2.5, -1.0], 0.5), _cell(RESIDUAL, 0, [1.0, 2.0])]
    lines = table(cells).splitlines()
    assert [line.split(" | ")[0] for line in lines[3:]] == [f"| {NOW}", f"| {EXACT}"]
    assert lines[3].split(" | ")[1:4] == ["1.250", "+0.2500 (-2.9266 to +3.4266)", "yes"]
    assert lines[3].endswith("| 0.50 |")


@pytest.mark.parametrize(("way", "hidden", "logits"), [
    (NOW, torch.bfloat16, torch.bfloat16),
    (RESIDUAL, torch.float32, torch.bfloat16),
    (LOGITS, torch.bfloat16, torch.float32),
    (BOTH, torch.float32, torch.float32),
])  # fmt: skip
def test_a_way_widens_what_it_names(way: str, hidden: torch.dtype, logits: torch.dtype) -> None:
    model = widened(tiny(dtype=torch.bfloat16), way)
    with torch.autocast("cpu", torch.bfloat16):
        states = model.model(torch.tensor([[1, 2, 3]])).last_hidden_state
    assert states.dtype == hidden
    assert model.lm_head(states.to(model.lm_head.weight.dtype)).dtype == logits


def test_noise_is_what_rounding_alone_changes() -> None:
    model = attach_adapter(tiny(dtype=torch.float32), AdapterSettings(r=2), base_name="tiny").eval()
    moved(model, 0.1)
    rows = every_row()[:4]
    exact = gains(model, rows, Rounding())
    for asked in (Rounding(products=True), Rounding(residual=True), Rounding(logits=True)):
        assert 1e-6 < float((gains(model, rows, asked) - exact).abs().max()) < 1.0
    assert torch.equal(gains(model, rows, Rounding()), exact)  # no hook is left
