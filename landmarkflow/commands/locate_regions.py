"""Normalise a batch of scans, find each one's candidate regions and crop around them."""

import argparse
from dataclasses import asdict

from landmarkflow.core.errors import InputError
from landmarkflow.core.records import Record
from landmarkflow.engine.arguments import (
    add_batch,
    add_settings,
    as_json,
    read_settings,
    run_stage,
)
from landmarkflow.engine.batch import Task
from landmarkflow.formats.volumes import grid_of, read_volume, write_volume
from landmarkflow.methods.oneshot.locate import locate
from landmarkflow.methods.oneshot.normalise import normalise
from landmarkflow.methods.oneshot.settings import LocateSettings, NormaliseSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    add_settings(parser, "intensities")
    parser.add_argument("--required", action="store_true", help="stop where a scan fails")
    add_batch(parser, ("image",), ("region", "record"))


def run(arguments: argparse.Namespace) -> None:
    """Read, normalise, locate and crop every scan; one that cannot be read is set aside."""
    settings = read_settings(LocateSettings, arguments.settings)
    intensities = read_settings(NormaliseSettings, arguments.intensities)

    def compute(task: Task) -> Record:
        try:
            scan = read_volume(task.inputs["image"])
        except InputError as error:
            if arguments.required:
                raise
            return Record(task.scan, "locate", "refused", str(error))
        found = locate(normalise(scan, intensities), settings, intensities)
        write_volume(found.crop, task.outputs["region"])
        details = {
            "grid": grid_of(scan).as_lists(),
            "centre": found.centre,
            "candidates": [asdict(candidate) for candidate in found.candidates],
            "mixture": found.mixture.as_record(),
        }
        return Record(task.scan, "locate", details=details)

    run_stage(
        arguments,
        "locate",
        __name__,
        compute,
        shared={"settings": as_json(settings), "intensities": as_json(intensities)},
        after=None,
        required=arguments.required,
    )
