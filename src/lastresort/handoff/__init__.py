"""What other servers need to serve a winner."""
