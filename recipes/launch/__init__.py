"""Launchers of the stages on rented machines: Hugging Face Jobs, Modal, SLURM."""
