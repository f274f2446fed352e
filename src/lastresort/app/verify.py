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
class VerifyRequest:
    """A verification as its user asks for it; each field is the option of `lastresort verify` with its name.

    Raises InputError for a number of items below 1, and for what can be sent neither so nor so.
    """

    run: Path
    url: str
    model: str | None = None
    n: int | None = None
    task: Path | None = None
    send: str | None = None
    request: Path | None = None
    junit: Path | None = None
    markdown: Path | None = None
    allow_held: bool = False

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 1:
            raise InputError(f"found {self.n}", where="--n", expected="at least 1", remedy="Leave it out for enough.")
        if self.send not in (None, "input", "prompt"):
            raise InputError(
                f'found "{self.send}"', where="--send", expected="input or prompt", remedy="Leave it out to detect it."
            )

    @property
    def sent(self) -> Sent | None:
        return None if self.send is None else "input" if self.send == "input" else "prompt"


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
    request: VerifyRequest, progress: Progress, stop: Stop = NEVER, approve: Approve = nobody_to_ask
) -> Verification:
    """Compare the server with the run, and write the JUnit and Markdown files if they are named.

    stop: checked between batches. approve: asks about an endpoint that the run names. Raises InputError for what cannot be
    compared, StoppedError where it stopped or the server cannot be reached; the same request resumes it.
    """
    for option, path in (("--junit", request.junit), ("--markdown", request.markdown)):
        refuse_unwritable(option, path)
    from lastresort.records.atomic import write_atomically
    from lastresort.report.verify_files import verify_junit, verify_markdown
    from lastresort.systems.running import refuse_no_winner
    from lastresort.verify.verify import ServerQuestion, verify

    if not request.run.exists():  # such as the place of a winner
        refuse_no_winner(request.run)
    question = ServerQuestion(
        run=request.run,
        url=request.url,
        model=request.model,
        n=request.n,
        task_file=request.task,
        sent=request.sent,
        request=request.request,
        allow_held=request.allow_held,
    )
    document = verify(question, progress=progress, stop=stop, approve=approve)
    if request.junit is not None:
        write_atomically(request.junit, verify_junit(document))
    if request.markdown is not None:
        write_atomically(request.markdown, verify_markdown(document))
    return Verification(document)
