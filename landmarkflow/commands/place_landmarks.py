"""Place the template's landmarks in a batch of scans and write them as Slicer markups."""

import argparse

import numpy as np
import SimpleITK as sitk

from landmarkflow.batch import Task
from landmarkflow.commands.arguments import (
    add_batch,
    add_paths,
    add_settings,
    as_json,
    read_settings,
    run_stage,
)
from landmarkflow.geometry import Landmarks
from landmarkflow.markups import PointList, read_complete_landmarks, write_markups
from landmarkflow.oneshot.landmarks import place_landmarks
from landmarkflow.oneshot.settings import LandmarkSettings
from landmarkflow.records import Record
from landmarkflow.volumes import read_volume

# The lists of a markups file, the answer first: a viewer opens the first.
FINAL = "final"
STAGES = ((FINAL, "bspline"), ("rigid", "rigid"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    add_paths(parser, "template-landmarks", "template-centred")
    add_batch(parser, ("centred", "rigid", "bspline", "bspline_record"), ("landmarks", "record"))


def run(arguments: argparse.Namespace) -> None:
    """Place the landmarks of every scan; where there are none, say why at each."""
    settings = read_settings(LandmarkSettings, arguments.settings)
    annotated = read_complete_landmarks(arguments.template_landmarks)
    template = read_volume(arguments.template_centred)

    def compute(task: Task) -> Record:
        target = read_volume(task.inputs["centred"])
        placed = {}
        for name, role in STAGES:
            transform = sitk.ReadTransform(str(task.inputs[role]))
            placed[name] = place_landmarks(annotated, transform, template, target, settings)
        write_markups(
            task.outputs["landmarks"],
            [PointList(name, found.landmarks, found.similarity) for name, found in placed.items()],
        )
        similarity = float(np.median(placed[FINAL].similarity))
        details = {"median_similarity": similarity}
        if similarity < settings.least_similarity:
            reason = (
                f"the landmarks' surroundings are alike to {similarity:.2f} in the median, "
                f"expected at least {settings.least_similarity:g}"
            )
            return Record(task.scan, "landmarks", "doubtful", reason, details)
        return Record(task.scan, "landmarks", details=details)

    def write_missing(task: Task, record: Record) -> None:
        nowhere = Landmarks(annotated.labels, np.full((len(annotated.labels), 3), np.nan))
        notes = (f"{record.stage} {record.status}: {record.reason}",) * len(annotated.labels)
        lists = [PointList(name, nowhere, None, notes) for name, _ in STAGES]
        write_markups(task.outputs["landmarks"], lists)

    run_stage(
        arguments,
        "landmarks",
        __name__,
        compute,
        shared={
            "settings": as_json(settings),
            "annotated": arguments.template_landmarks,
            "template": arguments.template_centred,
        },
        after="bspline_record",
        nothing=write_missing,
    )
