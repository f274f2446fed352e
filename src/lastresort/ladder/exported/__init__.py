"""The training of a climb as it is exported: its rows put together again from the record, its settings as they were noted."""
