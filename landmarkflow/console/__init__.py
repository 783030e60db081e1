"""What people see of a run: a screen of plain lines in place of Snakemake's own text."""
