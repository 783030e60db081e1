"""One stage over a batch of scans: one process, one set of files and one record for each scan."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from landmarkflow.core.code_hash import code_hash
from landmarkflow.core.errors import InputError, ScanFailure
from landmarkflow.core.records import (
    DEFECT,
    TEMPLATE,
    Record,
    read_record,
    write_nothing,
    write_record,
)
from landmarkflow.core.settings import explain
from landmarkflow.engine.stage import Places, Stage
from landmarkflow.engine.store import Task, digest, run_batch

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=BaseModel)
STORE = ".store"


@dataclass(frozen=True)
class Batch:
    """A stage, the run and the scans that it is to serve, and what decides the results.

    Attributes:
        stage: what is run.
        places: where its files lie.
        scans: ids, in the order of the sheet.
        values: the stage's settings as plain data, by name.
        sheet: what the sheet says of each scan, and of the template.
        peers: other scans, whose files are read as well.
        runs: the runs that this run is made of.
        threads: processors that it may use.
    """

    stage: Stage
    places: Places
    scans: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    sheet: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    peers: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    threads: int = 1

    def settings(self, model: type[Model], name: str = "") -> Model:
        """The stage's settings, or those of another name, checked.

        Raises:
            InputError: they do not fit the model.
        """
        name = name or self.stage.name
        try:
            # Through JSON, where a list may stand for a tuple.
            return model.model_validate_json(json.dumps(self.values[name]))
        except ValidationError as error:
            raise InputError(f"--settings: {name}: {explain(error)}") from None

    def path(self, role: str, scan: str = "") -> Path:
        """The file of a role."""
        return self.places.path({**self.stage.reads, **self.stage.writes}[role], scan)

    def paths(self, role: str) -> list[Path]:
        """The files of a role, one for each scan."""
        return [self.path(role, scan) for scan in self.scans]

    def peer_path(self, role: str, peer: str) -> Path:
        """The file of a role of another scan."""
        return self.places.path(self.stage.peers[role], peer)

    def of_run(self, run: str, scan: str = "") -> dict[str, Path]:
        """The files that are read of another run, by role."""
        return {
            role: self.places.path(pattern, scan, run)
            for role, pattern in self.stage.of.items()
            if self.stage.has(role, self.values)
        }

    @property
    def is_required(self) -> bool:
        """Whether a scan without a result stops the study, as a template does."""
        return TEMPLATE in self.scans

    @property
    def tasks(self) -> list[Task]:
        """One task for each scan."""
        stage = self.stage
        by_scan = [
            role
            for role, pattern in stage.reads.items()
            if "{scan}" in pattern and stage.has(role, self.values)
        ]
        return [
            Task(
                scan,
                {role: self.path(role, scan) for role in by_scan},
                {
                    role: self.path(role, scan)
                    for role in stage.writes
                    if stage.has(role, self.values)
                },
                {column: self.sheet[scan].get(column, "") for column in stage.columns},
                {run: self.of_run(run, scan) for run in self.runs},
            )
            for scan in self.scans
        ]

    def run(
        self,
        compute: Callable[[Task], Record],
        *,
        also: Mapping[str, object] | None = None,
        nothing: Callable[[Task, Record], None] | None = None,
    ) -> None:
        """Compute every scan's files and write one record for each.

        A scan whose earlier stage has no result, or on which this stage fails, gets a record that
        says so and empty files; the others go on. So they do where the program meets a defect,
        which the run reports when all else is done.

        Args:
            compute: writes a scan's files and returns its record.
            also: what else decides the results, beside settings, code and files.
            nothing: writes what is said where there is no result; by default empty files.

        Raises:
            InputError: a template has no result.
        """

        def attempt(task: Task) -> bool:
            record = self._carried_on(task) or self._computed(task, compute)
            if self.is_required and not record.has_result:
                raise InputError(f"{task.scan}: {record.stage} {record.status}: {record.reason}")
            if not record.has_result:
                for role, path in task.outputs.items():
                    if role != "record":
                        write_nothing(path)
                if nothing is not None:
                    nothing(task, record)
            write_record(task.outputs["record"], record)
            return not (record.reason or "").startswith(DEFECT)

        made_by = {**self.made_by, **(also or {})}
        run_batch(self.tasks, made_by, self.places.results / STORE, attempt)

    @property
    def made_by(self) -> dict[str, object]:
        """All that decides the results of every scan alike: settings, code, files, template."""
        shared = {
            role: digest(self.path(role))
            for role, pattern in self.stage.reads.items()
            if "{scan}" not in pattern and self.stage.has(role, self.values)
        }
        peers = {
            f"{peer} {role}": digest(self.peer_path(role, peer))
            for peer in self.peers
            for role in self.stage.peers
        }
        template = self.sheet.get(TEMPLATE, {})
        return {
            "stage": self.stage.name,
            "code": code_hash(self.stage.module),
            "settings": dict(self.values),
            "shared": shared,
            "peers": peers,
            "template": {column: template.get(column, "") for column in self.stage.columns},
        }

    def _earlier(self, task: Task) -> Record | None:
        return read_record(task.inputs[self.stage.after]) if self.stage.after else None

    def _carried_on(self, task: Task) -> Record | None:
        """The record of a scan that an earlier stage left without a result."""
        earlier = self._earlier(task)
        if earlier is None or earlier.has_result:
            return None
        return replace(earlier, details={})

    def _computed(self, task: Task, compute: Callable[[Task], Record]) -> Record:
        try:
            record = compute(task)
        except ScanFailure as failure:
            record = Record(task.scan, self.stage.name, "failed", str(failure))
        except (InputError, OSError, MemoryError):
            # The whole study's input, or the machine: another attempt may go better.
            raise
        except Exception as error:
            if self.is_required:
                raise
            logger.exception("%s: %s", task.scan, DEFECT)
            said = f"{DEFECT} ({type(error).__name__}: {error}); its traceback is in the log"
            record = Record(task.scan, self.stage.name, "failed", said)
        if record.reason is not None and not self.is_required:
            logger.warning("%s: %s: %s", task.scan, record.status, record.reason)
        earlier = self._earlier(task)
        return replace(record, earlier=earlier.chain if earlier else ())


def require_result(path: Path, what: str) -> Record:
    """Read a record that must have a result, as the template's must.

    Raises:
        InputError: the stage had none.
    """
    record = read_record(path)
    if not record.has_result:
        raise InputError(f"{what}: {record.stage} {record.status}: {record.reason}")
    return record


def rows_of(text: str) -> dict[str, dict[str, str]]:
    """What the sheet says of each scan, from JSON.

    Raises:
        InputError: it is no JSON object.
    """
    return dict(_object("--sheet", text))


def values_of(text: str) -> dict[str, Any]:
    """Settings by name, from JSON.

    Raises:
        InputError: it is no JSON object.
    """
    return dict(_object("--settings", text))


def _object(option: str, text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InputError(f"{option}: is no JSON ({error}), expected an object") from None
    if not isinstance(data, dict):
        raise InputError(f"{option}: is {text[:80]}, expected a JSON object")
    return data
