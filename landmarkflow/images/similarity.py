"""Compare two images at points: features, linear interpolation, normalised cross-correlation."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.images.operations import (
    array_of,
    block_factors,
    grid_of,
    image_on,
    shrunk,
    view_of,
)
from landmarkflow.images.sampling import map_points, smoothed, under_gaussian

Array = NDArray[np.float64]
Values = NDArray[np.float32]
Number = TypeVar("Number", bound=np.floating[Any])

# A few hundred points tell how alike two balls are as well as all voxels do.
RADIUS_IN_STEPS = 4
# Stands for the norm of values that are all alike.
LEAST_NORM = 1e-12
# Local means are taken on a grid this much finer than their Gaussian's sigma.
SIGMA_IN_VOXELS = 1.5
# The deviation of the noise, in normalised intensity: what is flatter counts less.
LEAST_CONTRAST = 0.05
# Points looked up at a time: what is calculated between them then stays in the processor's cache.
AT_ONCE = 16384


@dataclass(frozen=True)
class Interpolator:
    """A volume that can be asked for its value and gradient anywhere, LPS mm.

    It holds (z · y · x,) voxels, x fastest; `to_index`, (3, 3), takes mm from the origin to them.
    """

    voxels: Values
    size: NDArray[np.int64]
    origin: Array
    to_index: Array

    @staticmethod
    def of(image: sitk.Image) -> "Interpolator":
        """Take over an image's voxels and frame; one voxel along an axis is a ValueError."""
        grid = grid_of(image)
        if min(grid.size) < 2:
            raise ValueError(f"there is nothing to interpolate in {grid.size} voxels")
        voxels = np.ascontiguousarray(array_of(image), dtype=np.float32).ravel()
        to_index = np.asarray(np.linalg.inv(grid.direction * grid.spacing), dtype=np.float64)
        return Interpolator(voxels, np.array(grid.size), grid.origin, to_index)

    def sample(self, points: Array) -> tuple[Values, Values]:
        """Values (n,) and their exact derivatives by the point (n, 3), per mm, at (n, 3) points.

        Beyond the outermost voxel centres both are zero.
        """
        # Coordinate by coordinate, and in float32 from the origin on: memory is what takes time.
        index = (self.to_index @ (points.T - self.origin[:, None])).astype(np.float32)
        values, by_index = interpolated(self.voxels, self.size, index)
        return values, (self.to_index.T.astype(np.float32) @ by_index).T


def interpolated(
    voxels: Values, size: NDArray[np.int64], index: Values, start: NDArray[np.int64] | int = 0
) -> tuple[Values, Values]:
    """Values (n,) between voxels, and their exact derivatives by the index (3, n).

    Args:
        voxels: (z · y · x,) of a volume, x fastest, or of several of one size in a row.
        size: (3,) voxels of a volume along x, y, z.
        index: (3, n) continuous, in the volume; beyond its outermost centres all is zero.
        start: (n,) where each point's volume starts among the voxels.
    """
    count = index.shape[1]
    if count > AT_ONCE:
        values, slopes = np.empty(count, np.float32), np.empty((3, count), np.float32)
        for begun in range(0, count, AT_ONCE):
            part = slice(begun, begun + AT_ONCE)
            its_start = start if isinstance(start, int) else start[part]
            values[part], slopes[:, part] = interpolated(voxels, size, index[:, part], its_start)
        return values, slopes
    last = (size - 1).astype(np.float32)[:, None]
    inside = ((index >= 0) & (index <= last)).all(axis=0)
    first = np.clip(np.floor(index), 0, last - 1)
    x, y, z = np.clip(index - first, 0, 1)
    i, j, k = first.astype(np.intp)
    right, back, up = 1, int(size[0]), int(size[0] * size[1])
    low = i + j * back + k * up + start
    high = low + up
    # The eight voxels around: along x, then y, then z, each difference being a derivative.
    a, b, c, d = voxels[low], voxels[low + back], voxels[high], voxels[high + back]
    a_x, b_x = voxels[low + right] - a, voxels[low + back + right] - b
    c_x, d_x = voxels[high + right] - c, voxels[high + back + right] - d
    a, b, c, d = a + x * a_x, b + x * b_x, c + x * c_x, d + x * d_x
    low_x, high_x = a_x + y * (b_x - a_x), c_x + y * (d_x - c_x)
    low_y, high_y = b - a, d - c
    low_value, high_value = a + y * low_y, c + y * high_y
    by_z = high_value - low_value
    by_index = np.stack([low_x + z * (high_x - low_x), low_y + z * (high_y - low_y), by_z])
    return (low_value + z * by_z) * inside, by_index * inside


def ball(radius_mm: float, spacing_mm: float) -> Array:
    """The points, (n, 3) mm, of a cubic lattice around 0 that lie in a ball."""
    steps = np.arange(-np.ceil(radius_mm / spacing_mm), np.ceil(radius_mm / spacing_mm) + 1)
    lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    points = lattice * spacing_mm
    return np.asarray(points[np.linalg.norm(points, axis=1) <= rim(radius_mm, spacing_mm)])


def rim(radius_mm: float, spacing_mm: float) -> float:
    """A ball's radius with room for rounding, so that points on its rim belong to it."""
    return radius_mm + spacing_mm / 100


def normalised(values: NDArray[Number]) -> NDArray[Number]:
    """Values (n,) shifted and scaled to mean zero and norm one; all alike become all zero."""
    centred = values - values.mean()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), LEAST_NORM))


def correlation(fixed: NDArray[Number], moving: NDArray[Number]) -> tuple[float, NDArray[Number]]:
    """Normalised cross-correlation (Eq. 3) and its derivative, (n,), by the moving values.

    The fixed values, (n,), are of mean zero and norm one, the moving ones, (n,), as they are.
    """
    centred = moving - moving.mean()
    norm = max(float(np.linalg.norm(centred)), LEAST_NORM)
    value = float(fixed @ centred) / norm
    return value, np.asarray((fixed - value / norm * centred) / norm)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Balls around a template's landmarks, and where a transform takes them in a scan.

    The template's values, (n, m), are of mean zero and norm one in each ball; the mapped points
    are (n, m, 3) LPS mm.
    """

    values: Array
    mapped: Array

    @staticmethod
    def of(
        places: Array, transform: sitk.Transform, template: Interpolator, radius_mm: float
    ) -> "Surroundings":
        """The balls around (n, 3) places in the template, LPS mm."""
        points = places[:, None] + ball(radius_mm, radius_mm / RADIUS_IN_STEPS)
        values = template.sample(points.reshape(-1, 3))[0].reshape(points.shape[:2])
        mapped = map_points(transform, points.reshape(-1, 3)).reshape(points.shape)
        return Surroundings(_normalised_rows(values), mapped)

    def similarity(self, target: Interpolator, shifts: Array) -> Array:
        """Normalised cross-correlation, (n,), with a scan where each ball is shifted, (n, 3) mm."""
        return self.similarity_at(slice(None), target, shifts)

    def similarity_at(self, row: int | slice, target: Interpolator, shifts: Array) -> Array:
        """That of one ball, (k,), at each of (k, 3) shifts, mm."""
        points = self.mapped[row] + shifts[:, None]
        moving = target.sample(points.reshape(-1, 3))[0].reshape(points.shape[:2])
        return np.asarray((self.values[row] * _normalised_rows(moving)).sum(axis=1))


def _normalised_rows(values: Values) -> Array:
    """(n, m) values, each row shifted and scaled to mean zero and norm one."""
    centred = values - values.mean(axis=1, keepdims=True, dtype=np.float64)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(norm, LEAST_NORM))


def feature(image: sitk.Image, smoothing_mm: float, contrast_mm: float) -> sitk.Image:
    """What of an image of normalised intensities is compared: it smoothed, then locally normalised.

    Both have the sigma of a Gaussian, in mm; 0 leaves that step out.
    """
    if contrast_mm <= 0 or block_factors(image, contrast_mm / SIGMA_IN_VOXELS) == (1, 1, 1):
        grid, values = grid_of(image), view_of(image).astype(np.float32, copy=False)
        return image_on(grid, features_of(values[None], grid.spacing, smoothing_mm, contrast_mm)[0])
    smooth = smoothed(image, smoothing_mm) if smoothing_mm > 0 else image
    return _locally_normalised(smooth, contrast_mm)


def features_of(values: Values, spacing: Array, smoothing_mm: float, contrast_mm: float) -> Values:
    """The `feature` of (n, z, y, x) small volumes at once, whose spacing is (3,) mm along x, y, z.

    Beyond their ends the outermost voxels go on.
    """

    def blurred(volumes: Values, sigma_mm: float) -> Values:
        return under_gaussian(volumes, (0.0, *(sigma_mm / spacing[::-1])))

    smooth = blurred(values, smoothing_mm) if smoothing_mm > 0 else values
    if contrast_mm <= 0:
        return smooth
    mean = blurred(smooth, contrast_mm)
    variance = np.maximum(blurred(smooth * smooth, contrast_mm) - mean * mean, 0)
    return np.asarray((smooth - mean) / np.sqrt(variance + np.float32(LEAST_CONTRAST**2)))


def _locally_normalised(image: sitk.Image, sigma: float) -> sitk.Image:
    """Less the mean and by the deviation under a Gaussian around each voxel."""
    step = sigma / SIGMA_IN_VOXELS
    mean = smoothed(shrunk(image, step), sigma)
    square = smoothed(shrunk(image * image, step), sigma)
    variance = sitk.Clamp(square - mean * mean, sitk.sitkFloat32, 0.0)
    deviation = sitk.Sqrt(variance + LEAST_CONTRAST**2)
    identity = sitk.Transform(3, sitk.sitkIdentity)

    def here(coarse: sitk.Image) -> sitk.Image:
        # Beyond the coarse voxels' centres the outermost value goes on.
        return sitk.Resample(coarse, image, identity, sitk.sitkLinear, 0.0, sitk.sitkFloat32, True)

    normal: sitk.Image = (image - here(mean)) / here(deviation)
    return normal
