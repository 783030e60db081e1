"""Put each landmark at its mean offset from the middle of what is bright."""

from pathlib import Path

import numpy as np

from landmarkflow.core.files import read_json
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record
from landmarkflow.data.splits import read_splits
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.slicer import write_markups, write_steps
from landmarkflow.methods.learner.average import middle_of


def run(batch: Batch) -> None:
    """Find every picture's landmarks."""
    learned, splits = read_json(batch.path("offsets")), read_splits(batch.path("splits"))
    half = batch.values["frame"] / 2

    def compute(task: Task) -> Record:
        middle = middle_of(Path(task.row["image"]), batch.values["above"])
        fold = splits[task.scan].fold if task.scan in splits else 0
        means = np.array(learned["means"][str(fold)])
        labels, count = tuple(learned["labels"]), len(means)
        final = PointList("final", Landmarks(labels, middle + means), np.full(count, 2.0))
        write_markups(task.outputs["landmarks"], [final], "px", task.scan)
        coarse = PointList("coarse", Landmarks(labels, np.tile(middle, (count, 1))), None)
        write_steps(task.outputs["steps"], [coarse], "px", task.scan)
        x, y = middle[:2]
        frames = [[x - half, y - half, x + half, y + half]]
        return Record(task.scan, "predict", details={"frames": frames, "fold": fold})

    batch.run(compute)
