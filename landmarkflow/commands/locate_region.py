"""Find the candidate regions of dense bone in one scan and crop around them (Eq. 1)."""

import argparse
from dataclasses import asdict

from landmarkflow.commands.arguments import add_paths, add_settings, read_settings
from landmarkflow.errors import ScanFailure
from landmarkflow.oneshot.locate import locate
from landmarkflow.oneshot.settings import LocateSettings, NormaliseSettings
from landmarkflow.records import Record, read_record, write_nothing, write_record
from landmarkflow.volumes import read_volume, write_volume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--scan", required=True)
    add_settings(parser)
    add_settings(parser, "intensities")
    add_paths(parser, "normalised", "normalised-record", "region", "record")


def run(arguments: argparse.Namespace) -> None:
    """Locate and crop, or pass on why there is nothing to locate."""
    earlier = read_record(arguments.normalised_record)
    if not earlier.has_result:
        write_nothing(arguments.region)
        write_record(arguments.record, earlier)
        return
    settings = read_settings(LocateSettings, arguments.settings)
    intensities = read_settings(NormaliseSettings, arguments.intensities)
    try:
        found = locate(read_volume(arguments.normalised), settings, intensities)
    except ScanFailure as failure:
        write_nothing(arguments.region)
        write_record(arguments.record, Record(arguments.scan, "locate", "failed", str(failure)))
        return
    write_volume(found.crop, arguments.region)
    details = {
        "centre": found.centre,
        "candidates": [asdict(candidate) for candidate in found.candidates],
        "mixture": found.mixture.as_record(),
    }
    write_record(arguments.record, Record(arguments.scan, "locate", details=details))
