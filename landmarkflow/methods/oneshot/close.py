"""Register scans back to the template, to see how far from its start each landmark ends.

The way back has its own control points, samples and errors; where both ways agree, the images say
the same in both directions. What the first scans say is the run's calibration and is kept with it:
scans that come later, or leave, change no radius of the others.
"""

import functools
import hashlib
import json
import logging
from typing import Any

import numpy as np

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.files import read_json, write_json
from landmarkflow.core.points import Landmarks
from landmarkflow.core.records import Record, read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.slicer import read_complete_markups
from landmarkflow.formats.transforms import read_transform
from landmarkflow.formats.written import read_written
from landmarkflow.methods.oneshot.deform import prepare_scan
from landmarkflow.methods.oneshot.refine import prepare, refine
from landmarkflow.methods.oneshot.settings import DeformSettings, RefineSettings
from landmarkflow.methods.oneshot.template import LEAST_CUT, annotated_of, crop_and_mask

logger = logging.getLogger(__name__)


def run(batch: Batch) -> None:
    """Write the run's calibration: that which is there, where it fits, or else a new one.

    It fits where template, settings and code are those that made it; which scans it was made of
    does not matter. One without any scan is made again.
    """
    path, made_by = batch.path("calibration"), _digest(batch)
    kept = read_json(path) if path.is_file() else {}
    if kept.get("made_by") != made_by or not kept.get("loops"):
        kept = {"made_by": made_by, "loops": closed_loops(batch)}
    elif (before := len(kept["loops"])) < min(batch.values["close"]["loops"], len(batch.scans)):
        logger.warning(
            "the radii are calibrated on %d scans, and there are more now: remove %s and run again "
            "to calibrate anew, which changes every scan's radii",
            before,
            path,
        )
    write_json(path, kept)


def _digest(batch: Batch) -> str:
    return hashlib.sha256(json.dumps(batch.made_by, sort_keys=True).encode()).hexdigest()[:32]


def closed_loops(batch: Batch) -> list[dict[str, Any]]:
    """Take the first scans' landmarks back by registrations in which the scan is fixed.

    Scans that a stage doubts, or that show a part of the target alone, tell of their own faults,
    and others take their place; only where there is no other do they count.
    """
    settings = batch.settings(DeformSettings, "deform")
    windows = batch.settings(RefineSettings, "refine")
    annotated = annotated_of(batch)
    prepared = functools.cache(lambda: crop_and_mask(batch, settings.mask_margin_mm))

    def closed(task: Task) -> dict[str, Any]:
        """How far from its start each landmark ends, and the deviations on the way there, mm."""
        template, mask = prepared()
        scan = read_written(task.inputs["crop"])
        there = read_complete_markups(task.inputs["refined"])
        rigid = read_transform(task.inputs["rigid"])
        onto_scan = prepare_scan(scan, rigid, mask, settings, seed=batch.values["seed"])
        whole = onto_scan(template, rigid.GetInverse(), None)
        ended = refine(prepare(there, scan, windows), whole, template, windows).landmarks
        return {"scan": task.scan, "loop_mm": _distances(annotated, ended)}

    loops: list[dict[str, Any]] = []
    for task, record in _in_order(batch):
        if len(loops) == batch.values["close"]["loops"]:
            break
        try:
            loops.append(closed(task) | {"deviation_mm": record.details["deviation_mm"]})
        except ScanFailure as failure:
            logger.warning("%s: is not registered back: %s", task.scan, failure)
        else:
            logger.info("%s: registered back", task.scan)
    return loops


def _in_order(batch: Batch) -> list[tuple[Task, Record]]:
    """The scans that no stage doubts and that show the whole target, or else most of it, or all."""

    def is_whole(task: Task) -> bool:
        cut_share = read_record(task.inputs["deform_record"]).details["cut_share"]
        return bool(cut_share <= LEAST_CUT)

    records = [(task, read_record(task.inputs["refine_record"])) for task in batch.tasks]
    found = [(task, record) for task, record in records if record.has_result]
    sure = [(t, r) for t, r in found if all(step.status == "ok" for step in r.chain)]
    return [(task, record) for task, record in sure if is_whole(task)] or sure or found


def _distances(begun: Landmarks, ended: Landmarks) -> dict[str, float]:
    distance = np.linalg.norm(ended.positions - begun.positions, axis=1)
    return dict(zip(begun.labels, distance.round(4).tolist(), strict=True))
