"""Move the template's landmarks with the mass centre of what is bright."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError, ScanFailure
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import TEMPLATE, Record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.slicer import read_complete_markups, write_markups, write_steps
from landmarkflow.formats.volumes import read_volume
from landmarkflow.images.masks import points_inside


def mass_centre(row: Mapping[str, str], above: float) -> NDArray[np.float64]:
    """(3,) in the unit of the scan."""
    inside = points_inside(read_volume(Path(row["image"]), series=row["series"]) > above)
    if not len(inside):
        raise ScanFailure(f"nothing is brighter than {above:g}")
    return inside.mean(axis=0)


def run(batch: Batch) -> None:
    """Find every scan's landmarks."""
    annotated = read_complete_markups(batch.path("template_reference"))
    above, unit = batch.values["above"], batch.values["unit"]
    start = mass_centre(batch.sheet[TEMPLATE], above)

    def compute(task: Task) -> Record:
        try:
            moved = mass_centre(task.row, above) - start
        except InputError as error:
            return Record(task.scan, "shift", "refused", str(error))
        found = Landmarks(annotated.labels, annotated.positions + moved)
        radius = np.full(len(found.labels), 1.0)
        final = PointList("final", found, radius)
        write_markups(task.outputs["landmarks"], [final], unit, task.scan)
        write_steps(task.outputs["steps"], [], unit, task.scan)
        return Record(task.scan, "shift")

    def missing(task: Task, record: Record) -> None:
        nowhere = Landmarks(annotated.labels, np.full((len(annotated.labels), 3), np.nan))
        notes = (f"{record.stage} {record.status}: {record.reason}",) * len(annotated.labels)
        final = PointList("final", nowhere, None, notes)
        write_markups(task.outputs["landmarks"], [final], unit, task.scan)

    batch.run(compute, nothing=missing)
