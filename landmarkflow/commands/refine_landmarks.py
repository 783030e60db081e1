"""Refine the template's landmarks in a batch of scans, window by window."""

import argparse
import functools
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.points import PointList
from landmarkflow.core.records import Record
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
from landmarkflow.methods.oneshot.landmarks import place_landmarks
from landmarkflow.methods.oneshot.refine import prepare, refine, search
from landmarkflow.methods.oneshot.settings import RefineSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    add_paths(parser, "template-landmarks", "template-centred")
    add_batch(
        parser, ("centred", "bspline", "bspline_record"), ("refined", "record"), optional=("voted",)
    )


def run(arguments: argparse.Namespace) -> None:
    """Refine every scan's landmarks; the record says how sure each place is, in mm."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    settings = read_settings(RefineSettings, arguments.settings)
    annotated = read_complete_landmarks(arguments.template_landmarks)
    crop = functools.cache(lambda: read_written(arguments.template_centred))
    template = functools.cache(lambda: prepare(annotated, crop(), settings))

    def compute(task: Task) -> Record:
        transform = sitk.ReadTransform(str(task.inputs["bspline"]))
        target = read_written(task.inputs["centred"])
        start = place_landmarks(annotated, transform)
        if "voted" in task.inputs:
            start = read_complete_landmarks(task.inputs["voted"])
        looked = start
        if settings.enabled:
            looked = search(
                annotated, transform, crop(), target, start=start, settings=settings.search
            )
        found = refine(template(), transform, target, settings, looked)
        write_markups(task.outputs["refined"], [PointList("refined", found.landmarks, None)])
        moves = looked.positions - start.positions
        return _record(task.scan, start.labels, found.deviation, moves)

    run_stage(
        arguments,
        "refine",
        __name__,
        compute,
        shared={
            "settings": as_json(settings),
            "annotated": arguments.template_landmarks,
            "template": arguments.template_centred,
        },
        after="bspline_record",
    )


def _record(
    scan: str, labels: Sequence[str], deviation: NDArray[np.float64], moves: NDArray[np.float64]
) -> Record:
    """How sure each place is, (n,) mm, and doubt where the search moved any, (n, 3) mm."""
    details = {"deviation_mm": [None if np.isnan(d) else float(d) for d in deviation]}
    lengths = zip(labels, np.linalg.norm(moves, axis=1).tolist(), strict=True)
    moved = [f"{label} by {length:.1f} mm" for label, length in lengths if length > 0]
    if moved:
        reason = (
            f"the search took landmarks far from where they were registered: {', '.join(moved)}"
        )
        return Record(scan, "refine", "doubtful", reason, details)
    return Record(scan, "refine", details=details)
