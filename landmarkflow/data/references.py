"""Checks a scan's reference landmarks before anything is measured against them."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import check_readable
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import DECIMALS, Landmarks, PointList
from landmarkflow.core.records import TEMPLATE, Record, write_nothing, write_record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.landmarks import frame_of, read_complete_landmarks, read_landmarks
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.volumes import read_grid

logger = logging.getLogger(__name__)

_NAMED = 3
# Of landmarks that lie just where the template's do: fewer may, in whole pixels, say, by chance.
_FEWEST_THE_SAME = 3


def check_reference(
    reference: Landmarks, grid: Grid, expected_labels: Sequence[str], source: Path
) -> Landmarks:
    """Returns the reference in the template's order once it is known to fit the scan.

    Labels that two landmarks have exchanged cannot be seen here: both lie inside the volume.

    Args:
        reference: Reference landmarks, (n, 3) LPS mm; a row of NaN is one that was not annotated.
        grid: The scan's grid; a volume reaches to its voxels' edges.
        expected_labels: The template's labels.
        source: The reference's file, for messages.

    Returns:
        The same landmarks in the order of `expected_labels`.

    Raises:
        InputError: Labels absent or beyond the template's, no landmark annotated at all, or
            landmarks outside the volume.
    """
    _check_labels(reference, expected_labels, source)
    ordered = reference.select(list(expected_labels))
    annotated = ~ordered.missing
    if not annotated.any():
        raise InputError(
            f"{source}: none of the {len(expected_labels)} reference landmarks has a position, "
            "expected at least one"
        )
    outside = annotated.copy()
    outside[annotated] = ~grid.contains(ordered.positions[annotated])
    if outside.any():
        points = _listed(
            [
                f'"{ordered.labels[row]}" at {_position_text(ordered.positions[row])}'
                for row in np.flatnonzero(outside)
            ]
        )
        raise InputError(
            f"{source}: {outside.sum()} of {annotated.sum()} reference landmarks lie outside the "
            f"volume: {points}, expected all inside {grid.extent_text()}"
        )
    return ordered


def _check_labels(reference: Landmarks, expected: Sequence[str], source: Path) -> None:
    absent = [label for label in expected if label not in reference.labels]
    extra = [label for label in reference.labels if label not in expected]
    if absent or extra:
        found = []
        if absent:
            found.append(f"labels absent: {_quoted(absent)}")
        if extra:
            found.append(f"labels unknown: {_quoted(extra)}")
        raise InputError(
            f"{source}: {'; '.join(found)}; expected the template's {len(expected)} labels: "
            f"{_quoted(expected)}"
        )


def _position_text(position: NDArray[np.float64]) -> str:
    return f"({', '.join(f'{value:.2f}' for value in position)})"


def _quoted(labels: Sequence[str]) -> str:
    return _listed([f'"{label}"' for label in labels])


def _listed(items: Sequence[str]) -> str:
    """Returns the first few items and how many more there are."""
    more = len(items) - _NAMED
    return ", ".join(items[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def run(batch: Batch) -> None:
    """Write each reference in LPS with the template's order of labels, or set it aside."""
    template = batch.sheet[TEMPLATE]
    annotated = read_complete_landmarks(
        Path(template["landmarks"]), frame_of(template["frame"]), Path(template["image"]).name
    )
    chosen = batch.values["landmarks"] or annotated.labels
    try:
        annotated.select(chosen)
    except InputError as error:
        raise InputError(f"config: `data.landmarks`: {error}") from None
    for task in batch.tasks:
        if task.row["landmarks"]:
            check_readable(Path(task.row["landmarks"]))
            check_readable(Path(task.row["image"]))
        try:
            found = _checked(batch, task, annotated)
            record = Record(task.scan, "references")
        except InputError as error:
            if batch.is_required:
                raise
            found, record = None, Record(task.scan, "references", "refused", str(error))
            logger.warning("%s: refused: %s", task.scan, error)
        if found is None:
            write_nothing(task.outputs["reference"])
        else:
            points = PointList("reference", found.select(chosen), None)
            write_markups(task.outputs["reference"], [points])
        write_record(task.outputs["record"], record)


def _checked(batch: Batch, task: Task, template: Landmarks) -> Landmarks | None:
    """The reference of a scan, None where it has none.

    Raises:
        InputError: it does not fit the scan, it is the template's, or the scan may not be measured.
    """
    if task.row["refused"]:
        raise InputError(task.row["refused"])
    if not task.row["landmarks"]:
        return None
    path = Path(task.row["landmarks"])
    reference = read_landmarks(path, frame_of(task.row["frame"]), Path(task.row["image"]).name)
    largest = int(batch.values["largest_gib"] * 2**30)
    grid = read_grid(Path(task.row["image"]), largest, task.row["series"])
    found = check_reference(reference, grid, template.labels, path)
    same = np.allclose(found.positions, template.positions, rtol=0, atol=10.0**-DECIMALS)
    if same and len(found.labels) >= _FEWEST_THE_SAME and not batch.is_required:
        raise InputError(
            f"{path}: holds the template's own landmarks, expected such as were placed in this scan"
        )
    return found
