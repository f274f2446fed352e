"""How long a climb may still take: what its forecast leaves, at the pace that this run has had so far.

A forecast times a few layers before the climb begins. If the machine is busier later, or the layers said too little, every part
still to come is late too: a run that is slower than its forecast scales what is left of it. A run that is faster scales nothing, as
forecasts are high on purpose, and short answers of one candidate say little of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lastresort.rungs.forecast import Forecast

TRAIN, DEV, TEST = PARTS = ("train", "dev", "test")
LEAST_ANSWERED = 0.1  # of the answers of a part: the first few take long, as the first batch does


class TimeLeft:
    """clock: seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._began_s = clock, clock()
        self._forecast: dict[str, Forecast] = {}
        self._slower = dict[str, float]()  # by kind of work: times that its forecast was exceeded, at least 1
        self._rung = self._split = ""

    def expect(self, forecast: Mapping[str, Forecast]) -> None:
        """forecast: of each rung of the ladder whose seconds are known, in their order."""
        self._forecast = dict(forecast)

    def come_to(self, rung: str, split: str, answered: float) -> bool:
        """Whether that is another part of the climb. answered: in the part before it."""
        if (rung, split) == (self._rung, self._split):
            return False
        if self._rung in self._forecast and self._split == TRAIN and rung == self._rung and split in (DEV, TEST):
            self._note(TRAIN, self._elapsed_s / max(self._seconds(self._rung)[TRAIN], 1e-9))
        self._paced_s(answered)
        self._rung, self._split, self._began_s = rung, split, self._clock()
        return True

    def rungs_to_come(self) -> list[str]:
        """The rung that is tried, if it was forecast, and those above it."""
        rungs = list(self._forecast)
        return rungs[rungs.index(self._rung) :] if self._rung in rungs else []

    def left_s(self, answered: float, eta_s: float | None) -> float | None:
        """Seconds, if the climb tries all rungs of its ladder, without gates, which make forecasts of their own. None where nothing
        is left, and where nobody can tell: nothing is forecast, or the present part takes longer than its forecast, and how much
        of it is done is not known.

        answered: in the present part, items whose prompt is read counting in part. eta_s: time left for the present stage, of which
        a part has many.
        """
        if self._rung not in self._forecast or self._split == "gate":
            return None
        part = self._split if self._split in PARTS else TRAIN
        paced_s = self._paced_s(answered)
        seconds = self._scaled(self._rung)
        here_s = seconds[part] - self._elapsed_s
        if paced_s is None and here_s <= 0 < seconds[part]:
            return None
        later_s = sum(seconds[name] for name in PARTS[PARTS.index(part) + 1 :])
        later_s += sum(sum(self._scaled(above).values()) for above in self.rungs_to_come()[1:])
        return (max(here_s if paced_s is None else paced_s, eta_s or 0.0, 0.0) + later_s) or None

    def _paced_s(self, answered: float) -> float | None:
        """What the answers to come in this part take at the pace of those that are there; None of too few, and of a training."""
        planned = self._planned()
        if not planned or answered < LEAST_ANSWERED * planned:
            return None
        forecast_s = self._seconds(self._rung)[self._split]
        if forecast_s:
            self._note(DEV, self._elapsed_s / answered / (forecast_s / planned))
        return self._elapsed_s / answered * max(0.0, planned - answered)

    def _planned(self) -> int:
        """Answers in the present part, 0 where they are not counted."""
        found = self._forecast.get(self._rung)
        if found is None or self._split not in (DEV, TEST):
            return 0
        return found.test_answers if self._split == TEST else found.answers - found.test_answers

    def _note(self, kind: str, times: float) -> None:
        self._slower[kind] = max(1.0, times)

    @property
    def _elapsed_s(self) -> float:
        return self._clock() - self._began_s

    def _seconds(self, rung: str) -> dict[str, float]:
        """By part, as forecast."""
        found = self._forecast[rung]
        return {TRAIN: (found.seconds or 0.0) - found.dev_s - found.test_s, DEV: found.dev_s, TEST: found.test_s}

    def _scaled(self, rung: str) -> dict[str, float]:
        """By part, at the pace of this run; a training that no other went before is as late as the answers."""
        answers = self._slower.get(DEV, 1.0)
        times = {TRAIN: self._slower.get(TRAIN, answers), DEV: answers, TEST: answers}
        return {part: times[part] * seconds for part, seconds in self._seconds(rung).items()}
