"""How landmarks lie to each other in annotated pictures, by which hypotheses are judged."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# No deviation is below this share of a pair's distance: of few pictures it is hardly known.
LEAST_DEVIATION = 0.04
# Hypotheses are judged by steps that are so much wider, of a pair's distance, in any direction.
SLACK = 0.07
# How often each landmark's hypothesis is chosen anew.
SWEEPS = 3


@dataclass(frozen=True, eq=False)
class Shape:
    """Steps from each landmark to each later one, shares of the field.

    Attributes:
        pairs: (n, 2) places in the list of landmarks.
        mean: (n, 2) steps x, y.
        deviation: (n, 2) their standard deviations.
        both_ways: whether pictures may be mirrored, as those of left and right eyes are.
        other_scale: how much larger or smaller other cameras may show everything, a standard
            deviation as a share.
        most_deviations: of a pair, beyond which it counts no more against a hypothesis: the other
            one of the pair may be the wrong one.
    """

    pairs: NDArray[np.int64]
    mean: Array
    deviation: Array
    both_ways: bool
    other_scale: float = 0.0
    most_deviations: float = 8.0

    @staticmethod
    def of(points: Array, *, both_ways: bool) -> "Shape":
        """That of annotated pictures.

        Args:
            points: (pictures, k, 2) shares of the field, NaN for a missing landmark.
            both_ways: whether they may be mirrored; all are then turned the way of the pair whose
                landmarks lie farthest apart along x.
        """
        pairs = np.array(
            [(a, b) for a in range(points.shape[1]) for b in range(a + 1, points.shape[1])],
            dtype=np.int64,
        ).reshape(-1, 2)
        steps = points[:, pairs[:, 1]] - points[:, pairs[:, 0]]
        seen = np.asarray(np.isfinite(steps).all(axis=2))
        kept = np.asarray(seen.any(axis=0))
        pairs, steps, seen = pairs[kept], steps[:, kept], seen[:, kept]
        if both_ways and len(pairs):
            across = np.abs(np.where(seen, steps[..., 0], 0)).sum(axis=0) / seen.sum(axis=0)
            way = np.sign(np.nan_to_num(steps[:, int(np.argmax(across)), 0], nan=1.0))
            steps = steps * np.stack([np.where(way < 0, -1.0, 1.0), np.ones(len(way))], 1)[:, None]
        mean, deviation = np.zeros((len(pairs), 2)), np.zeros((len(pairs), 2))
        for number in range(len(pairs)):
            own = steps[seen[:, number], number]
            mean[number] = own.mean(axis=0)
            least = LEAST_DEVIATION * float(np.linalg.norm(mean[number]))
            known = own.std(axis=0) if len(own) > 3 else np.full(2, 3 * least)
            deviation[number] = np.maximum(known, max(least, 1e-3))
        return Shape(pairs, mean, deviation, both_ways)

    def deviations(self, points: Array) -> Array:
        """(n,) how many deviations each pair of a picture's landmarks (k, 2) is off."""
        off = [self._off(points, way, self.deviation) for way in self._ways]
        return min(off, key=lambda one: float(one.sum()))

    def predicted(self, points: Array) -> list[Array]:
        """(k, 2) places that the other landmarks' places (k, 2) tell, one array for each way.

        That of a landmark is the median of what the others tell; NaN where none tells any.
        """
        found = []
        for way in self._ways:
            told: list[list[Array]] = [[] for _ in points]
            for (a, b), step in zip(self.pairs, self.mean * np.array([way, 1.0]), strict=True):
                told[b].append(points[a] + step)
                told[a].append(points[b] - step)
            places = [np.median(one, axis=0) if one else np.full(2, np.nan) for one in told]
            found.append(np.array(places))
        return found

    def likely(self, points: Array, landmark: int, places: Array) -> Array:
        """(...) how likely a landmark lies at places (..., 2) given all (k, 2), a logarithm.

        Places are shares of the field.
        """
        others = [n for n, pair in enumerate(self.pairs) if landmark in pair]
        wide = self._wide
        by_way = []
        for way in self._ways:
            total = np.zeros(places.shape[:-1])
            for n in others:
                a, b = self.pairs[n]
                step = places - points[a] if b == landmark else points[b] - places
                off = np.linalg.norm(
                    (step * np.array([way, 1.0]) - self.mean[n]) / wide[n], axis=-1
                )
                total += np.minimum(off, self.most_deviations) ** 2
            by_way.append(-0.5 * total / max(1, len(others)))
        return np.asarray(np.max(by_way, axis=0))

    def chosen(self, places: Sequence[Array], scores: Sequence[Array]) -> list[int]:
        """Which hypothesis of each landmark is likeliest, together with those of the others.

        Args:
            places: for each landmark (n, 2) hypotheses, shares of the field.
            scores: for each landmark (n,) how likely each looks by itself, above 0.
        """
        alone = [int(np.argmax(one)) for one in scores]
        if all(len(one) == 1 for one in scores):
            return alone
        tried = [self._improved(places, scores, alone, way) for way in self._ways]
        return max(tried, key=lambda one: one[0])[1]

    @property
    def _ways(self) -> tuple[float, ...]:
        return (1.0, -1.0) if self.both_ways else (1.0,)

    @property
    def _wide(self) -> Array:
        """(n, 2) deviations by which hypotheses are judged, for other cameras, too."""
        apart = np.linalg.norm(self.mean, axis=1, keepdims=True)
        wide = np.hypot(self.deviation, SLACK * apart)
        return np.asarray(np.hypot(wide, self.other_scale * np.abs(self.mean)))

    def _off(self, points: Array, way: float, deviation: Array) -> Array:
        steps = (points[self.pairs[:, 1]] - points[self.pairs[:, 0]]) * np.array([way, 1.0])
        return np.asarray(np.linalg.norm((steps - self.mean) / deviation, axis=1))

    def _improved(
        self, places: Sequence[Array], scores: Sequence[Array], first: list[int], way: float
    ) -> tuple[float, list[int]]:
        """Hypotheses, each chosen given the others', and how likely they are together."""
        chosen = list(first)
        best = self._likelihood(places, scores, chosen, way)
        for _ in range(SWEEPS):
            for k in [k for k, one in enumerate(scores) if len(one) > 1]:
                for number in range(len(scores[k])):
                    other = [*chosen[:k], number, *chosen[k + 1 :]]
                    likely = self._likelihood(places, scores, other, way)
                    if likely > best:
                        best, chosen = likely, other
        return best, chosen

    def _likelihood(
        self, places: Sequence[Array], scores: Sequence[Array], chosen: Sequence[int], way: float
    ) -> float:
        points = np.array([one[number] for one, number in zip(places, chosen, strict=True)])
        alone = sum(
            math.log(max(float(one[number]), 1e-9))
            for one, number in zip(scores, chosen, strict=True)
        )
        off = np.minimum(self._off(points, way, self._wide), self.most_deviations)
        return alone - 0.5 * float((off**2).sum()) / max(1, len(places) - 1)

    def as_data(self) -> dict[str, Any]:
        """Plain data, which `of_data` takes back."""
        return {
            "pairs": self.pairs.tolist(),
            "mean": self.mean.round(6).tolist(),
            "deviation": self.deviation.round(6).tolist(),
            "both_ways": self.both_ways,
            "other_scale": self.other_scale,
            "most_deviations": self.most_deviations,
        }

    @staticmethod
    def of_data(data: dict[str, Any]) -> "Shape":
        """That of `as_data`, read from JSON."""
        return Shape(
            np.array(data["pairs"], dtype=np.int64).reshape(-1, 2),
            np.array(data["mean"], dtype=np.float64).reshape(-1, 2),
            np.array(data["deviation"], dtype=np.float64).reshape(-1, 2),
            bool(data["both_ways"]),
            float(data["other_scale"]),
            float(data["most_deviations"]),
        )
