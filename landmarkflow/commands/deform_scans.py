"""Deform a batch of scans with B-splines, the template prepared once."""

import argparse
import functools

import SimpleITK as sitk

from landmarkflow.core.records import Record
from landmarkflow.engine.arguments import (
    add_batch,
    add_settings,
    as_json,
    read_settings,
    run_stage,
)
from landmarkflow.engine.batch import Task
from landmarkflow.formats.volumes import (
    cropped,
    points_inside,
    read_written,
    shrunk,
    write_transform,
)
from landmarkflow.methods.oneshot.deform import Deform, folded_share, prepare
from landmarkflow.methods.oneshot.settings import DeformSettings
from landmarkflow.methods.oneshot.template import add_template, crop_and_mask, shared_template

FOLDING_SPACING_MM = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    parser.add_argument("--seed", required=True, type=int)
    add_template(parser)
    add_batch(parser, ("centred", "rigid", "rigid_record"), ("bspline", "record"))


def run(arguments: argparse.Namespace) -> None:
    """Register every scan of the batch."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    settings = read_settings(DeformSettings, arguments.settings)
    template = functools.cache(lambda: _template(arguments, settings))

    def compute(task: Task) -> Record:
        deform, mask = template()
        target = read_written(task.inputs["centred"])
        rigid = sitk.ReadTransform(str(task.inputs["rigid"]))
        whole = deform(target, rigid)
        write_transform(whole, task.outputs["bspline"])
        folded = folded_share(whole, mask)
        details = {"folded_share": folded}
        if folded > settings.most_folded:
            reason = f"the B-spline folds in {100 * folded:.2f} % of the region compared"
            return Record(task.scan, "deform", "doubtful", reason, details)
        return Record(task.scan, "deform", details=details)

    run_stage(
        arguments,
        "deform",
        __name__,
        compute,
        shared={
            "settings": as_json(settings),
            "seed": arguments.seed,
            **shared_template(arguments),
        },
        after="rigid_record",
    )


def _template(arguments: argparse.Namespace, settings: DeformSettings) -> tuple[Deform, sitk.Image]:
    """What deforms a scan, and a coarse mask in which to look for folds."""
    crop, mask = crop_and_mask(arguments, settings.mask_margin_mm)
    part = cropped(mask, points_inside(mask), FOLDING_SPACING_MM)
    coarse = shrunk(part, FOLDING_SPACING_MM)
    return prepare(crop, mask, settings, seed=arguments.seed), coarse
