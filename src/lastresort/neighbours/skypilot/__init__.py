"""A training as a task that SkyPilot runs on a rented card."""
