"""How far found segmentations agree with reference segmentations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from landmarkflow.core.errors import InputError
from landmarkflow.evaluation.lists import is_empty
from landmarkflow.evaluation.results import ALL_LABELS, OVERLAP_COLUMNS, OVERLAP_FIGURES
from landmarkflow.formats.volumes import read_labels
from landmarkflow.formats.written import read_written
from landmarkflow.images.operations import grid_of

MISSING = "no segmentation was found"
# Labels are looked for by counting up to the largest one.
LARGEST_LABEL = 100_000

Mask = NDArray[np.bool_]
Box = tuple[slice, ...]
Row = tuple[Any, ...]


def scan_overlap(
    scan: str, found: Path | None, reference: Path, labels: Sequence[int], factor: float
) -> list[Row]:
    """Compares a scan's segmentations label by label, and all labels together as one.

    Args:
        scan: The scan's name.
        found: The found segmentation; None, no file or an empty one is a missing segmentation.
        reference: The reference segmentation, on the same grid.
        labels: What is compared; empty for every label of either.
        factor: What a distance is multiplied by to be in the study's unit.

    Returns:
        Rows of `OVERLAP_COLUMNS`: one for each label of either segmentation, then one for all. A
        missing or unusable segmentation makes one row with the reason.
    """
    rows, reason = [], MISSING
    if found is not None and found.is_file() and not is_empty(found):
        try:
            image = read_written(found)
            rows = _compared(image, read_labels(reference, grid_of(image)), labels)
            reason = "neither segmentation holds a label that is compared"
        except InputError as error:
            reason = str(error)
    if not rows:
        return [(scan, ALL_LABELS, *[np.nan] * len(OVERLAP_FIGURES), reason)]
    return [
        (scan, label, dice, iou, factor * asd, factor * hd95, all_voxels, why)
        for label, dice, iou, asd, hd95, all_voxels, why in rows
    ]


def overlap_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Returns the rows of `scan_overlap` with the columns `OVERLAP_COLUMNS`."""
    table = pd.DataFrame(list(rows), columns=list(OVERLAP_COLUMNS))
    return table.astype(dict.fromkeys(OVERLAP_FIGURES, "float64"))


def summarise_overlap(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Returns by label, all labels first, the scans measured and missing and each figure's mean.

    Args:
        table: The overlap table; a figure that a scan lacks is left out of its mean.
    """
    result: dict[str, dict[str, Any]] = {}
    for label in dict.fromkeys([ALL_LABELS, *table["label"]]):
        figures = table.loc[table["label"] == label, list(OVERLAP_FIGURES)]
        n = int(figures["dice"].count())
        spread = pd.DataFrame({"mean": figures.mean(), "sd": figures.std(ddof=0)})
        result[label] = {"n": n, "missing": len(figures) - n, **spread.to_dict("index")}
    return result


def _compared(found: sitk.Image, reference: sitk.Image, labels: Sequence[int]) -> list[Row]:
    """Returns label, Dice, IoU, distances and why there are none of these, of equal grids."""
    arrays = [sitk.GetArrayViewFromImage(image) for image in (found, reference)]
    boxes = [_boxes(array, labels) for array in arrays]
    every = sorted(boxes[0].keys() | boxes[1].keys())
    groups = [(str(label), [label]) for label in every] + ([(ALL_LABELS, every)] if every else [])
    rows = []
    for name, members in groups:
        parts = [own[label] for own in boxes for label in members if label in own]
        axes = zip(*parts, strict=True)
        box = tuple(slice(min(p.start for p in axis), max(p.stop for p in axis)) for axis in axes)
        here, there = (np.isin(array[box], members) for array in arrays)
        common, both = int((here & there).sum()), int(here.sum() + there.sum())
        distances, reason = (np.nan, np.nan, np.nan), ""
        if here.any() and there.any():
            surfaces = _distances(here, there, arrays[0].shape, found.GetSpacing()[::-1])
            distances = (*surfaces, _of_all_voxels(here, there))
        else:
            reason = f"only the {'reference' if there.any() else 'found segmentation'} has it"
        rows.append((name, 2 * common / both, common / (both - common), *distances, reason))
    return rows


def _boxes(values: NDArray[Any], labels: Sequence[int]) -> dict[int, Box]:
    """Returns the bounding box of each label that is there and compared."""
    if values.max() > LARGEST_LABEL:
        raise InputError(
            f"a segmentation holds the label {values.max()}, expected at most {LARGEST_LABEL}"
        )
    found = enumerate(ndimage.find_objects(values), start=1)
    return {label: box for label, box in found if box and (not labels or label in labels)}


def _distances(
    here: Mask, there: Mask, shape: Sequence[int], spacing: Sequence[float]
) -> tuple[float, float]:
    """Returns the average symmetric surface distance and the 95 % Hausdorff distance.

    The masks are cut out around both; `shape`, of the whole volume, and `spacing` are along z, y,
    x. An axis with one voxel has no surface across.
    """
    # Around the masks lies one more voxel: distance maps know no edge at the end of an array.
    masks = [np.pad(mask, 1) for mask in (here, there)]
    cross = ndimage.generate_binary_structure(3, 1)
    for axis, count in enumerate(shape):
        if count == 1:
            np.moveaxis(cross, axis, 0)[[0, 2]] = False
    borders = [mask & ~ndimage.binary_erosion(mask, cross) for mask in masks]
    one, other = (_to(borders[1 - i], spacing)[borders[i]] for i in (0, 1))
    hd95 = max(np.percentile(one, 95), np.percentile(other, 95))
    return float(np.concatenate([one, other]).mean(dtype=np.float64)), float(hd95)


def _of_all_voxels(here: Mask, there: Mask) -> float:
    """Returns how far voxels of one mask, interior included, are off the other, both ways.

    Distances are in voxels, whatever their size, and 0 inside the other mask. Some papers call
    this the average Hausdorff distance; it is many times smaller than a distance of surfaces.
    """
    one, other = (
        float(ndimage.distance_transform_edt(~b)[a].mean(dtype=np.float64))
        for a, b in ((here, there), (there, here))
    )
    return (one + other) / 2


def _to(border: Mask, spacing: Sequence[float]) -> NDArray[np.float32]:
    """Returns the distance of every voxel's centre to the nearest border voxel's centre."""
    image = sitk.GetImageFromArray(border.astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    signed = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    return np.asarray(np.abs(sitk.GetArrayFromImage(signed)))
