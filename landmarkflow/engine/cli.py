"""The command line: one command for each stage."""

import argparse
import errno
import gc
import importlib
import logging
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

from landmarkflow.core import locks
from landmarkflow.core.errors import InputError
from landmarkflow.core.records import TEMPLATE
from landmarkflow.engine.batch import Batch, rows_of, values_of
from landmarkflow.engine.stage import Places, Stage

DEFECT = "stopped by a defect in the program or the machine"
# No space left on the disk, no permission, a bad disk: no traceback says more.
OF_THE_MACHINE = {
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EROFS", "EIO")
}
# What a job has cost, for the log and for `make bench`.
COST = "%.2f CPU-seconds and at most %.0f MB"
# Where a run's console reads the logs of its jobs, they say nothing on stderr.
QUIET = "LANDMARKFLOW_QUIET"
# Read by ITK, OpenMP and the libraries of numpy before their first work.
THREAD_VARIABLES = (
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)


def main(stages: Sequence[Stage], arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 after one sentence on what is wrong with its input."""
    commands = {stage.command: stage for stage in stages}
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="landmarkflow stage",
        description="The commands that the workflow's rules call, one for each stage.",
    )
    parser.add_argument("--log", type=Path, help="file that gets the log and any traceback")
    names = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, stage in commands.items():
        sub = names.add_parser(command, help=stage.what, description=stage.what)
        if command in given:
            add_stage_arguments(sub, stage)
    chosen = parser.parse_args(given)
    _start_log(chosen.log)
    logger = logging.getLogger(f"landmarkflow.{chosen.command}")
    try:
        _run(commands[chosen.command], chosen)
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


def add_stage_arguments(parser: argparse.ArgumentParser, stage: Stage) -> None:
    """Declare what a stage's command takes: at most eight options."""
    add = parser.add_argument
    add("--results", required=True, type=Path, metavar="FOLDER", help="of the study")
    if stage.is_of_a_run:
        add(
            "--run",
            required=True,
            nargs="+",
            metavar=("RUN", "STAGE=RUN"),
            help="name of the run, and the runs with which files of other stages lie",
        )
    if stage.is_by_scan:
        add("--scans", nargs="*", default=[], metavar="ID", help="the scans to serve")
    if stage.settings:
        add("--settings", default="{}", metavar="JSON", help="its settings by name")
    if stage.columns:
        add("--sheet", default="{}", metavar="JSON", help="what the sheet says of each scan")
    if stage.is_of_a_run:
        add("--template", default=TEMPLATE, metavar="ID", help="scan that is the run's template")
    if stage.peers:
        add("--peers", nargs="*", default=[], metavar="ID", help="other scans that are read")
    if stage.of:
        add("--of", nargs="*", default=[], metavar="RUN", help="runs that are read")
    add("--threads", type=int, default=1, help="processors that it may use")


def batch_of(stage: Stage, arguments: argparse.Namespace) -> Batch:
    """The batch that a stage's command was given."""
    sheet = rows_of(getattr(arguments, "sheet", "{}"))
    run, *others = getattr(arguments, "run", [""])
    for other in others:
        if "=" not in other:
            raise InputError(f"--run: {other!r} follows the run, expected STAGE=RUN")
    places = Places(
        arguments.results,
        run,
        getattr(arguments, "template", TEMPLATE),
        dict(other.split("=", 1) for other in others),
    )
    return Batch(
        stage,
        places,
        tuple(getattr(arguments, "scans", ())),
        values_of(getattr(arguments, "settings", "{}")),
        sheet,
        tuple(getattr(arguments, "peers", ())),
        tuple(getattr(arguments, "of", ())),
        arguments.threads,
    )


def _run(stage: Stage, arguments: argparse.Namespace) -> None:
    locks.join(arguments.results)
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(arguments.threads)
    run_stage(stage, batch_of(stage, arguments))


def run_stage(stage: Stage, batch: Batch) -> None:
    """Do a stage's work; its module is imported only here, since some take seconds."""
    # What is loaded stays: to look for garbage in it takes a tenth of the time of loading.
    gc.disable()
    try:
        module = importlib.import_module(stage.module)
    finally:
        gc.freeze()
        gc.enable()
    module.run(batch)


def _start_log(path: Path | None) -> None:
    """Log to stderr, and with tracebacks to a file."""
    root = logging.getLogger("landmarkflow")
    root.setLevel(logging.DEBUG)
    if path is None or QUIET not in os.environ:
        console = logging.StreamHandler()
        console.setLevel(logging.INFO)
        console.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(console)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, mode="w", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        root.addHandler(file)
