"""Models behind OpenAI-compatible endpoints: what is asked, what comes back, and what may go wrong."""
