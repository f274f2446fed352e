"""The loop: batch -> forests -> log-probabilities -> objective -> step, with checkpoints, one or several processes."""
