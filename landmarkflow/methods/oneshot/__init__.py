"""The one-shot method of Wang et al.: one module a stage."""
