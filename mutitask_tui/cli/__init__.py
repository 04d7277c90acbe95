"""The command line `mutitask`: one module for each command."""
