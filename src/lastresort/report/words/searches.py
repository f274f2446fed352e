"""How a rung searched on dev, in sentences."""

from __future__ import annotations

from typing import assert_never

from lastresort.records import searches as value
from lastresort.records.document import Statement
from lastresort.report.words.wording import percent


def of_search(found: value.SearchFinding) -> Statement:
    return Statement.of(found, _sentence(found))


def _sentence(found: value.SearchFinding) -> str:
    match found:
        case value.HalvedOnDev():
            return _halved(found)
        case value.NotTried(candidate, why):
            return f"{candidate} could not be tried: {why}"
        case value.SearchAlone():
            return _search_alone(found)
        case value.WithPassages():
            scores = [f"{name} {percent(one.score)} ({one.outcome})" for name, one in found.systems.items()]
            scores += [f"{name} could not be tried: {why}" for name, why in found.dropped.items()]
            return f"With the {'right' if found.right else 'likeliest'} passages in the prompt: {'; '.join(scores)}."
        case value.TrainedOnRows():
            return _on_rows(found)
        case value.TrainedOnPreferences():
            raced = (
                "the only learning rate tried" if len(found.rates) == 1 else f"raced on dev with {_rates(found.rates)}"
            )
            return (
                f"{found.plan}; {found.learned_from}. Learning rate {found.rate:g}, {raced}; {found.epochs} epochs at most, batch "
                f"{found.batch_size}."
            )
        case _:
            assert_never(found)


def _halved(found: value.HalvedOnDev) -> str:
    tried = f"{found.n} {found.candidates} were tried on dev"
    if found.until == found.n_dev:
        return f"{tried}; {found.dropped} were dropped early by successive halving."
    return (
        f"{tried}; the race ended after {found.until} of {found.n_dev} items, where all that was left was below the bar by the "
        f"rule of the test, at an error of {found.error:.0%}."
    )


def _search_alone(found: value.SearchAlone) -> str:
    if not found.searches:
        return "No dev example names its passages, so the search was not measured on its own."
    scores = "; ".join(
        f"{search.mode}{' reranked' if search.reranked else ''} "
        + ", ".join(f"recall@{k} {recall:.2f}" for k, recall in sorted(search.recall.items()))
        + f", MRR {search.mrr:.2f}"
        for search in found.searches
    )
    return f"The search alone, on {found.searches[0].questions} dev questions whose passages are known: {scores}."


def _on_rows(found: value.TrainedOnRows) -> str:
    first = f"{found.pretrained}; then " if found.pretrained else ""
    replay = f"{found.replay} of replay{' held to the base' if found.held else ''}"
    training = f"{first}{found.method}, {found.rows} rows and {replay}, {found.epochs} epochs, batch {found.batch_size}"
    if len(found.rates) == 1:
        return f"{training}, learning rate {found.rate:g}, the only one tried."
    laps = ", ".join(
        f"{lap.rate:g}: {'diverged' if lap.loss is None else f'{lap.loss:.3f}'} at step {lap.step}"
        for lap in found.laps
    )
    rates = _rates(found.rates)
    return f"{training}; learning rates {rates} raced by loss on dev ({laps}); {found.rate:g} went the whole way."


def _rates(rates: tuple[float, ...]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)
