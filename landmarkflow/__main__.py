"""`python -m landmarkflow COMMAND ...`: one command for each rule of the workflow."""

import argparse
import errno
import importlib
import logging
import pkgutil
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

from landmarkflow import commands
from landmarkflow.core import locks as running
from landmarkflow.core.errors import InputError

COMMANDS = tuple(sorted(module.name for module in pkgutil.iter_modules(commands.__path__)))

DEFECT = "stopped by a defect in the program or the machine"
# No space left on the disk, no permission, a bad disk: no traceback says more.
OF_THE_MACHINE = {
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EROFS", "EIO")
}

# What a job has cost, for the log and for `make bench`.
COST = "%.2f CPU-seconds and at most %.0f MB"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 after one sentence on what is wrong with its input."""
    parser = argparse.ArgumentParser(prog="landmarkflow", description=__doc__)
    parser.add_argument("--log", type=Path, help="file that gets the log and any traceback")
    names = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # A command's module is imported only when it is run: some take ten seconds.
    name = next((a for a in arguments or sys.argv[1:] if a in COMMANDS), None)
    for command in COMMANDS:
        sub = names.add_parser(command)
        if command == name:
            module = importlib.import_module(f"landmarkflow.commands.{command}")
            sub.description = module.__doc__
            module.add_arguments(sub)
    chosen = parser.parse_args(arguments)
    _start_log(chosen.log)
    if chosen.log is not None:
        running.join(chosen.log)
    logger = logging.getLogger(f"landmarkflow.{name}")
    try:
        module.run(chosen)
    except InputError as error:
        logger.error("%s", error)
        return 1
    except OSError as error:
        if error.errno not in OF_THE_MACHINE:
            logger.exception(DEFECT)
            return 2
        logger.error("%s: %s", error.filename or "the disk", error.strerror)
        return 1
    except Exception:
        logger.exception(DEFECT)
        return 2
    used = resource.getrusage(resource.RUSAGE_SELF)
    logger.debug(COST, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
    return 0


def _start_log(path: Path | None) -> None:
    """Log to stderr, and with tracebacks to a file."""
    root = logging.getLogger("landmarkflow")
    root.setLevel(logging.DEBUG)
    console = logging.StreamHandler()
    console.setLevel(logging.INFO)
    console.setFormatter(logging.Formatter("%(message)s"))
    root.addHandler(console)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, mode="w", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root.addHandler(file)


if __name__ == "__main__":
    sys.exit(main())
