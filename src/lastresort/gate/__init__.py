"""The gate at work: a base and a tuned model are asked the same items, and what was found is weighed (DESIGN part 9)."""
