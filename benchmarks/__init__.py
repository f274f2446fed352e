"""Speed and memory against peers: `python -m benchmarks` (or `make bench`), whole processes in one run on one machine."""
