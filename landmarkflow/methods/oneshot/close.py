"""Register scans back to the template, to see how far from its start each landmark ends.

The way back has its own control points, samples and errors; where both ways agree, the images say
the same in both directions.
"""

import functools

import numpy as np

from landmarkflow.core.points import Landmarks
from landmarkflow.core.records import Record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.slicer import read_complete_markups
from landmarkflow.formats.transforms import read_transform
from landmarkflow.formats.written import read_written
from landmarkflow.methods.oneshot.deform import prepare_scan
from landmarkflow.methods.oneshot.refine import prepare, refine
from landmarkflow.methods.oneshot.settings import DeformSettings, RefineSettings
from landmarkflow.methods.oneshot.template import annotated_of, crop_and_mask


def run(batch: Batch) -> None:
    """Take every scan's landmarks back by a registration in which the scan is fixed."""
    settings = batch.settings(DeformSettings, "deform")
    windows = batch.settings(RefineSettings, "refine")
    annotated = annotated_of(batch)
    prepared = functools.cache(lambda: crop_and_mask(batch, settings.mask_margin_mm))

    def compute(task: Task) -> Record:
        template, mask = prepared()
        scan = read_written(task.inputs["centred"])
        there = read_complete_markups(task.inputs["refined"])
        rigid = read_transform(task.inputs["rigid"])
        onto_scan = prepare_scan(scan, rigid, mask, settings, seed=batch.values["seed"])
        whole = onto_scan(template, rigid.GetInverse())
        ended = refine(prepare(there, scan, windows), whole, template, windows).landmarks
        return Record(task.scan, "close", details={"loop_mm": _distances(annotated, ended)})

    batch.run(compute)


def _distances(begun: Landmarks, ended: Landmarks) -> dict[str, float]:
    distance = np.linalg.norm(ended.positions - begun.positions, axis=1)
    return dict(zip(begun.labels, distance.round(4).tolist(), strict=True))
