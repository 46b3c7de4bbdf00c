"""Scaling laws of models on the dial, and whole models of several depths: `python -m benchmarks.scaling --help`."""
