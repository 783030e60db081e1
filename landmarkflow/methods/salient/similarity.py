"""Similarities between two pictures from landmarks that both have (Droste et al. 2020, Eq. 4, 5).

Points are (n, 2) pixels x, y of a picture, y down, the centre of the first pixel at (0, 0).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Landmarks nearer to each other than this, pixels, give no direction.
LEAST_APART = 1e-6


@dataclass(frozen=True, eq=False)
class Similarity:
    """A mirroring along x or none, and then a linear map.

    Attributes:
        flip: whether x becomes `width` - 1 - x first.
        width: of the source, pixels.
        matrix: (2, 3) of the linear map and its shift.
    """

    flip: bool
    width: float
    matrix: Array

    def apply(self, points: Array) -> Array:
        """Points (n, 2) of the source as points of the target."""
        moved: Array = flipped(points, self.width) if self.flip else np.asarray(points)
        return np.asarray(moved @ self.matrix[:, :2].T + self.matrix[:, 2])

    @property
    def whole(self) -> Array:
        """(3, 3) matrix of the mirroring and the linear map together."""
        linear = np.vstack([self.matrix, [0, 0, 1]])
        mirror = np.diag([-1.0, 1.0, 1.0]) if self.flip else np.eye(3)
        mirror[0, 2] = self.width - 1 if self.flip else 0.0
        return np.asarray(linear @ mirror)


def flipped(points: Array, width: float) -> Array:
    """Points of a picture mirrored along x (Eq. 4).

    The paper writes W - x, for pixels that are counted from 1 on; where the first pixel's centre
    lies at 0 this is W - 1 - x.
    """
    return np.asarray(np.stack([width - 1 - points[:, 0], points[:, 1]], axis=1))


def unchanged(width: float, *, flip: bool = False) -> Similarity:
    """The similarity that leaves a picture as it is, or mirrors it."""
    return Similarity(flip, width, np.eye(3)[:2])


def is_flipped(source: Array, target: Array) -> bool:
    """Whether two landmarks of the source stand in the other order along x (Eq. 4)."""
    return bool(np.sign(source[0, 0] - source[1, 0]) != np.sign(target[0, 0] - target[1, 0]))


def of_two(
    source: Array, target: Array, width: float, *, flip: bool | None = None
) -> Similarity | None:
    """The similarity that lays two landmarks of the source on those of the target (Eq. 5).

    With C and D the landmarks after the mirroring, the picture is shifted by C_target - C_source,
    and then turned and scaled about C_target. As printed, Eq. 5 turns the other way than its angle
    says: alpha = rho cos(theta) and beta = rho sin(theta) stand here as (alpha, -beta; beta,
    alpha), with which D_source comes to lie on D_target exactly.

    Args:
        source: (2, 2) landmarks of the source.
        target: (2, 2) the same of the target.
        width: of the source, pixels.
        flip: whether the source is mirrored; None: by the order of the landmarks.

    Returns:
        None where two landmarks of a picture lie on each other.
    """
    flip = is_flipped(source, target) if flip is None else flip
    start = flipped(source, width) if flip else source
    before, after = start[1] - start[0], target[1] - target[0]
    if min(np.linalg.norm(before), np.linalg.norm(after)) < LEAST_APART:
        return None
    rho = np.linalg.norm(after) / np.linalg.norm(before)
    theta = np.arctan2(after[1], after[0]) - np.arctan2(before[1], before[0])
    alpha, beta = rho * np.cos(theta), rho * np.sin(theta)
    linear = np.array([[alpha, -beta], [beta, alpha]])
    centre, shift = target[0], target[0] - start[0]
    return Similarity(flip, width, np.column_stack([linear, linear @ (shift - centre) + centre]))


def of_several(source: Array, target: Array, width: float, tolerance: float) -> Similarity | None:
    """The similarity that most landmarks agree on, mirrored or not.

    Every pair of landmarks gives a candidate, mirrored and not: there are so few that none need be
    drawn by chance. That with the most landmarks within the tolerance is taken, of those with as
    many the one with the least distance, and is fitted to them by least squares. Two landmarks
    decide no mirroring by their distance; then their order does, as in `of_two`.

    Args:
        source: (n, 2) landmarks of the source, n >= 2.
        target: (n, 2) the same of the target.
        width: of the source, pixels.
        tolerance: distance in the target, pixels, up to which a landmark agrees.
    """
    best: tuple[int, float, Similarity, NDArray[np.bool_]] | None = None
    for candidate in _candidates(source, target, width):
        away = np.linalg.norm(candidate.apply(source) - target, axis=1)
        agree = away <= tolerance
        rank = int(agree.sum()), -float(away[agree].sum())
        if best is None or rank > best[:2]:
            best = (*rank, candidate, agree)
    if best is None:
        return None
    _, _, found, agree = best
    return _fitted(source[agree], target[agree], found) if agree.sum() > 2 else found


def _candidates(source: Array, target: Array, width: float) -> Iterator[Similarity]:
    for first, second in combinations(range(len(source)), 2):
        pair = [first, second]
        by_order = is_flipped(source[pair], target[pair])
        for flip in (by_order,) if len(source) == 2 else (by_order, not by_order):
            if (found := of_two(source[pair], target[pair], width, flip=flip)) is not None:
                yield found


def _fitted(source: Array, target: Array, like: Similarity) -> Similarity:
    """The least-squares similarity, mirrored as another one is."""
    start = flipped(source, like.width) if like.flip else source
    x, y = start.T
    ones, none = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate(
        [np.stack([x, -y, ones, none], axis=1), np.stack([y, x, none, ones], axis=1)]
    )
    a, b, right, down = np.linalg.lstsq(rows, target.T.ravel(), rcond=None)[0]
    return Similarity(like.flip, like.width, np.array([[a, -b, right], [b, a, down]]))
