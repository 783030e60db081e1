"""Images as arrays on grids and back; cutting out, mirroring, averaging blocks of voxels.

Images are SimpleITK images, whose physical space is LPS millimetres. Arrays are in the order
z, y, x; everything else is in the order x, y, z.
"""

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid, bounds

# What a point's LPS coordinates are multiplied by to mirror it in the plane x = 0.
MIRROR = np.array([-1.0, 1.0, 1.0])


def grid_of(image: sitk.Image) -> Grid:
    """Returns where the voxels of a 3D image lie."""
    direction = np.reshape(image.GetDirection(), (3, 3))
    return Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), direction)


def image_on(grid: Grid, array: NDArray[Any]) -> sitk.Image:
    """Returns an image of a copy of `array`, in its order z, y, x, on a grid of its size."""
    if array.shape != grid.size[::-1]:
        raise ValueError(f"the array is {array.shape}, expected {grid.size[::-1]} (z, y, x)")
    image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == np.bool_ else array)
    place(image, grid)
    return image


def array_of(image: sitk.Image) -> NDArray[Any]:
    """Returns a copy of an image's voxels in the order z, y, x."""
    return np.asarray(sitk.GetArrayFromImage(image))


def view_of(image: sitk.Image) -> NDArray[Any]:
    """Returns an image's voxels in the order z, y, x, not to be written to or kept."""
    return np.asarray(sitk.GetArrayViewFromImage(image))


def place(image: sitk.Image, grid: Grid) -> None:
    """Puts an image's voxels where those of `grid` lie."""
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.origin.tolist())
    image.SetDirection(grid.direction.ravel().tolist())


def cropped(image: sitk.Image, points: NDArray[np.float64], margin_mm: float) -> sitk.Image:
    """Cuts out the voxels in the bounding box of (n, 3) points, LPS mm, and a margin around it.

    Points and a margin without any voxel are refused.
    """
    grid = grid_of(image)
    index = grid.to_index(points)
    margin = margin_mm / grid.spacing
    low, high = bounds(index)
    first = np.maximum(np.floor(low - margin), 0).astype(int)
    last = np.minimum(np.ceil(high + margin) + 1, grid.size).astype(int)
    if (last <= first).any():
        extent = grid.extent_text()
        raise InputError(f"the points lie outside the image, expected some within {extent}")
    part: sitk.Image = sitk.RegionOfInterest(image, (last - first).tolist(), first.tolist())
    return part


def mirrored(image: sitk.Image) -> sitk.Image:
    """Returns the same anatomy mirrored in the plane x = 0, without resampling.

    What lies at (x, y, z) in the image lies at (-x, y, z) in the result. With
    M = diag(-1, 1, 1), mirroring alone would give the axes M D and turn their handedness over;
    the first voxel axis is therefore reversed (F = M): D' = M D F and
    origin' = M (origin + D[:, 0] * spacing[0] * (size[0] - 1)). The axes keep their handedness.
    """
    return image_on(mirrored_grid(grid_of(image)), np.ascontiguousarray(view_of(image)[:, :, ::-1]))


def mirrored_grid(grid: Grid) -> Grid:
    """Returns where the voxels of `mirrored` lie."""
    mirror = np.diag(MIRROR)
    last = grid.to_physical([[grid.size[0] - 1, 0, 0]])[0]
    return Grid(grid.size, grid.spacing, mirror @ last, mirror @ grid.direction @ mirror)


def shrunk(image: sitk.Image, spacing: float) -> sitk.Image:
    """Averages blocks of voxels, as float32, so that the spacing comes close to `spacing` mm.

    Each axis of a 3D scalar image is divided by the whole number nearest to the ratio of the
    spacings, at least 1. The result keeps the image's frame; voxels that fill no whole block at
    the far ends are left out.
    """
    factors = block_factors(image, spacing)
    # A cast to the type that it is would be a copy.
    exact = image if image.GetPixelID() == sitk.sitkFloat32 else sitk.Cast(image, sitk.sitkFloat32)
    means: sitk.Image = sitk.BinShrink(exact, factors)
    return means


def block_factors(image: sitk.Image, spacing: float) -> tuple[int, int, int]:
    """Returns how many voxels along x, y, z make a block of about `spacing` mm: at least 1."""
    x, y, z = (
        min(max(1, round(spacing / step)), count)
        for step, count in zip(image.GetSpacing(), image.GetSize(), strict=True)
    )
    return x, y, z


def blocks_grid(grid: Grid, factors: tuple[int, int, int]) -> Grid:
    """Returns the grid of blocks of so many voxels along x, y, z, the first at a grid's start."""
    steps = np.array(factors)
    x, y, z = (np.array(grid.size) // steps).tolist()
    origin = grid.to_physical([(steps - 1) / 2])[0]
    return Grid((x, y, z), grid.spacing * steps, origin, grid.direction)
