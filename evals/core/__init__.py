"""DCLM's CORE metric (arXiv:2406.11794) for base models: 22 tasks with few-shot examples."""
