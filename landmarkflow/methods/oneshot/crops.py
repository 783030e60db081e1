"""The cube that is cut out of a region around a place that may hold the target."""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import grid_of, image_on, view_of


def crop_around(region: sitk.Image, position: NDArray[np.float64], field_mm: float) -> sitk.Image:
    """Cube of about `field_mm` around a point on the region's own lattice, air where it ends."""
    grid = grid_of(region)
    pixels = int(np.ceil(field_mm / float(grid.spacing[0])))
    first = np.round(grid.to_index(position[None])[0]).astype(int) - pixels // 2
    low, high = (np.clip(end, 0, grid.size)[::-1] for end in (first, first + pixels))
    there = tuple(slice(*ends) for ends in zip(low, high, strict=True))
    here = tuple(slice(*ends) for ends in zip(low - first[::-1], high - first[::-1], strict=True))
    # No padding of the region, which of a head is many times as large as the cube.
    values = np.zeros((pixels,) * 3, view_of(region).dtype)
    values[here] = view_of(region)[there]
    origin = grid.to_physical(first[None])[0]
    return image_on(Grid((pixels,) * 3, grid.spacing, origin, grid.direction), values)
