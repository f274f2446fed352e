"""One file a page: `router(site)` returns its routes."""
