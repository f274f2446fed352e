"""`lastresort env`: what this machine is, and what it can do."""

from __future__ import annotations

import typer

from lastresort.cli.document import print_document


def env_command(
    as_json: bool = typer.Option(False, "--json", help="Print it as one JSON document on stdout."),
) -> None:
    """Show processor, memory, cards, packages and what can be trained here."""
    from lastresort.hardware.environment import card_here, environment
    from lastresort.hardware.plan.plan import within_reach
    from lastresort.models.precision import chosen_device, chosen_dtype

    card = card_here(processor=True)
    precision = str(chosen_dtype("auto", chosen_device())).removeprefix("torch.")
    found = {**environment(), "precision": precision, "reach": {} if card is None else within_reach(card)}
    if as_json:
        print_document(found)
        return
    from lastresort.cli.console import SafeConsole
    from lastresort.report.terminal import environment_text

    SafeConsole().print(environment_text(found))
