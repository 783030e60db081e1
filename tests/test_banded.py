"""Products with banded matrices are those with the whole ones; Gaussians are those of scipy."""

import numpy as np
import pytest
from scipy import ndimage

from landmarkflow.images.banded import Banded
from landmarkflow.images.sampling import under_gaussian

RANDOM = np.random.default_rng(5)


def matrix() -> np.ndarray:
    """(50, 23), not zero near its diagonal alone; rows 15 to 39 are zero."""
    rows, columns = np.indices((50, 23))
    whole = RANDOM.normal(size=(50, 23)) * (np.abs(columns - rows * 23 / 50) < 3)
    whole[15:40] = 0
    return whole.astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_product_along_an_axis_is_that_with_the_whole_matrix(axis: int) -> None:
    whole = matrix()
    shape = [4, 5, 6]
    shape[axis] = 23
    values = RANDOM.normal(size=shape).astype(np.float32)
    expected = np.moveaxis(np.tensordot(whole, values, (1, axis)), 0, axis)
    found = Banded.of(whole).along(values, axis)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_product_back_is_that_with_the_transposed_matrix(axis: int) -> None:
    whole = matrix()
    shape = [4, 5, 6]
    shape[axis] = 50
    values = RANDOM.normal(size=shape).astype(np.float32)
    expected = np.moveaxis(np.tensordot(whole.T, values, (1, axis)), 0, axis)
    np.testing.assert_allclose(Banded.of(whole).back(values, axis), expected, atol=1e-5)


@pytest.mark.parametrize("sigma", [(0.0, 0.7, 2.1), (3.0, 0.1, 1.0), (8.0, 8.0, 8.0)])
def test_a_gaussian_is_that_of_scipy(sigma: tuple[float, float, float]) -> None:
    values = RANDOM.normal(size=(9, 40, 33)).astype(np.float32)
    expected = ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=3.0)
    np.testing.assert_allclose(under_gaussian(values, sigma), expected, atol=1e-6)
    turned = values.transpose(2, 0, 1)
    expected = ndimage.gaussian_filter(turned, sigma, mode="nearest", truncate=3.0)
    np.testing.assert_allclose(under_gaussian(turned, sigma), expected, atol=1e-6)
