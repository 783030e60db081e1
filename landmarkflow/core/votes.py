"""What several sets of points for the same landmarks agree on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Votes:
    """What the ways agree on.

    Attributes:
        positions: (n, 3) LPS mm, the means.
        spread: (n,) mm, root mean square distance of the votes from their mean.
        counted: (n,) votes that the mean is of.
        near: (ways, n) the votes that count.
    """

    positions: Array
    spread: Array
    counted: NDArray[np.int64]
    near: NDArray[np.bool_]


def count_votes(ways: Sequence[Array], farthest_mm: float) -> Votes:
    """Take the mean of the ways' points, (n, 3) LPS mm each, without those that went astray.

    NaN is a landmark that a way lacks. A vote that is farther than `farthest_mm` from the ways'
    median does not count; where none is that close, the median stands.
    """
    votes = np.array(ways)
    median = np.full(votes.shape[1:], np.nan)
    somewhere = ~np.isnan(votes).all(axis=(0, 2))
    median[somewhere] = np.nanmedian(votes[:, somewhere], axis=0)
    near = np.linalg.norm(votes - median, axis=2) <= farthest_mm
    counted = near.sum(axis=0)
    total = np.where(near[..., None], votes, 0.0).sum(axis=0)
    mean = np.where(counted[:, None] > 0, total / np.maximum(counted, 1)[:, None], median)
    square = np.where(near, ((votes - mean) ** 2).sum(axis=2), 0.0).sum(axis=0)
    return Votes(mean, np.sqrt(square / np.maximum(counted, 1)), counted, near)
