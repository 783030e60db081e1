"""Register a batch of scans back to the template, to see how far from the start a loop ends."""

import argparse
import functools

import numpy as np
import SimpleITK as sitk

from landmarkflow.batch import Task
from landmarkflow.commands.arguments import (
    add_batch,
    add_paths,
    add_settings,
    as_json,
    read_settings,
    run_stage,
)
from landmarkflow.geometry import Landmarks
from landmarkflow.markups import read_complete_landmarks
from landmarkflow.oneshot.deform import prepare_scan
from landmarkflow.oneshot.refine import prepare, refine
from landmarkflow.oneshot.settings import DeformSettings, RefineSettings
from landmarkflow.records import Record
from landmarkflow.volumes import mask_around_target, read_written


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    add_settings(parser, "refine-settings")
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--labels", nargs="*", type=int, default=[])
    add_paths(parser, "template-image", "template-segmentation", "template-centred")
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
    crop_and_mask = functools.cache(lambda: _template(arguments, settings))

    def compute(task: Task) -> Record:
        template, mask = crop_and_mask()
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
            "labels": arguments.labels,
            "annotated": arguments.template_landmarks,
            "template": arguments.template_centred,
            "segmentation": arguments.template_segmentation,
        },
        after="refined_record",
    )


def _distances(begun: Landmarks, ended: Landmarks) -> dict[str, float]:
    distance = np.linalg.norm(ended.positions - begun.positions, axis=1)
    return dict(zip(begun.labels, distance.round(4).tolist(), strict=True))


def _template(
    arguments: argparse.Namespace, settings: DeformSettings
) -> tuple[sitk.Image, sitk.Image]:
    """The template's crop and the mask in which it is compared."""
    crop = read_written(arguments.template_centred)
    mask = mask_around_target(
        crop,
        arguments.template_image,
        arguments.template_segmentation,
        arguments.labels,
        settings.mask_margin_mm,
    )
    return crop, mask
