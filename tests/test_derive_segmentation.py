from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from phantoms import sampled
from scipy.spatial.transform import Rotation

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.data.segmentation import derive_segmentation
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
    with pytest.raises(InputError, match=r"no voxel above 500 .* `derive_segmentation\.above`"):
        derive_segmentation(scan(bright), OCTAHEDRON, 500.0, 0.5)
