"""Draw one overview picture for each scan of a batch."""

import argparse

from landmarkflow.core.records import Record, read_record
from landmarkflow.engine.arguments import (
    add_batch,
    add_settings,
    as_json,
    read_settings,
    run_stage,
)
from landmarkflow.engine.batch import Task
from landmarkflow.report.pictures import write_overview
from landmarkflow.report.settings import ReportSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    add_batch(
        parser, ("image", "landmarks", "landmarks_record", "reference"), ("picture", "record")
    )


def run(arguments: argparse.Namespace) -> None:
    """Draw every scan; one without landmarks is drawn with the reason."""
    settings = read_settings(ReportSettings, arguments.settings)

    def compute(task: Task) -> Record:
        stage = read_record(task.inputs["landmarks_record"])
        write_overview(
            path=task.outputs["picture"],
            scan_name=task.scan,
            scan_path=task.inputs["image"],
            landmarks_path=task.inputs["landmarks"],
            reference_path=task.inputs["reference"],
            note=None if stage.has_result else stage.reason,
            settings=settings,
        )
        return Record(task.scan, "picture")

    run_stage(
        arguments,
        "picture",
        __name__,
        compute,
        shared={"settings": as_json(settings)},
        after=None,
    )
