"""The part of space that a scan shows; beyond it nothing is known, not even that there is air."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import grid_of, mirrored_grid
from landmarkflow.images.sampling import carried_grid


@dataclass(frozen=True, eq=False)
class Extent:
    """The volume of a scan's grid, whatever was cut out of it or padded to it."""

    grid: Grid

    def depth(self, points: ArrayLike) -> NDArray[np.float64]:
        """How deep (n, 3) points, LPS mm, lie in the scan: (n,) mm to its border, < 0 beyond it."""
        index = self.grid.to_index(points)
        last = np.array(self.grid.size) - 0.5
        return np.asarray((np.minimum(index + 0.5, last - index) * self.grid.spacing).min(axis=1))

    def holds(self, points: ArrayLike, margin_mm: float) -> NDArray[np.bool_]:
        """(n,) whether (n, 3) points, LPS mm, lie in the scan, a margin away from its border."""
        return np.asarray(self.depth(points) >= margin_mm)

    def covers(self, image: sitk.Image, margin_mm: float = 0.0) -> bool:
        """Whether a whole image lies in the scan, a margin away from its border."""
        return bool(self.holds(grid_of(image).corners, margin_mm).all())

    def mirrored(self) -> "Extent":
        """That of the scan mirrored in the plane x = 0."""
        return Extent(mirrored_grid(self.grid))

    def carried(self, transform: sitk.Transform) -> "Extent":
        """That of the scan moved by the inverse of a rigid transform."""
        return Extent(carried_grid(self.grid, transform))
