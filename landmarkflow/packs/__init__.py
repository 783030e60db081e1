"""A finished run in one file, and what it finds in further scans without a study around them."""
