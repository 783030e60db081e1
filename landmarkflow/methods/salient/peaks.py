"""Landmarks as the local maxima of a saliency map, between its cells (Droste 2020, Eq. 1, 2)."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]
Map = NDArray[np.floating]

# A fitted maximum lies at most so many cells from its cell along each axis.
LARGEST_STEP = 1.0
# Stands for 0 in logarithms, as a share of a map's maximum.
LEAST_SHARE = 1e-6


def maxima(saliency: Map, distance: int, threshold: float) -> NDArray[np.intp]:
    """Cells that are the largest of their neighbourhood (Eq. 1) and not below a threshold (Eq. 2).

    A softmax over a thousand cells hardly reaches the paper's threshold of 0.1, so that a map is
    scaled to the maximum 1 first. Of neighbouring cells that are alike one is taken, that nearest
    to their mean.

    Args:
        saliency: (rows, columns), nowhere negative.
        distance: cells on each side that a maximum is compared with.
        threshold: share of the map's maximum.

    Returns:
        (n, 2) columns and rows, the largest value first.
    """
    top = float(saliency.max(initial=0.0))
    if not top > 0:
        return np.zeros((0, 2), np.intp)
    scaled = saliency / top
    highest = ndimage.maximum_filter(scaled, 2 * distance + 1, mode="constant", cval=-np.inf)
    pieces, count = ndimage.label(
        (scaled == highest) & (scaled >= threshold), structure=np.ones((3, 3))
    )
    cells = []
    for number in range(1, count + 1):
        alike = np.argwhere(pieces == number)
        away = ((alike - alike.mean(axis=0)) ** 2).sum(axis=1)
        cells.append(alike[int(np.argmin(away))])
    values = np.array([scaled[tuple(cell)] for cell in cells])
    order = np.argsort(-values, kind="stable")
    return np.array(cells, np.intp).reshape(-1, 2)[order][:, ::-1]


def fit(saliency: Map, cells: NDArray[np.intp]) -> Array:
    """The centres of Gaussians fitted to 3x3 cells at each maximum.

    The logarithm of a Gaussian is a paraboloid, fitted by least squares. At the border the 3x3
    cells are the outermost ones that there are, of which the maximum is not the middle one: the
    paraboloid is the same. A fit that is no peak leaves the cell's own centre.

    Args:
        saliency: (rows, columns), nowhere negative, at least 3 by 3.
        cells: (n, 2) columns and rows of maxima.

    Returns:
        (n, 2) x, y in cells, the centre of the first cell at (0, 0).
    """
    rows, columns = saliency.shape
    if min(rows, columns) < 3:
        return np.asarray(cells, np.float64)
    floor = max(float(saliency.max()) * LEAST_SHARE, np.finfo(np.float64).tiny)
    height = np.log(np.maximum(saliency.astype(np.float64), floor))
    found = np.asarray(cells, np.float64).copy()
    for number, (column, row) in enumerate(cells):
        x0 = int(np.clip(column, 1, columns - 2))
        y0 = int(np.clip(row, 1, rows - 2))
        peak = _peak(height[y0 - 1 : y0 + 2, x0 - 1 : x0 + 2])
        if peak is not None:
            step = peak + np.array([x0 - column, y0 - row])
            found[number] += np.clip(step, -LARGEST_STEP, LARGEST_STEP)
    return found


def _peak(height: Array) -> Array | None:
    """The maximum x, y of the paraboloid through 3x3 values, from the middle one; None for none."""
    y, x = np.mgrid[-1:2, -1:2].reshape(2, -1)
    terms = np.stack([np.ones(9), x, y, x * x, x * y, y * y], axis=1)
    _, fx, fy, fxx, fxy, fyy = np.linalg.lstsq(terms, height.ravel(), rcond=None)[0]
    curve = np.array([[2 * fxx, fxy], [fxy, 2 * fyy]])
    if np.linalg.eigvalsh(curve).max() >= 0:
        return None
    return np.asarray(-np.linalg.solve(curve, np.array([fx, fy])))
