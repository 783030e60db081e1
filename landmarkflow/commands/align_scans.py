"""Align a batch of scans rigidly: moments of inertia, then normalised cross-correlation."""

import argparse
import functools
from pathlib import Path

import SimpleITK as sitk

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.records import Record, read_record
from landmarkflow.engine.arguments import (
    add_batch,
    add_paths,
    add_settings,
    as_json,
    read_settings,
    require_result,
    run_stage,
)
from landmarkflow.engine.batch import Task
from landmarkflow.formats.volumes import mirrored, read_written, write_transform
from landmarkflow.methods.oneshot.align import Subject, Template, align, prepare_template
from landmarkflow.methods.oneshot.mixture import Mixture
from landmarkflow.methods.oneshot.settings import AlignSettings
from landmarkflow.methods.oneshot.template import add_template, crop_and_mask, shared_template

# Whether a scan is mirrored before it is aligned: known from the sides, or tried both ways.
HANDS = {"same": (False,), "other": (True,), "unknown": (False, True)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    add_template(parser)
    add_paths(parser, "template-centred-record", "template-region-record")
    parser.add_argument("--hands", required=True, nargs="+", choices=tuple(HANDS))
    inputs, outputs = ("centred", "centred_record", "region_record"), ("rigid", "moments", "record")
    add_batch(parser, inputs, outputs, options=("hands",))


def run(arguments: argparse.Namespace) -> None:
    """Align every scan of the batch with the template prepared once."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    settings = read_settings(AlignSettings, arguments.settings)
    template = functools.cache(lambda: _template(arguments, settings))

    def compute(task: Task) -> Record:
        crop = read_written(task.inputs["centred"])
        mixture = _mixture(task.inputs["region_record"])
        outcomes = [
            (align(template(), Subject(mirrored(crop) if flip else crop, mixture), settings), flip)
            for flip in HANDS[task.options["hands"]]
        ]
        found, flip = max(outcomes, key=lambda outcome: outcome[0].correlation)
        if found.correlation < settings.least_correlation:
            raise ScanFailure(
                f"rigid registration ends at a correlation of {found.correlation:.3f}, expected "
                f"at least {settings.least_correlation:g}: this does not look like the "
                "template's anatomy"
            )
        for role, pose in (("rigid", found.pose), ("moments", found.moments)):
            write_transform(pose.transform(mirrored=flip), task.outputs[role])
        details = {
            "correlation": found.correlation,
            "mirrored": flip,
            "start": found.start,
            "tried": {start.name: start.correlation for start in found.tried},
        }
        return Record(task.scan, "align", details=details)

    run_stage(
        arguments,
        "align",
        __name__,
        compute,
        shared={
            "settings": as_json(settings),
            **shared_template(arguments),
            "template_record": arguments.template_region_record,
        },
        after="centred_record",
    )


def _template(arguments: argparse.Namespace, settings: AlignSettings) -> Template:
    require_result(arguments.template_centred_record, "template")
    crop, mask = crop_and_mask(arguments, settings.mask_margin_mm)
    mixture = _mixture(arguments.template_region_record)
    return prepare_template(Subject(crop, mixture), mask, settings)


def _mixture(record: Path) -> Mixture:
    return Mixture.from_record(read_record(record).details)
