"""`landmarkflow COMMAND ...`, or `python -m landmarkflow COMMAND ...`."""

import sys

from landmarkflow.engine.cli import main
from landmarkflow.registry import STAGES


def run() -> int:
    """Run the command that the command line names; return its exit status."""
    return main(STAGES)


if __name__ == "__main__":
    sys.exit(run())
