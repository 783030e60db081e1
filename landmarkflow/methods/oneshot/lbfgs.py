"""Register by L-BFGS: an affine, then B-splines ever finer, by locally normalised correlation.

The template is compared at the points of a raster along the lattice's axes, so that a spline and
its derivative are three small dense products each, whose factors all scans of a batch share.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import optimize, sparse

from landmarkflow.images.bsplines import Lattice, Raster, Spline
from landmarkflow.images.extent import Extent
from landmarkflow.images.masks import points_inside
from landmarkflow.images.operations import shrunk
from landmarkflow.images.similarity import (
    Interpolator,
    Values,
    correlation,
    feature,
    interpolated,
    normalised,
)
from landmarkflow.methods.oneshot.settings import LbfgsSettings, LevelSettings, SplineLevelSettings

Array = NDArray[np.float64]
Objective = Callable[[Array], tuple[float, Array]]

# A relative gain below this ends a level.
LEAST_GAIN = 1e-5
# Of which the curvature is guessed; more cost more than they gain.
REMEMBERED_STEPS = 5


@dataclass(frozen=True)
class Samples:
    """Where the template is compared at one level, and its intensities there.

    Attributes:
        points: (n, 3) LPS mm.
        values: (n,) of mean zero and norm one.
    """

    points: Array
    values: Values


@dataclass(frozen=True)
class SplineLevel:
    """What all scans share at one level: samples, control points, weights and bending.

    `free` are the numbers, (m,), of the control points that move; the others stay at their start.
    """

    settings: SplineLevelSettings
    samples: Samples
    lattice: Lattice
    spline: Spline
    bending: sparse.csr_matrix
    free: NDArray[np.int64]


@dataclass(frozen=True)
class Prepared:
    """The template, ready for any number of scans."""

    affine: Samples | None
    levels: tuple[SplineLevel, ...]


@dataclass(frozen=True)
class Affine:
    """The map p → matrix @ p + offset, LPS mm."""

    matrix: Array
    offset: Array

    def transform(self) -> sitk.AffineTransform:
        """The map as an ITK transform."""
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(self.matrix.ravel().tolist())
        transform.SetTranslation(self.offset.tolist())
        return transform


def prepare(fixed: sitk.Image, mask: sitk.Image, settings: LbfgsSettings, *, seed: int) -> Prepared:
    """Choose the template's points and compute what does not depend on the scan.

    Args:
        fixed: the template.
        mask: where the similarity counts, on the template's grid.
        settings: levels.
        seed: of the choice of points.
    """
    generator = np.random.default_rng(seed)
    inside = points_inside(mask)

    def raster(level: LevelSettings) -> Raster:
        return Raster.inside(mask, level.samples, generator.uniform(size=3))

    def samples(level: LevelSettings, points: Array) -> Samples:
        found, _ = Interpolator.of(_feature_at(fixed, level)).sample(points)
        return Samples(points, normalised(found))

    levels: list[SplineLevel] = []
    for level in settings.levels:
        compared = raster(level)
        lattice = Lattice.over(inside, level.grid_spacing_mm)
        spline = Spline.on(compared, lattice)
        # Where a coarser lattice has been, what no sample sees need not follow: two thirds of a
        # skull's control points.
        free = spline.seen if levels else np.arange(lattice.count)
        bending = level.bending * lattice.bending()[free]
        levels.append(
            SplineLevel(level, samples(level, compared.points), lattice, spline, bending, free)
        )
    affine = settings.affine
    first = samples(affine, raster(affine).points) if affine else None
    return Prepared(first, tuple(levels))


def register(
    prepared: Prepared, moving: sitk.Image, settings: LbfgsSettings, extent: Extent | None = None
) -> list[sitk.Transform]:
    """Register a scan that already lies on the template.

    Minimises -NCC + bending · mean |∂²u|² (Eq. 5 and 6 with another regulariser), level by level.

    Args:
        prepared: the template.
        moving: the target.
        settings: as `prepare` had.
        extent: what the target's scan shows, if not all of `moving`; samples that a level's start
            puts beyond it do not count.

    Returns:
        The map from template to target points, LPS mm, in the order in which an ITK composite
        lists its parts: the last is applied first.
    """
    affine = Affine(np.eye(3), np.zeros(3))
    if settings.affine and prepared.affine:
        affine = _fit_affine(prepared.affine, moving, settings.affine, extent)
    coarser: tuple[Lattice, Array] | None = None
    for level in prepared.levels:
        if coarser is None:
            start = np.zeros((3, level.lattice.count))
        else:
            start = coarser[0].refined(coarser[1], level.lattice)
        coarser = level.lattice, _fit_spline(level, moving, affine, start, extent)
    spline = [] if coarser is None else [coarser[0].transform(coarser[1])]
    return [affine.transform(), *spline]


def _fit_affine(
    samples: Samples, moving: sitk.Image, level: LevelSettings, extent: Extent | None
) -> Affine:
    target = Interpolator.of(_feature_at(moving, level))
    seen = _seen(samples.points, level, extent)
    if seen is not None:
        samples = Samples(samples.points[seen], normalised(samples.values[seen]))
    middle = samples.points.mean(axis=0)
    arms = samples.points - middle
    # So that a step of one in any number moves the points by about 1 mm.
    reach = float(np.linalg.norm(arms, axis=1).mean())

    def matrix_and_shift(numbers: Array) -> tuple[Array, Array]:
        return np.eye(3) + numbers[:9].reshape(3, 3) / reach, numbers[9:]

    def objective(numbers: Array) -> tuple[float, Array]:
        matrix, shift = matrix_and_shift(numbers)
        values, gradients = target.sample(arms @ matrix.T + middle + shift)
        value, by_value = correlation(samples.values, values)
        by_point = gradients.astype(np.float64) * by_value[:, None]
        by_matrix = by_point.T @ arms / reach
        return -value, -np.concatenate([by_matrix.ravel(), by_point.sum(axis=0)])

    matrix, shift = matrix_and_shift(_minimised(objective, np.zeros(12), level.iterations))
    return Affine(matrix, middle + shift - matrix @ middle)


def _fit_spline(
    level: SplineLevel, moving: sitk.Image, affine: Affine, start: Array, extent: Extent | None
) -> Array:
    """Coefficients (3, count) in mm of the displacement that precedes the affine map."""
    target = Interpolator.of(_feature_at(moving, level.settings))
    unbent = affine.matrix @ level.samples.points.T + affine.offset[:, None]
    placed = (unbent + affine.matrix @ level.spline.displacements(start)).T
    seen = _seen(placed, level.settings, extent)
    # Straight to the target's voxels, in float32 from its origin on: memory is what takes time.
    unbent = (target.to_index @ (unbent - target.origin[:, None])).astype(np.float32)
    by_displacement = (target.to_index @ affine.matrix).astype(np.float32)
    inside = level.bending[:, level.free]
    held = start.copy()
    held[:, level.free] = 0
    pull = (level.bending @ held.T).T

    def compared(values: Values) -> tuple[float, Values]:
        """The correlation and its derivative by each value, 0 where the scan shows nothing."""
        if seen is None:
            return correlation(level.samples.values, values)
        by_value = np.zeros_like(values)
        fixed = normalised(level.samples.values[seen])
        value, by_value[seen] = correlation(fixed, values[seen])
        return value, by_value

    coefficients = start.copy()

    def objective(numbers: Array) -> tuple[float, Array]:
        free = coefficients[:, level.free] = numbers.reshape(3, -1)
        displacement = level.spline.displacements(coefficients)
        index = unbent + by_displacement @ displacement
        values, by_index = interpolated(target.voxels, target.size, index)
        value, by_value = compared(values)
        by_coefficient = level.spline.collected(by_displacement.T @ (by_index * by_value))
        stiffness = np.stack([inside @ along for along in free])
        bending = float((free * (stiffness + 2 * pull)).sum())
        slope = 2 * (stiffness + pull) - by_coefficient[:, level.free]
        return bending - value, np.asarray(slope, np.float64).ravel()

    found = _minimised(objective, start[:, level.free].ravel(), level.settings.iterations)
    coefficients[:, level.free] = found.reshape(3, -1)
    return coefficients


def _seen(points: Array, level: LevelSettings, extent: Extent | None) -> NDArray[np.bool_] | None:
    """(n,) which points lie in the scan, farther from its border than their features reach."""
    if extent is None:
        return None
    seen = extent.holds(points, level.spacing_mm / 2 + level.smoothing_mm + level.contrast_mm)
    return None if seen.all() else seen


def _minimised(objective: Objective, start: Array, iterations: int) -> Array:
    found = optimize.minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "ftol": LEAST_GAIN, "maxcor": REMEMBERED_STEPS},
    )
    return np.asarray(found.x)


def _feature_at(image: sitk.Image, level: LevelSettings) -> sitk.Image:
    """What is compared at a level."""
    return feature(shrunk(image, level.spacing_mm), level.smoothing_mm, level.contrast_mm)
