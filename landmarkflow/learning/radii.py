"""The radius of a landmark: what its errors on scans held back, and the width of its map, tell."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmarkflow.learning.conformal import conformal_quantile

Array = NDArray[np.float64]
_ARRAYS = ("usual", "spread", "quantile", "teacher")

# Widths of heat maps, of the usual one, beyond which a radius grows or shrinks no further.
NARROWEST, WIDEST = 0.7, 4.0
# So many scans weigh as much for a landmark's usual error as all landmarks together.
PRIOR_SCANS = 4
# With so many scans held back a landmark has a quantile of its own: where one is found less surely
# than others, a common one holds too few of its true places and too many of theirs.
ALONE = 40


@dataclass(frozen=True, eq=False)
class Radii:
    """What makes the radius of a landmark: quantile · usual · width of its heat map.

    All lengths are of one unit, which is the caller's.

    Attributes:
        usual: (k,) median error of each landmark on scans held back.
        spread: (k,) median width of its heat map there.
        quantile: (k,) of the errors so divided, of each landmark alone where enough scans were held
            back, else of all together; infinite where they are too few.
        teacher: (k,) radius of the answers that were learned from, 0 for annotations.
        by_spread: whether widths count.
    """

    usual: Array
    spread: Array
    quantile: Array
    teacher: Array
    by_spread: bool

    @staticmethod
    def of(
        errors: Array, spreads: Array, *, teacher: Array, coverage: float, by_spread: bool
    ) -> "Radii":
        """Those of errors on scans held back.

        Args:
            errors: (n, k); infinite where a scan was lost, NaN without a true place.
            spreads: (n, k) widths of heat maps, NaN for none.
            teacher: (k,) radius of the answers that were learned from.
            coverage: share of true places that are to lie within the radius.
            by_spread: whether widths count.
        """
        count = len(teacher)
        usual, width = np.full(count, np.nan), np.full(count, np.nan)
        finite = errors[np.isfinite(errors)]
        for k in range(count if len(finite) else 0):
            own = errors[np.isfinite(errors[:, k]), k]
            pooled = float(np.median(finite))
            median = float(np.median(own)) if len(own) else pooled
            usual[k] = (len(own) * median + PRIOR_SCANS * pooled) / (len(own) + PRIOR_SCANS)
            widths = spreads[np.isfinite(spreads[:, k]), k]
            width[k] = float(np.median(widths)) if len(widths) else np.nan
        radii = Radii(usual, width, np.ones(count), np.zeros(count), by_spread)
        scores = np.array(
            [error / radii.of_scan(spread) for error, spread in zip(errors, spreads, strict=True)]
        ).reshape(-1, count)
        quantile = np.full(count, conformal_quantile(scores.ravel(), coverage))
        for k, own in enumerate(scores.T):
            if np.count_nonzero(~np.isnan(own)) >= ALONE:
                quantile[k] = conformal_quantile(own, coverage)
        return Radii(usual, width, quantile, teacher, by_spread)

    def of_scan(self, spread: Array) -> Array:
        """(k,) radii of landmarks whose heat maps have these widths; NaN for none."""
        ratio = np.ones(len(self.usual))
        if self.by_spread:
            ratio = np.clip(np.nan_to_num(spread / self.spread, nan=1), NARROWEST, WIDEST)
        quantile = np.where(np.isfinite(self.quantile), self.quantile, np.nan)
        return np.asarray(np.hypot(quantile * self.usual * ratio, self.teacher))

    def as_data(self) -> dict[str, Any]:
        """Plain data, which `of_data` takes back; null for what there is not."""
        known = {name: [_plain(value) for value in getattr(self, name)] for name in _ARRAYS}
        return known | {"by_spread": self.by_spread}

    @staticmethod
    def of_data(data: Mapping[str, Any]) -> "Radii":
        """Those of `as_data`, read from JSON."""
        known = {name: np.array(data[name], dtype=np.float64) for name in _ARRAYS}
        return Radii(**known, by_spread=bool(data["by_spread"]))


def radii_of_others(
    errors: Array,
    spreads: Array,
    groups: NDArray[np.int64],
    *,
    teacher: Array,
    coverage: float,
    by_spread: bool,
) -> Array:
    """(n, k) radii of scans from errors of the scans of other groups alone.

    How often they hold says what radii are worth, since none was calibrated on its own error.

    Args:
        errors: (n, k), as `Radii.of` takes them.
        spreads: (n, k) widths of heat maps.
        groups: (n,) the group of each scan, its fold say.
        teacher: (k,) radius of the answers that were learned from.
        coverage: share of true places that are to lie within the radius.
        by_spread: whether widths count.

    Returns:
        Radii; NaN where the other groups are too few.
    """
    radii = np.full(errors.shape, np.nan)
    for group in np.unique(groups):
        own = groups == group
        others = Radii.of(
            errors[~own], spreads[~own], teacher=teacher, coverage=coverage, by_spread=by_spread
        )
        radii[own] = [others.of_scan(spread) for spread in spreads[own]]
    return radii


def _plain(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
