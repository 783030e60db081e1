"""Heat maps: targets at continuous positions, places below the voxel, losses that mask."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from landmarkflow.learning.conformal import conformal_quantile
from landmarkflow.learning.heatmaps import (
    Decoding,
    ball_targets,
    decode,
    expectation,
    gaussian_targets,
    landmark_loss,
    log_probabilities,
    spread,
)

SIZE = (17, 19, 21)
NOWHERE = [math.nan] * 3


def places(count: int) -> NDArray[np.float64]:
    """Points x, y, z well inside, anywhere between voxels."""
    random = np.random.default_rng(5)
    return random.uniform(7, np.array(SIZE[::-1]) - 8, (count, 3))


def test_a_gaussian_sums_to_one_and_lies_where_it_is_put() -> None:
    points = places(20)
    maps = gaussian_targets(torch.from_numpy(points), SIZE, 1.5)
    assert maps.shape == (20, *SIZE)
    np.testing.assert_allclose(maps.flatten(1).sum(dim=1), 1, atol=1e-3)
    np.testing.assert_allclose(expectation(maps), points, atol=2e-3)


@pytest.mark.parametrize("how", ["mean", "parabola"])
@pytest.mark.parametrize("sigma", [1.5, 2.0, 3.0])
def test_a_shifted_gaussian_is_found_below_the_voxel(how: Decoding, sigma: float) -> None:
    points = places(40)
    for point in points:
        heat = gaussian_targets(torch.from_numpy(point[None]), SIZE, sigma)[0].numpy()
        # The network's maps may be wider than their targets, and have a background.
        found = decode(heat + np.float32(1e-7), how, 2.0)
        assert np.abs(found - point).max() < 0.02
    errors = [
        decode(gaussian_targets(torch.from_numpy(p[None]), SIZE, sigma)[0].numpy(), how, 2.0) - p
        for p in points
    ]
    assert np.abs(np.mean(errors, axis=0)).max() < 0.002


def test_a_maximum_is_the_nearest_voxel_and_another_peak_moves_nothing_but_the_expectation() -> (
    None
):
    point = np.array([8.3, 9.6, 7.2])
    heat = gaussian_targets(torch.from_numpy(np.stack([point, [16.0, 4, 13]])), SIZE, 1.5)
    both = (heat[0] + 0.3 * heat[1]).numpy()
    np.testing.assert_array_equal(decode(both, "maximum"), [8, 10, 7])
    assert np.abs(decode(both, "mean", 1.5) - point).max() < 0.02
    assert np.abs(decode(both, "expectation") - point).max() > 1
    width, elsewhere = spread(both, point, 6)
    assert elsewhere == pytest.approx(0.3 / 1.3, abs=0.01)
    assert width == pytest.approx(1.5 * math.sqrt(3), abs=0.05)


def test_what_lies_outside_or_is_missing_has_no_map() -> None:
    points = torch.tensor([[100.0, 5, 5], NOWHERE, [0.0, 9, 9]])
    sums = gaussian_targets(points, SIZE, 2.0).flatten(1).sum(dim=1)
    assert sums.tolist() == pytest.approx([0, 0, 0.6], abs=0.01)
    balls = ball_targets(points, SIZE, 3.0)
    assert [float(ball.max()) for ball in balls] == pytest.approx([0, 0, 1])


def test_probabilities_count_not_here_and_sum_to_one() -> None:
    logits = torch.randn((2, *SIZE), generator=torch.Generator().manual_seed(1)) - 8
    inside, absent = log_probabilities(logits)
    np.testing.assert_allclose(inside.exp().sum(dim=1) + absent.exp(), 1, atol=1e-5)
    # The logits of one window mean the same in another: odds against "not here".
    np.testing.assert_allclose(inside - absent[:, None], logits.flatten(1), atol=1e-4)


@pytest.mark.parametrize("kind", ["softmax", "mse", "balls"])
def test_a_loss_is_least_at_the_truth_and_blind_to_what_is_missing(kind: str) -> None:
    points = torch.tensor([[9.3, 8.6, 7.9], NOWHERE, [60.0, 5, 5]])
    weights = torch.ones(3)

    def loss(at: list[float], missing: float = -8.0) -> float:
        maps = gaussian_targets(torch.tensor([at, [5.0, 5, 5]]), SIZE, 1.5)
        peak = maps[0].max() if kind != "softmax" else torch.tensor(1.0)
        logits = torch.log(maps / peak + 1e-9)
        if kind == "softmax":
            logits = logits + 6
        nothing = torch.full((1, *SIZE), -20.0)
        three = torch.cat([logits[:1], logits[1:] + missing, nothing])
        return float(landmark_loss(three, points, weights, sigma=1.5, kind=kind))  # type: ignore[arg-type]

    assert loss([9.3, 8.6, 7.9]) < loss([9.8, 8.6, 7.9]) < loss([12.0, 8.6, 7.9])
    assert loss([9.3, 8.6, 7.9], missing=9.0) == loss([9.3, 8.6, 7.9])
    # The gradient tells one below the voxel which way to go.
    unknown = landmark_loss(torch.zeros((1, *SIZE)), points[1:2], weights[:1], sigma=1.5)
    assert float(unknown) == 0


def test_a_conformal_quantile_holds_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)
    held = []
    for _ in range(400):
        scores = random.exponential(size=40)
        held.append(np.mean(random.exponential(size=200) <= conformal_quantile(scores[1:], 0.9)))
    assert np.mean(held) == pytest.approx(0.9, abs=0.01)
    assert conformal_quantile(random.exponential(size=8), 0.9) == math.inf
    assert conformal_quantile(np.array([*range(1, 10), np.nan], float), 0.9) == 9
    assert conformal_quantile(np.array([1.0] * 20 + [np.inf] * 5), 0.9) == math.inf
