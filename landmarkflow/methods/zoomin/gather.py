"""Gather what a run learns from: annotated pictures, brought into one frame."""

import logging
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from landmarkflow.core.errors import InputError, ScanFailure
from landmarkflow.core.points import Landmarks
from landmarkflow.core.records import read_record
from landmarkflow.data.splits import Part, read_splits
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.pictures import read_picture
from landmarkflow.formats.scan_files import PICTURES
from landmarkflow.formats.slicer import read_point_lists
from landmarkflow.learning.folds import ALWAYS, VALIDATION
from landmarkflow.methods.zoomin.examples import Example, Examples, save_examples
from landmarkflow.methods.zoomin.prepare import find_field, prepared
from landmarkflow.methods.zoomin.settings import GatherSettings

logger = logging.getLogger(__name__)

# So many pictures tell whether there are colours: to read all for that would take twice as long.
FIRST = 3


def run(batch: Batch) -> None:
    """Read every picture that is learned from, and write them all in one file.

    Raises:
        InputError: there is no annotated picture, or one cannot be read.
    """
    settings = batch.settings(GatherSettings)
    parts = read_splits(batch.path("splits")) if batch.stage.has("splits", batch.values) else {}
    left_out: dict[str, str] = {}
    kept: list[tuple[Task, Landmarks]] = []
    for task in batch.tasks:
        record = read_record(task.inputs["references_record"])
        if not record.has_result:
            left_out[task.scan] = f"{record.stage} {record.status}: {record.reason}"
            continue
        kept.append((task, read_point_lists(task.inputs["reference"])[0].landmarks))
    if not kept:
        reasons = "; ".join(f"{scan}: {reason}" for scan, reason in left_out.items())
        raise InputError(f"there is no picture to learn from, expected at least one ({reasons})")
    labels = kept[0][1].labels
    colours = _colours(batch, [task for task, _ in kept], settings)
    largest = int(batch.values["largest_gib"] * 2**30)
    examples = []
    for task, landmarks in kept:
        picture = read_of(task.row["image"], largest)
        try:
            found = prepared(picture, find_field(picture, settings.field), settings.size, colours)
        except ScanFailure as failure:
            left_out[task.scan] = str(failure)
            continue
        points = found.frame.to_grid(landmarks.positions[:, :2])
        fold = _fold(parts.get(task.scan))
        examples.append(Example(task.scan, fold, found.channels, points))
    if not examples:
        raise InputError("there is no picture to learn from that shows something")
    save_examples(batch.path("examples"), Examples(labels, colours, tuple(examples), left_out))
    logger.info("%d pictures are learned from, %d left out", len(examples), len(left_out))


def _fold(part: Part | None) -> int:
    """In which fold a picture is held back."""
    if part is None:
        return ALWAYS
    return VALIDATION if part.split == "validation" and not part.fold else part.fold


def _colours(batch: Batch, tasks: list[Task], settings: GatherSettings) -> int:
    """How many colours are learned: 3 where one of the first pictures has any."""
    if settings.colours != "auto":
        return 3 if settings.colours == "colour" else 1
    largest = int(batch.values["largest_gib"] * 2**30)
    return max(int(read_of(t.row["image"], largest).shape[2]) for t in tasks[:FIRST])


def read_of(image: str, largest_bytes: int) -> NDArray[Any]:
    """A picture (rows, columns, 1 or 3).

    Raises:
        InputError: it is no picture, or cannot be read.
    """
    if not image.lower().endswith(PICTURES):
        raise InputError(
            f"{image}: is no picture, but the method zoomin finds landmarks in pictures; expected "
            f"a file that ends in {', '.join(PICTURES)}"
        )
    return read_picture(Path(image), largest_bytes)
