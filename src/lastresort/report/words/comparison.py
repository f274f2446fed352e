"""What a comparison of training methods found, one sentence per method."""

from __future__ import annotations

from lastresort.records.decision_parts import WayFigures
from lastresort.report.words.wording import capital
from lastresort.report.words.wording import round_percent as percent
from lastresort.types import WayName

NAMES: dict[WayName, str] = {
    "lora": "LoRA",
    "qlora": "QLoRA",
    "full": "training of all weights",
    "merged": "the merged adapter",
    "nf4": "the adapter on a 4-bit base",
}


def finding(way: WayFigures, reference: WayFigures) -> str:
    """reference: the first way, which may be this one."""
    name = capital(NAMES[way.way])
    failed = [seed.failed for seed in way.seeds if seed.failed]
    if way.score is None:
        return f"{name} could not be made: {failed[0].rstrip('.')}."
    dropped = f" {len(failed)} of {len(way.seeds)} seeds failed." if failed else ""
    if way is reference:
        kept = len(way.seeds) - len(failed)
        return f"{name} scores {percent(way.score)} on the test set, the mean of {kept} seeds.{dropped}"
    first = NAMES[reference.way]
    if way.difference is None or way.interval is None or way.verdict is None:
        return f"{name} cannot be compared with {first}: fewer than two seeds were trained with both.{dropped}"
    low, high = way.interval
    if way.difference > 0:
        words = f"{name} gains {_limits(way.difference, low, high)} over {first} on this task"
    else:
        words = f"{name} costs {_limits(-way.difference, -high, -low)} against {first} on this task"
    chance = "" if low > 0 or high < 0 else ", which may be chance"
    most = f"{100 * way.margin:g} points"
    margin = {
        "NON_INFERIOR": f"a cost of {most} is ruled out",
        "REGRESSED": f"it is more than {most}",
        "UNDERPOWERED": f"a cost of {most} is not ruled out",
    }[way.verdict]
    return f"{words}{chance}; {margin}.{dropped}"


def _limits(mean: float, low: float, high: float) -> str:
    return f"{_points(mean)} points ({_points(low)} to {_points(high)})"


def _points(share: float) -> str:
    text = f"{100 * share:.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")
