"""What the page shows of a listed scan beside its picture: its way, and its target in 3D."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from landmarkflow.core.errors import InputError, about
from landmarkflow.core.points import Landmarks
from landmarkflow.core.records import Record, read_record
from landmarkflow.evaluation.lists import is_empty, read_lists
from landmarkflow.formats.written import read_written
from landmarkflow.images.views import Frame
from landmarkflow.report.embedded import Budget
from landmarkflow.report.surfaces import marked, surface_of

NONE = Landmarks((), np.empty((0, 3)))


@dataclass(frozen=True)
class ScanFiles:
    """Files of a scan that a run need not have.

    Attributes:
        landmarks: its detected landmarks.
        reference: its reference landmarks; empty where it has none.
        panel: the picture of its way.
        panel_record: the record beside that picture.
        segmentation: the target's labels.
    """

    landmarks: Path
    reference: Path | None = None
    panel: Path | None = None
    panel_record: Path | None = None
    segmentation: Path | None = None

    @property
    def drawn(self) -> Path | None:
        """The picture of its way, where the method drew one: the file of a lost scan is empty."""
        return None if self.panel is None or is_empty(self.panel) else self.panel


@dataclass(frozen=True)
class Mark:
    """A reference on the picture of a scan's way, and what is said of it, in its pixels."""

    x: float
    y: float
    left: float
    top: float
    size: float
    said: str


@dataclass(frozen=True)
class Way:
    """The picture of a scan's way, with the references on it."""

    source: str
    width: int
    height: int
    marks: list[Mark] = field(default_factory=list)


def way_of(files: ScanFiles, errors: Mapping[str, str], budget: Budget) -> Way | None:
    """The picture of a scan's way as a part of the page.

    Args:
        files: of the scan.
        errors: what is said of each landmark's distance from its reference.
        budget: bytes that are left for such pictures.

    Returns:
        None where the method drew none, or no bytes are left.

    Raises:
        InputError: picture or record are unreadable.
    """
    drawn = files.drawn
    if drawn is None or files.panel_record is None:
        return None
    picture = budget.embed(drawn)
    if not picture.source:
        return None
    with about(files.panel_record):
        marks = _marks(read_record(files.panel_record), _first(files.reference), errors)
    return Way(picture.source, picture.width, picture.height, marks)


def _marks(record: Record, reference: Landmarks, errors: Mapping[str, str]) -> list[Mark]:
    true = dict(zip(reference.labels, reference.positions, strict=True))
    marks = []
    try:
        for tile in record.details["tiles"]:
            label, words = tile["landmark"], tile["words"]
            if np.isfinite(true.get(label, np.nan)).all():
                x, y = Frame.of_record(tile["frame"]).to_picture(true[label])[0].round(1)
                said = f"reference: {errors.get(label, 'not measured')}"
                place = (words["left"], words["top"] + words["size"], words["size"])
                marks.append(Mark(float(x), float(y), *place, said))
    except (KeyError, TypeError, ValueError, StopIteration):
        raise InputError("states no tiles that the report can mark references on") from None
    return marks


def target_of(files: ScanFiles, errors: Mapping[str, str]) -> dict[str, Any] | None:
    """The surface of a scan's target with its landmarks, as plain data for the page's script.

    Args:
        files: of the scan.
        errors: what is said of each landmark's distance from its reference, those first that are
            to be named.

    Returns:
        None where the run made no segmentation, or one without a voxel.
    """
    if files.segmentation is None or is_empty(files.segmentation):
        return None
    surface = surface_of(read_written(files.segmentation))
    if surface is None:
        return None
    lists = read_lists(files.landmarks)
    detected, radius = (lists[0].landmarks, lists[0].radius) if lists else (NONE, None)
    order = _order(detected.labels, errors)
    shown = detected.select([detected.labels[i] for i in order])
    known = np.full(len(order), np.nan) if radius is None else radius[order]
    said = [errors.get(label, "") for label in shown.labels]
    return marked(surface, shown, known, _first(files.reference), said)


def _order(labels: Sequence[str], errors: Mapping[str, str]) -> list[int]:
    first = list(errors)
    ranks = {label: number for number, label in enumerate(first)}
    return sorted(range(len(labels)), key=lambda i: ranks.get(labels[i], len(first)))


def _first(path: Path | None) -> Landmarks:
    lists = read_lists(path)
    return lists[0].landmarks if lists else NONE
