"""Recheck a finished run. Its store and decision stay unchanged; the record only counts the recheck."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lastresort.after.recheck.documents import recheck_documents
from lastresort.after.recheck.finished import open_finished
from lastresort.after.recheck.model import recheck_model
from lastresort.after.recheck.models import RecheckModels, Replacement
from lastresort.climb.workspace import RESPONSES, count_use, run_lock, shared_folder
from lastresort.errors import SAME_COMMAND, StoppedError
from lastresort.models.endpoint import Approve, nobody_to_ask
from lastresort.records.atomic import write_atomically
from lastresort.records.events.run import BudgetSpent
from lastresort.records.record import Record
from lastresort.records.view import fold_of
from lastresort.report.decision import decision_in
from lastresort.report.recheck import RecheckDocument, file_name
from lastresort.stop import NEVER, FirstOf, Stop, stop_file
from lastresort.types import SILENT, Progress


def recheck(
    run: Path,
    *,
    new: Replacement | None = None,
    documents: Path | None = None,
    task_file: Path | None = None,
    quick: bool = False,
    progress: Progress = SILENT,
    stop: Stop = NEVER,
    approve: Approve = nobody_to_ask,
) -> RecheckDocument:
    """Check whether the decision of a finished run still holds, and write `recheck-<n>.json` into its folder.

    new: a model or a prompt to test. Without one: do the answers hold with the documents below `documents`, by default those that
    the task names? task_file: where the task file is now, by default where the run says. stop: checked between batches, as is a
    file named stop in the run's folder, which is removed at the end. approve: asks about an endpoint that only the run names.
    Raises InputError for what cannot be checked, StoppedError where it stopped; the same call resumes it.
    """
    with _decided(run) as record, run_lock(run, instead=""), stop_file(run) as file:
        fold = fold_of(record)
        if not fold.finished and fold.stopped is None:  # it died, and nothing else says that nobody climbs it now
            record.append(BudgetSpent(seconds=0.0, usd=0.0, left=True))
        progress.stage("reading the run", None)
        finished = open_finished(run, record, task_file)
        stops, cache = FirstOf((stop, file)), shared_folder(run) / RESPONSES
        models = RecheckModels(finished.prepared, record, cache, progress, stops, approve)
        try:
            if new is not None:
                result = recheck_model(finished, new, models, quick=quick, progress=progress)
            else:
                result = recheck_documents(finished, documents, models, progress)
        except StoppedError as error:
            raise error.going_on(SAME_COMMAND) from error
        finally:
            models.close()
        decision, look = finished.decision, f"{record.run_id}, recheck {result.number}"
        used = None if result.look is None else count_use(shared_folder(run), finished.order, look)
        document = RecheckDocument(
            run=run.resolve().name,
            task=decision.task,
            bar=decision.bar,
            confidence=decision.confidence,
            model=decision.model,
            hashes=finished.prepared.files,
            test_reuse=used,
            **dict(result),
        )
        write_atomically(run / file_name(document.number), document.as_text)
    return document


@contextmanager
def _decided(run: Path) -> Iterator[Record]:
    """The record of a run that has decided. That is checked before this process locks the run, which would look like a climb."""
    with Record.open(run) as record:
        decision_in(record)
        yield record
