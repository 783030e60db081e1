"""Measure the landmarks of all scans against their references: errors, rates, tables."""

import argparse
from pathlib import Path

from landmarkflow.engine.arguments import add_settings, read_settings
from landmarkflow.evaluation.evaluate import evaluate
from landmarkflow.evaluation.settings import EvaluateSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--scans", required=True, nargs="+")
    parser.add_argument("--landmarks", required=True, nargs="+", type=Path)
    parser.add_argument("--references", nargs="*", type=Path, default=[])
    parser.add_argument("--records", required=True, nargs="+", type=Path)
    parser.add_argument("--folder", required=True, type=Path)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and write every table into the folder."""
    evaluate(
        scans=arguments.scans,
        landmark_files=arguments.landmarks,
        reference_files=arguments.references,
        record_files=arguments.records,
        folder=arguments.folder,
        settings=read_settings(EvaluateSettings, arguments.settings),
        seed=arguments.seed,
    )
