"""The probes of the gate: whether a tuned model gives way where its base did not, and whether its format leaks."""
