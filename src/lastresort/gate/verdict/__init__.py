"""The gate: does the tuned model ship? Pure, on scores that were measured before."""
