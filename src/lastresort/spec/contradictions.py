"""Keys that are right one by one and wrong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastresort.data.strict_json import is_json
from lastresort.knowledge.reading import is_read
from lastresort.models.protocol import is_endpoint
from lastresort.spec.judge import PRICES, without_price
from lastresort.spec.paths import relative_name
from lastresort.spec.suites import KEEP
from lastresort.spec.values import refuse, unknown_name

if TYPE_CHECKING:
    from lastresort.spec.score import Reward, Score
    from lastresort.spec.task import Task


def check_together(task: Task) -> None:
    """Refuse a task that contradicts itself."""
    _score_and_output(task)
    _tuning_and_ladder(task)
    _split_and_sources(task)
    _examples_and_knowledge(task)
    _cost_and_volume(task)
    _money_and_prices(task)
    _margins_and_suites(task)
    _effort_and_model(task)


def _score_and_output(task: Task) -> None:
    name, choices = task.score.name, task.output.choices
    if name == "choice" and choices is None:
        remedy = "Add output: {choices: […]}, or take another scorer."
        refuse('found "choice" without output.choices', expected="the labels", remedy=remedy, key=("score",))
    if name.startswith("json_") and choices is not None and not all(map(is_json, choices)):
        found = f'found "{name}" with labels that are not JSON'
        refuse(found, expected="a scorer of labels", remedy="Write score: choice.", key=("score",))


def _tuning_and_ladder(task: Task) -> None:
    if task.tune.method == "full" and "full" not in task.ladder:
        refuse(
            'found "full" with a ladder that leaves out the rung full',
            expected="auto, lora or qlora",
            remedy="Add full to ladder, or change the method.",
            key=("tune", "method"),
        )


def _split_and_sources(task: Task) -> None:
    parts = {"dev": task.examples.dev, "test": task.examples.test}
    for name, path in parts.items():
        if path is not None and name in task.split.model_fields_set:
            found = f"found a share beside a file of its own (examples.{name})"
            refuse(found, expected="one of them", remedy="Remove one.", key=("split", name))
    dev, test = (0 if parts[name] is not None else getattr(task.split, name) for name in ("dev", "test"))
    if isinstance(dev, float) and isinstance(test, float) and dev + test >= 1:
        found = f"found shares of {dev:g} for dev and {test:g} for test"
        refuse(found, expected="a sum below 1, so that some are left to train", remedy="Lower one.", key=("split",))


def _examples_and_knowledge(task: Task) -> None:
    """Dev and test among the documents would be looked up together with their answers."""
    if task.knowledge is None:
        return
    sources = task.examples
    for path in filter(None, (sources.all, sources.dev, sources.test)):
        if is_read(task.knowledge, path):
            refuse(
                f'found the examples ("{relative_name(path, task.folder)}") among the documents',
                expected="documents without the questions of dev and test and their answers",
                remedy="Move the examples out of that folder, or name one that holds the documents alone.",
                key=("knowledge",),
            )


def _cost_and_volume(task: Task) -> None:
    if task.goal == "cost" and not task.use.calls_per_month:
        found = 'found "cost" without use.calls_per_month'
        remedy = "Add use: {calls_per_month: N}, or write goal: quality."
        refuse(found, expected="the volume that decides what is cheapest", remedy=remedy, key=("goal",))


def _money_and_prices(task: Task) -> None:
    if task.limits.usd is None:
        return
    _price_of_judges(task)
    if task.price_known:
        return
    given = {"use.prompt_price": task.use.prompt_price, "use.output_price": task.use.output_price}
    refuse(
        f"found a limit of {task.limits.usd:g} USD on {task.model}, whose calls have no known price",
        expected=" and ".join(name for name, price in given.items() if price is None),
        remedy="Add use: {prompt_price: …, output_price: …} in USD per million tokens, 0 where its calls cost nothing.",
        key=("limits", "usd"),
    )


def _price_of_judges(task: Task) -> None:
    """Money that a judge spends, also as a reward, must be countable too."""
    places: dict[str, Score | Reward] = {"score": task.score}
    places |= {f"reward[{number}]": term for number, term in enumerate(task.reward)}
    for place, term in places.items():
        if term.name == "judge" and without_price(term.parameters):
            judge = f"the judge {term.parameters['model']}"
            refuse(
                f"found a limit of {task.limits.usd:g} USD with {judge}, whose calls have no known price",
                expected=" and ".join(f"{place}.judge.{price}" for price in PRICES),
                remedy="Add them, in USD per million tokens, 0 where its calls cost nothing.",
                key=("limits", "usd"),
            )


def _margins_and_suites(task: Task) -> None:
    known = (*KEEP, *task.general)
    for name in task.keep:
        if name == "target":
            remedy = "Remove it; the target has no margin and is always judged."
            refuse('found "target"', expected="a suite that may lose a little", remedy=remedy, key=("keep", name))
        if name not in known:
            detail = unknown_name("suite", name, known)
            refuse(**detail, key=("keep", name))


def _effort_and_model(task: Task) -> None:
    if task.decode.reasoning_effort is not None and not is_endpoint(task.model):
        refuse(
            f"found a reasoning effort of {task.model}, which runs here",
            expected="an endpoint whose model takes one",
            remedy="Remove it; chat_template_kwargs can switch the thinking of a local model on or off.",
            key=("decode", "reasoning_effort"),
        )
