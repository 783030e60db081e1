"""`landmarkflow COMMAND ...`, or `python -m landmarkflow COMMAND ...`."""

import sys

from landmarkflow.engine.cli import main as stage
from landmarkflow.registry import STAGES


def run() -> int:
    """Run the command that the command line names; return its exit status."""
    if sys.argv[1:2] == ["stage"]:
        return stage(STAGES, sys.argv[2:])
    # What people call reads studies, which a job need not.
    from landmarkflow.commands.main import main  # noqa: PLC0415

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run())
