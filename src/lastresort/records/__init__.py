"""What a run leaves behind: its record, the response cache, the ledger of test items, and files written whole."""
