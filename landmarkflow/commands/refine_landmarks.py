"""Refine the template's landmarks in a batch of scans, window by window."""

import argparse
import functools

import numpy as np
import SimpleITK as sitk

from landmarkflow.arguments import (
    add_batch,
    add_paths,
    add_settings,
    as_json,
    read_settings,
    run_stage,
)
from landmarkflow.batch import Task
from landmarkflow.markups import PointList, read_complete_landmarks, write_markups
from landmarkflow.oneshot.refine import prepare, refine
from landmarkflow.oneshot.settings import RefineSettings
from landmarkflow.records import Record
from landmarkflow.volumes import read_written


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
    template = functools.cache(
        lambda: prepare(annotated, read_written(arguments.template_centred), settings)
    )

    def compute(task: Task) -> Record:
        transform = sitk.ReadTransform(str(task.inputs["bspline"]))
        voted = task.inputs.get("voted")
        start = read_complete_landmarks(voted) if voted else None
        target = read_written(task.inputs["centred"])
        found = refine(template(), transform, target, settings, start)
        write_markups(task.outputs["refined"], [PointList("refined", found.landmarks, None)])
        details = {"deviation_mm": [None if np.isnan(d) else float(d) for d in found.deviation]}
        return Record(task.scan, "refine", details=details)

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
