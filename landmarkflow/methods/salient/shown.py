"""Pictures of a study with discovered landmarks and references, by group."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from landmarkflow.core.points import Landmarks
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.landmarks import frame_of, read_landmarks
from landmarkflow.formats.slicer import read_point_lists
from landmarkflow.formats.volumes import read_grid
from landmarkflow.methods.salient.gaze import reference_of, scale_of
from landmarkflow.methods.salient.pairs import Shown


def shown_by_group(batch: Batch, measured: Mapping[str, Sequence[str]]) -> dict[str, list[Shown]]:
    """The pictures of every group that has something to be measured, in the study's order.

    References that the study's landmarks leave out, a head's centre say, are read from their file.
    """
    groups: dict[str, list[Shown]] = {name: [] for name in measured}
    largest = int(batch.values["largest_gib"] * 2**30)
    for task in batch.tasks:
        group = task.row.get("group", "")
        if group in groups and _has_points(task.inputs["landmarks"]):
            groups[group].append(_shown(task, measured[group], largest))
    return groups


def _has_points(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _shown(task: Task, measured: Sequence[str], largest: int) -> Shown:
    row = dict(task.row)
    width = read_grid(Path(row["image"]), largest).size[0]
    true = _by_name(reference_of(task.inputs["reference"]))
    if row["landmarks"] and true and any(name not in true for name in measured):
        name = Path(row["image"]).name
        true = _by_name(read_landmarks(Path(row["landmarks"]), frame_of(row["frame"]), name))
    found = _by_name(read_point_lists(task.inputs["landmarks"])[0].landmarks)
    return Shown(task.scan, width, scale_of(row, width), found, true)


def _by_name(points: Landmarks) -> dict[str, np.ndarray]:
    return {
        name: place[:2]
        for name, place in zip(points.labels, points.positions, strict=True)
        if not np.isnan(place).any()
    }
