"""What each stage says of each scan: one small JSON file beside its results.

A stage that has no result for a scan still leaves its files, so that the other scans go on: the
record with the reason, and an empty file in the place of each result.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from landmarkflow.errors import InputError
from landmarkflow.files import read_json, replacing, write_json

Status = Literal["ok", "doubtful", "failed", "refused"]
STATUSES = ("ok", "doubtful", "failed", "refused")


@dataclass(frozen=True)
class Record:
    """One scan's way through one stage.

    `doubtful` has a result and a reason to look at it; `failed` (the method found no answer) and
    `refused` (the input is unusable) have none.
    """

    scan: str
    stage: str
    status: Status = "ok"
    reason: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def has_result(self) -> bool:
        """Whether the stage left results beside this record."""
        return self.status in ("ok", "doubtful")


def write_record(path: Path, record: Record) -> None:
    """Write a record as JSON, its details after the four fields that all stages share."""
    head = {
        "scan": record.scan,
        "stage": record.stage,
        "status": record.status,
        "reason": record.reason,
    }
    write_json(path, head | record.details)


def read_record(path: Path) -> Record:
    """Read a stage's record.

    Raises:
        InputError: The file is missing or is not a record.
    """
    data = read_json(path)
    try:
        head = {key: data.pop(key) for key in ("scan", "stage", "status", "reason")}
    except (KeyError, AttributeError, TypeError):
        raise InputError(
            f"{path}: expected a stage's record with scan, stage, status and reason"
        ) from None
    if head["status"] not in STATUSES:
        raise InputError(
            f"{path}: found the status {head['status']!r}, expected one of {', '.join(STATUSES)}"
        )
    return Record(**head, details=data)


def write_nothing(path: Path) -> None:
    """Leave an empty file in the place of a result that there is not."""
    with replacing(path) as beside:
        beside.touch()
