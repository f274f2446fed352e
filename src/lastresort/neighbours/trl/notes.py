"""What TRL's trainers, also under Unsloth, cannot be told or take otherwise."""

from __future__ import annotations

from lastresort.neighbours.exporting.differences import has_segments, of_open_ends, of_template, of_trainer, of_trl
from lastresort.neighbours.exporting.job import Job
from lastresort.neighbours.trl.rows import learns_several


def trl_notes(job: Job) -> tuple[str, ...]:
    found = [*of_trainer(job), *of_trl(job)]
    if job.file.need == "text":
        found.append("text: the first token of each packed row is not learned there; here it is, in the row before.")
    elif job.file.need != "groups" and not has_segments(job):
        found.append(
            "What the chat template writes after the end token of an answer, such as a line break, is trained too."
        )
    if learns_several(job):
        found.append(
            "Rows hold several answers: which tokens are theirs is told by the chat template, which TRL knows for the usual models "
            "(assistant_only_loss); with another template it stops and says so."
        )
    found += of_open_ends(job)
    if job.file.need == "labels" or job.file.objective in ("orpo", "simpo"):
        found += of_template(job, "this trainer")
    if job.file.groups is not None and job.file.groups.stop:
        found.append(
            "stop: its own sampling ends at the end token alone; with use_vllm, generation_kwargs takes stop strings."
        )
    return tuple(found)
