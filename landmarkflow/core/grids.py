"""Voxel grids in physical space: millimetres, axes LPS (left, posterior, superior).

Arrays of points are (n, 3) float64 in the order x, y, z. Voxel indices are in the same order and
count from zero at the centre of the first voxel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landmarkflow.core.errors import InputError

ORTHONORMAL_TOLERANCE = 1e-3
EDGE_TOLERANCE = 1e-6
# (8, 3) of a cube from 0 to 1, x fastest.
CORNERS = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)])


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an image lie: that of index i at origin + direction @ (spacing * i).

    Attributes:
        size: Voxels along each axis, x, y, z.
        spacing: (3,) mm between the centres of neighbouring voxels along each axis.
        origin: (3,) LPS mm, the centre of the first voxel.
        direction: (3, 3), column k is the unit vector of axis k; its determinant is 1 or, for
            left-handed voxel axes, -1.

    Raises:
        InputError: A size is below 1, a spacing is not positive, a value is not finite or the
            directions are not orthonormal within 1e-3.
    """

    size: tuple[int, int, int]
    spacing: NDArray[np.float64]
    origin: NDArray[np.float64]
    direction: NDArray[np.float64]

    def __post_init__(self) -> None:
        size = tuple(int(count) for count in self.size)
        spacing, origin, direction = (
            np.array(value, dtype=np.float64)
            for value in (self.spacing, self.origin, self.direction)
        )
        wrong = ""
        if len(size) != 3 or min(size) < 1:
            wrong = f"size {size}, expected three counts of at least 1"
        elif spacing.shape != (3,) or not (np.isfinite(spacing).all() and (spacing > 0).all()):
            wrong = f"spacing {spacing.tolist()} mm, expected three positive numbers"
        elif origin.shape != (3,) or not np.isfinite(origin).all():
            wrong = f"origin {origin.tolist()} mm, expected three finite numbers"
        elif direction.shape != (3, 3) or not is_orthonormal(direction):
            axes = np.round(direction, 4).tolist()
            wrong = f"axes {axes}, expected an orthonormal 3 x 3 matrix (no shear)"
        if wrong:
            raise InputError(f"a grid has the {wrong}")
        # Its own copies; assignment is what a frozen dataclass forbids.
        vars(self).update(size=size, spacing=spacing, origin=origin, direction=direction)

    @staticmethod
    def centred(centre: ArrayLike, size: Sequence[int], spacing: float) -> "Grid":
        """Returns a grid along the LPS axes whose middle lies at `centre`, (3,) LPS mm.

        The origin is centre - spacing * (size - 1) / 2; the spacing in mm is that of each axis.
        """
        x, y, z = (int(count) for count in size)
        half = (np.array([x, y, z]) - 1) / 2
        origin = np.asarray(centre, dtype=np.float64) - spacing * half
        return Grid((x, y, z), np.full(3, float(spacing)), origin, np.eye(3))

    def to_physical(self, index: ArrayLike) -> NDArray[np.float64]:
        """Returns (n, 3) LPS mm for (n, 3) continuous voxel indices x, y, z."""
        return np.asarray(_as_points(index) @ (self.direction * self.spacing).T + self.origin)

    def to_index(self, points: ArrayLike) -> NDArray[np.float64]:
        """Returns (n, 3) continuous voxel indices x, y, z for (n, 3) LPS mm."""
        # The inverse, not the transpose: headers give directions with rounding errors.
        inverse = np.linalg.inv(self.direction * self.spacing)
        return np.asarray((_as_points(points) - self.origin) @ inverse.T)

    def contains(self, points: ArrayLike) -> NDArray[np.bool_]:
        """Returns (n,) True where a point lies within the voxels' outer edges.

        The volume reaches half a voxel beyond the outermost centres:
        -0.5 <= index <= size - 0.5 on each axis, within 1e-6 voxel. NaN lies outside.
        """
        index = self.to_index(points)
        highest = np.array(self.size) - 0.5 + EDGE_TOLERANCE
        return np.asarray(((index >= -0.5 - EDGE_TOLERANCE) & (index <= highest)).all(axis=1))

    def distance_to(self, points: ArrayLike) -> NDArray[np.float64]:
        """Returns (n,) mm from each point to the volume's outer edges, 0 within."""
        nearest = np.clip(self.to_index(points), -0.5, np.array(self.size) - 0.5)
        return np.asarray(np.linalg.norm(_as_points(points) - self.to_physical(nearest), axis=1))

    def as_lists(self) -> dict[str, list[Any]]:
        """Returns the attributes as plain data, which `Grid.of_lists` takes back."""
        return {name: np.asarray(value).tolist() for name, value in vars(self).items()}

    @staticmethod
    def of_lists(data: Mapping[str, Any]) -> "Grid":
        """Returns the grid of `as_lists`."""
        return Grid(*(data[name] for name in ("size", "spacing", "origin", "direction")))

    @property
    def centre(self) -> NDArray[np.float64]:
        """(3,) LPS mm, the middle of the volume."""
        middle: NDArray[np.float64] = self.to_physical((np.array([self.size]) - 1) / 2)[0]
        return middle

    @property
    def corners(self) -> NDArray[np.float64]:
        """(8, 3) LPS mm, the outer corners of the volume, the first index axis fastest."""
        return self.to_physical(CORNERS * np.array(self.size) - 0.5)

    def extent_text(self) -> str:
        """Returns the smallest LPS-aligned box around the volume, in words, for messages."""
        ends = zip("xyz", self.corners.min(axis=0), self.corners.max(axis=0), strict=True)
        ranges = (f"{axis} {low:.1f} to {high:.1f}" for axis, low, high in ends)
        return f"{', '.join(ranges)} mm (LPS)"


def bounds(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the least and the greatest coordinates, (3,) each, of (n, 3) points."""
    # Coordinate by coordinate, since numpy takes ten times as long for all at once.
    low, high = np.transpose([(axis.min(), axis.max()) for axis in points.T])
    return low, high


def is_orthonormal(direction: NDArray[np.float64]) -> bool:
    """Tells whether the columns are unit vectors at right angles, within 1e-3."""
    product = direction.T @ direction
    return bool(np.abs(product - np.eye(len(direction))).max() <= ORTHONORMAL_TOLERANCE)


def _as_points(points: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"points have the shape {array.shape}, expected (n, 3)")
    return array
