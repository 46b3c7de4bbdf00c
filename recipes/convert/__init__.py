"""Convert checkpoints from and to transformers' own NanoChat, and from the files of karpathy/nanochat."""
