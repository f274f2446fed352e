"""`python -m lastresort`."""

from lastresort.cli.main import run

run()
