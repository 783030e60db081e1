import numpy as np
import pytest
import SimpleITK as sitk
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import array_of, grid_of, image_on, shrunk
from landmarkflow.methods.oneshot.normalise import (
    Range,
    greys_of,
    histogram_of,
    normalise,
    normalised_blocks,
    percentile_range,
)
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


# Scans in other units than the template

STATED = Range(-1024, 3000)
TISSUES = ((-1000, 40, 0.3), (40, 60, 0.4), (700, 250, 0.2), (1900, 120, 0.1))


def tissues(seed: int, *, air: float = 0.3) -> np.ndarray:
    """Grey values of a scan in HU, (40, 40, 40): air, soft tissue, bone and dense bone."""
    random = np.random.default_rng(seed)
    shares = np.array([air, *(share for _, _, share in TISSUES[1:])])
    kinds = random.choice(len(TISSUES), size=(40, 40, 40), p=shares / shares.sum())
    means, deviations = (np.array([t[n] for t in TISSUES])[kinds] for n in (0, 1))
    return np.clip(random.normal(means, deviations), -1024, 3071)


def image_of(values: np.ndarray) -> sitk.Image:
    return image_on(Grid.centred((0, 0, 0), values.shape[::-1], 1.0), values)


def test_a_scan_in_the_templates_units_keeps_the_stated_range() -> None:
    template = histogram_of(image_of(tissues(1)), STATED)
    for air in (0.3, 0.1, 0.6):
        found = greys_of(image_of(tissues(2, air=air)), STATED, template, "auto")
        assert (found.method, found.range) == ("hu", STATED)


@pytest.mark.parametrize(
    ("gain", "offset"), [(0.6, 300.0), (255 / 4024, 65.0), (7.5, -4000.0), (-1.0, 2000.0)], ids=str
)
def test_other_units_are_laid_on_the_templates_histogram(gain: float, offset: float) -> None:
    template = histogram_of(image_of(tissues(1)), STATED)
    found = greys_of(image_of(gain * tissues(2, air=0.4) + offset), STATED, template, "auto")
    assert found.method == "histogram"
    # Dense bone and air come to lie where they do in the template, within a noisy tissue's width.
    for hu in (-1000, 1900):
        normal = (gain * hu + offset - found.range.low) / (found.range.high - found.range.low)
        assert normal == pytest.approx((hu + 1024) / 4024, abs=0.03)


def test_a_scan_of_another_kind_is_not_bent_to_the_template() -> None:
    template = histogram_of(image_of(tissues(1)), STATED)
    alone = np.random.default_rng(3).normal(40, 30, (40, 40, 40))
    found = greys_of(image_of(alone), STATED, template, "auto")
    assert (found.method, found.range) == ("hu", STATED)


def test_percentiles_are_the_scans_own_and_one_grey_value_is_no_error() -> None:
    values = np.arange(1000.0).reshape(10, 10, 10)
    found = percentile_range(image_of(values))
    assert (found.low, found.high) == (pytest.approx(9.99), pytest.approx(997.0, abs=0.1))
    even = image_of(np.full((10, 10, 10), 7.0))
    assert percentile_range(even) == Range(7.0, 8.0)
    assert not array_of(normalise(even, percentile_range(even))).any()


@pytest.mark.parametrize("spacing", [0.3, 1.0, 2.2])
def test_blocks_of_a_scan_are_those_of_the_normalised_scan(spacing: float) -> None:
    values = np.random.default_rng(1).integers(-3000, 5000, (9, 11, 13)).astype(np.int16)
    spacings, turn = np.array([0.5, 0.7, 1.0]), Rotation.from_euler("xyz", [0.3, 0.2, 0.1])
    grid = Grid((13, 11, 9), spacings, np.array([3.0, -2.0, 7.0]), turn.as_matrix())
    volume = image_on(grid, values)
    expected = shrunk(normalise(volume, NormaliseSettings()), spacing)
    found = normalised_blocks(volume, NormaliseSettings(), spacing)
    assert found.GetSize() == expected.GetSize()
    np.testing.assert_allclose(array_of(found), array_of(expected), atol=1e-6)
    np.testing.assert_allclose(grid_of(found).corners, grid_of(expected).corners, atol=1e-9)
