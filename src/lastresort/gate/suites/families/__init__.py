"""Families of choice questions, written for this project. A new one is a function and a line in its file's table."""

from lastresort.gate.suites.families.family import ChoiceQuestion, Family
from lastresort.gate.suites.families.geography import GEOGRAPHY
from lastresort.gate.suites.families.language import GRAMMAR, LETTERS, WORDS_FAMILIES
from lastresort.gate.suites.families.logic import LOGIC, READING
from lastresort.gate.suites.families.numbers import CALENDAR, NUMBERS

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (*NUMBERS, *CALENDAR, *LETTERS, *WORDS_FAMILIES, *GEOGRAPHY, *GRAMMAR, *LOGIC, *READING)
}

__all__ = ["FAMILIES", "ChoiceQuestion", "Family"]
