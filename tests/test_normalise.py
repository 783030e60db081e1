import numpy as np
import pytest
import SimpleITK as sitk
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import array_of, grid_of, image_on
from landmarkflow.methods.oneshot.normalise import normalise
from landmarkflow.methods.oneshot.settings import NormaliseSettings

GRID = Grid(
    (5, 2, 2),
    np.array([0.5, 0.6, 0.8]),
    np.array([-30.0, 20.0, 5.0]),
    Rotation.from_euler("x", 30, degrees=True).as_matrix(),
)
HOUNSFIELD = np.array([-1024, 3000, 988, -18, 1994])
EXPECTED = np.array([0.0, 1.0, 0.5, 0.25, 0.75])


def scan(values: np.ndarray, pixel_type: type) -> sitk.Image:
    return image_on(GRID, np.broadcast_to(values, GRID.size[::-1]).astype(pixel_type))


@pytest.mark.parametrize("pixel_type", [np.int16, np.int32, np.float32, np.float64])
def test_hounsfield_units_become_the_fractions_of_equation_8(pixel_type: type) -> None:
    image = scan(HOUNSFIELD, pixel_type)
    found = normalise(image, NormaliseSettings())
    assert found.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_allclose(array_of(found)[1, 1], EXPECTED, atol=1e-6)
    for name in ("size", "spacing", "origin", "direction"):
        np.testing.assert_array_equal(getattr(grid_of(found), name), getattr(GRID, name))
    np.testing.assert_array_equal(array_of(image)[0, 0], HOUNSFIELD)


def test_intensities_beyond_the_ends_are_clipped_and_no_type_overflows() -> None:
    values = np.array([-32768, -3024, 3001, 31744, 32767])
    found = array_of(normalise(scan(values, np.int16), NormaliseSettings()))
    np.testing.assert_array_equal(found[0, 0], [0, 0, 1, 1, 1])
    bright = array_of(
        normalise(
            scan(np.array([0, 51, 102, 204, 255]), np.uint8), NormaliseSettings(low=51, high=255)
        )
    )
    np.testing.assert_allclose(bright[0, 0], [0, 0, 0.25, 0.75, 1], atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(100, 100), (3000, -1024), (0, float("inf"))])
def test_ends_out_of_order_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValidationError):
        NormaliseSettings(low=low, high=high)
