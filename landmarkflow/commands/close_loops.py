"""Register a batch of scans back to the template, to see how far from the start a loop ends."""

import argparse
import functools

import numpy as np
import SimpleITK as sitk

from landmarkflow.core.points import Landmarks
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
from landmarkflow.formats.markups import read_complete_landmarks
from landmarkflow.formats.volumes import read_written
from landmarkflow.methods.oneshot.deform import prepare_scan
from landmarkflow.methods.oneshot.refine import prepare, refine
from landmarkflow.methods.oneshot.settings import DeformSettings, RefineSettings
from landmarkflow.methods.oneshot.template import add_template, crop_and_mask, shared_template


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    add_settings(parser, "refine-settings")
    parser.add_argument("--seed", required=True, type=int)
    add_template(parser)
    add_paths(parser, "template-landmarks")
    add_batch(parser, ("centred", "rigid", "refined", "refined_record"), ("record",))


def run(arguments: argparse.Namespace) -> None:
    """Take every scan's landmarks back by a registration in which the scan is fixed.

    The way back has its own control points, samples and errors; where both ways agree, the images
    say the same in both directions.
    """
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    settings = read_settings(DeformSettings, arguments.settings)
    windows = read_settings(RefineSettings, arguments.refine_settings)
    annotated = read_complete_landmarks(arguments.template_landmarks)
    prepared = functools.cache(lambda: crop_and_mask(arguments, settings.mask_margin_mm))

    def compute(task: Task) -> Record:
        template, mask = prepared()
        scan = read_written(task.inputs["centred"])
        there = read_complete_landmarks(task.inputs["refined"])
        rigid = sitk.ReadTransform(str(task.inputs["rigid"]))
        onto_scan = prepare_scan(scan, rigid, mask, settings, seed=arguments.seed)
        whole = onto_scan(template, rigid.GetInverse())
        ended = refine(prepare(there, scan, windows), whole, template, windows).landmarks
        return Record(task.scan, "loop", details={"loop_mm": _distances(annotated, ended)})

    run_stage(
        arguments,
        "loop",
        __name__,
        compute,
        shared={
            "settings": as_json(settings),
            "windows": as_json(windows),
            "seed": arguments.seed,
            **shared_template(arguments),
            "annotated": arguments.template_landmarks,
        },
        after="refined_record",
    )


def _distances(begun: Landmarks, ended: Landmarks) -> dict[str, float]:
    distance = np.linalg.norm(ended.positions - begun.positions, axis=1)
    return dict(zip(begun.labels, distance.round(4).tolist(), strict=True))
