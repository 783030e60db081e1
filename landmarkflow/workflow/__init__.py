"""A study and its stages as the rules of a workflow, for Snakemake."""
