"""Several runs' landmarks made one list: few-shot, where each run has another template."""
