"""How a target lies: the rotation that takes the template's landmarks to a scan's."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from landmarkflow.core.grids import Grid

Array = NDArray[np.float64]

# Landmarks that lie less than this far off a line tell no rotation about it.
LEAST_WIDTH_MM = 0.5


@dataclass(frozen=True, eq=False)
class Turn:
    """A rotation about a place; what is turned lies as the template does.

    Attributes:
        rotation: (3, 3), takes directions in the template to those in the scan.
        about: (3,) LPS mm, stays where it is.
    """

    rotation: Array
    about: Array

    def to_scan(self, points: Array) -> Array:
        """(n, 3) LPS mm in the scan of points of the turned one."""
        return np.asarray((points - self.about) @ self.rotation.T + self.about)

    def from_scan(self, points: Array) -> Array:
        """(n, 3) LPS mm in the turned scan of points of the scan."""
        return np.asarray((points - self.about) @ self.rotation + self.about)

    def grid_in_scan(self, grid: Grid) -> Grid:
        """Where the voxels of a grid of the turned scan lie in the scan."""
        origin = self.to_scan(grid.origin[None])[0]
        return Grid(grid.size, grid.spacing, origin, self.rotation @ grid.direction)


def turn_of(positions: Array, template: Array, weights: Array) -> Turn | None:
    """How a target lies, by least squares over its landmarks (Kabsch).

    Args:
        positions: (k, 3) LPS mm of the scan; NaN where unknown.
        template: (k, 3) LPS mm of the template.
        weights: (k,) how much each counts; 0 for not at all.

    Returns:
        The rotation about the landmarks' middle; None where they lie on a line, or too few count.
    """
    known = np.isfinite(positions).all(axis=1) & np.isfinite(template).all(axis=1) & (weights > 0)
    if known.sum() < 3:
        return None
    weight = weights[known] / weights[known].sum()
    about = weight @ positions[known]
    here = positions[known] - about
    there = template[known] - weight @ template[known]
    widths = [np.linalg.svd(np.sqrt(weight)[:, None] * part)[1][1] for part in (here, there)]
    if min(widths) < LEAST_WIDTH_MM:
        return None
    rotation, _ = Rotation.align_vectors(here, there, weights=weight)
    return Turn(np.asarray(rotation.as_matrix()), about)
