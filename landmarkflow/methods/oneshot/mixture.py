"""The mixture of intensities, one component of which is the dense bone around the target."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmarkflow.methods.oneshot.normalise import UNIT, Range, normalised_values
from landmarkflow.methods.oneshot.settings import Component, LocateSettings, NormaliseSettings

HISTOGRAM_BINS = 512
FIT_ITERATIONS = 60
# Larger volumes are counted on a raster of their voxels, of at most so many.
ENOUGH_VOXELS = 10_000_000


@dataclass(frozen=True)
class Mixture:
    """Gaussian mixture of normalised intensities; the last component is the dense one."""

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    sds: NDArray[np.float64]

    @staticmethod
    def from_record(details: dict[str, Any]) -> "Mixture":
        """The mixture that a stage's record holds."""
        held = details["mixture"]
        return Mixture(*(np.array(held[name]) for name in ("weights", "means", "sds")))

    def as_record(self) -> dict[str, list[float]]:
        """Plain numbers for a stage's record."""
        return {name: getattr(self, name).tolist() for name in ("weights", "means", "sds")}

    def dense_probability(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Posterior probability of the dense component for normalised intensities (any shape)."""
        dense: NDArray[np.float64] = _responsibilities(self, values)[-1]
        return dense


def fit_mixture(
    values: NDArray[Any],
    settings: LocateSettings,
    intensities: NormaliseSettings,
    greys: Range = UNIT,
) -> Mixture:
    """Fit the mixture to the histogram by expectation maximisation.

    The dense component's mean may move by at most `dense_shift_sd` of its prior standard
    deviation from its prior mean: with millions of voxels a soft prior would have no weight.

    Args:
        values: intensities, any shape.
        settings: the components' starting values in raw intensity units.
        intensities: the scaling of Eq. 8 to which those refer.
        greys: the two intensities that become 0 and 1; without them the values are normalised.

    Returns:
        The mixture in normalised units.
    """
    edges = np.linspace(0.0, 1.0, HISTOGRAM_BINS + 1)
    step = int(np.ceil((values.size / ENOUGH_VOXELS) ** (1 / values.ndim)))
    some = normalised_values(values[(slice(None, None, step),) * values.ndim], greys).ravel()
    bins = np.clip(some * np.float32(HISTOGRAM_BINS), 0, HISTOGRAM_BINS - 1)
    counts = np.bincount(bins.astype(np.uint16), minlength=HISTOGRAM_BINS)
    # The end bins hold all that Eq. 8 clipped; they would pull any Gaussian to the ends.
    counts[0] = counts[-1] = 0
    centres = (edges[:-1] + edges[1:]) / 2
    scale = intensities.high - intensities.low
    components: tuple[Component, ...] = (*settings.background, settings.dense)
    means = np.array([(c.mean - intensities.low) / scale for c in components])
    sds = np.array([c.sd / scale for c in components])
    prior, slack = means[-1], settings.dense_shift_sd * sds[-1]
    smallest_sd = 1.0 / HISTOGRAM_BINS
    mixture = Mixture(np.full(len(means), 1.0 / len(means)), means, sds)
    for _ in range(FIT_ITERATIONS):
        share = _responsibilities(mixture, centres) * counts
        total = share.sum(axis=1) + 1e-9
        means = (share @ centres) / total
        means[-1] = np.clip(means[-1], prior - slack, prior + slack)
        spread = (share * (centres - means[:, None]) ** 2).sum(axis=1) / total
        mixture = Mixture(total / total.sum(), means, np.maximum(np.sqrt(spread), smallest_sd))
    return mixture


def _responsibilities(mixture: Mixture, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Posterior of each component, first axis, at each value."""
    shape = (-1,) + (1,) * values.ndim
    weights, means, sds = (a.reshape(shape) for a in (mixture.weights, mixture.means, mixture.sds))
    log = np.log(weights + 1e-300) - np.log(sds) - 0.5 * ((values - means) / sds) ** 2
    likelihood = np.exp(log - log.max(axis=0))
    result: NDArray[np.float64] = likelihood / likelihood.sum(axis=0)
    return result
