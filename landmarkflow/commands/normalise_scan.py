"""Normalise one scan's intensities (Eq. 8)."""

import argparse

from landmarkflow.commands.arguments import add_paths, add_settings, read_settings
from landmarkflow.errors import InputError
from landmarkflow.oneshot.normalise import normalise
from landmarkflow.oneshot.settings import NormaliseSettings
from landmarkflow.records import Record, write_nothing, write_record
from landmarkflow.volumes import grid_of, read_volume, write_volume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--scan", required=True)
    parser.add_argument("--bad-scan", choices=("refuse", "set_aside"), default="refuse")
    add_settings(parser)
    add_paths(parser, "image", "normalised", "record")


def run(arguments: argparse.Namespace) -> None:
    """Read, normalise, write; a scan that cannot be read stops here or is set aside."""
    settings = read_settings(NormaliseSettings, arguments.settings)
    try:
        scan = read_volume(arguments.image)
    except InputError as error:
        if arguments.bad_scan == "refuse":
            raise
        write_nothing(arguments.normalised)
        record = Record(arguments.scan, "normalise", "refused", str(error))
    else:
        write_volume(normalise(scan, settings), arguments.normalised)
        details = {"grid": grid_of(scan).as_lists()}
        record = Record(arguments.scan, "normalise", details=details)
    write_record(arguments.record, record)
