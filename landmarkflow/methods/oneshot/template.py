"""The template as commands are given it: its files, crop, and mask in which it is compared."""

import argparse

import SimpleITK as sitk

from landmarkflow.engine.arguments import add_paths
from landmarkflow.formats.volumes import mask_around_target, read_written


def add_template(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the template's files, and the labels that are its target."""
    parser.add_argument("--labels", nargs="*", type=int, default=[])
    add_paths(parser, "template-image", "template-segmentation", "template-centred")


def crop_and_mask(arguments: argparse.Namespace, margin_mm: float) -> tuple[sitk.Image, sitk.Image]:
    """The template's crop and, on its grid, the target with a margin around it.

    Raises:
        InputError: the segmentation is unusable.
    """
    crop = read_written(arguments.template_centred)
    image, segmentation = arguments.template_image, arguments.template_segmentation
    return crop, mask_around_target(crop, image, segmentation, arguments.labels, margin_mm)


def shared_template(arguments: argparse.Namespace) -> dict[str, object]:
    """What of the template all scans of a batch depend on."""
    return {
        "labels": arguments.labels,
        "template": arguments.template_centred,
        "segmentation": arguments.template_segmentation,
    }
