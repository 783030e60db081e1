import numpy as np
import pytest
from numpy.typing import NDArray

from landmarkflow.methods.oneshot.mixture import Mixture, fit_mixture
from landmarkflow.methods.oneshot.settings import Component, LocateSettings, NormaliseSettings

INTENSITIES = NormaliseSettings()
SCALE = INTENSITIES.high - INTENSITIES.low
# Weight, mean and standard deviation, HU.
TRUTH = np.array([(0.3, -980.0, 20.0), (0.4, 60.0, 60.0), (0.2, 900.0, 150.0), (0.1, 2050.0, 70.0)])
SETTINGS = LocateSettings(
    background=(
        Component(mean=-1000, sd=60),
        Component(mean=0, sd=100),
        Component(mean=700, sd=200),
    ),
    dense=Component(mean=2000, sd=50),
)


def normalised(hounsfield: NDArray[np.float64]) -> NDArray[np.float64]:
    return (hounsfield - INTENSITIES.low) / SCALE


def voxels(truth: NDArray[np.float64], count: int = 100_000) -> NDArray[np.float32]:
    random = np.random.default_rng(0)
    drawn = [random.normal(mean, sd, round(weight * count)) for weight, mean, sd in truth]
    return normalised(np.concatenate(drawn)).astype(np.float32).reshape(10, 10, -1)


@pytest.fixture(scope="module")
def fitted() -> Mixture:
    return fit_mixture(voxels(TRUTH), SETTINGS, INTENSITIES)


def test_known_components_are_recovered(fitted: Mixture) -> None:
    weights, means, sds = TRUTH.T
    np.testing.assert_allclose(fitted.weights, weights, atol=0.01)
    np.testing.assert_allclose(fitted.means, normalised(means), atol=10 / SCALE)
    np.testing.assert_allclose(fitted.sds, sds / SCALE, atol=10 / SCALE)
    assert fitted.weights.sum() == pytest.approx(1.0)


def test_dense_bone_is_told_from_the_rest(fitted: Mixture) -> None:
    at = normalised(np.array([[-1000.0, 40.0], [900.0, 2050.0]])[:, :, None])
    probability = fitted.dense_probability(at)
    assert probability.shape == at.shape
    np.testing.assert_allclose(probability[..., 0], [[0, 0], [0, 1]], atol=1e-3)


def test_the_posterior_is_bayes_rule() -> None:
    mixture = Mixture(np.array([0.75, 0.25]), np.array([0.2, 0.6]), np.array([0.1, 0.2]))
    value = 0.4

    def density(mean: float, sd: float) -> float:
        return float(np.exp(-0.5 * ((value - mean) / sd) ** 2) / sd)

    dense, other = 0.25 * density(0.6, 0.2), 0.75 * density(0.2, 0.1)
    found = mixture.dense_probability(np.array([value]))[0]
    assert found == pytest.approx(dense / (dense + other))


@pytest.mark.parametrize(("dense_mean", "clamped"), [(2600.0, 2200.0), (1500.0, 1800.0)])
def test_the_prior_holds_the_dense_mean(dense_mean: float, clamped: float) -> None:
    truth = TRUTH.copy()
    truth[-1, 1] = dense_mean
    found = fit_mixture(voxels(truth), SETTINGS, INTENSITIES)
    assert found.means[-1] == pytest.approx(normalised(np.array(clamped)))
    loose = SETTINGS.model_copy(update={"dense_shift_sd": 20.0})
    found = fit_mixture(voxels(truth), loose, INTENSITIES)
    assert found.means[-1] == pytest.approx(normalised(np.array(dense_mean)), abs=20 / SCALE)


def test_clipped_voxels_have_no_weight(fitted: Mixture) -> None:
    ends = np.concatenate([np.zeros(500_000), np.ones(500_000)]).astype(np.float32)
    inner = voxels(TRUTH).ravel()
    # An unclipped scan holds a few voxels in the end bins by itself.
    inner = inner[(inner > 1 / 512) & (inner < 511 / 512)]
    found = fit_mixture(np.concatenate([inner, ends]), SETTINGS, INTENSITIES)
    np.testing.assert_allclose(found.means, fitted.means, atol=1e-4)
    np.testing.assert_allclose(found.weights, fitted.weights, atol=1e-3)


def test_probabilities_far_from_every_component_are_numbers(fitted: Mixture) -> None:
    probability = fitted.dense_probability(np.linspace(-5, 5, 101))
    assert np.isfinite(probability).all()
    assert ((probability >= 0) & (probability <= 1)).all()


def test_a_record_holds_the_whole_mixture(fitted: Mixture) -> None:
    read = Mixture.from_record({"mixture": fitted.as_record(), "centre": [0, 0, 0]})
    for name in ("weights", "means", "sds"):
        np.testing.assert_array_equal(getattr(read, name), getattr(fitted, name))
