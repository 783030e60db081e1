"""Tabulate what each step of the method is worth, over several trainings of a study."""

import argparse
import json
from pathlib import Path

from landmarkflow.core import files
from landmarkflow.core.errors import InputError
from landmarkflow.engine.arguments import add_paths, add_settings, read_settings
from landmarkflow.evaluation.settings import EvaluateSettings
from landmarkflow.evaluation.steps import Training, compare_steps, steps_csv, steps_markdown
from landmarkflow.report.results import read_errors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    parser.add_argument("--names", required=True, metavar="JSON", help="printed names by stage")
    parser.add_argument("--presets", required=True, nargs="+", help="one for each error table")
    parser.add_argument("--seeds", required=True, nargs="+", type=int)
    parser.add_argument("--errors", required=True, nargs="+", type=Path, metavar="FILE")
    add_paths(parser, "table", "markdown")


def run(arguments: argparse.Namespace) -> None:
    """Read the error tables of all trainings and write one table of their steps."""
    settings = read_settings(EvaluateSettings, arguments.settings)
    runs = (arguments.presets, arguments.seeds, arguments.errors)
    if len({len(values) for values in runs}) > 1:
        raise InputError(
            f"--errors: found {len(arguments.errors)} tables, {len(arguments.presets)} presets "
            f"and {len(arguments.seeds)} seeds, expected as many of each"
        )
    trainings = [
        Training(preset, seed, read_errors(path)) for preset, seed, path in zip(*runs, strict=True)
    ]
    table = compare_steps(trainings, json.loads(arguments.names), settings)
    files.write_text(arguments.table, steps_csv(table))
    files.write_text(arguments.markdown, steps_markdown(table, settings))
