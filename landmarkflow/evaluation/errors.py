"""Errors of detected landmarks against reference landmarks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks, PointList

MAIN_STAGE = "final"
NUMBERS = ("error", "error_x", "error_y", "error_z", "radius")
COLUMNS = ("scan", "landmark", "stage", *NUMBERS, "reason")
Row = tuple[object, ...]


@dataclass(frozen=True, eq=False)
class ScanPoints:
    """What was detected in one scan and what an expert placed there.

    Attributes:
        scan: The scan's name.
        lists: Detected points, one list per stage; empty where there are none.
        reference: Reference landmarks in the template's order, or None for a scan without.
        reason: Why `lists` is empty.
        factor: What a distance in the unit of the coordinates is multiplied by to be one in the
            study's unit: 100 over the scan's own length for %, otherwise what a picture's pixel
            measures, and 1 in a volume.
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

    Returns:
        The columns `COLUMNS`, sorted by scan (as given), landmark (template), stage (main first).

    Raises:
        InputError: Two references differ in their labels, or a scan has points that its
            reference does not know.
    """
    evaluated = [(scan, scan.reference) for scan in scans if scan.reference is not None]
    found = [points.name for scan, _ in evaluated for points in scan.lists]
    stages = list(dict.fromkeys([MAIN_STAGE, *found]))
    rows: list[Row] = []
    for scan, reference in evaluated:
        first, expected = evaluated[0][0].scan, evaluated[0][1].labels
        if reference.labels != expected:
            raise InputError(
                f"scan {scan.scan}: the reference has the labels {', '.join(reference.labels)}, "
                f"expected those of scan {first}: {', '.join(expected)}"
            )
        for points in scan.lists:
            unknown = [label for label in points.landmarks.labels if label not in expected]
            if unknown:
                raise InputError(
                    f'scan {scan.scan}: the point list "{points.name}" has the landmark '
                    f'"{unknown[0]}", expected only those of the reference: {", ".join(expected)}'
                )
        for label, truth in zip(expected, reference.positions, strict=True):
            if not np.isnan(truth).any():
                rows += [_row(scan, label, truth, stage) for stage in stages]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype(dict.fromkeys(NUMBERS, "float64"))


def main_errors(errors: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of the main stage."""
    return errors[errors["stage"] == MAIN_STAGE]


def _row(scan: ScanPoints, label: str, truth: NDArray[np.float64], stage: str) -> Row:
    points = next((points for points in scan.lists if points.name == stage), None)
    offset, radius, reason = np.full(3, np.nan), np.nan, ""
    if points is None:
        reason = f"no {stage} points" if scan.lists else scan.reason
    elif label not in points.landmarks.labels:
        reason = f"not among the {stage} points"
    else:
        i = points.landmarks.labels.index(label)
        offset = scan.factor * (points.landmarks.positions[i] - truth)
        radius = np.nan if points.radius is None else scan.factor * points.radius[i]
        if np.isnan(offset).any():
            note = points.notes[i] if points.notes else ""
            reason = note or "missing without a stated reason"
    return (scan.scan, label, stage, np.linalg.norm(offset), *offset, radius, reason)
