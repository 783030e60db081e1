"""Stages as rules and commands run them: declarations, batches, the command line."""
