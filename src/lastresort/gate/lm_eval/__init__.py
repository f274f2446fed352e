"""Tasks of lm-eval as further suites. lm-eval is an extra (`evals`), imported only where it is used."""
