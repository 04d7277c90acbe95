"""The import names of MutiTask's first version. This package re-exports them and does nothing else."""
