"""The rungs of the ladder, one file or folder each; `lastresort.ladder` holds the table of them."""
