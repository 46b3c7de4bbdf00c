"""The recipes: one script a stage, and what they share.

Arrows run one way, and tests/test_layers.py holds them: modeling_nanochat -> utils -> tokenizer, plots -> data,
inference -> evals -> training -> publish, convert -> scripts. Each room may import those before it. The model stands
first and imports nothing of ours, for its files travel with every checkpoint. Nothing imports a script.
"""
