"""Families of choice questions, written for this project. A new one is a function and a line in its file's table."""

from lastresort.evals.suites.families.calendar import CALENDAR
from lastresort.evals.suites.families.family import Choice, Family
from lastresort.evals.suites.families.geography import GEOGRAPHY
from lastresort.evals.suites.families.grammar import GRAMMAR
from lastresort.evals.suites.families.letters import LETTERS
from lastresort.evals.suites.families.logic import LOGIC
from lastresort.evals.suites.families.numbers import NUMBERS
from lastresort.evals.suites.families.reading import READING
from lastresort.evals.suites.families.words import WORDS_FAMILIES

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (*NUMBERS, *CALENDAR, *LETTERS, *WORDS_FAMILIES, *GEOGRAPHY, *GRAMMAR, *LOGIC, *READING)
}

__all__ = ["FAMILIES", "Choice", "Family"]
