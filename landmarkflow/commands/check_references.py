"""Check the reference landmarks of a batch of scans against their volumes and the template."""

import argparse
import logging
from pathlib import Path
from typing import cast

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import check_readable
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, write_nothing, write_record
from landmarkflow.engine.arguments import add_paths, tasks_of
from landmarkflow.engine.batch import Task
from landmarkflow.evaluation.references import check_reference
from landmarkflow.formats.markups import (
    Frame,
    read_complete_landmarks,
    read_landmarks,
    write_markups,
)
from landmarkflow.formats.volumes import read_grid

logger = logging.getLogger(__name__)

NONE = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    frames = ("LPS", "RAS")
    add_paths(parser, "template-landmarks")
    parser.add_argument("--template-frame", choices=frames)
    parser.add_argument("--required", action="store_true", help="stop where a reference is unfit")
    parser.add_argument("--scans", required=True, nargs="+", metavar="SCAN")
    parser.add_argument(
        "--landmarks", required=True, nargs="+", help=f"files, '{NONE}' where there is no reference"
    )
    parser.add_argument("--frames", required=True, nargs="+", choices=(*frames, NONE))
    for name in ("image", "reference", "record"):
        parser.add_argument(f"--{name}", required=True, nargs="+", type=Path, metavar="FILE")
    parser.set_defaults(
        inputs=("image",),
        optional=(),
        outputs=("reference", "record"),
        options=("landmarks", "frames"),
    )


def run(arguments: argparse.Namespace) -> None:
    """Write each reference in LPS with the template's order of labels, or set it aside."""
    annotated = read_complete_landmarks(arguments.template_landmarks, arguments.template_frame)
    for task in tasks_of(arguments):
        if task.options["landmarks"] != NONE:
            check_readable(Path(task.options["landmarks"]))
            check_readable(task.inputs["image"])
        try:
            found = _checked(task, annotated)
            record = Record(task.scan, "reference")
        except InputError as error:
            if arguments.required:
                raise
            found, record = None, Record(task.scan, "reference", "refused", str(error))
            logger.warning("%s: refused: %s", task.scan, error)
        if found is None:
            write_nothing(task.outputs["reference"])
        else:
            write_markups(task.outputs["reference"], [PointList("reference", found, None)])
        write_record(task.outputs["record"], record)


def _checked(task: Task, annotated: Landmarks) -> Landmarks | None:
    """The reference of a scan, None where it has none."""
    if task.options["landmarks"] == NONE:
        return None
    frame = task.options["frames"]
    path = Path(task.options["landmarks"])
    reference = read_landmarks(path, None if frame == NONE else cast(Frame, frame))
    return check_reference(reference, read_grid(task.inputs["image"]), annotated.labels, path)
