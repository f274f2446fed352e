"""The task file: parse, validate, resolve defaults."""
