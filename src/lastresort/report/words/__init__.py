"""Every sentence of every output."""
