"""What each stage says of each scan: one small JSON file beside its results.

A stage that has no result for a scan still leaves its files, so that the other scans go on: the
record with the reason, and an empty file for each result that is missing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.files import read_json, replacing, write_json

Status = Literal["ok", "doubtful", "failed", "refused"]
STATUSES = get_args(Status)
# The fields that all stages share.
HEAD = ("scan", "stage", "status", "reason")
# The annotated scan's own id. In a run whose template is another scan of the study, that scan goes
# by this id in the run's folder, and by its own in the folder that all runs share.
TEMPLATE = "template"
# How the reason begins where a stage met a defect in the program; such a run ends in an error.
DEFECT = "a defect in the program"


@dataclass(frozen=True)
class Step:
    """What one stage said of a scan: its status and, where that is not ok, the reason."""

    stage: str
    status: Status = "ok"
    reason: str | None = None


@dataclass(frozen=True)
class Record:
    """One scan's way through one stage.

    `doubtful` has a result and a reason to look at it; `failed` (the method found no answer) and
    `refused` (the input is unusable) have none.

    Attributes:
        stage: the stage that says this; of a scan without a result, the stage that stopped it.
        details: figures and notes of the stage itself.
        earlier: what the stages before said, in their order.
    """

    scan: str
    stage: str
    status: Status = "ok"
    reason: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    earlier: tuple[Step, ...] = ()

    @staticmethod
    def judged(scan: str, stage: str, doubts: Sequence[str], details: dict[str, Any]) -> "Record":
        """A result that is doubtful for some reasons, or ok where there are none."""
        if doubts:
            return Record(scan, stage, "doubtful", "; ".join(doubts), details)
        return Record(scan, stage, details=details)

    @property
    def chain(self) -> tuple[Step, ...]:
        """What all stages said so far, this one last."""
        return (*self.earlier, Step(self.stage, self.status, self.reason))

    @property
    def has_result(self) -> bool:
        """Whether the stage left results beside this record."""
        return self.status in ("ok", "doubtful")


def worst_of(chain: Sequence[Step]) -> Status:
    """The worst status that any stage gave a scan; ok where none said anything."""
    return max((step.status for step in chain), key=STATUSES.index, default="ok")


def write_record(path: Path, record: Record) -> None:
    """Write a record as JSON, its details after the fields that all stages share.

    A status that is not ok without a reason is a ValueError, and so is a reason with one that is.
    """
    if (record.status == "ok") == bool(record.reason):
        raise ValueError(f"{record.stage} of {record.scan}: {record.status}: {record.reason!r}")
    head = {key: getattr(record, key) for key in HEAD}
    head["worst"] = worst_of(record.chain)
    head["earlier"] = [asdict(step) for step in record.earlier]
    write_json(path, head | record.details)


def read_record(path: Path) -> Record:
    """Read a stage's record; refuses a file that is none, or missing."""
    data = read_json(path)
    with about(path):
        try:
            head = {key: data.pop(key) for key in HEAD}
            data.pop("worst", None)
            earlier = tuple(Step(**step) for step in data.pop("earlier", ()))
        except (KeyError, AttributeError, TypeError):
            expected = "a stage's record with scan, stage, status and reason"
            raise InputError(f"expected {expected}") from None
        if (found := head["status"]) not in STATUSES:
            raise InputError(f"found the status {found!r}, expected one of {', '.join(STATUSES)}")
    return Record(**head, details=data, earlier=earlier)


def write_nothing(path: Path) -> None:
    """Write an empty file where a stage has no result: every declared output must exist."""
    with replacing(path) as beside:
        beside.touch()
