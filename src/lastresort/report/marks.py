"""Verdicts in the terminal: a mark, since colour alone must not carry the meaning, and a colour."""

MARKS = {"MET": "●", "NOT_MET": "×", "UNDECIDED": "◇"}
MARKS |= {"NON_INFERIOR": "●", "REGRESSED": "×", "UNDERPOWERED": "◇", "UNINFORMATIVE": "○", "SKIPPED": "–"}

STYLES = {"MET": "green", "NOT_MET": "red", "UNDECIDED": "yellow", "SHIP": "green", "HOLD": "yellow", "REJECT": "red"}
STYLES |= {
    "NON_INFERIOR": "green",
    "REGRESSED": "red",
    "UNDERPOWERED": "yellow",
    "UNINFORMATIVE": "yellow",
    "SKIPPED": "dim",
}
