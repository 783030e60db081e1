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


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an image lie.

    The centre of the voxel with index i lies at p = origin + direction @ (spacing * i).

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
        spacing = np.array(self.spacing, dtype=np.float64)
        origin = np.array(self.origin, dtype=np.float64)
        direction = np.array(self.direction, dtype=np.float64)
        if len(size) != 3 or min(size) < 1:
            raise InputError(f"a grid has the size {size}, expected three counts of at least 1")
        if spacing.shape != (3,) or not (np.isfinite(spacing).all() and (spacing > 0).all()):
            raise InputError(
                f"a grid has the spacing {spacing.tolist()} mm, expected three positive numbers"
            )
        if origin.shape != (3,) or not np.isfinite(origin).all():
            raise InputError(
                f"a grid has the origin {origin.tolist()} mm, expected three finite numbers"
            )
        if direction.shape != (3, 3) or not is_orthonormal(direction):
            raise InputError(
                f"a grid has the axes {np.round(direction, 4).tolist()}, expected an orthonormal "
                "3 x 3 matrix (no shear)"
            )
        for name, value in (
            ("size", size),
            ("spacing", spacing),
            ("origin", origin),
            ("direction", direction),
        ):
            object.__setattr__(self, name, value)

    @staticmethod
    def centred(centre: ArrayLike, size: Sequence[int], spacing: float) -> "Grid":
        """Returns an isotropic grid along the LPS axes whose middle lies at `centre`.

        Args:
            centre: (3,) LPS mm; origin = centre - spacing * (size - 1) / 2.
            size: Voxels along x, y, z.
            spacing: mm, the same along each axis.
        """
        x, y, z = (int(count) for count in size)
        half = (np.array([x, y, z]) - 1) / 2
        origin = np.asarray(centre, dtype=np.float64) - spacing * half
        return Grid((x, y, z), np.full(3, float(spacing)), origin, np.eye(3))

    def to_physical(self, index: ArrayLike) -> NDArray[np.float64]:
        """Returns (n, 3) LPS mm for (n, 3) continuous voxel indices x, y, z."""
        index = _as_points(index)
        return np.asarray(index @ (self.direction * self.spacing).T + self.origin)

    def to_index(self, points: ArrayLike) -> NDArray[np.float64]:
        """Returns (n, 3) continuous voxel indices x, y, z for (n, 3) LPS mm."""
        points = _as_points(points)
        # The inverse, not the transpose: headers give directions with rounding errors.
        inverse = np.linalg.inv(self.direction * self.spacing)
        return np.asarray((points - self.origin) @ inverse.T)

    def contains(self, points: ArrayLike) -> NDArray[np.bool_]:
        """Returns (n,) True where a point lies within the voxels' outer edges.

        The volume reaches half a voxel beyond the outermost centres:
        -0.5 <= index <= size - 0.5 on each axis, within 1e-6 voxel. NaN lies outside.
        """
        index = self.to_index(points)
        lowest = -0.5 - EDGE_TOLERANCE
        highest = np.array(self.size) - 0.5 + EDGE_TOLERANCE
        return np.asarray(((index >= lowest) & (index <= highest)).all(axis=1))

    def distance_to(self, points: ArrayLike) -> NDArray[np.float64]:
        """Returns (n,) mm from each point to the volume's outer edges, 0 within."""
        points = _as_points(points)
        nearest = np.clip(self.to_index(points), -0.5, np.array(self.size) - 0.5)
        return np.asarray(np.linalg.norm(points - self.to_physical(nearest), axis=1))

    def as_lists(self) -> dict[str, list[Any]]:
        """Returns the attributes as plain data, which `Grid.of_lists` takes back."""
        return {
            "size": list(self.size),
            "spacing": self.spacing.tolist(),
            "origin": self.origin.tolist(),
            "direction": self.direction.tolist(),
        }

    @staticmethod
    def of_lists(data: Mapping[str, Any]) -> "Grid":
        """Returns the grid of `as_lists`."""
        names = ("size", "spacing", "origin", "direction")
        size, spacing, origin, direction = (data[name] for name in names)
        return Grid(tuple(size), np.array(spacing), np.array(origin), np.array(direction))

    @property
    def centre(self) -> NDArray[np.float64]:
        """(3,) LPS mm, the middle of the volume."""
        middle: NDArray[np.float64] = self.to_physical((np.array([self.size]) - 1) / 2)[0]
        return middle

    @property
    def corners(self) -> NDArray[np.float64]:
        """(8, 3) LPS mm, the outer corners of the volume, the first index axis fastest."""
        unit = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
        return self.to_physical(unit * np.array(self.size) - 0.5)

    def extent_text(self) -> str:
        """Returns the smallest LPS-aligned box around the volume, in words, for messages."""
        lowest, highest = self.corners.min(axis=0), self.corners.max(axis=0)
        ranges = [
            f"{axis} {low:.1f} to {high:.1f}"
            for axis, low, high in zip("xyz", lowest, highest, strict=True)
        ]
        return f"{', '.join(ranges)} mm (LPS)"


def is_orthonormal(direction: NDArray[np.float64]) -> bool:
    """Tells whether the columns are unit vectors at right angles, within 1e-3."""
    product = direction.T @ direction
    return bool(np.abs(product - np.eye(len(direction))).max() <= ORTHONORMAL_TOLERANCE)


def _as_points(points: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"points have the shape {array.shape}, expected (n, 3)")
    return array
