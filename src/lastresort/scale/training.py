"""Trainings at workers: several at once, ahead of the one whose result is needed next, which come back in the order of the jobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Generic

from lastresort.errors import LastresortError
from lastresort.scale.crew import NOTICE_S, Crew, Ticket
from lastresort.scale.work import JobTrained, R, TrainingJob
from lastresort.stop import NEVER, Stop, StopRequest

LAST_S, SIGNAL_S = 60.0, 15.0  # for trainings to save and end, once a stop is requested, and where that was by a signal


class TrainedAhead(Generic[R]):
    """As many trainings at once as a crew has room for.

    jobs: each is made when it is sent. arrived: given each result in the driver's thread as it comes, in whatever order. tell: has
    the trainings under way save and end. under_way: called with the number of trainings at workers whenever it has changed.
    fails_at_once: whether a failure is raised before its turn.
    """

    def __init__(
        self,
        crew: Crew,
        jobs: Iterator[TrainingJob[R]],
        stop: Stop,
        *,
        arrived: Callable[[R], None],
        tell: Callable[[], None],
        under_way: Callable[[int], None],
        fails_at_once: bool = False,
    ) -> None:
        self._crew, self._jobs, self._stop = crew, jobs, stop
        self._arrived, self._tell, self._under_way = arrived, tell, under_way
        self._sent: deque[tuple[int, Ticket]] = deque()
        self._back: dict[int, JobTrained[R]] = {}
        self._number = self._shown = 0
        self._is_told, self._fails_at_once = False, fails_at_once

    def next(self) -> R:
        """The result of the first job that was not given back yet. Once one has failed, no other is sent.

        Raises its error; that of a request to stop, once the trainings under way have saved; InfrastructureError where workers are
        lost again and again with one training.
        """
        self._crew.count_room()
        self._look()
        number, ticket = self._sent[0]
        self._crew.wait([ticket], NEVER, self._look)
        self._sent.popleft()
        found = self._back.pop(number)
        if found.failure is not None:
            raise found.failure.error()
        assert found.result is not None, "a training has a result or a failure"
        return found.result

    def end(self, at_most_s: float) -> None:
        """End the workers. The trainings under way save first, unless they have had their time: see LAST_S. at_most_s: that they
        have for it.
        """
        try:
            if at_most_s and not self._is_told:
                self._end_trainings(min(at_most_s, _to_save(self._stop.requested())))
        finally:
            self._crew.end()

    def _look(self) -> None:
        """Send what there is room for, or have all save and end where that is requested."""
        request = self._stop.requested()
        if request is not None:
            self._end_trainings(_to_save(request))
            raise request.error()
        failures = [found.failure for found in self._back.values() if found.failure is not None]
        if failures and self._fails_at_once:
            raise failures[0].error()
        self._crew.count_room(NOTICE_S)
        while not failures and self._crew.room(1) > 0 and (job := next(self._jobs, None)) is not None:
            self._number += 1
            self._sent.append((self._number, self._crew.submit(job, partial(self._came, self._number))))
        running = self._crew.at_work
        if running != self._shown:
            self._shown = running
            self._under_way(running)

    def _came(self, number: int, found: JobTrained[R]) -> None:
        self._back[number] = found
        if found.result is not None:
            self._arrived(found.result)

    def _end_trainings(self, within_s: float) -> None:
        """What goes wrong meanwhile is not raised: the reason for which they end counts."""
        self._is_told = True
        if any(not ticket.done for _, ticket in self._sent):
            with suppress(OSError):
                self._tell()
            with suppress(LastresortError):
                self._crew.drain(within_s)


def _to_save(request: StopRequest | None) -> float:
    return SIGNAL_S if request is not None and request.reason == "signal" else LAST_S
