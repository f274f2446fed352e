"""Two Ray workers of one thread each against one process of one thread, on the same batches of prompts, and of the gate's general
suite; what a job costs beyond its work; and, with --study, a whole study of 38 cells, as commands with their start (25 minutes).

Run on a quiet machine with two cores:

    OMP_NUM_THREADS=1 python -m benchmarks.ray [--items 512] [--study]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lastresort.app.runtime import SETTINGS, set_environment
from lastresort.embedded import cache_folder
from lastresort.evals.measure import Executor, JobScores, LocalExecutor, MeasureJob, Result, run_in_order
from lastresort.evals.scorers import build_scorer
from lastresort.gate.sides import GateSide, open_side
from lastresort.gate.suites.asking import ask
from lastresort.gate.suites.general import General
from lastresort.gate.suites.suite import Transcript
from lastresort.gate.workers import GateWorkers
from lastresort.models.open import EMBEDDED, ModelOpening
from lastresort.records.responses import ResponseCache
from lastresort.rungs.open_models import OpenModels
from lastresort.scale.cluster import RayWorkers, WorkerRoom, ray_cluster
from lastresort.scale.crew import Crew
from lastresort.scale.executor import CrewExecutor
from lastresort.spec.output import Output
from lastresort.stop import NEVER
from lastresort.systems.system import PromptDesign, System
from lastresort.types import Decoding, Example, Message, SilentProgress

WARM_UP, JOBS_TIMED, TOKENS = 256, 200, 24


def examples(start: int, n: int) -> tuple[Example, ...]:
    texts = [
        f"Case {number}: the parcel of order {number * 37 % 1009} is late. Who helps?"
        for number in range(start, start + n)
    ]
    return tuple(Example(text, (Message("user", text),), "delivery") for text in texts)


def seconds(executor: Executor, system: System, rows: tuple[Example, ...]) -> tuple[float, list[str]]:
    answers: list[str] = []

    def use(job: MeasureJob, result: Result) -> None:
        assert isinstance(result, JobScores), result
        answers.extend(item.answer for item in result.items)

    began = time.perf_counter()
    run_in_order(executor, [MeasureJob(0, system, rows)], use, NEVER)
    return time.perf_counter() - began, answers


def general_seconds(crew: Crew | None, items: int) -> tuple[float, dict[str, Transcript]]:
    """Of the base's answers to so many items of the general suite, likelihoods and words; and the answers."""
    opening = ModelOpening(EMBEDDED, Path())
    side, suite = GateSide(EMBEDDED, opening.open, opening=opening), General()
    workers = GateWorkers.of(crew, side, side)
    answered = None if workers is None else workers.suites("base")
    with open_side(side) as model:
        ask(model, suite, suite.draw(1, 0, WARM_UP), answered=answered)  # so that all have the model open
        began = time.perf_counter()
        found = ask(model, suite, suite.draw(0, 0, items), answered=answered)
        return time.perf_counter() - began, found.transcripts


def study_seconds(*options: str) -> float:
    """Of the command, with nothing answered before but the embedded model converted."""
    with tempfile.TemporaryDirectory() as name:
        cache, task = Path(name) / "cache", Path(__file__).parents[1] / "examples" / "harbour" / "task.yaml"
        cache.mkdir()
        ModelOpening(EMBEDDED, Path()).open().close()  # converted
        (cache / "models").symlink_to(cache_folder() / "models")
        study = [sys.executable, "-m", "lastresort", "study", "crossover", str(task), "--out", f"{name}/study"]
        began = time.perf_counter()
        subprocess.run(
            [*study, "--sizes", "34,68,136", "--seeds", "3", *options],
            env={**os.environ, "LASTRESORT_CACHE": str(cache)},
            check=True,
        )
        return time.perf_counter() - began


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--items", type=int, default=512)
    arguments.add_argument("--study", action="store_true")
    given = arguments.parse_args()
    set_environment()
    os.environ["OMP_NUM_THREADS"] = "1"
    answers_and_jobs(given.items)
    if given.study:  # after the others, so that Ray, torch and the model have been read from disk for both sides
        alone, shared = study_seconds(), study_seconds("--ray", "local")
        print(f"a study: {alone:.0f} s in one process, {shared:.0f} s by two workers")
        print(f"efficiency of two workers in a study: {alone / shared / 2:.2f}")


def answers_and_jobs(items: int) -> None:
    embedded = System("s", EMBEDDED, PromptDesign("Name the team that helps."), Decoding(TOKENS))
    with tempfile.TemporaryDirectory() as name, ray_cluster("local") as ray:
        folder, settings = Path(name), dict(SETTINGS)
        (folder / "s.json").write_text('{"default": "delivery"}')
        found, crew = {}, Crew(RayWorkers(ray, WorkerRoom(1), settings), print)
        for who in ("one process", "two workers"):
            with ResponseCache(folder / who) as cache:
                models = OpenModels(cache, base_folder=folder, base_name=EMBEDDED, tuned_name=EMBEDDED)
                local = LocalExecutor(
                    models.answerer, build_scorer("exact", {}), Output(), SilentProgress(), lambda usd: None
                )
                executor = local if who == "one process" else CrewExecutor(local, models, crew)
                seconds(executor, embedded, examples(10**6, WARM_UP))  # so that all have the model open
                found[who] = seconds(executor, embedded, examples(0, items))
                print(f"{who}: {items / found[who][0]:.2f} items/s")
                models.close()
        assert found["one process"][1] == found["two workers"][1], "the answers differ"
        print(f"efficiency of two workers: {found['one process'][0] / found['two workers'][0] / 2:.2f}")
        (alone, said), (shared, said_there) = general_seconds(None, items), general_seconds(crew, items)
        assert said == said_there, "the answers to the suite differ"
        print(f"general suite: {items / alone:.2f} items/s in one process, {items / shared:.2f} by two workers")
        print(f"efficiency of two workers in the gate: {alone / shared / 2:.2f}")
        crew.release()
        with ResponseCache(folder / "jobs") as cache:
            models = OpenModels(cache, base_folder=folder, base_name="scripted:s.json", tuned_name="scripted:s.json")
            local = LocalExecutor(
                models.answerer, build_scorer("exact", {}), Output(), SilentProgress(), lambda usd: None
            )
            executor = CrewExecutor(local, models, crew)
            scripted = System("s", "scripted:s.json", PromptDesign("Say it."), Decoding(TOKENS))
            seconds(executor, scripted, examples(10**6, WARM_UP))
            times = [seconds(executor, scripted, examples(number, 1))[0] for number in range(JOBS_TIMED)]
            print(f"a job of one item without work: {1e3 * statistics.median(times):.1f} ms (median of {JOBS_TIMED})")


if __name__ == "__main__":
    main()
