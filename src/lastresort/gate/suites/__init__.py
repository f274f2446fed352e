"""The suites of the gate: items from seeded templates, written for this project."""
