"""The gate: is the tuned model better than its base, and did nothing else break? Start reading at run.py."""
