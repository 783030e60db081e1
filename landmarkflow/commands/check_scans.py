"""End a run with an error where a scan was refused and the study does not allow for it."""

import argparse
import logging
from pathlib import Path

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import write_text
from landmarkflow.core.records import read_record
from landmarkflow.engine.arguments import add_paths

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--bad-scans", choices=("refuse", "set_aside"), required=True)
    parser.add_argument("--records", required=True, nargs="+", type=Path, metavar="FILE")
    add_paths(parser, "checked")


def run(arguments: argparse.Namespace) -> None:
    """Say which scans were refused and why.

    Raises:
        InputError: some were, and they are not to be set aside.
    """
    records = [read_record(path) for path in arguments.records]
    refused = {r.scan: r.reason for r in records if r.status == "refused"}
    for reason in refused.values():
        logger.error("%s", reason)
    said = f"{len(refused)} of {len({r.scan for r in records})} scans refused"
    if refused and arguments.bad_scans == "refuse":
        raise InputError(
            f"{said} ({', '.join(refused)}) and all else done: mend these scans, take them out of "
            "the study, or allow for them with `bad_scans: set_aside`"
        )
    write_text(arguments.checked, said + "\n")
