"""Many waiting calls at once; results are handed over in the calling thread, as they arrive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

from lastresort.models.retry import Abandoned

T = TypeVar("T")
Work = Callable[[int, threading.Event], T]


def each_at_once(work: Work[T], count: int, *, workers: int, on_result: Callable[[int, T], None]) -> None:
    """Run work(index, stop) for every index below count, `workers` at a time.

    After the first failure nothing new is started; calls under way may finish and their results are handed over, then
    that failure is raised. On Ctrl-C what has arrived is handed over and nothing is waited for: the threads are daemons,
    since those of concurrent.futures would keep the program alive until their servers answer.
    """
    todo: SimpleQueue[int] = SimpleQueue()
    for index in range(count):
        todo.put(index)
    done: SimpleQueue[tuple[int, T | None, BaseException | None]] = SimpleQueue()
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                index = todo.get_nowait()
            except Empty:
                break
            try:
                done.put((index, work(index, stop), None))
            except BaseException as error:  # noqa: BLE001 - carried over to the calling thread and raised there
                stop.set()
                done.put((index, None, error))
        done.put((-1, None, None))

    running = min(workers, count)
    for number in range(running):
        threading.Thread(target=run, name=f"lastresort-call-{number}", daemon=True).start()
    first_error: BaseException | None = None
    try:
        while running:
            index, result, error = done.get()
            if index < 0:
                running -= 1
            elif error is None:
                on_result(index, result)  # type: ignore[arg-type]
            elif first_error is None or isinstance(first_error, Abandoned):
                first_error = error
    except KeyboardInterrupt:
        stop.set()
        _hand_over(done, on_result)
        raise
    finally:
        stop.set()
    if first_error is not None:
        raise first_error


def _hand_over(
    done: SimpleQueue[tuple[int, T | None, BaseException | None]], on_result: Callable[[int, T], None]
) -> None:
    while True:
        try:
            index, result, error = done.get_nowait()
        except Empty:
            return
        if index >= 0 and error is None:
            on_result(index, result)  # type: ignore[arg-type]
