"""Images sampled on other grids, smoothed and moved; points under transforms, many at once."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from landmarkflow.core.grids import Grid
from landmarkflow.images.banded import Banded
from landmarkflow.images.operations import grid_of, image_on, place

Array = NDArray[np.float64]

SMOOTHING_RATIO = 1.5
# Where a Gaussian is cut off, in standard deviations.
GAUSSIAN_REACH = 3.0
CUBIC = 3


def resample(
    image: sitk.Image,
    grid: Grid,
    interpolation: Literal["linear", "nearest"] = "linear",
    outside: float = 0.0,
) -> sitk.Image:
    """Samples an image at the voxel centres of `grid`.

    "nearest" keeps labels and the image's type, "linear" gives float32. With the latter, an axis
    along which the grid is coarser than 1.5 times the image is first smoothed against aliasing
    with a Gaussian of sigma = 0.5 sqrt(target spacing^2 - source spacing^2) mm, where the target
    spacing along a source axis d is sqrt(sum_k (d . t_k spacing_k)^2) over the grid's axes t_k.
    Beyond the image's voxels there is the value `outside`.
    """
    nearest = interpolation == "nearest"
    if not nearest:
        source = grid_of(image)
        # Row i, column k: how far one step along the grid's axis k goes along the image's axis i.
        steps = (source.direction.T @ grid.direction) * grid.spacing
        target_spacing = np.linalg.norm(steps, axis=1)
        coarser = target_spacing > SMOOTHING_RATIO * source.spacing
        variance = np.where(coarser, 0.25 * (target_spacing**2 - source.spacing**2), 0.0)
        image = smoothed(image, np.sqrt(variance)) if coarser.any() else image
    return sitk.Resample(
        image,
        grid.size,
        sitk.Transform(3, sitk.sitkIdentity),
        sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear,
        *(values.ravel().tolist() for values in (grid.origin, grid.spacing, grid.direction)),
        float(outside),
        image.GetPixelID() if nearest else sitk.sitkFloat32,
    )


def smoothed(image: sitk.Image, sigma_mm: float | NDArray[np.float64]) -> sitk.Image:
    """Returns a 3D image as float32 under a Gaussian of one sigma, or (3,), along its axes."""
    sigma = (np.broadcast_to(sigma_mm, 3) / image.GetSpacing())[::-1]
    values = sitk.GetArrayViewFromImage(image).astype(np.float32)
    return image_on(grid_of(image), under_gaussian(values, sigma))


def under_gaussian(
    values: NDArray[np.float32], sigma: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float32]:
    """Returns an array under a Gaussian; beyond its ends the outermost values go on.

    The standard deviation along each axis is in steps of that axis; 0 leaves it as it is.
    """
    for axis, deviation in enumerate(sigma):
        if (reach := int(GAUSSIAN_REACH * deviation + 0.5)) > 0:
            values = _weights(values.shape[axis], deviation, reach).along(values, axis)
    return values


def _weights(count: int, deviation: float, reach: int) -> Banded:
    """(count, count) by which a row of numbers is multiplied to be under a Gaussian."""
    steps, places = np.arange(-reach, reach + 1), np.arange(count)
    kernel = np.exp(-0.5 * (steps / deviation) ** 2)
    weights = np.zeros((count, count), np.float32)
    for step, weight in zip(steps, kernel / kernel.sum(), strict=True):
        weights[places, np.clip(places + step, 0, count - 1)] += weight
    return Banded.of(weights)


def carried(image: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """Returns a 3D image moved by the inverse of a rigid transform, by its header alone.

    What lies at transform(p) in the image lies at p in the result, LPS mm. A reflection in the
    transform turns the handedness of the voxel axes over; one that is not rigid is refused.
    """
    result = sitk.Image(image)
    place(result, carried_grid(grid_of(image), transform))
    return result


def carried_grid(grid: Grid, transform: sitk.Transform) -> Grid:
    """Returns where the voxels of `carried` lie."""
    linear, origin = matrix_and_offset(transform.GetInverse())
    return Grid(grid.size, grid.spacing, origin + linear @ grid.origin, linear @ grid.direction)


def map_points(transform: sitk.Transform, points: Array) -> Array:
    """Returns (n, 3) points, LPS mm, where a transform takes them.

    Affine maps and cubic B-splines, and composites of them, take a fifth of the time that
    `TransformPoint` takes in a loop; whatever else there is goes through that loop.
    """
    part = transform.Downcast()
    if isinstance(part, sitk.CompositeTransform):
        for number in reversed(range(part.GetNumberOfTransforms())):
            points = map_points(part.GetNthTransform(number), points)
        return points
    if part.IsLinear():
        matrix, offset = matrix_and_offset(part)
        return np.asarray(points @ matrix.T + offset)
    if isinstance(part, sitk.BSplineTransform) and part.GetOrder() == CUBIC:
        return _mapped_by_spline(part, points)
    return np.array([part.TransformPoint(point) for point in points.tolist()]).reshape(-1, 3)


def matrix_and_offset(transform: sitk.Transform) -> tuple[Array, Array]:
    """Returns A (3, 3) and b (3,) mm of a linear map p → A p + b."""
    offset = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    ends = [np.array(transform.TransformPoint(axis)) for axis in np.eye(3).tolist()]
    return np.stack([end - offset for end in ends], axis=1), offset


def _mapped_by_spline(transform: sitk.BSplineTransform, points: Array) -> Array:
    """The displaced points; as in ITK, one without all of its 64 control points stays."""
    images = transform.GetCoefficientImages()
    first = images[0]
    axes = np.array(first.GetDirection()).reshape(3, 3) * first.GetSpacing()
    index = np.linalg.inv(axes) @ (points - first.GetOrigin()).T
    last = np.array(first.GetSize())[:, None] - 2
    inside = ((index >= 1) & (index <= last)).all(axis=0)
    near = index[::-1, inside]
    mapped = points.copy()
    for axis, image in enumerate(images):
        coefficients = sitk.GetArrayViewFromImage(image)
        mapped[inside, axis] += ndimage.map_coordinates(
            coefficients, near, order=CUBIC, prefilter=False, mode="nearest"
        )
    return mapped
