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
    reference: Landmarks,
    grid: Grid,
    expected_labels: Sequence[str],
    source: Path,
    *,
    partly: bool = False,
) -> Landmarks:
    """Returns the reference in the expected order once it is known to fit the scan.

    Labels that two landmarks have exchanged cannot be seen here: both lie inside the volume.

    Args:
        reference: Reference landmarks, (n, 3) LPS mm; a row of NaN is one that was not annotated.
        grid: The scan's grid; a volume reaches to its voxels' edges.
        expected_labels: The template's labels, or the study's where there is no template.
        source: The reference's file, for messages.
        partly: Whether it may lack some of them, which are then missing.

    Returns:
        The same landmarks in the order of `expected_labels`.

    Raises:
        InputError: Labels absent or beyond the template's, no landmark annotated at all, or
            landmarks outside the volume.
    """
    if partly:
        reference = _completed(reference, expected_labels)
    _check_labels(reference, expected_labels, source, "study" if partly else "template")
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
        where, extent = "volume", grid.extent_text()
        if grid.size[2] == 1:
            across, down = (count - 0.5 for count in grid.size[:2])
            where, extent = "picture", f"x -0.5 to {across:g}, y -0.5 to {down:g} pixels"
        raise InputError(
            f"{source}: {outside.sum()} of {annotated.sum()} reference landmarks lie outside the "
            f"{where}: {points}, expected all inside {extent}"
        )
    return ordered


def _completed(reference: Landmarks, labels: Sequence[str]) -> Landmarks:
    """The landmarks and, without a position, those of the labels that they lack."""
    absent = [label for label in labels if label not in reference.labels]
    nowhere = np.full((len(absent), 3), np.nan)
    positions = np.concatenate([reference.positions, nowhere])
    return Landmarks((*reference.labels, *absent), positions)


def _check_labels(reference: Landmarks, expected: Sequence[str], source: Path, of: str) -> None:
    absent = [label for label in expected if label not in reference.labels]
    extra = [label for label in reference.labels if label not in expected]
    if absent or extra:
        found = []
        if absent:
            found.append(f"labels absent: {_quoted(absent)}")
        if extra:
            found.append(f"labels unknown: {_quoted(extra)}")
        raise InputError(
            f"{source}: {'; '.join(found)}; expected the {of}'s {len(expected)} labels: "
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
    """Write each reference in LPS with the template's order of labels, or set it aside.

    Without a template the order is the study's, and a reference may lack some of its landmarks.
    """
    annotated, chosen = None, batch.values["study_labels"]
    if template := batch.sheet.get(TEMPLATE):
        annotated = read_complete_landmarks(
            Path(template["landmarks"]),
            frame_of(template["frame"]),
            Path(template["image"]).name,
            batch.values["raters"],
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


def _checked(batch: Batch, task: Task, template: Landmarks | None) -> Landmarks | None:
    """The reference of a scan, None where it has none.

    Raises:
        InputError: it does not fit the scan, it is the template's, or the scan may not be measured.
    """
    if task.row["refused"]:
        raise InputError(task.row["refused"])
    if not task.row["landmarks"]:
        return None
    path = Path(task.row["landmarks"])
    name = Path(task.row["image"]).name
    reference = read_landmarks(path, frame_of(task.row["frame"]), name, batch.values["raters"])
    largest = int(batch.values["largest_gib"] * 2**30)
    grid = read_grid(Path(task.row["image"]), largest, task.row["series"])
    if template is None:
        labels = batch.values["study_labels"]
        if batch.values["landmarks"]:
            # The others are not asked for.
            reference = reference.select([one for one in reference.labels if one in labels])
        return check_reference(reference, grid, labels, path, partly=True)
    found = check_reference(reference, grid, template.labels, path)
    same = np.allclose(found.positions, template.positions, rtol=0, atol=10.0**-DECIMALS)
    if same and len(found.labels) >= _FEWEST_THE_SAME and not batch.is_required:
        raise InputError(
            f"{path}: holds the template's own landmarks, expected such as were placed in this scan"
        )
    return found
