"""Check one scan's reference landmarks against its volume and the template's labels."""

import argparse
from pathlib import Path

from landmarkflow.commands.arguments import add_paths
from landmarkflow.errors import InputError
from landmarkflow.evaluation.references import check_reference
from landmarkflow.markups import (
    PointList,
    read_complete_landmarks,
    read_landmarks,
    write_markups,
)
from landmarkflow.records import Record, write_nothing, write_record
from landmarkflow.volumes import read_grid


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--scan", required=True)
    parser.add_argument("--bad-scan", choices=("refuse", "set_aside"), default="refuse")
    parser.add_argument("--frame", choices=("LPS", "RAS"))
    parser.add_argument("--template-frame", choices=("LPS", "RAS"))
    parser.add_argument("--landmarks", type=Path, help="without it, the scan has no reference")
    add_paths(parser, "image", "template-landmarks", "reference", "record")


def run(arguments: argparse.Namespace) -> None:
    """Write the reference in LPS with the template's order of labels, or set it aside."""
    annotated = read_complete_landmarks(arguments.template_landmarks, arguments.template_frame)
    if arguments.landmarks is None:
        write_nothing(arguments.reference)
        write_record(arguments.record, Record(arguments.scan, "reference"))
        return
    try:
        checked = check_reference(
            read_landmarks(arguments.landmarks, arguments.frame),
            read_grid(arguments.image),
            annotated.labels,
            arguments.landmarks,
        )
    except InputError as error:
        if arguments.bad_scan == "refuse":
            raise
        write_nothing(arguments.reference)
        record = Record(arguments.scan, "reference", "refused", str(error))
    else:
        write_markups(arguments.reference, [PointList("reference", checked, None)])
        record = Record(arguments.scan, "reference")
    write_record(arguments.record, record)
