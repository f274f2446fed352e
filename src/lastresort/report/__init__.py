"""A decision as others read it: JSON with its schema, one HTML page, Markdown, the terminal. Needs no torch."""
