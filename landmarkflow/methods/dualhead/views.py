"""Parts of any scan on grids along LPS, as networks see them."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.images.operations import array_of, cropped, grid_of
from landmarkflow.images.sampling import resample
from landmarkflow.methods.dualhead.turns import Turn

Array = NDArray[np.float64]
Maps = NDArray[np.float32]

# Around a part that is cut out of a scan, for the smoothing that a coarser grid needs.
CROP_MARGIN_MM = 2.0


@dataclass(frozen=True, eq=False)
class View:
    """A scan, and which of its intensities are 0 and 1; beyond the scan there is 0.

    Attributes:
        image: in its own units, on its own grid.
        low: intensity that is 0.
        high: intensity that is 1.
        turn: how the scan is turned before it is seen, if it is.
    """

    image: sitk.Image
    low: float
    high: float
    turn: Turn | None = None

    @property
    def grid(self) -> Grid:
        """The scan's own grid."""
        return grid_of(self.image)

    def on(self, grid: Grid) -> Maps:
        """(z, y, x) intensities of 0 to 1 on a grid.

        Only the part of the scan around the grid is touched: memory does not grow with the scan.
        """
        if self.turn is not None:
            grid = self.turn.grid_in_scan(grid)
        try:
            margin = CROP_MARGIN_MM + float(grid.spacing[0])
            part = cropped(self.image, grid.corners, margin)
        except InputError:
            return np.zeros(grid.size[::-1], np.float32)
        return normalised(array_of(resample(part, grid, "linear", self.low)), self.low, self.high)


def normalised(values: NDArray[np.generic], low: float, high: float) -> Maps:
    """Intensities so that `low` becomes 0 and `high` 1, clipped."""
    scaled = (values.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.clip(scaled, 0, 1, out=scaled)


def covering(low: Array, high: Array, spacing: float, multiple: int = 1) -> Grid:
    """LPS-aligned grid of isotropic voxels whose outer edges hold the box from low to high, mm.

    Its sizes are multiples of a number; it grows evenly on both sides to come to them.
    """
    counts = np.maximum(1, np.ceil((high - low) / spacing - 1e-6)).astype(int)
    x, y, z = (int(-(-count // multiple) * multiple) for count in counts)
    return Grid.centred((low + high) / 2, (x, y, z), spacing)
