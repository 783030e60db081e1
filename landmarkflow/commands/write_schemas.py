"""Write JSON schemas of the configuration and of the sheet, for editors and other programs."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from landmarkflow.core.files import write_json
from landmarkflow.study.study import Scan, StudyConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MODELS: Mapping[str, type[BaseModel]] = {
    "config.schema.json": StudyConfig,
    "samples.schema.json": Scan,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--folder", required=True, type=Path)


def run(arguments: argparse.Namespace) -> None:
    """Write both schemas into the folder."""
    for name, schema in schemas().items():
        write_json(arguments.folder / name, schema)


def schemas() -> Mapping[str, dict[str, Any]]:
    """Name and content of each schema; one of the sheet describes one row.

    What holds between two settings, as that one lies below the other, only the models check.
    """
    return {
        name: {"$schema": DIALECT, **model.model_json_schema()} for name, model in MODELS.items()
    }
