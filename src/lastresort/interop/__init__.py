"""Other frameworks' training files, read by meaning and written: this folder translates, it does not train."""
