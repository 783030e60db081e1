"""Radii that hold a stated share of true places, from errors on scans a network never saw."""

import math

import numpy as np
from numpy.typing import NDArray


def conformal_quantile(scores: NDArray[np.float64], coverage: float) -> float:
    """The score that a further one exceeds with a probability of at most 1 - coverage.

    It is the ⌈(n + 1) · coverage⌉-th smallest of n exchangeable scores (split conformal
    prediction), and infinite where n is too small for any of them to hold so often.

    Args:
        scores: (n,); NaN does not count, infinity does.
        coverage: share in (0, 1).
    """
    known = np.sort(scores[~np.isnan(scores)])
    rank = math.ceil((len(known) + 1) * coverage)
    return float(known[rank - 1]) if 1 <= rank <= len(known) else math.inf
