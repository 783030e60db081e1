"""Arguments that several commands share."""

import argparse
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from landmarkflow.core.code_hash import code_hash
from landmarkflow.core.errors import InputError, ScanFailure
from landmarkflow.core.files import sha256
from landmarkflow.core.records import Record, read_record, write_nothing, write_record
from landmarkflow.engine.batch import Task, run_batch

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=BaseModel)


def add_settings(parser: argparse.ArgumentParser, name: str = "settings") -> None:
    """Add a required argument that takes a stage's settings as JSON."""
    parser.add_argument(f"--{name}", required=True, metavar="JSON")


def add_paths(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add required arguments that take one path each."""
    for name in names:
        parser.add_argument(f"--{name}", required=True, type=Path, metavar="FILE")


def add_batch(
    parser: argparse.ArgumentParser,
    inputs: Sequence[str],
    outputs: Sequence[str],
    options: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """Add the arguments of a batch: scans, store, and one list of paths for each role.

    Args:
        parser: of the command.
        inputs: roles of the files read.
        outputs: roles of the files written.
        options: names of other arguments, declared by the command, with one value for each scan.
        optional: roles of files read that a study may do without.
    """
    parser.add_argument("--scans", required=True, nargs="+", metavar="SCAN")
    parser.add_argument("--store", required=True, type=Path, metavar="FOLDER")
    for name in (*inputs, *outputs):
        parser.add_argument(f"--{name}", required=True, nargs="+", type=Path, metavar="FILE")
    for name in optional:
        parser.add_argument(f"--{name}", nargs="*", default=[], type=Path, metavar="FILE")
    parser.set_defaults(inputs=tuple(inputs), optional=tuple(optional))
    parser.set_defaults(outputs=tuple(outputs), options=tuple(options))


def read_settings(model: type[Model], text: str) -> Model:
    """Check settings that came as JSON.

    Raises:
        InputError: they do not fit the model.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"--settings: {error.errors()[0]['msg']} in {text}") from None


def run_stage(
    arguments: argparse.Namespace,
    stage: str,
    module: str,
    compute: Callable[[Task], Record],
    *,
    shared: Mapping[str, object],
    after: str | None,
    required: bool = False,
    nothing: Callable[[Task, Record], None] | None = None,
) -> None:
    """Run one stage over a batch and write one record per scan.

    A scan whose earlier stage has no result, or on which this stage fails, gets a record that says
    so and empty files; the others go on.

    Args:
        arguments: of `add_batch`.
        stage: its name in the records.
        module: the command's module, whose code decides the results.
        compute: writes a scan's results and returns its record.
        shared: what else decides the results; paths stand for their content.
        after: the role of the earlier stage's record among the inputs.
        required: whether a scan without a result stops the study, as the template does.
        nothing: writes what stands for no result; by default empty files.

    Raises:
        InputError: a required scan has no result.
    """

    def compute_or_say_why(task: Task) -> None:
        record = _carried_on(task, stage, after)
        if record is None:
            record = _attempt(task, stage, compute)
            if record.reason is not None and not required:
                logger.warning("%s: %s: %s", task.scan, record.status, record.reason)
        if required and not record.has_result:
            raise InputError(f"{task.scan}: {record.stage} {record.status}: {record.reason}")
        if not record.has_result:
            for role, path in task.outputs.items():
                if role != "record":
                    write_nothing(path)
            if nothing is not None:
                nothing(task, record)
        write_record(task.outputs["record"], record)

    made_by = {
        name: sha256(value) if isinstance(value, Path) else value for name, value in shared.items()
    }
    made_by |= {"stage": stage, "code": code_hash(module)}
    run_batch(tasks_of(arguments), made_by, arguments.store, compute_or_say_why)


def tasks_of(arguments: argparse.Namespace) -> list[Task]:
    """One task for each scan of a batch.

    Raises:
        InputError: a role or option has another number of values than there are scans.
    """
    optional = [role for role in arguments.optional if getattr(arguments, role)]
    inputs = (*arguments.inputs, *optional)
    for role in (*inputs, *arguments.outputs, *arguments.options):
        count = len(getattr(arguments, role))
        if count != len(arguments.scans):
            raise InputError(
                f"--{role}: found {count} values, expected one for each of the "
                f"{len(arguments.scans)} scans"
            )
    return [
        Task(
            scan,
            {role: getattr(arguments, role)[n] for role in inputs},
            {role: getattr(arguments, role)[n] for role in arguments.outputs},
            {name: getattr(arguments, name)[n] for name in arguments.options},
        )
        for n, scan in enumerate(arguments.scans)
    ]


def require_result(path: Path, what: str) -> Record:
    """Read a record that must have a result, as the template's must.

    Raises:
        InputError: the stage had none.
    """
    record = read_record(path)
    if not record.has_result:
        raise InputError(f"{what}: {record.stage} {record.status}: {record.reason}")
    return record


def as_json(model: BaseModel) -> object:
    """Settings as plain data, for what decides a result."""
    return json.loads(model.model_dump_json())


def _carried_on(task: Task, stage: str, after: str | None) -> Record | None:
    """The record of a scan that an earlier stage left without a result."""
    if after is None:
        return None
    earlier = read_record(task.inputs[after])
    if earlier.has_result:
        return None
    return Record(task.scan, earlier.stage, earlier.status, earlier.reason)


def _attempt(task: Task, stage: str, compute: Callable[[Task], Record]) -> Record:
    try:
        return compute(task)
    except ScanFailure as failure:
        return Record(task.scan, stage, "failed", str(failure))
