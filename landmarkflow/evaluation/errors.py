"""Errors of detected landmarks against reference landmarks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks, PointList

MAIN_STAGE = "final"
COLUMNS = (
    "scan",
    "landmark",
    "stage",
    "error",
    "error_x",
    "error_y",
    "error_z",
    "radius",
    "reason",
)
NUMBERS = COLUMNS[3:8]


@dataclass(frozen=True, eq=False)
class ScanPoints:
    """What was detected in one scan and what an expert placed there.

    Attributes:
        scan: The scan's name.
        lists: Detected points, one list per stage; empty where there are none.
        reference: Reference landmarks in the template's order, or None for a scan without.
        reason: Why `lists` is empty.
        factor: What a distance in the unit of the coordinates is multiplied by to be one in the
            study's unit: 100 over the scan's own length for %, otherwise 1.
    """

    scan: str
    lists: tuple[PointList, ...]
    reference: Landmarks | None
    reason: str = "no landmark file"
    factor: float = 1.0


def error_table(scans: Sequence[ScanPoints]) -> pd.DataFrame:
    """Measures every detected landmark that has a reference.

    The error is the Euclidean distance |detected - reference| in the study's unit; `error_x`,
    `error_y` and `error_z` are the components of detected - reference along L, P and S (in a
    picture: to the right and down). A landmark that was not detected has an empty error and a
    reason. Scans without a reference, and landmarks that the reference leaves undefined, have no
    row.

    Args:
        scans: The scans in the order of the sheet.

    Returns:
        The columns `COLUMNS`, sorted by scan (sheet), landmark (template), stage (main first).

    Raises:
        InputError: Two references differ in their labels, or a scan has points that its
            reference does not know.
    """
    evaluated = [(scan, scan.reference) for scan in scans if scan.reference is not None]
    stages = _stages([scan for scan, _ in evaluated])
    rows: list[tuple[object, ...]] = []
    for scan, reference in evaluated:
        expected = evaluated[0][1].labels
        if reference.labels != expected:
            raise InputError(
                f"scan {scan.scan}: the reference has the labels {', '.join(reference.labels)}, "
                f"expected those of scan {evaluated[0][0].scan}: {', '.join(expected)}"
            )
        rows.extend(_scan_rows(scan, reference, stages))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype(dict.fromkeys(NUMBERS, "float64"))


def labels_of(errors: pd.DataFrame) -> list[str]:
    """Returns the landmarks of an error table in their order."""
    return [str(label) for label in errors["landmark"].drop_duplicates()]


def main_errors(errors: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of the main stage."""
    return errors[errors["stage"] == MAIN_STAGE]


def _stages(scans: Sequence[ScanPoints]) -> list[str]:
    names = dict.fromkeys([MAIN_STAGE])
    for scan in scans:
        names.update(dict.fromkeys(points.name for points in scan.lists))
    return list(names)


def _scan_rows(
    scan: ScanPoints, reference: Landmarks, stages: Sequence[str]
) -> list[tuple[object, ...]]:
    by_stage = {points.name: points for points in scan.lists}
    for points in scan.lists:
        unknown = [name for name in points.landmarks.labels if name not in reference.labels]
        if unknown:
            raise InputError(
                f'scan {scan.scan}: the point list "{points.name}" has the landmark '
                f'"{unknown[0]}", expected only those of the reference: '
                f"{', '.join(reference.labels)}"
            )
    rows: list[tuple[object, ...]] = []
    for label, truth, undefined in zip(
        reference.labels, reference.positions, reference.missing, strict=True
    ):
        if undefined:
            continue
        for stage in stages:
            position, radius, reason = _point(by_stage.get(stage), label, scan, stage)
            offset = scan.factor * (position - truth)
            numbers = (np.linalg.norm(offset), *offset, scan.factor * radius)
            rows.append((scan.scan, label, stage, *numbers, reason))
    return rows


def _point(
    points: PointList | None, label: str, scan: ScanPoints, stage: str
) -> tuple[np.ndarray, float, str]:
    """Returns a landmark's position (NaN when missing), its radius and why it is missing."""
    nowhere = np.full(3, np.nan)
    if points is None:
        reason = f"no {stage} points" if scan.lists else scan.reason
        return nowhere, np.nan, reason
    if label not in points.landmarks.labels:
        return nowhere, np.nan, f"not among the {stage} points"
    i = points.landmarks.labels.index(label)
    radius = np.nan if points.radius is None else float(points.radius[i])
    if points.landmarks.missing[i]:
        note = points.notes[i] if points.notes else ""
        return nowhere, radius, note or "missing without a stated reason"
    return points.landmarks.positions[i], radius, ""
