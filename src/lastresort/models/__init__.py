"""Models that answer: local weights, OpenAI-compatible endpoints, scripts; and the cache in front of them."""
