"""Free-form answers scored by another model: `python -m evals.judge --help`."""
