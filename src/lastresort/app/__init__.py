"""Use cases: the only way in, for the command line, a page, a server, a worker and a notebook."""
