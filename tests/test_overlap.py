"""Overlap and surface distances of shapes whose answers are known."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from image_files import OBLIQUE
from numpy.typing import NDArray
from PIL import Image

from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, write_record
from landmarkflow.engine.store import Task
from landmarkflow.evaluation.evaluate import evaluate
from landmarkflow.evaluation.overlap import MISSING, overlap_table, scan_overlap
from landmarkflow.evaluation.settings import EvaluateSettings
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import write_volume
from landmarkflow.images.operations import image_on

SIZE = (40, 30, 20)
SPACING = np.array([0.5, 0.8, 1.5])
ORIGIN = np.array([-20.0, 7.0, 31.0])
GRIDS = {
    "along": Grid(SIZE, SPACING, ORIGIN, np.eye(3)),
    "oblique": Grid(SIZE, SPACING, ORIGIN, OBLIQUE @ np.diag([1.0, 1.0, -1.0])),
}


def boxes(*corners: tuple[tuple[int, ...], tuple[int, ...], int]) -> NDArray[np.uint8]:
    """Labels in an array z, y, x: boxes of first and last index x, y, z and a label."""
    array = np.zeros(SIZE[::-1], np.uint8)
    for (x, y, z), (x_end, y_end, z_end), label in corners:
        array[z : z_end + 1, y : y_end + 1, x : x_end + 1] = label
    return array


def measured(
    folder: Path,
    found: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    grid: Grid,
    *,
    labels: tuple[int, ...] = (),
    factor: float = 1.0,
) -> pd.DataFrame:
    for name, array in (("found", found), ("reference", reference)):
        write_volume(image_on(grid, array), folder / f"{name}.nii.gz")
    paths = (folder / "found.nii.gz", folder / "reference.nii.gz")
    return overlap_table(scan_overlap("s", *paths, labels, factor)).set_index("label")


def brute(found: NDArray[np.bool_], reference: NDArray[np.bool_], grid: Grid) -> tuple[float, ...]:
    """The same definitions without distance maps: all pairs of border voxels' centres."""
    points = []
    for mask in (found, reference):
        padded = np.pad(mask, 1)
        inner = padded.copy()
        for axis in range(3):
            for step in (1, -1):
                inner &= np.roll(padded, step, axis)
        border = (padded & ~inner)[1:-1, 1:-1, 1:-1]
        points.append(grid.to_physical(np.argwhere(border)[:, ::-1].astype(float)))
    pairs = np.linalg.norm(points[0][:, None] - points[1][None], axis=2)
    one, other = pairs.min(axis=1), pairs.min(axis=0)
    hd95 = max(np.percentile(one, 95), np.percentile(other, 95))
    return float(np.concatenate([one, other]).mean()), float(hd95)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_shifted_box_by_hand(tmp_path: Path, grid: Grid) -> None:
    # 10 x 6 x 4 voxels, shifted by 2 along x: 8 of 10 columns are common.
    here = boxes(((5, 5, 5), (14, 10, 8), 3))
    there = boxes(((7, 5, 5), (16, 10, 8), 3))
    table = measured(tmp_path, here, there, grid)
    assert list(table.index) == ["3", "all"]
    for _, row in table.iterrows():
        assert row["dice"] == pytest.approx(2 * 8 / 20)
        assert row["iou"] == pytest.approx(8 / 12)
        expected = brute(here > 0, there > 0, grid)
        assert (row["asd"], row["hd95"]) == pytest.approx(expected, abs=1e-5)
        # No surface is further off than the shift of 1 mm, and the shifted faces are as far.
        assert 0 < row["asd"] < row["hd95"] == pytest.approx(1.0)
        assert row["reason"] == ""


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_spheres_of_two_radii_are_their_difference_apart(tmp_path: Path, grid: Grid) -> None:
    grid = replace(grid, size=(60, 60, 60), spacing=np.array([0.25, 0.3, 0.4]))
    index = np.stack(np.indices(grid.size[::-1])[::-1], axis=-1).reshape(-1, 3)
    distance = np.linalg.norm(grid.to_physical(index.astype(float)) - grid.centre, axis=1)
    small, large = (
        (distance.reshape(grid.size[::-1]) <= radius).astype(np.uint8) for radius in (4.0, 6.0)
    )
    row = measured(tmp_path, small, large, grid).loc["all"]
    assert row["iou"] == pytest.approx((4 / 6) ** 3, rel=0.01)
    assert row["dice"] == pytest.approx(2 * 64 / (64 + 216), rel=0.01)
    assert row["asd"] == pytest.approx(2.0, abs=0.1)
    assert row["hd95"] == pytest.approx(2.0, abs=0.4)
    # A voxel of the shell is 1.3 off the small ball in the mean; others are none off.
    shell = (distance > 4.0) & (distance <= 6.0)
    off = (distance[shell] - 4.0).sum() / (distance <= 6.0).sum() / 2
    assert row["all_voxels"] * 0.31 == pytest.approx(off, rel=0.15)


def test_equal_masks_are_zero_apart_even_at_the_edge_of_the_volume(tmp_path: Path) -> None:
    full = boxes(((0, 0, 0), (39, 29, 19), 1))
    full[0, 0, 0] = 0
    row = measured(tmp_path, full, full, GRIDS["along"]).loc["all"]
    assert tuple(row[["dice", "iou", "asd", "hd95"]]) == (1.0, 1.0, 0.0, 0.0)
    # Two voxels thick and as wide as the volume: all of it is border.
    thin = boxes(((0, 0, 4), (39, 29, 5), 1))
    moved = boxes(((0, 0, 5), (39, 29, 6), 1))
    row = measured(tmp_path, thin, moved, GRIDS["along"]).loc["all"]
    assert (row["dice"], row["iou"]) == (0.5, pytest.approx(1 / 3))
    assert (row["asd"], row["hd95"]) == pytest.approx((0.75, 1.5))


def test_a_picture_has_its_surface_in_its_plane(tmp_path: Path) -> None:
    grid = Grid((50, 40, 1), np.ones(3), np.zeros(3), np.eye(3))
    small, large = np.zeros((40, 50), np.uint8), np.zeros((40, 50), np.uint8)
    small[10:21, 10:21] = 1
    large[5:26, 5:26] = 1
    write_volume(image_on(grid, small[np.newaxis]), tmp_path / "found.nii.gz")
    Image.fromarray(large).save(tmp_path / "reference.png")
    paths = (tmp_path / "found.nii.gz", tmp_path / "reference.png")
    row = overlap_table(scan_overlap("s", *paths, (), 1.0)).iloc[-1]
    assert row["dice"] == pytest.approx(2 * 121 / (121 + 441))
    # Were every pixel a border across the plane, the small square would be 0 away from the large.
    assert row["asd"] > 4.9
    assert row["hd95"] == pytest.approx(math.hypot(5, 5), abs=0.8)


def test_labels_are_measured_singly_and_together(tmp_path: Path) -> None:
    here = boxes(((2, 2, 2), (5, 5, 5), 1), ((10, 10, 10), (12, 12, 12), 2))
    there = boxes(((2, 2, 2), (5, 5, 5), 2), ((20, 10, 10), (22, 12, 12), 4))
    table = measured(tmp_path, here, there, GRIDS["along"])
    assert list(table.index) == ["1", "2", "4", "all"]
    assert table.loc[["1", "4"], "dice"].tolist() == [0.0, 0.0]
    assert table.loc[["1", "4"], ["asd", "hd95"]].isna().all(axis=None)
    assert table.loc["1", "reason"] == "only the found segmentation has it"
    assert table.loc["4", "reason"] == "only the reference has it"
    # Both are there, but nowhere in common.
    assert (table.loc["2", "dice"], table.loc["2", "reason"]) == (0.0, "")
    assert table.loc["2", "asd"] > 1
    assert table.loc["all", "iou"] == pytest.approx(64 / (64 + 27 + 27))
    only = measured(tmp_path, here, there, GRIDS["along"], labels=(2,))
    assert list(only.index) == ["2", "all"]
    assert only.loc["all", "dice"] == 0.0


def test_distances_are_in_the_unit_of_the_study(tmp_path: Path) -> None:
    here, there = boxes(((5, 5, 5), (9, 9, 9), 1)), boxes(((7, 5, 5), (11, 9, 9), 1))
    plain = measured(tmp_path, here, there, GRIDS["along"]).loc["all"]
    percent = measured(tmp_path, here, there, GRIDS["along"], factor=4.0).loc["all"]
    assert percent["dice"] == plain["dice"]
    assert percent["asd"] == pytest.approx(4 * plain["asd"])
    assert percent["hd95"] == pytest.approx(4 * plain["hd95"])


def test_what_cannot_be_compared_has_one_row_with_the_reason(tmp_path: Path) -> None:
    array = boxes(((5, 5, 5), (9, 9, 9), 1))
    measured(tmp_path, array, array, GRIDS["along"])
    found, reference = tmp_path / "found.nii.gz", tmp_path / "reference.nii.gz"
    (tmp_path / "empty.nii.gz").touch()
    for absent in (None, tmp_path / "none.nii.gz", tmp_path / "empty.nii.gz"):
        (row,) = scan_overlap("s", absent, reference, (), 1.0)
        assert (row[0], row[1], row[-1]) == ("s", "all", MISSING)
    (row,) = scan_overlap("s", found, reference, (7,), 1.0)
    assert row[-1] == "neither segmentation holds a label that is compared"
    write_volume(image_on(GRIDS["oblique"], array), reference)
    (row,) = scan_overlap("s", found, reference, (), 1.0)
    assert math.isnan(row[2])
    assert f"{reference}: has the direction" in row[-1]


def test_evaluate_writes_and_sums_up_the_overlap(tmp_path: Path) -> None:
    grid = GRIDS["oblique"]
    there = boxes(((5, 5, 5), (14, 10, 8), 1))
    scans = []
    for name, shift in (("s1", 0), ("s2", 2), ("s3", None), ("s4", None)):
        folder = tmp_path / name
        files = {
            "found": folder / "l.mrk.json",
            "record": folder / "l.json",
            "segmentation": folder / "found.nii.gz",
        }
        points = Landmarks(("a",), np.zeros((1, 3)))
        write_markups(files["found"], [PointList("final", points, None)])
        write_record(files["record"], Record(name, "place"))
        write_volume(image_on(grid, there), folder / "reference.nii.gz")
        if shift is not None:
            write_volume(image_on(grid, np.roll(there, shift, axis=2)), folder / "found.nii.gz")
        row = {"segmentation": str(folder / "reference.nii.gz")}
        scans.append(Task(name, files, {}, row))
    scans[3] = replace(scans[3], row={"segmentation": ""})
    evaluate(scans=scans, folder=tmp_path / "out", settings=EvaluateSettings(), seed=0)
    table = pd.read_csv(tmp_path / "out/evaluation/overlap.csv", keep_default_na=False)
    figures = ["dice", "iou", "asd", "hd95", "all_voxels"]
    assert list(table) == ["scan", "label", *figures, "reason"]
    assert table["scan"].tolist() == ["s1", "s1", "s2", "s2", "s3"]
    assert table["dice"].tolist() == ["1.0000", "1.0000", "0.8000", "0.8000", ""]
    assert table["reason"].tolist() == ["", "", "", "", MISSING]
    summary = json.loads((tmp_path / "out/evaluation/summary.json").read_text(encoding="utf-8"))
    assert list(summary["overlap"]) == ["all", "1"]
    assert (summary["overlap"]["all"]["n"], summary["overlap"]["all"]["missing"]) == (2, 1)
    assert summary["overlap"]["1"]["missing"] == 0
    assert summary["overlap"]["all"]["dice"] == {"mean": 0.9, "sd": 0.1}
    evaluate(scans=scans[3:], folder=tmp_path / "none", settings=EvaluateSettings(), seed=0)
    assert not (tmp_path / "none/evaluation/overlap.csv").exists()


def test_distance_maps_know_no_direction() -> None:
    # What the surface distances rely on: spacing alone, and 0 on the border itself.
    array = np.zeros((5, 5, 5), np.uint8)
    array[2, 2, 2] = 1
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 0.8, 1.5))
    distances = sitk.GetArrayFromImage(
        sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    )
    assert distances[2, 2, 2] == 0
    assert distances[3, 2, 4] == pytest.approx(math.hypot(1.5, 1.0))
