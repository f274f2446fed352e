"""The page: runs as they happen and afterwards, answers to look at, what won to talk to. Nothing is computed in its process."""
