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
from landmarkflow.evaluation.results import ALL_LABELS, OVERLAP_FIGURES
from landmarkflow.formats.volumes import read_labels
from landmarkflow.formats.written import read_written
from landmarkflow.images.operations import grid_of

COLUMNS = ("scan", "label", "dice", "iou", "asd", "hd95", "reason")
MISSING = "no segmentation was found"
# Labels are looked for by counting up to the largest one.
LARGEST_LABEL = 100_000

Mask = NDArray[np.bool_]
Box = tuple[slice, ...]


def scan_overlap(
    scan: str, found: Path | None, reference: Path, labels: Sequence[int], factor: float
) -> list[tuple[Any, ...]]:
    """Compares a scan's segmentations label by label, and all labels together as one.

    Args:
        scan: The scan's name.
        found: The found segmentation; None, no file or an empty one is a missing segmentation.
        reference: The reference segmentation, on the same grid.
        labels: What is compared; empty for every label of either.
        factor: What a distance is multiplied by to be in the study's unit.

    Returns:
        Rows of `COLUMNS`: one for each label of either segmentation, then one for all. A missing
        or unusable segmentation makes one row with the reason.
    """
    if found is None or not found.is_file() or not found.stat().st_size:
        return [_without(scan, MISSING)]
    try:
        image = read_written(found)
        rows = _compared(image, read_labels(reference, grid_of(image)), labels)
    except InputError as error:
        return [_without(scan, str(error))]
    if not rows:
        return [_without(scan, "neither segmentation holds a label that is compared")]
    return [
        (scan, label, dice, iou, *(factor * d for d in distances), reason)
        for label, dice, iou, distances, reason in rows
    ]


def overlap_table(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """Returns the rows of `scan_overlap` with the columns `COLUMNS`."""
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    return table.astype(dict.fromkeys(OVERLAP_FIGURES, "float64"))


def summarise_overlap(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Returns by label, all labels first, the scans measured and missing and each figure's mean.

    Args:
        table: The overlap table; a figure that a scan lacks is left out of its mean.
    """
    result: dict[str, dict[str, Any]] = {}
    for label in dict.fromkeys([ALL_LABELS, *table["label"]]):
        rows = table[table["label"] == label]
        result[label] = {"n": int(rows["dice"].notna().sum())}
        result[label]["missing"] = int(rows["dice"].isna().sum())
        for figure in OVERLAP_FIGURES:
            known = rows[figure].dropna()
            result[label][figure] = {
                "mean": round(float(known.mean()), 4) if len(known) else None,
                "sd": round(float(known.std(ddof=0)), 4) if len(known) else None,
            }
    return result


def _without(scan: str, reason: str) -> tuple[Any, ...]:
    return (scan, ALL_LABELS, *[np.nan] * len(OVERLAP_FIGURES), reason)


def _compared(
    found: sitk.Image, reference: sitk.Image, labels: Sequence[int]
) -> list[tuple[str, float, float, tuple[float, float], str]]:
    """Returns label, Dice, IoU, (asd, hd95) and why there are no distances, of equal grids."""
    arrays = [sitk.GetArrayViewFromImage(image) for image in (found, reference)]
    boxes = [_boxes(array, labels) for array in arrays]
    every = sorted(boxes[0].keys() | boxes[1].keys())
    groups = [(str(label), [label]) for label in every] + ([(ALL_LABELS, every)] if every else [])
    rows = []
    for name, members in groups:
        box = _union([own[label] for own in boxes for label in members if label in own])
        here, there = (np.isin(array[box], members) for array in arrays)
        common, both = int((here & there).sum()), int(here.sum() + there.sum())
        distances, reason = (np.nan, np.nan), ""
        if here.any() and there.any():
            distances = _distances(here, there, arrays[0].shape, found.GetSpacing()[::-1])
        else:
            reason = f"only the {'reference' if there.any() else 'found segmentation'} has it"
        rows.append((name, 2 * common / both, common / (both - common), distances, reason))
    return rows


def _boxes(values: NDArray[Any], labels: Sequence[int]) -> dict[int, Box]:
    """Returns the bounding box of each label that is there and compared."""
    if values.max() > LARGEST_LABEL:
        raise InputError(
            f"a segmentation holds the label {values.max()}, expected at most {LARGEST_LABEL}"
        )
    found = enumerate(ndimage.find_objects(values), start=1)
    return {label: box for label, box in found if box and (not labels or label in labels)}


def _union(boxes: Sequence[Box]) -> Box:
    return tuple(
        slice(min(part.start for part in axis), max(part.stop for part in axis))
        for axis in zip(*boxes, strict=True)
    )


def _distances(
    here: Mask, there: Mask, shape: Sequence[int], spacing: Sequence[float]
) -> tuple[float, float]:
    """Returns the average symmetric surface distance and the 95 % Hausdorff distance.

    Args:
        here: One mask, cut out around both.
        there: The other.
        shape: Voxels of the whole volume along z, y, x; an axis with one has no surface across.
        spacing: (3,) along z, y, x.
    """
    # Around the masks lies one more voxel: distance maps know no edge at the end of an array.
    masks = [np.pad(mask, 1) for mask in (here, there)]
    cross = ndimage.generate_binary_structure(3, 1)
    for axis, count in enumerate(shape):
        if count == 1:
            cross &= np.moveaxis(np.array([False, True, False])[:, None, None], 0, axis)
    borders = [mask & ~ndimage.binary_erosion(mask, cross) for mask in masks]
    one, other = (_to(borders[1 - i], spacing)[borders[i]] for i in (0, 1))
    hd95 = max(np.percentile(one, 95), np.percentile(other, 95))
    return float(np.concatenate([one, other]).mean(dtype=np.float64)), float(hd95)


def _to(border: Mask, spacing: Sequence[float]) -> NDArray[np.float32]:
    """Returns the distance of every voxel's centre to the nearest border voxel's centre."""
    image = sitk.GetImageFromArray(border.astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    signed = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    return np.asarray(np.abs(sitk.GetArrayFromImage(signed)))
