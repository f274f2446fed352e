"""The words that the help of an option names are those that it takes."""

from __future__ import annotations

from typing import get_args

import pytest
import typer

from lastresort import handoff
from lastresort.app import plan
from lastresort.app.start import GATE_MODES
from lastresort.cli.border import guarded
from lastresort.cli.main import app
from lastresort.hardware.plan.setup import SHARINGS
from lastresort.interop import exporting
from lastresort.ladder import trained_rungs
from lastresort.synthesis.filters import Balance
from lastresort.train.adapters.gguf import DTYPES
from lastresort.train.adapters.merge import Into
from lastresort.types import StudyGate

VALUES = {
    "plan --method": plan.METHODS,
    "plan --objective": plan.PLANNED,
    "plan --sharing": SHARINGS,
    "plan --target": plan.TARGETS,
    "plan --optimizer": plan.OPTIMIZERS,
    "plan --precision": plan.PRECISIONS,
    "plan --sampler": plan.SAMPLERS,
    "plan --replay-loss": plan.REPLAY_LOSSES,
    "climb --gate": GATE_MODES,
    "demo --gate": GATE_MODES,
    "study orpo-vs-dpo --gate": get_args(StudyGate),
    "data synth --balance": get_args(Balance),
    "export --to": tuple(exporting.TARGETS),
    "export --rung": tuple(trained_rungs()),
    "handoff --to": tuple(handoff.TARGETS),
    "merge --into": get_args(Into),
    "merge --dtype": ("bfloat16", "float32"),
    "merge --gguf-type": tuple(DTYPES),
    "verify --send": ("input", "prompt"),
}
ELSEWHERE = {"--ray"}  # an address is a choice, too


def choices() -> dict[str, tuple[str, ...]]:
    """Command and option -> the words of its metavar, of every option that has several."""
    found = {}
    commands = [("", typer.main.get_command(app))]
    while commands:
        name, command = commands.pop()
        commands += [(f"{name} {sub}".strip(), one) for sub, one in getattr(command, "commands", {}).items()]
        for option in command.params:
            words = tuple((option.metavar or "").split("|"))
            if len(words) > 1 and option.param_type_name == "option" and option.opts[0] not in ELSEWHERE:
                found[f"{name} {option.opts[0]}"] = words
    return found


def test_the_help_names_the_words_that_an_option_takes() -> None:
    found = choices()
    found.pop("plan --price")  # two forms of one value
    assert {name: set(words) for name, words in found.items()} == {name: set(words) for name, words in VALUES.items()}


@pytest.mark.parametrize("sampler", plan.SAMPLERS)
def test_every_sampler_that_the_help_names_is_planned(sampler: str) -> None:
    request = plan.PlanRequest("llama-3-8b", method="lora", objective="grpo", gpu="8xh100", sampler=sampler)
    assert plan.make_plan(request).answer


def test_the_help_of_the_studies_cuts_no_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.argv", ["lastresort", "study", "--help"])
    assert guarded(app) == 0
    assert not [line for line in capsys.readouterr().out.splitlines()[1:] if line.endswith("...")]
