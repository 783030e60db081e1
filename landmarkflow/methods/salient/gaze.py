"""Pictures and fixations as what the networks learn from."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks
from landmarkflow.data.splits import read_splits
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.gaze import Fixations, GazeTable
from landmarkflow.formats.pictures import read_picture
from landmarkflow.formats.slicer import read_point_lists
from landmarkflow.methods.salient.examples import Example, save_examples
from landmarkflow.methods.salient.frames import Frame
from landmarkflow.methods.salient.settings import GazeSettings

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]


def colours_of(path: Path, largest_bytes: int) -> NDArray[np.uint8]:
    """A picture (rows, columns, 3) of 0 to 255; grey has three channels that are alike.

    Raises:
        InputError: the picture cannot be read.
    """
    values = read_picture(path, largest_bytes)
    if values.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        scaled = (values.astype(np.float64) - low) / max(high - low, 1e-9)
        values = np.rint(255 * scaled).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


class Tables:
    """Files of fixations, each read once."""

    def __init__(self, settings: GazeSettings) -> None:
        self.settings = settings
        self.known: dict[str, GazeTable] = {}

    def of(self, row: dict[str, str], width: int, height: int) -> Fixations:
        """The fixations on a picture of this size, by what the sheet says of it.

        Raises:
            InputError: the table or the picture's rows in it are unusable.
        """
        path = row["gaze"]
        if path not in self.known:
            self.known[path] = GazeTable(Path(path))
        name = Path(row["image"]).name
        return self.known[path].fixations(name, width, height, self.settings.outside)


def scale_of(row: dict[str, str], width: int) -> float:
    """The length that distances of a picture are compared with: as stated, or its width."""
    return float(row["scale"]) if row.get("scale") else float(width)


def reference_of(path: Path) -> Landmarks:
    """Reference landmarks as they were checked; none for an empty file."""
    if not path.is_file() or not path.stat().st_size:
        return Landmarks((), np.zeros((0, 3)))
    return read_point_lists(path)[0].landmarks


def run(batch: Batch) -> None:
    """Read every picture that is learned from, and write all examples.

    Raises:
        InputError: a picture or its fixations are unusable.
    """
    settings = batch.settings(GazeSettings)
    tables, splits = Tables(settings), read_splits(batch.path("splits"))
    largest = int(batch.values["largest_gib"] * 2**30)
    examples, dropped = [], 0
    for task in batch.tasks:
        fold = splits[task.scan].fold if task.scan in splits else 0
        example, left_out = _example(task, tables, fold, largest)
        examples.append(example)
        dropped += left_out
    if not examples:
        raise InputError("there is no picture with fixations to learn from, expected some")
    save_examples(batch.path("examples"), examples)
    logger.info(
        "%d pictures are learned from; %d fixations beside them were left out",
        len(examples),
        dropped,
    )


def _example(task: Task, tables: Tables, fold: int, largest: int) -> tuple[Example, int]:
    """A picture with its fixations, and how many of these were left out."""
    row, settings = dict(task.row), tables.settings
    picture = colours_of(Path(row["image"]), largest)
    height, width = picture.shape[:2]
    frame = Frame.of(width, height, settings)
    seen = tables.of(row, width, height)
    by_name = {name: number for number, name in enumerate(sorted(set(seen.observers)))}
    weights = seen.duration_ms if settings.weight == "duration" else np.ones(len(seen.points))
    known = reference_of(task.inputs["reference"])
    example = Example(
        scan=task.scan,
        fold=fold,
        frame=frame,
        picture=frame.fitted(picture),
        points=seen.points,
        weights=weights / weights.mean(),
        observers=np.array([by_name[name] for name in seen.observers], np.int64),
        sigma=settings.sigma_pixels(width),
        structures=known.labels,
        places=known.positions[:, :2],
        scale=scale_of(row, width),
    )
    return example, seen.dropped
