"""The recipes: one script a stage, and what they share.

`errors`, `atomic`, `arguments` and `hub` import nothing of ours, so everything, the tokenizer included, may import
them. Otherwise arrows run one way: scripts -> training, data, evals -> tokenizer, modeling_nanochat.
"""
