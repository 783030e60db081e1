"""The command line for people."""

import argparse
import os
import sys
from collections.abc import Sequence

from landmarkflow.commands.check import check
from landmarkflow.commands.clean import clean
from landmarkflow.commands.run import run
from landmarkflow.commands.studies import DEFAULT
from landmarkflow.core.errors import InputError

RUN = "a study, from scans to report; goes on where it was stopped"
CHECK = "read all scans and references and detect nothing: what is refused and why, minutes, disk"
CLEAN = "what of a study's results can be deleted, and how much that frees"
STAGE = "the commands of the workflow's rules, one for each stage: stage --help"
STUDY = "name of a study in studies/, or path of its .yaml file"
DATA = "folder with template/ and scans/"


def main(arguments: Sequence[str]) -> int:
    """Run one command; return 0, or 1 after one sentence on what is wrong."""
    parser = argparse.ArgumentParser(
        prog="landmarkflow", description="One annotated scan in, landmarks in hundreds out."
    )
    names = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_run(names.add_parser("run", help=RUN, description=f"Run {RUN}."))
    add_check(names.add_parser("check", help=CHECK, description=f"{CHECK[0].upper()}{CHECK[1:]}."))
    add_clean(names.add_parser("clean", help=CLEAN, description=f"Say {CLEAN}; delete nothing."))
    names.add_parser("stage", help=STAGE)
    chosen, more = parser.parse_known_args(arguments)
    if more and chosen.command != "run":
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    try:
        if chosen.command == "run":
            more = [option for option in more if option != "--"]
            return run(chosen.study, chosen.data, chosen.seeds, chosen.cores, more)
        if chosen.command == "check":
            return check(chosen.study, chosen.data, chosen.cores)
        return clean(chosen.study, yes=chosen.yes)
    except InputError as error:
        sys.stderr.write(f"landmarkflow: {error}\n")
        return 1


def add_run(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` takes."""
    parser.epilog = "Other options go to Snakemake, such as --dry-run."
    add = parser.add_argument
    add("study", nargs="?", default=DEFAULT, metavar="STUDY", help=f"{STUDY} ({DEFAULT})")
    add("--data", default="", metavar="FOLDER", help=DATA)
    add("--cores", default="all", metavar="N", help="processor cores (all)")
    add("--seeds", default="", metavar='"1 2 3"', help="make each run once for every seed")


def add_check(parser: argparse.ArgumentParser) -> None:
    """Declare what `check` takes."""
    here = len(os.sched_getaffinity(0))
    add = parser.add_argument
    add("study", metavar="STUDY", help=STUDY)
    add("--data", default="", metavar="FOLDER", help=DATA)
    add("--cores", type=int, default=here, metavar="N", help=f"of the run to come ({here})")


def add_clean(parser: argparse.ArgumentParser) -> None:
    """Declare what `clean` takes."""
    parser.add_argument("study", metavar="STUDY", help="name of a study with results in results/")
    parser.add_argument("--yes", action="store_true", help="delete it")
