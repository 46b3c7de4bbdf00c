"""A run as a page that people like to read: `python -m evals.report --run runs/NAME`."""
