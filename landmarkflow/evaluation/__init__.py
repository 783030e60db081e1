"""Errors, success rates and tables: knows points and result files, not methods."""
