"""Radii from errors on scans held back: one quantile for all landmarks, or one for each."""

import numpy as np
import pytest
from numpy.typing import NDArray

from landmarkflow.learning.radii import ALONE, Radii


def errors_of(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Errors of two landmarks, the second far off in one scan of seven."""
    errors = np.abs(random.normal(0, 1, (count, 2)))
    errors[random.random(count) < 1 / 7, 1] *= 10
    return errors


def held(count: int) -> NDArray[np.float64]:
    """The share of further errors of each landmark within radii from `count` scans."""
    random = np.random.default_rng(3)
    shares = []
    for _ in range(150):
        errors = errors_of(random, count)
        widths = np.ones((count, 2))
        radii = Radii.of(errors, widths, teacher=np.zeros(2), coverage=0.9, by_spread=False)
        assert Radii.of_data(radii.as_data()).as_data() == radii.as_data()
        shares.append((errors_of(random, 400) <= radii.of_scan(np.ones(2))).mean(axis=0))
    return np.asarray(np.mean(shares, axis=0))


def test_with_enough_scans_each_landmark_s_radius_holds_its_own_share() -> None:
    assert held(60) == pytest.approx([0.9, 0.9], abs=0.02)


def test_with_few_scans_the_landmarks_share_a_quantile() -> None:
    one, other = held(ALONE // 2)
    assert (one + other) / 2 == pytest.approx(0.9, abs=0.02)
    assert one > 0.92
    assert other < 0.89


def test_too_few_scans_give_no_radius() -> None:
    random = np.random.default_rng(1)
    radii = Radii.of(
        errors_of(random, 3), np.ones((3, 2)), teacher=np.zeros(2), coverage=0.9, by_spread=False
    )
    assert np.isnan(radii.of_scan(np.ones(2))).all()
