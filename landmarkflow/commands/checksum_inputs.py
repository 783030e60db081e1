"""Write the SHA-256 of every file that a study was given."""

import argparse
from pathlib import Path

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import sha256, write_text
from landmarkflow.engine.arguments import add_paths

COLUMNS = ("scan", "role", "path", "sha256")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    for name in ("scans", "roles"):
        parser.add_argument(f"--{name}", required=True, nargs="+")
    parser.add_argument("--paths", required=True, nargs="+", type=Path, metavar="FILE")
    add_paths(parser, "checksums")


def run(arguments: argparse.Namespace) -> None:
    """Write one row for each file; a DICOM folder's digest is of its files' names and digests."""
    if not len(arguments.scans) == len(arguments.roles) == len(arguments.paths):
        raise InputError(
            f"found {len(arguments.scans)} --scans, {len(arguments.roles)} --roles and "
            f"{len(arguments.paths)} --paths, expected as many of each"
        )
    rows = [COLUMNS]
    for scan, role, path in zip(arguments.scans, arguments.roles, arguments.paths, strict=True):
        rows.append((scan, role, str(path), sha256(path)))
    write_text(arguments.checksums, "".join("\t".join(row) + "\n" for row in rows))
