"""Named points of one scan: arrays (n, 3) float64 in the order x, y, z, LPS millimetres."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError

# Of positions and radii in files: a tenth of a micrometre.
DECIMALS = 4


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Named points of one scan: n names and (n, 3) LPS mm, a row of NaN where one is missing.

    Refused are shapes that disagree, labels that are empty or repeated, and rows that are partly
    NaN or infinite.
    """

    labels: tuple[str, ...]
    positions: NDArray[np.float64]

    def __post_init__(self) -> None:
        labels = tuple(self.labels)
        positions = np.array(self.positions, dtype=np.float64)
        if positions.size == 0:
            positions = positions.reshape(-1, 3)
        if positions.shape != (len(labels), 3):
            raise InputError(
                f"landmark positions have the shape {positions.shape}, expected "
                f"({len(labels)}, 3) for {len(labels)} labels"
            )
        for number, label in enumerate(labels, start=1):
            if not isinstance(label, str) or not label.strip():
                raise InputError(f"landmark {number} has the label {label!r}, expected a name")
        repeated = sorted({label for label in labels if labels.count(label) > 1})
        if repeated:
            raise InputError(f'the landmark label "{repeated[0]}" stands more than once')
        bad = ~(np.isfinite(positions).all(axis=1) | np.isnan(positions).all(axis=1))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            found = f'landmark "{labels[row]}" lies at {positions[row].tolist()}'
            raise InputError(f"{found}, expected three finite coordinates")
        vars(self).update(labels=labels, positions=positions)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(n,) True where a landmark has no position."""
        return np.asarray(np.isnan(self.positions).any(axis=1))

    def select(self, labels: Sequence[str]) -> "Landmarks":
        """Returns the landmarks with these labels, in this order; refuses labels of none."""
        rows = {label: row for row, label in enumerate(self.labels)}
        unknown = [label for label in labels if label not in rows]
        if unknown:
            raise InputError(
                f'no landmark has the label "{unknown[0]}", expected one of '
                f"{', '.join(self.labels) or 'none'}"
            )
        return Landmarks(tuple(labels), self.positions[[rows[label] for label in labels]])


@dataclass(frozen=True, eq=False)
class PointList:
    """One list of landmarks of one scan, named for what it is, for example "final".

    Attributes:
        radius: (n,) around each landmark in the unit of its scan, or None; NaN where a landmark
            has none. The true place lies within it with a probability of 90 %.
        notes: One per landmark, the reason where one is missing; empty for no notes at all.
    """

    name: str
    landmarks: Landmarks
    radius: NDArray[np.float64] | None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.landmarks.labels)
        if not self.name:
            raise InputError("a list of landmarks has no name, expected one")
        found = f'the list "{self.name}" has'
        if self.radius is not None and (shape := np.shape(self.radius)) != (count,):
            raise InputError(f"{found} radii of the shape {shape}, expected ({count},)")
        if self.notes and len(self.notes) != count:
            raise InputError(f"{found} {len(self.notes)} notes, expected {count}")
