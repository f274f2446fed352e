"""Verify that a running server answers as a run measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lastresort.errors import InputError
from lastresort.models.endpoint import Approve, nobody_to_ask
from lastresort.spec.paths import refuse_unwritable
from lastresort.stop import NEVER, Stop
from lastresort.types import Progress

if TYPE_CHECKING:
    from lastresort.report.verify import VerifyDocument
    from lastresort.report.words.verify import Sent


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification found. document: as `--json` prints it."""

    document: VerifyDocument

    @property
    def worse(self) -> bool:
        """Whether the server is shown to be worse than measured."""
        return self.document.worse

    @property
    def markdown(self) -> str:
        from lastresort.report.verify_files import verify_markdown

        return verify_markdown(self.document)

    def __repr__(self) -> str:
        return f"<Verification: {self.document.answer}>"

    def _repr_markdown_(self) -> str:
        return self.markdown


def verify_server(
    run: Path,
    url: str,
    progress: Progress,
    stop: Stop = NEVER,
    approve: Approve = nobody_to_ask,
    *,
    model: str | None = None,
    n: int | None = None,
    task: Path | None = None,
    send: str | None = None,
    request: Path | None = None,
    junit: Path | None = None,
    markdown: Path | None = None,
    allow_held: bool = False,
) -> Verification:
    """Compare the server with the run, and write the JUnit and Markdown files if they are named. The options are those of
    `lastresort verify`, by their names.

    stop: checked between batches. approve: asks about an endpoint that the run names. Raises InputError for what cannot be
    compared, StoppedError where it stopped or the server cannot be reached; the same call resumes it.
    """
    if n is not None and n < 1:
        raise InputError(f"found {n}", where="--n", expected="at least 1", remedy="Leave it out for enough.")
    sent = _sent(send)
    for option, path in (("--junit", junit), ("--markdown", markdown)):
        refuse_unwritable(option, path)
    from lastresort.records.atomic import write_atomically
    from lastresort.report.verify_files import verify_junit, verify_markdown
    from lastresort.systems.running import refuse_no_winner
    from lastresort.verify.verify import verify

    if not run.exists():  # such as the place of a winner
        refuse_no_winner(run)
    document = verify(
        run,
        url,
        model=model,
        n=n,
        task_file=task,
        sent=sent,
        request=request,
        allow_held=allow_held,
        progress=progress,
        stop=stop,
        approve=approve,
    )
    if junit is not None:
        write_atomically(junit, verify_junit(document))
    if markdown is not None:
        write_atomically(markdown, verify_markdown(document))
    return Verification(document)


def _sent(send: str | None) -> Sent | None:
    if send not in (None, "input", "prompt"):
        raise InputError(
            f'found "{send}"', where="--send", expected="input or prompt", remedy="Leave it out to detect it."
        )
    return None if send is None else "input" if send == "input" else "prompt"
