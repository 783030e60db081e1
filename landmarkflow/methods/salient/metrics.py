"""How well a saliency map says where people look; every map is (rows, columns) of one picture.

Places that were looked at are (n, 2) pixels x, y. Definitions are those of the MIT saliency
benchmark; a density counts every place alike.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]

METRICS = ("cc", "sim", "kld", "nss", "auc_judd", "auc_shuffled")
# Keeps the divergence finite where a map is 0.
EPSILON = 2.2e-16


def density(points: Array, shape: tuple[int, int], sigma: float) -> Array:
    """Places blurred by a Gaussian, of sum 1.

    Args:
        points: (n, 2), n >= 1.
        shape: rows and columns.
        sigma: of the Gaussian, pixels.
    """
    counts = np.zeros(shape)
    columns, rows = cells_of(points, shape)
    np.add.at(counts, (rows, columns), 1.0)
    blurred = ndimage.gaussian_filter(counts, sigma, mode="constant", truncate=5)
    return np.asarray(blurred / blurred.sum())


def cells_of(points: Array, shape: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Columns and rows of the pixels that places lie in."""
    whole = np.rint(points).astype(np.intp)
    return np.clip(whole[:, 0], 0, shape[1] - 1), np.clip(whole[:, 1], 0, shape[0] - 1)


def cc(found: Array, true: Array) -> float:
    """Pearson's correlation with the density; 0 for a flat map."""
    a, b = found - found.mean(), true - true.mean()
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0


def sim(found: Array, true: Array) -> float:
    """Common part of both maps, each stretched to 0 to 1 and then to the sum 1."""
    return float(np.minimum(_stretched(found), _stretched(true)).sum())


def kld(found: Array, true: Array) -> float:
    """Kullback-Leibler divergence of the density from the map, both of sum 1."""
    p, q = found / max(float(found.sum()), EPSILON), true / true.sum()
    return float((q * np.log(EPSILON + q / (p + EPSILON))).sum())


def nss(found: Array, points: Array) -> float:
    """Mean of the map at the places, in standard deviations above its mean; 0 for a flat map."""
    columns, rows = cells_of(points, (found.shape[0], found.shape[1]))
    spread = float(found.std())
    return float((found[rows, columns] - found.mean()).mean()) / spread if spread > 0 else 0.0


def auc_judd(found: Array, points: Array) -> float:
    """Area under the curve; thresholds at the pixels looked at, all others are negatives."""
    columns, rows = cells_of(points, (found.shape[0], found.shape[1]))
    looked = np.zeros(found.shape, bool)
    looked[rows, columns] = True
    positives, negatives = np.sort(found[looked]), np.sort(found[~looked])
    thresholds = np.unique(positives)[::-1]
    true = 1 - np.searchsorted(positives, thresholds) / len(positives)
    false = (len(negatives) - np.searchsorted(negatives, thresholds)) / max(len(negatives), 1)
    heights = np.concatenate([[0.0], true, [1.0]])
    return float(np.trapezoid(heights, np.concatenate([[0.0], false, [1.0]])))


def auc_shuffled(found: Array, points: Array, others: Array) -> float:
    """Probability that a place has a higher value than one looked at in another picture.

    Ties count half.

    Args:
        found: the map.
        points: (n, 2) places in this picture.
        others: (m, 2) places in the other pictures, in pixels of this one.
    """
    shape = (found.shape[0], found.shape[1])
    here = found[cells_of(points, shape)[::-1]]
    there = np.sort(found[cells_of(others, shape)[::-1]])
    below, up_to = np.searchsorted(there, here), np.searchsorted(there, here, side="right")
    return float(((below + up_to) / 2).mean() / len(there))


def all_metrics(found: Array, points: Array, others: Array, sigma: float) -> dict[str, float]:
    """Every metric of one map.

    Args:
        found: the map, at the picture's resolution.
        points: (n, 2) places looked at.
        others: (m, 2) places looked at in other pictures; without any there is no shuffled AUC.
        sigma: blur of the density, pixels.
    """
    true = density(points, (found.shape[0], found.shape[1]), sigma)
    return {
        "cc": cc(found, true),
        "sim": sim(found, true),
        "kld": kld(found, true),
        "nss": nss(found, points),
        "auc_judd": auc_judd(found, points),
        "auc_shuffled": auc_shuffled(found, points, others) if len(others) else float("nan"),
    }


def _stretched(values: Array) -> Array:
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.ones_like(values)
    return np.asarray(scaled / scaled.sum())
