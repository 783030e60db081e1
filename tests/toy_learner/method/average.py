"""Learn the mean offset of each landmark, once without each fold and once from all."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.files import write_json
from landmarkflow.data.splits import read_splits
from landmarkflow.engine.batch import Batch, require_result
from landmarkflow.formats.slicer import read_point_lists
from landmarkflow.formats.volumes import read_volume
from landmarkflow.images.masks import points_inside


def middle_of(image: Path, above: float) -> NDArray[np.float64]:
    """(3,) pixels, the middle of what is bright."""
    inside = points_inside(read_volume(image) > above)
    if not len(inside):
        raise ScanFailure(f"nothing is brighter than {above:g}")
    return inside.mean(axis=0)


def run(batch: Batch) -> None:
    """Average the offsets."""
    splits = read_splits(batch.path("splits"))
    labels: tuple[str, ...] = ()
    offsets = {}
    for task in batch.tasks:
        require_result(task.inputs["references_record"], f"picture {task.scan}")
        landmarks = read_point_lists(task.inputs["reference"])[0].landmarks
        labels = landmarks.labels
        middle = middle_of(Path(task.row["image"]), batch.values["above"])
        offsets[task.scan] = landmarks.positions - middle
    means = {}
    for fold in range(batch.values["folds"] + 1):
        kept = [o for scan, o in offsets.items() if not fold or splits[scan].fold != fold]
        means[str(fold)] = np.nanmean(kept, axis=0).tolist()
    write_json(batch.path("offsets"), {"labels": labels, "means": means})
