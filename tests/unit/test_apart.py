"""A function in a process of its own ends within its limits, and the next question is answered."""

from __future__ import annotations

import pytest

from lastresort.apart import TooMuch, answer_apart

PROGRAM = """
import os
def answer(question):
    if question == "time":
        while True: pass
    if question == "memory":
        return len(bytearray(2**31))
    if question == "crash":
        os.abort()
    if question == "error":
        raise ValueError
    return question
"""


@pytest.mark.parametrize(
    ("question", "why"), [("time", "time"), ("memory", "memory"), ("crash", "crash"), ("error", "crash")]
)
def test_what_takes_too_much_is_ended_and_the_next_question_is_answered(question: str, why: str) -> None:
    for _ in range(2):
        with pytest.raises(TooMuch) as ended:
            answer_apart(PROGRAM, question, most_s=0.2, most_bytes=2**30)
        assert ended.value.why == why
        value = {"a": [1, None, "\u2028é\ud800"]}
        assert answer_apart(PROGRAM, value, most_s=0.2) == value


def test_it_imports_what_this_process_could_where_it_needs_that() -> None:
    program = "from lastresort.version import __version__\ndef answer(question): return __version__"
    from lastresort.version import __version__

    assert answer_apart(program, None, most_s=5, imports=True) == __version__
    with pytest.raises(TooMuch):
        answer_apart(program, None, most_s=5)
