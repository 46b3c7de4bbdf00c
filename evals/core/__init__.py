"""DCLM's CORE metric (arXiv:2406.11794): what a base model knows and can do, over 22 tasks given by example."""
