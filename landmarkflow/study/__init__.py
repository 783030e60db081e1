"""A study: its settings, its sheet of scans, its runs."""
