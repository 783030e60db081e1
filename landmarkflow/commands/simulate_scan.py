"""Simulate one temporal bone: scan, segmentation and landmarks."""

import argparse

from landmarkflow.cohorts.settings import CohortSettings
from landmarkflow.cohorts.simulate import simulate_subject
from landmarkflow.core.points import PointList
from landmarkflow.engine.arguments import add_paths, add_settings, read_settings
from landmarkflow.formats.markups import write_markups
from landmarkflow.formats.volumes import write_volume


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--number", required=True, type=int, help="0 is the template")
    add_paths(parser, "image", "segmentation", "landmarks")


def run(arguments: argparse.Namespace) -> None:
    """Simulate and write."""
    settings = read_settings(CohortSettings, arguments.settings)
    subject = simulate_subject(settings, arguments.seed, arguments.number)
    write_volume(subject.scan, arguments.image)
    write_volume(subject.segmentation, arguments.segmentation)
    write_markups(arguments.landmarks, [PointList("reference", subject.landmarks, None)])
