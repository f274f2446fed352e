"""The page of defaults names the values that the program trains with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lastresort.rungs.preference.items import course_of
from lastresort.rungs.supervised.methods import adapter_settings
from lastresort.spec.sections import FullSettings, PreferenceSettings, SftSettings
from lastresort.train.settings import Objective, TrainSettings

PAGE = (Path(__file__).parents[2] / "docs/defaults.md").read_text(encoding="utf-8")


def said(section: str, setting: str) -> str:
    """The default that the page's section gives for a setting."""
    table = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    return re.search(rf"^\| {re.escape(setting)} \| ([^|]*) \|", table, re.MULTILINE).group(1)


def rates(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.0e}".replace("e-0", "e-") for value in values) + ", raced"


@pytest.mark.parametrize("key", ["r", "batch_size", "loraplus_lr_ratio", "replay"])
def test_sft_is_told_as_it_is(key: str) -> None:
    assert float(said("Supervised fine-tuning", f"`{key}`")) == getattr(SftSettings(), key)


def test_sft_and_full_race_the_rates_of_the_page() -> None:
    usual = SftSettings()
    assert said("Supervised fine-tuning", "`learning_rates`") == rates(usual.learning_rates)
    assert said("Supervised fine-tuning", "`target`") == f"`{usual.target}`"
    assert said("Supervised fine-tuning", "`epochs`").startswith(f"{usual.epochs},")
    settings = adapter_settings(usual, in_4_bits=False)
    assert said("Supervised fine-tuning", "`alpha`") == f"`{settings.alpha / settings.r:g}r`"
    assert said("All weights", "`learning_rates`") == rates(FullSettings().learning_rates)
    assert float(said("All weights", "`replay`")) == FullSettings().replay


def test_the_loop_is_told_as_it_is() -> None:
    loop = TrainSettings(learning_rate=1e-4)
    assert said("Supervised fine-tuning", "schedule, `warmup`") == f"{loop.schedule}, {loop.warmup:.0%}"
    assert said("Supervised fine-tuning", "dropout, weight decay") == f"{loop.adapter.dropout:g}, {loop.weight_decay:g}"


def test_preferences_are_told_as_they_are() -> None:
    section = PreferenceSettings()
    assert said("Preferences", "`dpo`: learning rate") == rates(course_of(section, "dpo").learning_rates)
    assert f"({rates(course_of(section, 'orpo').learning_rates).removesuffix(', raced')})" in PAGE
    for name, option, label in (("dpo", "beta", "`beta`"), ("orpo", "weight", "weight"), ("kto", "beta", "`beta`")):
        assert float(said("Preferences", f"`{name}`: {label}")) == Objective(name).defaults()[option]
    assert float(said("Preferences", "`grpo`: KL weight")) == Objective("grpo").defaults()["kl_weight"]
    assert int(said("Preferences", "`grpo`: samples")) == section.samples
