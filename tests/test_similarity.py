import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import image_on
from landmarkflow.images.similarity import Interpolator, correlation, normalised

Points = NDArray[np.float64]

DIRECTIONS = {
    "upright": np.eye(3),
    "oblique": Rotation.from_euler("xyz", [20, -35, 60], degrees=True).as_matrix(),
    "left-handed": np.diag([-1.0, 1.0, 1.0])[[1, 0, 2]],
}


@pytest.fixture(params=DIRECTIONS)
def image(request: pytest.FixtureRequest) -> sitk.Image:
    grid = Grid(
        (12, 9, 7),
        np.array([0.4, 0.7, 1.1]),
        np.array([3.0, -8.0, 60.0]),
        DIRECTIONS[request.param],
    )
    return image_on(grid, np.random.default_rng(0).normal(size=grid.size[::-1]).astype(np.float32))


def points_in(image: sitk.Image) -> Points:
    unit = np.random.default_rng(1).uniform(0.01, 0.99, (200, 3))
    index = unit * (np.array(image.GetSize()) - 1)
    return np.array([image.TransformContinuousIndexToPhysicalPoint(i) for i in index.tolist()])


def test_values_are_those_of_linear_interpolation(image: sitk.Image) -> None:
    points = points_in(image)
    expected = [image.EvaluateAtPhysicalPoint(p, sitk.sitkLinear) for p in points.tolist()]
    np.testing.assert_allclose(Interpolator.of(image).sample(points)[0], expected, atol=1e-5)


def test_gradients_are_the_values_slopes(image: sitk.Image) -> None:
    points = points_in(image)
    interpolator = Interpolator.of(image)
    step = 1e-3
    slopes = np.stack(
        [
            (interpolator.sample(points + step * e)[0] - interpolator.sample(points - step * e)[0])
            / (2 * step)
            for e in np.eye(3)
        ],
        axis=1,
    )
    # Where a step crosses into the next voxel, the slope has a corner.
    off = np.abs(interpolator.sample(points)[1] - slopes).max(axis=1)
    assert np.quantile(off, 0.97) < 1e-2


def test_the_outermost_voxels_count_and_beyond_there_is_nothing(image: sitk.Image) -> None:
    size = np.array(image.GetSize())
    corner = [image.TransformIndexToPhysicalPoint((size - 1).tolist())]
    beyond = [image.TransformContinuousIndexToPhysicalPoint((size - 0.9).tolist())]
    values, gradients = Interpolator.of(image).sample(np.array(corner + beyond))
    assert values[0] == pytest.approx(image[tuple((size - 1).tolist())], abs=1e-4)
    assert values[1] == 0
    assert not gradients[1].any()


def test_a_single_slice_cannot_be_interpolated() -> None:
    with pytest.raises(ValueError, match="nothing to interpolate"):
        Interpolator.of(sitk.Image(5, 5, 1, sitk.sitkFloat32))


def test_correlation_and_its_derivative_are_exact() -> None:
    random = np.random.default_rng(2)
    fixed, moving, step = random.normal(size=(3, 50))
    value, derivative = correlation(normalised(fixed), moving)
    assert value == pytest.approx(np.corrcoef(fixed, moving)[0, 1])
    there = correlation(normalised(fixed), moving + 1e-6 * step)[0]
    assert derivative @ step == pytest.approx((there - value) / 1e-6, rel=1e-4)


def test_values_that_are_all_alike_correlate_with_nothing() -> None:
    value, derivative = correlation(normalised(np.arange(5.0)), np.full(5, 3.0))
    assert value == 0
    assert np.isfinite(derivative).all()
    np.testing.assert_array_equal(normalised(np.full(5, 3.0)), np.zeros(5))
