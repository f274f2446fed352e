"""A forecast of memory, time and money before anything is spent: pure functions of shapes and settings, without torch."""
