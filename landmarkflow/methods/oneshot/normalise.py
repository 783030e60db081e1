"""Normalise intensities to [0, 1] (Eq. 8), in whatever units a scan has them.

Which two grey values become 0 and 1 is stated (`hu`), or taken from the scan's own percentiles, or
found by laying the scan's histogram on the template's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage, optimize

from landmarkflow.images.operations import (
    block_factors,
    blocks_grid,
    grid_of,
    image_on,
    view_of,
)
from landmarkflow.methods.oneshot.settings import NormaliseSettings

Array = NDArray[np.float64]
Values = NDArray[np.float32]

# Of a scan's grey values, those that become 0 and 1 where percentiles are taken.
PERCENTILES = (1.0, 99.8)
# Histograms are compared in so many bins, under a Gaussian of so many bins: smoother ones fit
# from farther off, and less exactly.
BINS, SMOOTHING_BINS = 256, 3.0
# Larger volumes are counted on a raster of about so many voxels, their histogram at so many
# quantiles.
ENOUGH_VOXELS, QUANTILES = 1_000_000, 2000
# Where a scan's 2nd and 98th percentile may lie in the template's range, tried on a lattice of so
# many values; at least this share of the range lies between them.
ENDS, LATTICE, LEAST_APART = (0.02, 0.98), 41, 0.08
# A scan is in the template's units where the histograms overlap by this share: scans of one kind
# come to 0.85. Else another range is taken where it brings so much more, and comes to so much: the
# wrong range that fits a very noisy scan best comes to 0.7.
ALIKE, GAIN, FITS = 0.7, 0.2, 0.72


@dataclass(frozen=True)
class Range:
    """The two grey values that become 0 and 1; of inverted contrast the first is the larger."""

    low: float
    high: float


# Of a volume that is normalised already.
UNIT = Range(0.0, 1.0)


@dataclass(frozen=True)
class Greys:
    """How a scan's grey values are normalised, and why.

    Attributes:
        method: hu, percentiles or histogram.
        range: the two grey values.
        overlap: share that the histogram has in common with the template's; None where not asked.
    """

    method: str
    range: Range
    overlap: float | None = None

    def as_record(self) -> dict[str, Any]:
        """Plain data for a stage's record."""
        overlap = None if self.overlap is None else round(self.overlap, 3)
        return {
            "method": self.method,
            "becomes_0": self.range.low,
            "becomes_1": self.range.high,
            "overlap": overlap,
        }


def normalise(scan: sitk.Image, settings: NormaliseSettings | Range) -> sitk.Image:
    """Map intensities linearly so that `low` becomes 0 and `high` 1, and clip (Eq. 8).

    Args:
        scan: scalar volume in its own intensity units (HU in CT).
        settings: the two intensities.

    Returns:
        float32 volume in [0, 1] on the scan's own grid.
    """
    return image_on(grid_of(scan), normalised_values(view_of(scan), settings))


def normalised_values(values: NDArray[Any], settings: NormaliseSettings | Range) -> Values:
    """The same of an array of intensities, any shape."""
    result = values.astype(np.float32)
    result -= np.float32(settings.low)
    result /= np.float32(settings.high - settings.low)
    return np.clip(result, 0.0, 1.0, out=result)


def normalised_blocks(
    scan: sitk.Image, settings: NormaliseSettings | Range, spacing: float
) -> sitk.Image:
    """What `shrunk` makes of the normalised scan, which as a whole is never held.

    Args:
        scan: scalar volume in its own intensity units.
        settings: the two intensities.
        spacing: to which that of the blocks comes close, mm.

    Returns:
        float32 volume in [0, 1].
    """
    grid, values = grid_of(scan), view_of(scan)
    x, y, z = block_factors(scan, spacing)
    columns, rows, slabs = (count // step for count, step in zip(grid.size, (x, y, z), strict=True))
    means = np.empty((slabs, rows, columns), np.float32)
    for number, mean in enumerate(means):
        slab = values[number * z : (number + 1) * z, : rows * y, : columns * x]
        # Along each axis in turn, since numpy adds long rows fastest.
        total = normalised_values(slab, settings).sum(axis=0)
        total = total.reshape(rows, y, -1).sum(axis=1)
        mean[:] = sum(total[:, first::x] for first in range(x)) / np.float32(x * y * z)
    return image_on(blocks_grid(grid, (x, y, z)), means)


def percentile_range(scan: sitk.Image) -> Range:
    """The range of a scan's own percentiles; of one grey value alone it is one unit wide."""
    low, high = np.percentile(_some(scan), PERCENTILES)
    return Range(float(low), float(high if high > low else low + 1))


def histogram_of(scan: sitk.Image, within: Range) -> Array:
    """Shares (BINS,) of a scan's voxels between the two ends of a range, smoothed.

    Voxels of the scan's lowest or highest value, as clipping leaves them, are not counted.
    """
    return _histogram((_unclipped(_some(scan)) - within.low) / (within.high - within.low))


def greys_of(scan: sitk.Image, stated: Range, template: Array | None, method: str) -> Greys:
    """Choose how a scan is normalised.

    Args:
        scan: in its own units.
        stated: the range that is right for scans in the template's units.
        template: the template's histogram within that range; None where there is none.
        method: hu and percentiles as they are; histogram lays the scan's on the template's; auto
            does so only where the scan is in other units than the template.
    """
    if method == "percentiles":
        return Greys(method, percentile_range(scan))
    if method == "hu" or template is None:
        return Greys("hu", stated)
    values = _unclipped(_some(scan))
    if np.ptp(values) <= 0:
        return Greys("hu", stated)
    normalised = (values - stated.low) / (stated.high - stated.low)
    alike = _overlap(_histogram(normalised), template)
    if method == "auto" and alike >= ALIKE:
        return Greys("hu", stated, alike)
    found, best = _laid_on(values, template)
    if method == "auto" and best < max(FITS, alike + GAIN):
        return Greys("hu", stated, alike)
    return Greys("histogram", found, best)


def _laid_on(values: Array, template: Array) -> tuple[Range, float]:
    """The range under which the histogram of (n,) values overlaps most with another, and by what.

    The range may be inverted: bright tissue is then what is dark in the template.
    """
    low, high = np.quantile(values, ENDS)
    high = high if high > low else low + 1
    units = (np.quantile(values, np.linspace(0, 1, QUANTILES + 2)[1:-1]) - low) / (high - low)

    def overlap(ends: Array) -> float:
        return _overlap(_histogram(ends[0] + units * (ends[1] - ends[0])), template)

    places = np.linspace(0, 1, LATTICE)
    pairs = [np.array([a, b]) for a in places for b in places if abs(a - b) >= LEAST_APART]
    start = max(pairs, key=overlap)
    step = places[1] - places[0]
    simplex = start + np.array([[0.0, 0.0], [step, 0.0], [0.0, step]]) / 2
    found = optimize.minimize(
        lambda ends: -overlap(ends),
        start,
        method="Nelder-Mead",
        options={"xatol": 1e-4, "fatol": 1e-5, "initial_simplex": simplex},
    )
    first, last = found.x
    grey = (high - low) / (last - first)
    zero = float(low - first * grey)
    return Range(zero, float(zero + grey)), float(-found.fun)


def _some(scan: sitk.Image) -> Array:
    """Grey values of a raster of a scan's voxels, (n,)."""
    values = sitk.GetArrayViewFromImage(scan)
    step = max(1, round((values.size / ENOUGH_VOXELS) ** (1 / values.ndim)))
    return np.asarray(values[(slice(None, None, step),) * values.ndim].ravel(), np.float64)


def _unclipped(values: Array) -> Array:
    kept = values[(values > values.min()) & (values < values.max())]
    return kept if len(kept) else values


def _histogram(normalised: Array) -> Array:
    """Shares (BINS,) of values in [0, 1], of all values; those beyond are in no bin."""
    inside = normalised[(normalised >= 0) & (normalised < 1)]
    counts = np.bincount((inside * BINS).astype(np.int64), minlength=BINS)
    shares = counts / max(len(normalised), 1)
    return np.asarray(ndimage.gaussian_filter1d(shares, SMOOTHING_BINS, mode="constant"))


def _overlap(one: Array, other: Array) -> float:
    return float(np.minimum(one, other).sum())
