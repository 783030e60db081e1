"""End a run with an error where a scan was refused and the study does not allow for it."""

import logging

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import write_text
from landmarkflow.core.records import DEFECT, read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.evaluation.copies import copies_among

logger = logging.getLogger(__name__)


def run(batch: Batch) -> None:
    """Say which scans were refused and why, and where the program itself was at fault.

    Raises:
        InputError: there was a defect, or scans were refused and are not to be set aside.
    """
    refused: dict[str, str] = {}
    defects: dict[str, str] = {}
    for task in batch.tasks:
        files = [task.inputs["references_record"], *(files["record"] for files in task.of.values())]
        for step in (step for path in files for step in read_record(path).chain):
            if step.status == "refused":
                refused.setdefault(task.scan, step.reason or "")
            if (step.reason or "").startswith(DEFECT):
                defects.setdefault(task.scan, f"{task.scan}: {step.stage}: {step.reason}")
    sides = {task.scan: task.row["side"] for task in batch.tasks}
    for run in batch.runs:
        records = {task.scan: read_record(task.of[run]["record"]) for task in batch.tasks}
        for scan, reason in copies_among(records, sides).items():
            refused.setdefault(scan, reason)
    for reason in (*defects.values(), *refused.values()):
        logger.error("%s", reason)
    if defects:
        raise InputError(
            f"{DEFECT} stopped {len(defects)} of {len(batch.scans)} scans ({', '.join(defects)}) "
            "and all else is done: please report it with the log that holds its traceback"
        )
    said = f"{len(refused)} of {len(batch.scans)} scans refused"
    if refused and batch.values["bad_scans"] == "refuse":
        raise InputError(
            f"{said} ({', '.join(refused)}) and all else done: mend these scans, take them out of "
            "the study, or allow for them with `bad_scans: set_aside`"
        )
    write_text(batch.path("checked"), said + "\n")
