"""Even out the template's landmarks by their left-right symmetry."""

import argparse

import numpy as np
import SimpleITK as sitk

from landmarkflow.core.points import PointList
from landmarkflow.core.records import Record, write_record
from landmarkflow.engine.arguments import (
    add_paths,
    add_settings,
    read_settings,
    require_result,
)
from landmarkflow.formats.markups import read_complete_landmarks, write_markups
from landmarkflow.methods.oneshot.settings import SymmetriseSettings
from landmarkflow.methods.oneshot.symmetrise import symmetrise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    add_paths(parser, "annotated", "reflection", "reflection-record", "landmarks", "record")


def run(arguments: argparse.Namespace) -> None:
    """Write the landmarks and, in the record, the pairs and how far each landmark moved."""
    settings = read_settings(SymmetriseSettings, arguments.settings)
    require_result(arguments.reflection_record, "the template and its mirror image")
    annotated = read_complete_landmarks(arguments.annotated)
    reflection = sitk.ReadTransform(str(arguments.reflection))
    found = symmetrise(annotated, reflection, settings)
    write_markups(arguments.landmarks, [PointList("symmetrised", found.landmarks, None)])
    moved = np.linalg.norm(found.landmarks.positions - annotated.positions, axis=1)
    details = {
        "partners": dict(found.partners),
        "moved_mm": dict(zip(annotated.labels, moved.round(4).tolist(), strict=True)),
    }
    write_record(arguments.record, Record("template", "symmetrise", details=details))
