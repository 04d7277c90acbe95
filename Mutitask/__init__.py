"""The seed's import names; nothing else."""
