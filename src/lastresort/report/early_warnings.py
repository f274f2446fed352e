"""What the report shows of the figures beside the loss of a rung that trained: a title, a picture, and what is alarming."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lastresort.report.early_chart import early_chart, most_followed
from lastresort.train.alarm import measured, told, warning

if TYPE_CHECKING:
    from markupsafe import Markup

    from lastresort.report.story import RungStory


@dataclass(frozen=True, slots=True)
class EarlyWarnings:
    """alarms: (run, sentence) of every run that is alarmingly far from its base."""

    title: str
    chart: Markup | None
    alarms: tuple[tuple[str, str], ...]


def early_warnings(rung: RungStory) -> EarlyWarnings | None:
    """None where no run was compared with its base."""
    curves = {run.candidate: run.curve for run in rung.trained}
    looked = {name: curve for name, curve in curves.items() if measured(curve)}
    followed = most_followed(looked)
    if followed is None:
        return None
    alarms = tuple((name, found) for name, curve in looked.items() if (found := warning(curve)) is not None)
    title = f"{followed}, {told(looked[followed])}"
    return EarlyWarnings(title, early_chart(curves, title), alarms)
