"""Gather what a run learns from: annotated scans, or scans that another run annotated."""

import csv
import io
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import read_text
from landmarkflow.core.grids import Grid
from landmarkflow.core.records import TEMPLATE, read_record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.landmarks import frame_of, read_landmarks
from landmarkflow.formats.slicer import read_complete_markups, read_point_lists
from landmarkflow.formats.volumes import read_labels, read_volume
from landmarkflow.formats.written import read_written
from landmarkflow.images.masks import points_inside
from landmarkflow.images.operations import (
    MIRROR,
    array_of,
    cropped,
    grid_of,
    image_on,
    mirrored,
    view_of,
)
from landmarkflow.images.sampling import resample
from landmarkflow.learning.folds import ALWAYS, VALIDATION
from landmarkflow.methods.dualhead.examples import (
    Crop,
    Example,
    Examples,
    save_examples,
)
from landmarkflow.methods.dualhead.settings import GatherSettings
from landmarkflow.methods.dualhead.views import CROP_MARGIN_MM, View, covering

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]

# Labels are held in a byte, with 0 for none.
MOST_LABELS = 255


def labels_on_grid(
    segmentation: sitk.Image, grid: Grid, labels: tuple[int, ...]
) -> NDArray[np.uint8]:
    """(z, y, x) place of the label that fills most of a voxel, plus 1; 0 where half is empty."""
    best, whole = (np.zeros(grid.size[::-1], np.float32) for _ in range(2))
    found = np.zeros(grid.size[::-1], np.uint8)
    part = cropped(segmentation, grid.corners, CROP_MARGIN_MM)
    for number, label in enumerate(labels, start=1):
        mask = image_on(grid_of(part), view_of(part) == label)
        share = array_of(resample(mask, grid))
        found[share > best] = number
        best = np.maximum(best, share)
        whole += share
    # Where several labels meet none of them may fill half, and it is target all the same.
    found[whole < 0.5] = 0
    return found


def example_of(
    scan: str,
    image: sitk.Image,
    *,
    segmentation: sitk.Image | None,
    positions: Array,
    labels: tuple[int, ...],
    settings: GatherSettings,
    fold: int = ALWAYS,
    teacher_mm: Array | None = None,
) -> Example:
    """Cut the two crops of a scan around its target.

    Args:
        scan: id.
        image: the scan, mirrored where it is of the other side, as are the others.
        segmentation: labels on the scan's grid; None for none.
        positions: (k, 3) LPS mm, NaN for a missing landmark.
        labels: that are learned.
        settings: voxel sizes, fields and intensities.
        fold: in which it is held back.
        teacher_mm: (k,) radii of the answers learned from.

    Raises:
        InputError: there is neither a label nor a landmark.
    """
    known = positions[~np.isnan(positions).any(axis=1)]
    target = known
    volume = 0.0
    if segmentation is not None:
        chosen = np.isin(view_of(segmentation), labels)
        inside = points_inside(image_on(grid_of(segmentation), chosen))
        target = np.concatenate([known, inside])
        volume = float(len(inside) * np.prod(segmentation.GetSpacing()))
    if not len(target):
        raise InputError(f"scan {scan}: has no landmark and no label, expected some to learn from")
    low, high = target.min(axis=0), target.max(axis=0)
    centre = (low + high) / 2
    corners = grid_of(image).corners
    ends = corners.min(axis=0), corners.max(axis=0)
    half = np.maximum(settings.coarse_field_mm / 2, (high - low) / 2 + settings.fine_margin_mm)
    margin = settings.fine_margin_mm
    boxes = (
        (settings.coarse_mm, centre - half, centre + half),
        (settings.fine_mm, low - margin, high + margin),
    )
    view = View(image, settings.low, settings.high)
    crops = []
    for spacing, first, last in boxes:
        grid = covering(np.maximum(ends[0], first), np.minimum(ends[1], last), spacing)
        shown = view.on(grid).astype(np.float16)
        marked = np.zeros(shown.shape, np.uint8)
        if segmentation is not None:
            marked = labels_on_grid(segmentation, grid, labels)
        crops.append(Crop(shown, marked, grid.origin, spacing))
    radii = np.zeros(len(positions)) if teacher_mm is None else teacher_mm
    return Example(
        scan=scan,
        fold=fold,
        positions=positions,
        weights=np.ones(len(positions)),
        centre=centre,
        radius_mm=float(np.linalg.norm(target - centre, axis=1).max()),
        volume_mm3=volume,
        teacher_mm=radii,
        pieces=second_pieces(crops[1].labels, len(labels)),
        coarse=crops[0],
        fine=crops[1],
    )


def second_pieces(marked: NDArray[np.uint8], labels: int) -> Array:
    """(labels,) size of each label's second piece, of its first; 0 where it is in one or none."""
    shares = np.zeros(labels)
    for number in range(labels):
        pieces, count = ndimage.label(marked == number + 1)
        if count > 1:
            sizes = np.sort(np.bincount(pieces.ravel())[1:])
            shares[number] = sizes[-2] / sizes[-1]
    return shares


def deal(scans: list[str], folds: int, seed: int) -> dict[str, int]:
    """A fold from 1 on for each scan, as many of each as can be; `ALWAYS` where there are none."""
    if not folds:
        return dict.fromkeys(scans, ALWAYS)
    order = np.random.default_rng([seed, folds]).permutation(len(scans))
    return {scans[place]: number % folds + 1 for number, place in enumerate(order)}


def run(batch: Batch) -> None:
    """Read every scan that is learned from, and write all crops.

    Raises:
        InputError: an annotated scan cannot be read or is not annotated as the template is, or
            the run that is learned from leaves no answers beyond doubt.
    """
    settings = batch.settings(GatherSettings)
    template = read_complete_markups(batch.path("template_reference"))
    labels = _labels(batch)
    left_out = _left_out(batch)
    learned = [task for task in batch.tasks if task.scan not in left_out]
    folds = _folds(batch, [task.scan for task in learned])
    examples = [
        _read(
            batch,
            task,
            landmarks=template.labels,
            labels=labels,
            settings=settings,
            fold=folds[task.scan],
        )
        for task in learned
    ]
    if not examples:
        said = "; ".join(f"{scan}: {reason}" for scan, reason in left_out.items())
        raise InputError(f"there is no scan to learn from, expected at least one ({said})")
    gathered = Examples(
        template.labels,
        labels,
        batch.sheet[TEMPLATE].get("side", ""),
        settings.low,
        settings.high,
        _weighted(examples),
        template.positions,
        left_out,
    )
    save_examples(batch.path("examples"), gathered)
    logger.info("%d scans are learned from, %d left out", len(examples), len(left_out))


def _labels(batch: Batch) -> tuple[int, ...]:
    """The labels that are learned: those that the study names, or all of the template's."""
    if not batch.values["segmented"]:
        return ()
    target = read_written(batch.path("template_target"))
    named = batch.values["labels"] or np.unique(view_of(target)).tolist()
    labels = tuple(sorted({int(value) for value in named} - {0}))
    if len(labels) > MOST_LABELS:
        raise InputError(
            f"the template's segmentation holds {len(labels)} labels, expected at most "
            f"{MOST_LABELS}"
        )
    return labels


def _left_out(batch: Batch) -> dict[str, str]:
    """Scans whose answers by the run that is learned from are in doubt, with the reason."""
    found = {}
    for task in batch.tasks:
        for files in task.of.values():
            record = read_record(files["landmarks_record"])
            doubtful = [step for step in record.chain if step.status != "ok"]
            if doubtful:
                found[task.scan] = f"{doubtful[0].stage} {doubtful[0].status}"
    return found


def _folds(batch: Batch, scans: list[str]) -> dict[str, int]:
    """In which fold each scan is held back.

    Annotated scans have the folds of the study, the template none; answers are dealt out here.
    """
    folds = int(batch.values["folds"])
    if batch.values["teacher"]:
        return deal(scans, folds, int(batch.values["seed"]))
    of_scan = dict.fromkeys(scans, ALWAYS)
    for scan in scans:
        if batch.sheet[scan].get("split") == "validation" and not folds:
            of_scan[scan] = VALIDATION
    if folds:
        rows = csv.DictReader(
            io.StringIO(read_text(batch.path("splits"), "a table of splits")), delimiter="\t"
        )
        of_scan |= {row["scan"]: int(row["fold"]) for row in rows if row["scan"] in of_scan}
    return of_scan


def _read(
    batch: Batch,
    task: Task,
    *,
    landmarks: tuple[str, ...],
    labels: tuple[int, ...],
    settings: GatherSettings,
    fold: int,
) -> Example:
    """One scan with its annotation, or with another run's answer, mirrored to the template's side.

    A landmark that its file has not is missing, as one without a position is.
    """
    largest = int(batch.values["largest_gib"] * 2**30)
    image = read_volume(Path(task.row["image"]), largest, task.row["series"])
    grid = grid_of(image)
    path, radii, labelled = Path(task.row["landmarks"]), None, task.row["segmentation"]
    for files in task.of.values():
        points = read_point_lists(files["landmarks"])[0]
        path, found = files["landmarks"], points.landmarks
        radii = points.radius
        labelled = str(files["segmentation"]) if labels else ""
    if not task.of:
        found = read_landmarks(path, frame_of(task.row["frame"]), Path(task.row["image"]).name)
    if not set(found.labels) & set(landmarks):
        raise InputError(
            f"{path}: holds the landmarks {', '.join(found.labels[:5])}, expected some of the "
            f"template's: {', '.join(landmarks[:5])}"
        )
    by_label = dict(zip(found.labels, found.positions, strict=True))
    positions = np.array([by_label.get(label, np.full(3, np.nan)) for label in landmarks])
    known = ~np.isnan(positions).any(axis=1)
    if not task.of and not grid.contains(positions[known]).all():
        raise InputError(f"{path}: a landmark lies outside its scan {task.row['image']}")
    segmentation = read_labels(Path(labelled), grid, largest) if labels and labelled else None
    sides = task.row["side"], batch.sheet[TEMPLATE].get("side", "")
    if all(sides) and sides[0] != sides[1]:
        image, positions = mirrored(image), positions * MIRROR
        segmentation = mirrored(segmentation) if segmentation is not None else None
    return example_of(
        task.scan,
        image,
        segmentation=segmentation,
        positions=positions,
        labels=labels,
        settings=settings,
        fold=fold,
        teacher_mm=radii,
    )


def _weighted(examples: list[Example]) -> tuple[Example, ...]:
    """Examples whose answers are surer than usual count in full, the others less."""
    radii = np.array([example.teacher_mm for example in examples])
    usual = np.nanmedian(np.where(radii > 0, radii, np.nan)) if (radii > 0).any() else 0.0
    if not usual > 0:
        return tuple(examples)
    weights = np.minimum(1, (usual / np.maximum(radii, 1e-6)) ** 2)
    return tuple(
        replace(example, weights=np.nan_to_num(row, nan=0.0))
        for example, row in zip(examples, weights, strict=True)
    )
