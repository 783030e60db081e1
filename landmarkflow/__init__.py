"""One-shot 3D landmark detection as a reproducible Snakemake pipeline."""
