"""An asymmetric bone known at every point, so that images of it in any pose need no resampling."""

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks
from landmarkflow.images.extent import Extent
from landmarkflow.images.operations import array_of, grid_of, image_on
from landmarkflow.images.sampling import map_points
from landmarkflow.methods.oneshot.mixture import Mixture

Points = NDArray[np.float64]

SOFT, DENSE = 0.26, 0.75
EDGE_MM = 0.3
# Centre and semi-axes of the ellipsoids that it is made of, mm: no symmetry is left.
PARTS = (
    ((0.0, 0.0, 0.0), (5.5, 3.4, 2.2)),
    ((3.0, 2.6, 0.8), (1.8, 1.8, 1.8)),
    ((-3.2, -0.6, 2.1), (1.2, 1.2, 1.2)),
)
LANDMARKS = Landmarks(
    ("tip", "knob", "bump", "flank"),
    np.array([[5.5, 0.0, 0.0], [3.6, 4.2, 1.2], [-3.4, -0.8, 3.2], [0.5, -3.3, -0.6]]),
)
MIXTURE = Mixture(np.array([0.7, 0.3]), np.array([SOFT, DENSE]), np.array([0.05, 0.05]))


def bone(points: Points) -> Points:
    """Normalised intensities (n,) of the bone at (n, 3) points: dense and mottled, edges soft."""
    depth = np.full(len(points), -np.inf)
    for centre, axes in PARTS:
        reach = np.linalg.norm((points - np.array(centre)) / np.array(axes), axis=1)
        depth = np.maximum(depth, (1.0 - reach) * min(axes))
    inside = 1 / (1 + np.exp(-np.clip(depth / EDGE_MM, -30, 30)))
    x, y, z = points.T
    mottle = np.sin(2.1 * x + 0.3) * np.sin(1.7 * y + 1.0) * np.sin(1.9 * z + 0.5)
    return np.asarray(SOFT + (DENSE - SOFT + 0.05 * mottle) * inside)


def depth_mask(grid: Grid, reach_mm: float = 7.0) -> sitk.Image:
    """A 0/1 ball around the bone."""
    return sampled(grid, lambda p: (np.linalg.norm(p, axis=1) < reach_mm).astype(np.uint8))


def sampled(grid: Grid, function: Callable[[Points], NDArray[np.generic]]) -> sitk.Image:
    """An image of a function of LPS points."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.size), indexing="ij"), axis=-1)
    values = function(grid.to_physical(index.reshape(-1, 3).astype(float)))
    if values.dtype == np.float64:
        values = values.astype(np.float32)
    return image_on(grid, values.reshape(grid.size).T)


def moved(
    function: Callable[[Points], Points], transform: sitk.Transform, size: int = 44
) -> sitk.Image:
    """What a function draws about the origin, where a transform puts it, on a grid there."""
    inverse = transform.GetInverse()
    grid = Grid.centred(transform.TransformPoint((0.2, 0.0, -0.1)), (size, size, size), 0.5)
    return sampled(grid, lambda points: function(map_points(inverse, points)))


def cut(image: sitk.Image, axis: int, side: int, plane_mm: float) -> tuple[sitk.Image, Extent]:
    """An image of which a scan shows what lies before a plane; beyond it there is air.

    Args:
        image: with voxels along the LPS axes.
        axis: 0, 1 or 2, the LPS axis that the plane stands on.
        side: 1 where the scan ends towards larger coordinates, -1 towards smaller ones.
        plane_mm: the LPS coordinate at which it ends, but for half a voxel.
    """
    grid, values = grid_of(image), array_of(image).copy()
    border = int(np.ceil((plane_mm - grid.origin[axis]) / grid.spacing[axis]))
    first, last = (0, border) if side > 0 else (border, grid.size[axis])
    along = np.moveaxis(values, 2 - axis, 0)
    along[:first] = along[last:] = 0
    size, start = np.array(grid.size), np.zeros((1, 3))
    size[axis], start[0, axis] = last - first, first
    x, y, z = size.tolist()
    shown = Grid((x, y, z), grid.spacing, grid.to_physical(start)[0], grid.direction)
    return image_on(grid, values), Extent(shown)
