"""A training file's prompts and rewards -> the batches of objectives on groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lastresort.data.read import read_prompts
from lastresort.errors import ContractError
from lastresort.models.api.model import ApiModel
from lastresort.models.endpoint import parse_endpoint
from lastresort.train.files.items import TrainingItems
from lastresort.train.files.run_folder import RowFinding
from lastresort.train.groups.groups import groups_from
from lastresort.train.groups.server import ServedAdapter
from lastresort.train.loop.batches import Batches
from lastresort.train.settings import Groups, TrainingFile
from lastresort.types import Example, Json

COMPLETIONS = "completions.jsonl"
ASKED_AT_ONCE, ANSWER_LIMIT_S = 32, 600.0


@contextmanager
def prepare_groups(
    file: TrainingFile, tokenizer: Any, context_tokens: int | None
) -> Iterator[tuple[Batches, TrainingItems]]:
    """Batches that are sampled while training goes on, and what the record says of the data.

    Raises InputError, TaskError or DataError for prompts or rewards that cannot work, before anything is sampled, and
    PrerequisiteError for an endpoint without its key.
    """
    if file.groups is None:
        raise ContractError(f"{file.objective} without groups", where="prepare_groups", expected="their settings")
    examples: list[Example] = []
    columns: dict[str, Mapping[str, Json]] = {}
    for path in file.data.train:
        prompts, rows = read_prompts(path)
        examples += prompts
        columns |= rows
    server, served, ask_tokens = _server(file)
    limit = min((n for n in (file.max_tokens, context_tokens) if n is not None), default=None)
    with groups_from(
        examples,
        file.groups.reward,
        objective=file.objective,
        tokenizer=tokenizer,
        batch_size=file.settings.batch_size,
        seed=file.settings.seed,
        settings=file.groups.sampling,
        columns=columns,
        template_kwargs=file.chat_template_kwargs,
        context_tokens=limit,
        on_error=file.groups.on_error,
        limits=file.groups.limits,
        log=file.output / COMPLETIONS,
        server=server,
        served=served,
        ask_tokens=ask_tokens,
    ) as groups:
        noun = f"prompts, {file.groups.sampling.group_size} answers to each"
        yield groups, TrainingItems((), (), _findings(file.groups, examples), len(examples), noun, limit)


def _server(file: TrainingFile) -> tuple[ApiModel | None, ServedAdapter | None, bool]:
    """What samples in place of the engine, the adapter that it is given, and whether to ask for tokens."""
    plan = file.groups.server if file.groups is not None else None
    if plan is None:
        return None, None, True
    endpoint = parse_endpoint(plan.model)
    server = ApiModel(
        endpoint,
        template_kwargs=dict(file.chat_template_kwargs),
        concurrency=ASKED_AT_ONCE,
        timeout_s=ANSWER_LIMIT_S,
        seed=file.settings.seed,
    )
    served = None
    if plan.sync is not None:
        served = ServedAdapter(
            server, file.output, name=plan.adapter_name, every=plan.sync, seen_as=plan.output_seen_as
        )
    return server, served, not endpoint.is_openai


def _findings(groups: Groups, examples: list[Example]) -> tuple[RowFinding, ...]:
    if groups.server is None or groups.server.sync is not None:
        return ()
    what = "prompts whose answers come from another policy than the one that is trained, since sync is never"
    return (RowFinding(what=what, count=len(examples), places=(groups.server.model,)),)
