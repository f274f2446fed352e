"""What follows a verdict: repairs, comparisons of training methods, rechecks."""
