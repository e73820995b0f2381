"""One experiment per module, and nothing else."""
