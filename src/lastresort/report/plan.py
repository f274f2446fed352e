"""A plan in the terminal: every part with its formula, whether it fits, time and money, and what to take."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lastresort.hardware.plan.document import AS_ASKED, CardOffer, PlanDocument, PlannedCards
from lastresort.hardware.plan.fit import NAMES, gib
from lastresort.records.document import JsonDocument
from lastresort.report.words.wording import count, duration, listed, money, printable, sentence, spaced


class KnownCard(JsonDocument):
    memory_bytes: int
    usd_per_hour: float | None


class KnownNames(JsonDocument):
    """What `lastresort plan --list --json` prints. models: parameters by name."""

    models: dict[str, int]
    cards: dict[str, KnownCard]


def plan_text(found: PlanDocument) -> RenderableType:
    """Legible at 80 columns and without colour."""
    parts: list[RenderableType] = [Text(answer(found), style="bold"), Text(setup_line(found)), Text("")]
    parts += [_memory(found), Text("")]
    if found.beyond_our_trainer:
        parts.append(Text(sentence(found.beyond_our_trainer), style="yellow"))
    parts += [Text(sentence(warning), style="yellow") for warning in found.warnings]
    parts += [Text(line) for line in batch_lines(found)]
    if found.time:
        parts += [Text(""), *(Text(sentence(line)) for line in found.time.lines)]
    return Group(*parts, Text(""), _methods(found), Text(""), _ladder(found), Text(""), Text(foot(found), style="dim"))


def answer(found: PlanDocument) -> str:
    """The first sentence: what, how much, on what, and for how much."""
    setup, cards, memory = found.setup, found.cards, found.memory
    method = NAMES[setup.method]
    fits = "fits on" if found.fits else "does not fit on"
    each = " on each" if cards.count > 1 else ""
    told = (
        f"{printable(found.model.name)}, {method}: {gib(memory.per_card_bytes)}{each}, {fits} {named(cards)}"
        f" ({gib(cards.memory_bytes)}{each})"
    )
    time = found.time
    if time and time.seconds is not None:
        told += f"; about {spaced(duration(time.seconds))}"
        told += "" if time.usd in (None, 0.0) else f" and {money(time.usd)}"
    return f"{told}."


def named(cards: PlannedCards) -> str:
    """ "this machine", "2 x l40s"."""
    if cards.here:
        return "this machine" if cards.name == "cpu" else f"the {printable(cards.name)} here"
    return _several(cards.name, cards.count)


def _several(card: str, number: int) -> str:
    return printable(card) if number == 1 else f"{number} x {printable(card)}"


def setup_line(found: PlanDocument) -> str:
    setup, model = found.setup, found.model
    told = [f"{model.parameters / 1e9:,.3g} billion parameters", f"rows of {count(setup.row_tokens)} tokens"]
    pairs = {"sft": "row", "dpo": "pair", "grpo": "answer"}[setup.learning]
    told.append(f"{setup.batch} {pairs}{'s' if setup.batch > 1 else ''} per pass")
    told.append(f"checkpointing {'on' if setup.checkpointing else 'off'}")
    if setup.method != "full":
        told.append(f"r {setup.r} on {setup.target} layers")
    why = "" if setup.why == AS_ASKED else f" Chosen: {setup.why}."
    return sentence(", ".join(told)) + why


def _memory(found: PlanDocument) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("memory per device", no_wrap=True)
    table.add_column("GiB", justify="right", no_wrap=True)
    table.add_column("from", overflow="fold")
    for part in found.memory.parts:
        told = Text(part.formula)
        if part.assumption:
            told.append(f" ({part.assumption})", style="dim")
        table.add_row(part.name, _gib(part.per_card_bytes), told)
    whole = found.memory
    cards = found.cards.count
    summed = "" if cards == 1 else f"{gib(whole.total_bytes)} in total on {cards} GPUs"
    table.add_row(Text("all", style="bold"), Text(_gib(whole.per_card_bytes), style="bold"), summed)
    return table


def _gib(size: int) -> str:
    return f"{size / (1 << 30):,.2f}"


def batch_lines(found: PlanDocument) -> list[str]:
    most, setup = found.largest_batch, found.setup
    unit = "pairs" if setup.learning == "dpo" else "rows"
    lines = [f"At most {most:,} {unit} fit in one pass."] if most > setup.batch else []
    measuring = found.measuring
    if measuring.fit_at_once >= measuring.answers_at_once:
        lines.append(
            f"Measuring {measuring.answers_at_once} answers at once takes {gib(measuring.per_card_bytes)}, which fits."
        )
    return lines


def _methods(found: PlanDocument) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("method", "GiB per device", "fits", cheapest(found)):
        table.add_column(name, justify="right" if name == "GiB per device" else "left")
    for one in found.methods:
        fits = "yes" if one.fits else "no"
        table.add_row(one.method, _gib(one.per_card_bytes), fits, offered(one.cheapest))
    return table


def _ladder(found: PlanDocument) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("rung", "by", cheapest(found), "for all rungs up to here"):
        table.add_column(name)
    for one in found.ladder:
        by = one.method if one.learning == "sft" else f"{one.method}, {one.learning}"
        table.add_row(one.rung, by, offered(one.cheapest), offered(one.cheapest_up_to_here))
    return table


def cheapest(found: PlanDocument) -> str:
    """By what the cards are compared."""
    by_job = any(one.cheapest is not None and one.cheapest.usd is not None for one in found.methods)
    return "cheapest GPU for this job" if by_job else "cheapest GPU per hour"


def offered(offer: CardOffer | None) -> str:
    if offer is None:
        return "none with a price"
    if offer.usd is None or offer.seconds is None:
        return hourly(offer)
    told = f"{_several(offer.card, offer.count)}, {money(offer.usd)} in {spaced(duration(offer.seconds))}"
    return told + (" (not with `train`)" if offer.beyond_our_trainer else "")


def hourly(offer: CardOffer | None) -> str:
    if offer is None:
        return "none"
    told = f"{_several(offer.card, offer.count)}, {money(offer.usd_per_hour)} an hour"
    return told + (" (not with `train`)" if offer.beyond_our_trainer else "")


def foot(found: PlanDocument) -> str:
    dates = sorted({one.cheapest.price_date for one in found.methods if one.cheapest and one.cheapest.price_date})
    priced = f"Prices as of {listed(dates)}; set yours with --price. " if dates else ""
    offers = [one.cheapest for one in found.methods]
    for rung in found.ladder:
        offers += [rung.cheapest, rung.cheapest_up_to_here]
    beyond = dict.fromkeys(one.beyond_our_trainer for one in offers if one is not None and one.beyond_our_trainer)
    other = (
        f"Not with `train`: {listed(beyond)}; `lastresort export` writes such a training for another framework. "
        if beyond
        else ""
    )
    return (
        f"{priced}{other}The forecast follows from shapes alone: no weights were read. Its constants are fitted to runs on a "
        "processor and assumed for GPUs. docs/plan.md says what each part rests on, and why the tables of other frameworks differ."
    )


def names_text(known: KnownNames) -> RenderableType:
    """The models and cards that are known by name, a line each."""
    lines = [f"{name:<20} {parameters / 1e9:>8,.3g} billion parameters" for name, parameters in known.models.items()]
    lines.append("")
    for name, card in known.cards.items():
        usd = "" if card.usd_per_hour is None else f"  ${card.usd_per_hour:.2f} an hour"
        lines.append(f"{name:<20} {card.memory_bytes / (1 << 30):>8,.1f} GiB{usd}")
    return Text("\n".join(lines))
