from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import sampled
from scipy.spatial.transform import Rotation
from stage_runs import Outcome, assert_refused, path_of, run_stage

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import TEMPLATE
from landmarkflow.data.stages import TARGET
from landmarkflow.data.target import derive_segmentation
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.written import read_written, write_volume
from landmarkflow.images.operations import array_of, grid_of

Points = NDArray[np.float64]

GRID = Grid(
    (40, 34, 26),
    np.array([0.5, 0.6, 0.8]),
    np.array([-30.0, 20.0, 5.0]),
    Rotation.from_euler("xyz", [15, -25, 40], degrees=True).as_matrix(),
)
MIDDLE = GRID.centre
REACH = 5.0
OCTAHEDRON = Landmarks(tuple("abcdef"), MIDDLE + REACH * np.concatenate([np.eye(3), -np.eye(3)]))


def ball(points: Points, radius: float = 6.0) -> NDArray[np.bool_]:
    return np.asarray(np.linalg.norm(points - MIDDLE, axis=1) < radius)


def scan(bright: Callable[[Points], NDArray[np.bool_]] = ball) -> sitk.Image:
    return sampled(GRID, lambda p: np.where(bright(p), 1000.0, 0.0))


def octahedron(points: Points, reach: float) -> NDArray[np.bool_]:
    return np.asarray(np.abs(points - MIDDLE).sum(axis=1) < reach)


@pytest.mark.parametrize("margin", [0.0, 1.5])
def test_bright_voxels_in_the_grown_hull_are_marked(margin: float) -> None:
    found = derive_segmentation(scan(), OCTAHEDRON, 500.0, margin)
    expected = sampled(GRID, lambda p: (ball(p) & octahedron(p, REACH + margin)).astype(np.uint8))
    assert array_of(found).sum() > 500
    np.testing.assert_array_equal(array_of(found), array_of(expected))
    assert found.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_allclose(grid_of(found).direction, GRID.direction)
    np.testing.assert_allclose(grid_of(found).origin, GRID.origin)


def test_islands_beside_the_largest_component_are_left_out() -> None:
    def bright(p: Points) -> NDArray[np.bool_]:
        return ball(p, 2.0) | (np.abs(np.linalg.norm(p - MIDDLE, axis=1) - 4.0) < 0.6)

    found = array_of(derive_segmentation(scan(bright), OCTAHEDRON, 500.0, 3.0)) > 0
    shell = array_of(sampled(GRID, lambda p: bright(p) & ~ball(p, 2.0))) > 0
    assert found.any()
    assert not (found & ~shell).any()


def test_missing_landmarks_do_not_matter() -> None:
    positions = np.vstack([OCTAHEDRON.positions, np.full(3, np.nan)])
    found = derive_segmentation(scan(), Landmarks(tuple("abcdefg"), positions), 500.0, 0.0)
    np.testing.assert_array_equal(
        array_of(found), array_of(derive_segmentation(scan(), OCTAHEDRON, 500.0, 0.0))
    )


@pytest.mark.parametrize("rows", [[], [0, 1, 2], [0, 1, 3, 4]], ids=["none", "three", "in a plane"])
def test_landmarks_without_a_volume_are_refused(rows: list[int]) -> None:
    few = OCTAHEDRON.select([OCTAHEDRON.labels[row] for row in rows])
    with pytest.raises(InputError, match=f"the template's {len(rows)} landmarks enclose no volume"):
        derive_segmentation(scan(), few, 500.0, 1.5)


@pytest.mark.parametrize(
    "bright",
    [lambda p: p[:, 0] > 1e6, lambda p: ~ball(p, 9.0)],
    ids=["nothing bright", "bright elsewhere"],
)
def test_no_bright_voxel_among_the_landmarks_is_refused(
    bright: Callable[[Points], NDArray[np.bool_]],
) -> None:
    with pytest.raises(InputError, match=r"no voxel above 500 .* `target\.above`"):
        derive_segmentation(scan(bright), OCTAHEDRON, 500.0, 0.5)


# The stage


def prepare(
    folder: Path, segmentation: Path | str = "", above: float = 500, points: Landmarks = OCTAHEDRON
) -> Outcome:
    row = {"image": folder / "scan.nrrd", "landmarks": folder / "points.mrk.json", "frame": ""}
    write_volume(scan(), row["image"])
    write_markups(row["landmarks"], [PointList("reference", points, None)])
    settings = {"target": {"above": above, "margin_mm": 1.5}, "labels": [3]}
    sheet = {TEMPLATE: {**row, "segmentation": segmentation}}
    return run_stage(TARGET, folder, [TEMPLATE], settings=settings, sheet=sheet)


def target(folder: Path) -> NDArray[np.uint8]:
    return array_of(read_written(path_of(folder, TARGET, "target", TEMPLATE)))


def test_a_template_without_a_segmentation_gets_one(tmp_path: Path) -> None:
    assert prepare(tmp_path).status == 0
    expected = derive_segmentation(scan(), OCTAHEDRON, 500.0, 1.5)
    np.testing.assert_array_equal(target(tmp_path), array_of(expected))


def test_a_given_segmentation_keeps_all_its_labels(tmp_path: Path) -> None:
    given = sampled(GRID, lambda p: (3 * ball(p, 4.0) + 2 * ball(p, 2.0)).astype(np.uint8))
    write_volume(given, tmp_path / "s.nii.gz")
    assert prepare(tmp_path, tmp_path / "s.nii.gz").status == 0
    np.testing.assert_array_equal(target(tmp_path), array_of(given))


def test_a_target_that_cannot_be_had_is_refused(tmp_path: Path) -> None:
    assert_refused(prepare(tmp_path, above=5000), "no voxel above 5000")
    flat = OCTAHEDRON.select(["a", "b", "c"])
    assert_refused(prepare(tmp_path, points=flat), "no volume")
    write_volume(sampled(GRID, lambda p: ball(p).astype(np.uint8)), tmp_path / "s.nrrd")
    said = f"{tmp_path}/s.nrrd: no voxel has one of the labels 3; the values found are 0, 1"
    assert_refused(prepare(tmp_path, tmp_path / "s.nrrd"), said)
    assert not path_of(tmp_path, TARGET, "target", TEMPLATE).exists()
