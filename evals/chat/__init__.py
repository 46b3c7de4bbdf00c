"""Evaluation of chat models: ARC and MMLU by the logits of letters, other tasks by generated and graded answers."""
