import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from landmarkflow.core.grids import Grid
from landmarkflow.images.bsplines import Lattice, Raster, Spline
from landmarkflow.images.masks import points_inside
from landmarkflow.images.operations import image_on

Points = NDArray[np.float64]

CORNERS = np.array([[-7.3, 11.0, 40.2], [4.1, 20.5, 52.9]])
LATTICE = Lattice.over(CORNERS, 2.5)
# Its axes stand askew to the lattice's.
MASK_GRID = Grid(
    (24, 20, 16),
    np.array([0.4, 0.5, 0.6]),
    np.array([-5.5, 11.5, 41.5]),
    Rotation.from_euler("xyz", [5, -8, 10], degrees=True).as_matrix(),
)


@pytest.fixture
def mask() -> sitk.Image:
    inside = np.zeros(MASK_GRID.size[::-1], dtype=np.uint8)
    inside[2:14, 3:17, 4:20] = 1
    return image_on(MASK_GRID, inside)


@pytest.fixture
def raster(mask: sitk.Image) -> Raster:
    return Raster.inside(mask, 500, np.array([0.2, 0.5, 0.9]))


@pytest.fixture
def points(raster: Raster) -> Points:
    return raster.points


@pytest.fixture
def coefficients() -> Points:
    return np.random.default_rng(1).normal(size=(3, LATTICE.count))


def displacements(lattice: Lattice, raster: Raster, coefficients: Points) -> Points:
    return Spline.on(raster, lattice).displacements(coefficients).T


def control_points(lattice: Lattice) -> Points:
    z, y, x = np.indices(lattice.size[::-1]).reshape(3, -1)
    return lattice.start + lattice.spacing * (np.stack([x, y, z], axis=1) - 1)


def test_displacements_depend_on_the_control_points_that_are_seen_alone(
    raster: Raster, coefficients: Points
) -> None:
    spline = Spline.on(raster, LATTICE)
    unseen = np.setdiff1d(np.arange(LATTICE.count), spline.seen)
    assert len(spline.seen) > 20
    assert len(unseen) > 20
    moved = coefficients.copy()
    moved[:, unseen] += 1
    before = spline.displacements(coefficients)
    np.testing.assert_array_equal(spline.displacements(moved), before)
    for number in spline.seen[::7]:
        moved = coefficients.copy()
        moved[:, number] += 1000
        assert (spline.displacements(moved) != before).any()


def test_the_cells_cover_the_points_and_one_cell_around() -> None:
    end = LATTICE.start + LATTICE.spacing * (np.array(LATTICE.size) - 3)
    assert (LATTICE.start <= CORNERS[0] - LATTICE.spacing + 1e-9).all()
    assert (end >= CORNERS[1] + LATTICE.spacing - 1e-9).all()


@pytest.mark.parametrize("count", [200, 700, 10**6])
def test_a_raster_spreads_its_points_evenly_over_the_mask(mask: sitk.Image, count: int) -> None:
    points = Raster.inside(mask, count, np.array([0.2, 0.5, 0.9])).points
    expected = min(count, len(points_inside(mask)))
    assert len(points) == pytest.approx(expected, rel=0.15)
    index = np.rint(MASK_GRID.to_index(points)).astype(int)
    assert (index >= [4, 3, 2]).all()
    assert (index < [20, 17, 14]).all()
    middle = points_inside(mask).mean(axis=0)
    np.testing.assert_allclose(points.mean(axis=0), middle, atol=0.25)


def test_the_phase_moves_a_raster_by_a_part_of_its_step(mask: sitk.Image) -> None:
    one, other = (
        Raster.inside(mask, 700, np.array(phase)) for phase in ([0.0, 0.0, 0.0], [0.5, 0.0, 0.25])
    )
    step = np.diff(one.axes[0])[0]
    moved = [b[0] - a[0] for a, b in zip(one.axes, other.axes, strict=True)]
    np.testing.assert_allclose(moved, [step / 2, 0, step / 4])


def test_displacements_are_what_itk_says(
    raster: Raster, points: Points, coefficients: Points
) -> None:
    transform = LATTICE.transform(coefficients)
    expected = np.array([transform.TransformPoint(p) for p in points.tolist()]) - points
    np.testing.assert_allclose(displacements(LATTICE, raster, coefficients), expected, atol=2e-6)
    assert np.abs(expected).max() > 0.3


def test_collecting_is_the_transpose_of_displacing(raster: Raster, coefficients: Points) -> None:
    spline = Spline.on(raster, LATTICE)
    gradients = np.random.default_rng(2).normal(size=(3, len(raster.chosen))).astype(np.float32)
    there = (gradients * spline.displacements(coefficients)).sum()
    back = (spline.collected(gradients) * coefficients).sum()
    assert back == pytest.approx(float(there), rel=1e-4)


def test_a_linear_field_is_reproduced_and_does_not_bend(raster: Raster, points: Points) -> None:
    matrix = np.array([[0.1, -0.2, 0.0], [0.3, 0.05, 0.1], [0.0, 0.2, -0.1]])
    linear = control_points(LATTICE) @ matrix
    found = displacements(LATTICE, raster, linear.T)
    np.testing.assert_allclose(found, points @ matrix, atol=1e-5)
    np.testing.assert_allclose(LATTICE.bending() @ linear, 0, atol=1e-12)


def test_bending_of_a_parabola_is_its_second_derivative() -> None:
    x, y, z = control_points(LATTICE).T
    parabola = np.stack([0.5 * x**2, x * y, np.zeros_like(z)], axis=1)
    value = np.trace(parabola.T @ (LATTICE.bending() @ parabola))
    nx, ny, nz = LATTICE.size
    # ∂²u/∂x² = 1 once and ∂²v/∂x∂y = 1 twice, wherever a difference can be taken.
    expected = ((nx - 2) * ny * nz + 2 * (nx - 1) * (ny - 1) * nz) / LATTICE.count
    assert value == pytest.approx(expected)


def test_bending_is_symmetric_and_never_negative(coefficients: Points) -> None:
    bending = LATTICE.bending()
    assert abs((bending - bending.T).toarray()).max() < 1e-15
    assert (coefficients * (bending @ coefficients.T).T).sum() > 0


@pytest.mark.parametrize("finer", [Lattice.over(CORNERS, 1.25), Lattice.over(CORNERS, 0.9)])
def test_a_refined_lattice_bends_space_the_same_way(raster: Raster, finer: Lattice) -> None:
    smooth = np.sin(control_points(LATTICE) / 4).T
    expected = displacements(LATTICE, raster, smooth)
    found = displacements(finer, raster, LATTICE.refined(smooth, finer))
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert np.ptp(expected) > 1


def test_the_same_lattice_is_refined_to_the_same_coefficients(raster: Raster) -> None:
    smooth = np.sin(control_points(LATTICE) / 4).T
    found = displacements(LATTICE, raster, LATTICE.refined(smooth, LATTICE))
    np.testing.assert_allclose(found, displacements(LATTICE, raster, smooth), atol=0.02)
