"""Place the template's landmarks in a batch of scans and write them as Slicer markups."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, read_record
from landmarkflow.engine.arguments import (
    add_batch,
    add_paths,
    add_settings,
    as_json,
    read_settings,
    run_stage,
)
from landmarkflow.engine.batch import Task
from landmarkflow.formats.markups import read_complete_landmarks, write_markups
from landmarkflow.formats.volumes import read_written
from landmarkflow.methods.oneshot.confidence import Calibration, Evidence, calibrate, doubts, radii
from landmarkflow.methods.oneshot.landmarks import place_landmarks, shift, similarity_around
from landmarkflow.methods.oneshot.settings import ConfidenceSettings

Array = NDArray[np.float64]

FINAL = "final"
# The lists after the final one, from the last step back to the first.
TRANSFORMS = ("bspline", "rigid", "moments")
CENTRES = {"centred": "centred_record", "region": "region_record"}
LISTS = (FINAL, *TRANSFORMS, *CENTRES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    add_paths(parser, "template-landmarks", "template-centred")
    add_paths(parser, "template-centred-record", "template-region-record")
    for name in ("loops", "loops-refined"):
        parser.add_argument(f"--{name}", required=True, nargs="+", type=Path, metavar="FILE")
    inputs = (
        "region_record",
        "centred",
        "centred_record",
        "rigid_record",
        *TRANSFORMS,
    )
    add_batch(
        parser, (*inputs, "refined", "refined_record"), ("landmarks", "record"), optional=("voted",)
    )


def run(arguments: argparse.Namespace) -> None:
    """Place the landmarks of every scan; where there are none, say why at each."""
    settings = read_settings(ConfidenceSettings, arguments.settings)
    annotated = read_complete_landmarks(arguments.template_landmarks)
    template = read_written(arguments.template_centred)
    starts = {
        "centred": _centre_of(arguments.template_centred_record),
        "region": _centre_of(arguments.template_region_record),
    }
    calibration = _calibration(arguments.loops, arguments.loops_refined)

    def compute(task: Task) -> Record:
        target = read_written(task.inputs["centred"])
        transforms = {name: sitk.ReadTransform(str(task.inputs[name])) for name in TRANSFORMS}
        mirrored = read_record(task.inputs["rigid_record"]).details["mirrored"]
        for name, record in CENTRES.items():
            goal = _centre_of(task.inputs[record])
            transforms[name] = shift(starts[name], goal, mirrored=mirrored)
        final = read_complete_landmarks(task.inputs["refined"])
        similarity = similarity_around(
            annotated,
            transforms["bspline"],
            final,
            template,
            target,
            radius_mm=settings.similarity_radius_mm,
        )
        deviation = _deviation(task.inputs["refined_record"])
        radius = radii(deviation, calibration, settings)
        lists = [PointList(FINAL, final, radius)]
        if "voted" in task.inputs:
            lists.append(PointList("voted", read_complete_landmarks(task.inputs["voted"]), None))
        lists += [
            PointList(name, place_landmarks(annotated, way), None)
            for name, way in transforms.items()
        ]
        write_markups(task.outputs["landmarks"], lists)
        grid = Grid.of_lists(read_record(task.inputs["region_record"]).details["grid"])
        evidence = Evidence.of(annotated, final, similarity, deviation, grid)
        details = {
            **asdict(evidence),
            "similarity": dict(zip(final.labels, similarity.round(4).tolist(), strict=True)),
        }
        reasons = doubts(evidence, calibration, settings)
        if reasons:
            return Record(task.scan, "landmarks", "doubtful", "; ".join(reasons), details)
        return Record(task.scan, "landmarks", details=details)

    def write_missing(task: Task, record: Record) -> None:
        nowhere = Landmarks(annotated.labels, np.full((len(annotated.labels), 3), np.nan))
        notes = (f"{record.stage} {record.status}: {record.reason}",) * len(annotated.labels)
        lists = [PointList(name, nowhere, None, notes) for name in LISTS]
        write_markups(task.outputs["landmarks"], lists)

    run_stage(
        arguments,
        "landmarks",
        __name__,
        compute,
        shared={
            "settings": as_json(settings),
            "annotated": arguments.template_landmarks,
            "template": arguments.template_centred,
            "template_centre": arguments.template_centred_record,
            "template_region": arguments.template_region_record,
            "calibration": calibration and asdict(calibration),
        },
        after="refined_record",
        nothing=write_missing,
    )


def _calibration(loops: Sequence[Path], refined: Sequence[Path]) -> Calibration | None:
    """What the scans say that were registered back; those without a result say nothing."""
    closed = [record for record in map(read_record, loops) if record.has_result]
    scans = {record.scan for record in closed}
    distances = [list(record.details["loop_mm"].values()) for record in closed]
    deviations = [_deviation(path) for path in refined if read_record(path).scan in scans]
    return calibrate(np.array(distances), np.concatenate([np.empty(0), *deviations]))


def _deviation(record: Path) -> Array:
    """(n,) mm, NaN where a landmark has none."""
    return np.array(read_record(record).details["deviation_mm"], dtype=np.float64)


def _centre_of(record: Path) -> Array:
    """The region's centre (Eq. 1), or the last of Algorithm 2, LPS mm."""
    details = read_record(record).details
    return np.array(details["steps"][-1]["centre"] if "steps" in details else details["centre"])
