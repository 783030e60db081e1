import numpy as np
import pytest
from numpy.typing import NDArray

from landmarkflow.bsplines import Lattice

Points = NDArray[np.float64]

CORNERS = np.array([[-7.3, 11.0, 40.2], [4.1, 20.5, 52.9]])
LATTICE = Lattice.over(CORNERS, 2.5)


@pytest.fixture
def points() -> Points:
    return np.random.default_rng(0).uniform(*CORNERS, (200, 3))


@pytest.fixture
def coefficients() -> Points:
    return np.random.default_rng(1).normal(size=(LATTICE.count, 3))


def control_points(lattice: Lattice) -> Points:
    z, y, x = np.indices(lattice.size[::-1]).reshape(3, -1)
    return lattice.start + lattice.spacing * (np.stack([x, y, z], axis=1) - 1)


def test_the_cells_cover_the_points_and_one_cell_around() -> None:
    end = LATTICE.start + LATTICE.spacing * (np.array(LATTICE.size) - 3)
    assert (LATTICE.start <= CORNERS[0] - LATTICE.spacing + 1e-9).all()
    assert (end >= CORNERS[1] + LATTICE.spacing - 1e-9).all()


def test_weights_say_what_itk_says(points: Points, coefficients: Points) -> None:
    transform = LATTICE.transform(coefficients)
    expected = np.array([transform.TransformPoint(p) for p in points.tolist()])
    np.testing.assert_allclose(points + LATTICE.weights(points) @ coefficients, expected, atol=2e-6)
    assert np.abs(expected - points).max() > 0.3


def test_a_linear_field_is_reproduced_and_does_not_bend(points: Points) -> None:
    matrix = np.array([[0.1, -0.2, 0.0], [0.3, 0.05, 0.1], [0.0, 0.2, -0.1]])
    linear = control_points(LATTICE) @ matrix
    np.testing.assert_allclose(LATTICE.weights(points) @ linear, points @ matrix, atol=1e-5)
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
    assert abs(bending - bending.T).max() < 1e-15
    assert (coefficients * (bending @ coefficients)).sum() > 0


@pytest.mark.parametrize("finer", [Lattice.over(CORNERS, 1.25), Lattice.over(CORNERS, 0.9)])
def test_a_refined_lattice_bends_space_the_same_way(points: Points, finer: Lattice) -> None:
    smooth = np.sin(control_points(LATTICE) / 4)
    expected = LATTICE.weights(points) @ smooth
    found = finer.weights(points) @ LATTICE.refined(smooth, finer)
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert np.ptp(expected) > 1


def test_the_same_lattice_is_refined_to_the_same_coefficients(points: Points) -> None:
    smooth = np.sin(control_points(LATTICE) / 4)
    found = LATTICE.weights(points) @ LATTICE.refined(smooth, LATTICE)
    np.testing.assert_allclose(found, LATTICE.weights(points) @ smooth, atol=0.02)
