"""The cube that is cut out of a region around a place that may hold the target."""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.images.operations import grid_of


def crop_around(region: sitk.Image, position: NDArray[np.float64], field_mm: float) -> sitk.Image:
    """Cube of about `field_mm` around a point on the region's own lattice, air where it ends."""
    grid = grid_of(region)
    pixels = int(np.ceil(field_mm / float(grid.spacing[0])))
    first = np.round(grid.to_index(position[None])[0]).astype(int) - pixels // 2
    last = first + pixels
    low = np.maximum(-first, 0)
    high = np.maximum(last - np.array(grid.size), 0)
    padded = sitk.ConstantPad(region, low.tolist(), high.tolist(), 0.0)
    crop: sitk.Image = sitk.RegionOfInterest(padded, [pixels] * 3, (first + low).tolist())
    return crop
