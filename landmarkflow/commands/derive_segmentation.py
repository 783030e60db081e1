"""Derive the template's segmentation from its scan and landmarks."""

import argparse

from landmarkflow.data.segmentation import derive_segmentation
from landmarkflow.engine.arguments import add_paths
from landmarkflow.formats.markups import read_landmarks
from landmarkflow.formats.volumes import read_volume, write_volume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--above", required=True, type=float)
    parser.add_argument("--margin-mm", required=True, type=float)
    parser.add_argument("--frame", choices=("LPS", "RAS"))
    add_paths(parser, "image", "landmarks", "segmentation")


def run(arguments: argparse.Namespace) -> None:
    """Derive and write."""
    landmarks = read_landmarks(arguments.landmarks, arguments.frame)
    mask = derive_segmentation(
        read_volume(arguments.image), landmarks, arguments.above, arguments.margin_mm
    )
    write_volume(mask, arguments.segmentation)
