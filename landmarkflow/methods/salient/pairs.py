"""Alignment of every pair of pictures, its errors, and how many of the landmarks are right."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from landmarkflow.methods.salient.similarity import (
    Similarity,
    is_flipped,
    of_several,
    of_two,
    unchanged,
)

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shown:
    """One picture as it takes part in alignments.

    Attributes:
        scan: its id.
        width: pixels.
        scale: length that errors are given in percent of, pixels.
        found: discovered landmarks by name, (2,) pixels.
        true: reference landmarks by name, (2,) pixels.
    """

    scan: str
    width: int
    scale: float
    found: Mapping[str, Array]
    true: Mapping[str, Array]

    def places(self, names: Sequence[str], *, true: bool = False) -> Array | None:
        """(n, 2) places of landmarks; None where one is missing."""
        known = self.true if true else self.found
        if any(name not in known for name in names):
            return None
        return np.array([known[name] for name in names])

    def is_right(self, name: str, near: float) -> bool:
        """Whether a landmark was found within `near` percent of the scale of its reference."""
        if name not in self.found or name not in self.true:
            return False
        away = float(np.linalg.norm(self.found[name] - self.true[name]))
        return away <= near / 100 * self.scale


# An alignment of a source with a target; None where there is none.
Aligner = Callable[[Shown, Shown], Similarity | None]


def by_landmarks(names: Sequence[str], tolerance: float) -> Aligner:
    """Aligner by discovered landmarks: two as in the paper, or more by what most agree on.

    Args:
        names: of the landmarks; of more than two, at least two must be in both pictures.
        tolerance: distance up to which one agrees, percent of the target's scale.
    """

    def align(source: Shown, target: Shown) -> Similarity | None:
        both = [name for name in names if name in source.found and name in target.found]
        if len(both) < 2:
            return None
        a, b = source.places(both), target.places(both)
        assert a is not None
        assert b is not None
        if len(names) == 2:
            return of_two(a, b, source.width)
        return of_several(a, b, source.width, tolerance / 100 * target.scale)

    return align


def unaligned(source: Shown, target: Shown) -> Similarity:
    """No alignment."""
    return unchanged(source.width)


def left_right(names: Sequence[str]) -> Aligner:
    """Aligner that mirrors a head that looks the other way, by the two reference landmarks."""

    def align(source: Shown, target: Shown) -> Similarity | None:
        a, b = source.places(names[:2], true=True), target.places(names[:2], true=True)
        if a is None or b is None:
            return None
        return unchanged(source.width, flip=is_flipped(a, b))

    return align


def pairs_of(pictures: Sequence[Shown]) -> list[tuple[Shown, Shown]]:
    """Every unique pair, the first as the source."""
    return list(combinations(pictures, 2))


def errors_of(
    pairs: Sequence[tuple[Shown, Shown]], align: Aligner, names: Sequence[str]
) -> tuple[Array, NDArray[np.bool_]]:
    """(pairs, names) distances of reference landmarks after alignment, and which are aligned.

    Distances are percent of the target's scale; NaN where a reference is missing. A pair without
    an alignment is measured as it lies.
    """
    errors = np.full((len(pairs), len(names)), np.nan)
    aligned = np.zeros(len(pairs), bool)
    for row, (source, target) in enumerate(pairs):
        found = align(source, target)
        aligned[row] = found is not None
        change = found or unchanged(source.width)
        for column, name in enumerate(names):
            if name in source.true and name in target.true:
                moved = change.apply(source.true[name][None])[0]
                away = float(np.linalg.norm(moved - target.true[name]))
                errors[row, column] = 100 * away / target.scale
    return errors, aligned


def mean_and_error(values: Array) -> tuple[float, float, int]:
    """Mean, standard error of the mean, and number of the values that are no NaN."""
    known = values[~np.isnan(values)]
    if not len(known):
        return math.nan, math.nan, 0
    spread = float(known.std(ddof=1)) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    return float(known.mean()), spread, len(known)


@dataclass(frozen=True)
class Coverage:
    """How many landmarks and pictures of a group are right, percent.

    Attributes:
        pictures: number of them.
        landmarks: number of discovered landmarks with the name of a structure.
        structures: number of annotated structures.
        precision: discovered landmarks near the structure of their name.
        recall: annotated structures near a landmark of their name.
        aligned: pictures with every landmark that alignment needs.
        right: pictures in which all these are near their structure.
    """

    pictures: int
    landmarks: int
    structures: int
    precision: float
    recall: float
    aligned: float
    right: float


def coverage(
    pictures: Sequence[Shown], names: Sequence[str], structures: Sequence[str], near: float
) -> Coverage:
    """Precision, recall and share of aligned pictures.

    Args:
        pictures: of one group.
        names: that alignment needs.
        structures: all names of structures; a landmark of one that its picture does not show is
            wrong. Where no picture has any annotated, nothing is right or wrong.
        near: percent of the scale within which a landmark is right.
    """
    found = [(one, name) for one in pictures for name in structures if name in one.found]
    true = [(one, name) for one in pictures for name in structures if name in one.true]
    right = sum(one.is_right(name, near) for one, name in found)
    needed = min(2, len(names))
    complete = [one for one in pictures if sum(name in one.found for name in names) >= needed]
    correct = [one for one in pictures if all(one.is_right(name, near) for name in names)]

    def percent(part: int, whole: int) -> float:
        return 100 * part / whole if whole else math.nan

    return Coverage(
        pictures=len(pictures),
        landmarks=len(found),
        structures=len(true),
        precision=percent(right, len(found) if true else 0),
        recall=percent(right, len(true)),
        aligned=percent(len(complete), len(pictures)),
        right=percent(len(correct), len(pictures) if true else 0),
    )
