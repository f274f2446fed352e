"""Replay: what is asked of the base, what of its answers is trained, and that the record gives the same rows back."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lastresort.data.duplicates import near_pairs
from lastresort.data.wording import entries, filled
from lastresort.evals.scorers.scorer import AnswerForm
from lastresort.gate.drawing import without_duplicates
from lastresort.gate.suites.constraints.request import REQUESTS as CONSTRAINED
from lastresort.gate.suites.general import STRATA, StratumItems
from lastresort.records.record import Record
from lastresort.rungs.supervised.replay_rows import replay_of
from lastresort.synthesis.replay import COUNTER_REQUESTS as REQUESTS
from lastresort.synthesis.replay import REQUESTS as EVERYDAY
from lastresort.synthesis.replay import counter_requests, general_prompts, most_prompts
from lastresort.types import Answer, Decoding, Example, Message, SilentProgress

INPUTS = [f"Ticket {number}: my lamp is broken." for number in range(40)]


class Base:
    """Answers in the task's form where the instruction stands above, to every second one; else in words."""

    batch_size = 4
    context_tokens: int | None = None

    def __init__(self) -> None:
        self.asked: list[tuple[Message, ...]] = []

    def count_tokens(self, prompt: tuple[Message, ...]) -> int:
        return sum(len(turn.content.split()) for turn in prompt)

    def generate(self, prompts: Any, decoding: Decoding) -> list[Answer]:
        self.asked += prompts
        form = [prompt[0].role == "system" and "2" in prompt[-1].content for prompt in prompts]
        return [Answer('{"team": "x"}' if formed else "A lamp is broken.", 1, 1, "stop") for formed in form]


def bench(folder: Path, base: Base, *, schema: dict[str, Any] | None) -> Any:
    return SimpleNamespace(
        task=SimpleNamespace(
            about="Route it.",
            chat_template_kwargs={},
            split=SimpleNamespace(seed=3),
            output=AnswerForm(schema, None),
        ),
        train=tuple(Example(str(n), (Message("user", text),), "{}") for n, text in enumerate(INPUTS)),
        record=Record.open(folder) if (folder / "record.sqlite").exists() else Record.create(folder),
        models=SimpleNamespace(tuned_name="tiny", open=lambda system: base),
        progress=SilentProgress(),
    )


def test_a_third_is_asked_under_the_instruction_and_answers_in_the_form_are_left_out(tmp_path: Path) -> None:
    base = Base()
    found = replay_of(bench(tmp_path, base, schema={"type": "object"}), "sft", 30, "everyday")
    under = [prompt for prompt in base.asked if prompt[0].role == "system"]
    assert len(base.asked) == 30
    assert len(under) == 10
    assert all(prompt[0].content == "Route it." for prompt in under)
    formed = sum("2" in prompt[-1].content for prompt in under)
    assert 0 < formed < 10
    assert len(found.examples) == 30 - formed
    assert not any(example.output.startswith("{") for example in found.examples)


def test_the_record_gives_the_same_rows_back(tmp_path: Path) -> None:
    first = replay_of(bench(tmp_path, Base(), schema={"type": "object"}), "sft", 12, "everyday")
    base = Base()
    again = replay_of(bench(tmp_path, base, schema={"type": "object"}), "full", 12, "everyday")
    assert (again.examples, again.ends) == (first.examples, first.ends)
    assert not base.asked


def test_a_task_of_free_text_has_no_form_to_set_aside(tmp_path: Path) -> None:
    base = Base()
    replay_of(bench(tmp_path, base, schema=None), "sft", 9, "everyday")
    assert {len(prompt) for prompt in base.asked} == {1}


def test_what_the_context_has_no_room_for_is_not_asked(tmp_path: Path) -> None:
    """Neither of the requests about inputs of the task, which are longer, nor of general ones."""
    base = Base()
    base.context_tokens = 96 + 11
    found = replay_of(bench(tmp_path, base, schema={"type": "object"}), "sft", 60, "wide")
    lengths = [base.count_tokens(prompt) for prompt in base.asked]
    assert all(prompt[0].role == "user" for prompt in base.asked)
    assert 0 < len(found.examples) == len(base.asked) < 40
    assert max(lengths) == 11


def test_each_input_comes_once_and_the_seed_decides() -> None:
    texts = counter_requests(INPUTS, 30, seed=1)
    assert len({text.split("\n\n")[0] for text in texts}) == 30
    assert texts == counter_requests(INPUTS, 30, seed=1) != counter_requests(INPUTS, 30, seed=2)
    assert len(counter_requests(INPUTS, 100, seed=1)) == len(INPUTS)


@pytest.mark.parametrize("kind", ["counter", "off_task"])
def test_the_probe_asks_none_of_these_wordings(kind: str) -> None:
    sentences = [*REQUESTS, *entries(kind)]
    first = len(REQUESTS)
    assert not near_pairs(sentences, border=first)


def test_wide_prompts_are_asked_where_the_task_says_so_and_kept_apart_from_the_others(tmp_path: Path) -> None:
    base = Base()
    everyday = replay_of(bench(tmp_path, base, schema=None), "sft", 12, "everyday")
    wide = replay_of(bench(tmp_path, base, schema=None), "sft", 12, "wide")
    asked = [prompt[-1].content for prompt in base.asked]
    assert asked == [*general_prompts(12, 3), *general_prompts(12, 3, "wide")]
    again = Base()
    assert replay_of(bench(tmp_path, again, schema=None), "full", 12, "wide").examples == wide.examples
    assert replay_of(bench(tmp_path, again, schema=None), "full", 12, "everyday").examples == everyday.examples
    assert not again.asked


def test_wide_prompts_are_of_many_kinds_and_lengths() -> None:
    """The first hundred: most begin in their own way, some hold a passage, some ask for a list, some for a word."""
    found = general_prompts(100, 1, "wide")
    assert len(set(found)) == 100
    assert len({" ".join(text.split()[:3]) for text in found}) >= 60
    assert len({" ".join(text.split()[:3]) for text in general_prompts(100, 1)}) < 40
    assert sum(text.count('"') >= 2 for text in found) >= 15
    assert sum(text.endswith("?") for text in found) >= 30
    assert sum("list" in text.lower() or "table" in text or "steps" in text for text in found) >= 5
    assert (
        sum("one line" in text or "single word" in text or "only" in text or "Yes or no" in text for text in found) >= 5
    )
    lengths = sorted(len(text.split()) for text in found)
    assert lengths[5] <= 7
    assert lengths[-5] >= 20
    assert found == general_prompts(100, 1, "wide") != general_prompts(100, 2, "wide")
    assert len(set(general_prompts(10**6, 1, "wide"))) == most_prompts("wide") == 11_920, "as docs/task.md says"


def test_no_suite_and_no_probe_asks_a_wide_prompt() -> None:
    """Neither a prompt nor its sentence, slots as they stand."""
    wide = general_prompts(10**6, 0, "wide")
    assert not set(wide) & set(general_prompts(10**6, 0))
    items = [item for stratum in STRATA.values() for item in islice(StratumItems(stratum, 5), 8)]
    assert without_duplicates(items, wide[:500]) == items
    for name in ("off_task", "off_topic"):
        assert not set(wide) & {filled(name, seed, number) for seed in range(3) for number in range(500)}
    own = entries("wide")
    probes = ("off_task", "off_topic", "counter", "watched", "distance", "pushbacks", "reasks", "suggestions")
    sentences = [*own, *(entry for name in probes for entry in entries(name)), *REQUESTS, *EVERYDAY, *CONSTRAINED]
    assert not near_pairs(sentences, border=len(own))
    assert not near_pairs(own), "and no sentence is there twice"
