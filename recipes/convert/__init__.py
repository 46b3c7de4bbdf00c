"""Checkpoints from and to other formats: transformers' own NanoChat, and the files of karpathy/nanochat."""
