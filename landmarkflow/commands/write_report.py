"""Write the study's report page."""

import argparse
import json
from pathlib import Path

from landmarkflow.engine.arguments import add_paths
from landmarkflow.report.page import write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--title", required=True)
    parser.add_argument("--study", required=True, metavar="JSON", help="what was run")
    parser.add_argument("--pictures", required=True, nargs="+", type=Path)
    add_paths(parser, "evaluation", "history", "provenance", "report")


def run(arguments: argparse.Namespace) -> None:
    """Write the page."""
    write_report(
        path=arguments.report,
        title=arguments.title,
        study=json.loads(arguments.study),
        evaluation=arguments.evaluation,
        training=arguments.history,
        provenance=arguments.provenance,
        pictures=arguments.pictures,
    )
