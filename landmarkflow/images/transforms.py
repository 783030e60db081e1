"""Map many points at once, as ITK maps them one by one."""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]

CUBIC = 3


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
