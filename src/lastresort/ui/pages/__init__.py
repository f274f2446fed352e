"""One file a page: `router()` returns its routes."""
