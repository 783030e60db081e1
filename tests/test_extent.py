import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from landmarkflow.core.grids import Grid
from landmarkflow.images.extent import Extent
from landmarkflow.images.operations import grid_of, image_on, mirrored
from landmarkflow.images.sampling import carried, map_points

Points = NDArray[np.float64]

OBLIQUE = Rotation.from_euler("xyz", [20, -35, 60], degrees=True).as_matrix()
GRIDS = {
    name: Grid((12, 9, 7), np.array([0.4, 0.7, 1.1]), np.array([3.0, -8.0, 60.0]), direction)
    for name, direction in {
        "upright": np.eye(3),
        "oblique": OBLIQUE,
        "left-handed": np.diag([-1.0, 1.0, 1.0])[[1, 0, 2]],
        "oblique left-handed": OBLIQUE @ np.diag([1.0, -1.0, 1.0]),
    }.items()
}
# How finely the faces are covered for a search by brute force, mm.
STEP_MM = 0.1


@pytest.fixture(params=GRIDS)
def grid(request: pytest.FixtureRequest) -> Grid:
    return GRIDS[request.param]


def around(grid: Grid, count: int = 300) -> Points:
    """Points in a grid's volume and up to half its size beyond, LPS mm."""
    unit = np.random.default_rng(0).uniform(-0.5, 1.5, (count, 3))
    return grid.to_physical(unit * np.array(grid.size) - 0.5)


def faces(grid: Grid) -> Points:
    """Points all over the outer edges of a grid's voxels, LPS mm."""
    steps = (np.array(grid.size) * grid.spacing / STEP_MM).astype(int)
    axes = [np.linspace(-0.5, grid.size[k] - 0.5, steps[k]) for k in range(3)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    ends = [(lattice[:, k] == axes[k][0]) | (lattice[:, k] == axes[k][-1]) for k in range(3)]
    return grid.to_physical(lattice[np.any(ends, axis=0)])


def image_of(grid: Grid) -> sitk.Image:
    return image_on(grid, np.zeros(grid.size[::-1], dtype=np.float32))


def test_depth_is_the_distance_to_the_nearest_face(grid: Grid) -> None:
    points, border = around(grid), faces(grid)
    depth = Extent(grid).depth(points)
    inside = grid.contains(points)
    np.testing.assert_array_equal(depth > 0, inside)
    nearest = np.linalg.norm(points[:, None] - border, axis=2).min(axis=1)
    assert inside.sum() > 30
    np.testing.assert_allclose(depth[inside], nearest[inside], atol=STEP_MM / 2)
    # Beyond an edge or a corner, it is the distance to the farthest of the planes passed.
    outside = ~inside
    assert (-depth[outside] <= nearest[outside] + 1e-9).all()
    assert (-depth[outside] >= nearest[outside] / np.sqrt(3) - STEP_MM).all()


def test_depth_beyond_one_face_is_the_distance_to_the_volume(grid: Grid) -> None:
    points = around(grid)
    index = grid.to_index(points)
    passed = (index < -0.5) | (index > np.array(grid.size) - 0.5)
    beside = passed.sum(axis=1) == 1
    assert beside.sum() > 30
    expected = -grid.distance_to(points)[beside]
    np.testing.assert_allclose(Extent(grid).depth(points)[beside], expected, atol=1e-9)


def test_the_middle_is_half_the_shortest_side_deep(grid: Grid) -> None:
    assert Extent(grid).depth(grid.centre[None])[0] == pytest.approx(12 * 0.4 / 2)


@pytest.mark.parametrize("margin_mm", [0.0, 0.8, -0.8])
def test_a_scan_holds_what_lies_deep_enough(grid: Grid, margin_mm: float) -> None:
    points, extent = around(grid), Extent(grid)
    held = extent.holds(points, margin_mm)
    np.testing.assert_array_equal(held, extent.depth(points) >= margin_mm)
    assert 0 < held.sum() < len(points)
    if margin_mm == 0:
        np.testing.assert_array_equal(held, grid.contains(points))


def test_a_scan_covers_a_crop_whose_every_voxel_it_holds(grid: Grid) -> None:
    extent = Extent(grid)
    assert extent.covers(image_of(grid), margin_mm=-1e-6)
    assert not extent.covers(image_of(grid), margin_mm=0.1)
    verdicts = set()
    for shift in np.random.default_rng(1).uniform(-2, 2, (40, 3)):
        crop = Grid.centred(grid.centre + shift, (5, 4, 3), 0.5)
        # The voxels' outer edges, and not their centres alone.
        index = np.argwhere(np.ones([2 * n + 1 for n in crop.size])) / 2 - 0.5
        expected = bool(extent.holds(crop.to_physical(index), 0.0).all())
        assert extent.covers(image_of(crop)) == expected
        verdicts.add(expected)
    assert verdicts == {True, False}


def test_a_mirrored_scan_is_as_deep_at_the_mirrored_points(grid: Grid) -> None:
    points, extent = around(grid), Extent(grid)
    found = extent.mirrored().depth(points * [-1.0, 1.0, 1.0])
    np.testing.assert_allclose(found, extent.depth(points), atol=1e-9)
    image = grid_of(mirrored(image_of(grid)))
    np.testing.assert_allclose(extent.mirrored().grid.corners, image.corners, atol=1e-9)


@pytest.mark.parametrize("hand", [1.0, -1.0])
def test_a_carried_scan_is_as_deep_where_the_points_came_from(grid: Grid, hand: float) -> None:
    rigid = sitk.AffineTransform(3)
    turn = Rotation.from_euler("xyz", [-50, 15, 110], degrees=True).as_matrix()
    rigid.SetMatrix((np.diag([hand, 1.0, 1.0]) @ turn).ravel().tolist())
    rigid.SetTranslation((4.0, -30.0, 12.0))
    points = around(grid)
    before = map_points(rigid.GetInverse(), points)
    moved = Extent(grid).carried(rigid)
    np.testing.assert_allclose(moved.depth(before), Extent(grid).depth(points), atol=1e-9)
    image = grid_of(carried(image_of(grid), rigid))
    np.testing.assert_allclose(moved.grid.corners, image.corners, atol=1e-9)
