"""Pages on which people look at what a run found, and mend it."""
