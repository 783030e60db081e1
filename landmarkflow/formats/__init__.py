"""Files that people bring and open: one module a format."""
