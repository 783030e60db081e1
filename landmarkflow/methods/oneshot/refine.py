"""Refine landmarks: register a small window around each once more, by a shift.

A B-spline sees a few thousand samples of the whole target; the voxels around a landmark, all of
them, tell its place better. Windows of several sizes each give a shift; their mean is taken, and
how far they differ tells, with the noise that each window leaves, how sure the place is. Where the
windows stay more unlike the template than wider surroundings are, what they show is not the
landmark's own, and it does not follow them.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.slicer import read_complete_markups, write_markups
from landmarkflow.formats.transforms import read_transform
from landmarkflow.formats.written import read_written
from landmarkflow.images.extent import Extent
from landmarkflow.images.operations import grid_of
from landmarkflow.images.sampling import map_points
from landmarkflow.images.similarity import (
    Interpolator,
    Surroundings,
    Values,
    ball,
    features_of,
    interpolated,
    rim,
)
from landmarkflow.methods.oneshot.landmarks import place_landmarks
from landmarkflow.methods.oneshot.settings import RefineSettings, SearchSettings
from landmarkflow.methods.oneshot.template import annotated_of, extent_of

Array = NDArray[np.float64]

# Neighbouring voxels share their noise: so many tell as much as one alone would.
VOXELS_PER_SAMPLE = 10
# The local contrast is that of a Gaussian, which reaches this many sigmas beyond a window.
REACH_IN_SIGMAS = 3
# A window may be shifted by this many deviations of the prior before its voxels end.
REACH_IN_PRIORS = 3
LEAST_VARIANCE = 1e-6
# The lattice of a search is this much finer than its reach.
REACH_IN_STEPS = 4
# A window of which a scan shows less than this share is not shifted.
LEAST_SEEN = 0.5
# Wider surroundings reach this many times as far as the widest window, in steps so much wider.
WIDER = 2
# Windows are followed fully where what they leave unexplained, 1 less their correlation, is up to
# the first multiple of what the wider surroundings leave, and not at all from the second one on.
# Chosen on twenty simulated ears of seed 21.
FOLLOWED, LEFT = 1.5, 2.5
# A shorter step ends the refinement.
LEAST_STEP_MM = 1e-3


@dataclass(frozen=True, eq=False)
class Refined:
    """Landmarks of a scan, LPS mm, and each one's standard deviation, (n,) mm.

    The deviation is what the images alone tell: noise and disagreement of the windows, not what
    all windows get wrong together. The trust, (n,) from 0 to 1, is the share of the windows' shift
    that each landmark followed.
    """

    landmarks: Landmarks
    deviation: Array
    trust: Array


@dataclass(frozen=True, eq=False)
class Windows:
    """Small volumes around some places of a crop, all of one size, to be looked into at once.

    Attributes:
        voxels: (n · z · y · x,) float32 features, x fastest.
        size: (3,) voxels of each along x, y, z.
        origins: (n, 3) LPS mm, the centre of each one's first voxel.
        to_index: (3, 3), takes mm from an origin to voxels.
        known: (n,) whether a place's surroundings lie in the crop.
    """

    voxels: Values
    size: NDArray[np.int64]
    origins: Array
    to_index: Array
    known: NDArray[np.bool_]

    @staticmethod
    def around(places: Array, crop: sitk.Image, settings: RefineSettings) -> "Windows":
        """Cut out what refinement can reach around (n, 3) places, LPS mm."""
        grid = grid_of(crop)
        known = grid.distance_to(places) <= max(settings.radii_mm)
        reach = WIDER * max(settings.radii_mm) + REACH_IN_PRIORS * settings.prior_mm
        reach += REACH_IN_SIGMAS * max(settings.contrast_mm, settings.smoothing_mm)
        half = np.ceil(reach / grid.spacing).astype(np.int64)
        size = 2 * half + 2
        first = np.floor(grid.to_index(places)).astype(np.int64) - half
        # Beyond the crop's ends its outermost voxels go on.
        x, y, z = (
            np.clip(first[:, axis, None] + np.arange(size[axis]), 0, grid.size[axis] - 1)
            for axis in range(3)
        )
        values = sitk.GetArrayViewFromImage(crop)[
            z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]
        ]
        features = features_of(
            values.astype(np.float32), grid.spacing, settings.smoothing_mm, settings.contrast_mm
        )
        to_index = np.asarray(np.linalg.inv(grid.direction * grid.spacing))
        return Windows(features.ravel(), size, grid.to_physical(first), to_index, known)

    def sample(self, points: Array) -> tuple[Values, Values]:
        """Values (n, m) and their derivatives by the point (n, m, 3), per mm, at (n, m, 3) points.

        Beyond its window both are zero.
        """
        count, each, _ = points.shape
        away = (points - self.origins[:, None]).reshape(-1, 3)
        index = (self.to_index @ away.T).astype(np.float32)
        start = np.repeat(np.arange(count) * int(np.prod(self.size)), each)
        values, by_index = interpolated(self.voxels, self.size, index, start)
        by_point = self.to_index.T.astype(np.float32) @ by_index
        return values.reshape(count, each), by_point.T.reshape(points.shape)


@dataclass(frozen=True, eq=False)
class Prepared:
    """The template's landmarks, and the ball around each in which it is compared.

    Attributes:
        landmarks: LPS mm.
        points: (n, m, 3) LPS mm.
        features: (n, m) of the template there.
        distance: (m,) mm of each ball's points from its landmark.
        wide: (n, k, 3) LPS mm, of a wider ball around each.
        wide_features: (n, k) of the template there.
        known: (n,) whether the ball lies in the template.
    """

    landmarks: Landmarks
    points: Array
    features: Values
    distance: Array
    wide: Array
    wide_features: Values
    known: NDArray[np.bool_]


def prepare(annotated: Landmarks, template: sitk.Image, settings: RefineSettings) -> Prepared:
    """Cut out the template's surroundings of each landmark.

    Args:
        annotated: the template's landmarks, LPS mm.
        template: the template's crop.
        settings: windows and features.
    """
    offsets = ball(max(settings.radii_mm), settings.spacing_mm)
    points = annotated.positions[:, None] + offsets
    windows = Windows.around(annotated.positions, template, settings)
    features, _ = windows.sample(points)
    distance = np.linalg.norm(offsets, axis=1)
    wide = annotated.positions[:, None] + WIDER * offsets
    return Prepared(
        annotated, points, features, distance, wide, windows.sample(wide)[0], windows.known
    )


def refine(
    prepared: Prepared,
    transform: sitk.Transform,
    target: sitk.Image,
    settings: RefineSettings,
    start: Landmarks | None = None,
    *,
    extent: Extent | None = None,
) -> Refined:
    """Shift each mapped landmark to where its surroundings fit best.

    For the points q of a window around a landmark, the shift d minimises
    Σ (f(q) - b·m(T(q) + d) - c)² / (k·σ²) + |d|² / prior² over d, the contrast b and the brightness
    c, by Gauss-Newton; σ² is the variance of the differences, k is `VOXELS_PER_SAMPLE`. The
    landmark follows the mean of its windows as far as they are to be trusted, see `FOLLOWED`.

    Args:
        prepared: the template.
        transform: takes template points to the scan's points.
        target: the scan's crop.
        settings: as `prepare` had.
        start: where the landmarks are looked for, LPS mm, if not where the transform puts them.
        extent: what the scan shows, if not all of its crop.

    Returns:
        The landmarks in the scan. One whose surroundings lie outside either crop, or what the scan
        shows, stays at its start, with a deviation of NaN.
    """
    annotated = prepared.landmarks
    mapped = map_points(transform, annotated.positions)
    places = mapped if start is None else start.positions
    windows = Windows.around(places, target, settings)
    points, wide = (
        map_points(transform, around.reshape(-1, 3)).reshape(around.shape)
        + (places - mapped)[:, None]
        for around in (prepared.points, prepared.wide)
    )
    found = []
    seen, wide_seen = (
        None if extent is None else _seen(around, extent, settings) for around in (points, wide)
    )
    for radius in settings.radii_mm:
        near = prepared.distance <= rim(radius, settings.spacing_mm)
        part = None if seen is None else seen[:, near]
        found.append(_shifts(prepared.features[:, near], points[:, near], windows, settings, part))
    shifts = np.array([shift for shift, _, _ in found])
    noise = np.mean([variance for _, variance, _ in found], axis=0)
    unlike = np.mean([1 - alike for _, _, alike in found], axis=0)
    around_unlike = 1 - _alike(prepared.wide_features, windows.sample(wide)[0], wide_seen)
    multiple = unlike / np.maximum(around_unlike, LEAST_VARIANCE)
    trust = np.clip((LEFT - multiple) / (LEFT - FOLLOWED), 0, 1)
    known = prepared.known & windows.known
    if seen is not None:
        known &= seen.mean(axis=1) >= LEAST_SEEN
    deviation = np.where(known, np.sqrt(noise + shifts.var(axis=0).sum(axis=1)), np.nan)
    trust *= known & settings.enabled
    moved = places + shifts.mean(axis=0) * trust[:, None]
    return Refined(Landmarks(annotated.labels, moved), deviation, trust)


def search(
    annotated: Landmarks,
    transform: sitk.Transform,
    template: sitk.Image,
    target: sitk.Image,
    *,
    start: Landmarks,
    settings: SearchSettings,
    extent: Extent | None = None,
) -> Landmarks:
    """Look further off for the landmarks that a registration left in unlike surroundings.

    Where the anatomy departs from the template's by more than a registration can follow, it rests
    beside a landmark. The ball around such a landmark is tried on a lattice of shifts; it moves to
    the best of them if that is clearly better.

    Args:
        annotated: the template's landmarks, LPS mm.
        transform: takes template points to the scan's points.
        template: the template's crop.
        target: the scan's crop.
        start: where the landmarks lie so far, LPS mm.
        settings: what is unlike, how far to look, what is better.
        extent: what the scan shows, if not all of its crop; nothing is looked for at its border.

    Returns:
        The landmarks; those that rest have their start's very coordinates.
    """
    fixed, moving = Interpolator.of(template), Interpolator.of(target)
    shifts = ball(settings.reach_mm, settings.reach_mm / REACH_IN_STEPS)
    around = Surroundings.of(annotated.positions, transform, fixed, settings.radius_mm)
    offsets = start.positions - map_points(transform, annotated.positions)
    here = around.similarity(moving, offsets)
    places = start.positions.copy()
    unlike = here < settings.below
    if extent is not None:
        unlike &= extent.holds(places, settings.radius_mm + settings.reach_mm)
    for row in np.flatnonzero(unlike).tolist():
        there = around.similarity_at(row, moving, offsets[row] + shifts)
        if there.max() >= here[row] + settings.least_gain:
            places[row] += shifts[there.argmax()]
    return Landmarks(start.labels, places)


def _seen(points: Array, extent: Extent, settings: RefineSettings) -> Array | None:
    """(n, m) 1 for the windows' points that the scan shows, else 0; None where it shows all."""
    inside = extent.holds(points.reshape(-1, 3), settings.contrast_mm / 2)
    return None if inside.all() else inside.reshape(points.shape[:2]).astype(np.float64)


def _mean(values: NDArray[Any], seen: Array | None) -> Array:
    """Of what is seen, (n, m), in each window: (n, m, ...) to (n, 1, ...)."""
    if seen is None:
        return np.asarray(values.mean(axis=1, keepdims=True, dtype=np.float64))
    share = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)
    return np.asarray(np.einsum("nm,nm...->n...", share, values)[:, None])


def _centred(values: NDArray[Any], seen: Array | None) -> Array:
    """Values (n, m, ...) less the mean of each window, 0 where nothing is seen."""
    less = values - _mean(values, seen)
    return np.asarray(less if seen is None else np.einsum("nm,nm...->nm...", seen, less))


def _alike(fixed: NDArray[Any], moving: NDArray[Any], seen: Array | None) -> Array:
    """Normalised cross-correlation (n,) of values (n, m) of each window."""
    one, other = _centred(fixed, seen), _centred(moving, seen)
    power = (one * one).sum(axis=1) * (other * other).sum(axis=1)
    return np.asarray((one * other).sum(axis=1) / np.sqrt(power + LEAST_VARIANCE))


def _shifts(
    features: Values, points: Array, target: Windows, settings: RefineSettings, seen: Array | None
) -> tuple[Array, Array, Array]:
    """What the best shift of each window's (n, m, 3) points is, and how well it fits.

    Points that are not `seen`, (n, m), do not count.

    Returns:
        The shifts (n, 3) mm, their total variances (n,) mm², and the correlations (n,) before
        the last step.
    """
    fixed = _centred(features, seen)
    stiffness = np.eye(3) / settings.prior_mm**2
    shift = np.zeros((len(points), 3))
    information = np.broadcast_to(stiffness, (len(points), 3, 3)).copy()
    alike = np.zeros(len(points))
    unsettled = np.ones(len(points), dtype=bool)
    for _ in range(settings.iterations):
        values, gradients = target.sample(points + shift[:, None])
        compared = _centred(values, seen)
        product = (fixed * compared).sum(axis=1)
        power = (compared * compared).sum(axis=1) + LEAST_VARIANCE
        norm = np.sqrt(power * (fixed * fixed).sum(axis=1) + LEAST_VARIANCE)
        alike[unsettled] = (product / norm)[unsettled]
        contrast = (product / power)[:, None]
        difference = fixed - contrast * compared
        slope = _centred(gradients, seen) * contrast[..., None]
        variance = _mean(difference * difference, seen)[:, 0] + LEAST_VARIANCE
        weight = 1 / (VOXELS_PER_SAMPLE * variance)[:, None]
        across = slope.transpose(0, 2, 1)
        information[unsettled] = (weight[..., None] * (across @ slope) + stiffness)[unsettled]
        force = weight * (across @ difference[..., None])[..., 0] - shift @ stiffness
        step = np.linalg.solve(information, force[..., None])[..., 0]
        length = np.linalg.norm(step, axis=1)
        # No further than a voxel at a time, as far as a gradient holds.
        share = np.minimum(1.0, settings.spacing_mm / (length + LEAST_VARIANCE))
        shift[unsettled] += (step * share[:, None])[unsettled]
        unsettled &= length >= LEAST_STEP_MM
        if not unsettled.any():
            break
    return shift, np.trace(np.linalg.inv(information), axis1=1, axis2=2), alike


def run(batch: Batch) -> None:
    """Refine every scan's landmarks; the record says how sure each place is, in mm."""
    settings = batch.settings(RefineSettings)
    annotated = annotated_of(batch)
    crop = functools.cache(lambda: read_written(batch.path("template_centred")))
    template = functools.cache(lambda: prepare(annotated, crop(), settings))

    def compute(task: Task) -> Record:
        transform = read_transform(task.inputs["bspline"])
        target = read_written(task.inputs["crop"])
        start = place_landmarks(annotated, transform)
        if "voted" in task.inputs:
            start = read_complete_markups(task.inputs["voted"])
        extent, looked = extent_of(task.inputs["locate_record"], target), start
        if settings.enabled:
            looked = search(
                annotated,
                transform,
                crop(),
                target,
                start=start,
                settings=settings.search,
                extent=extent,
            )
        found = refine(template(), transform, target, settings, looked, extent=extent)
        write_markups(task.outputs["refined"], [PointList("refined", found.landmarks, None)])
        return _record(task.scan, start.labels, found, looked.positions - start.positions)

    batch.run(compute)


def _record(scan: str, labels: Sequence[str], found: Refined, moves: NDArray[np.float64]) -> Record:
    """How sure each place is, and doubt where the search moved any, (n, 3) mm."""
    details = {
        "deviation_mm": [None if np.isnan(d) else float(d) for d in found.deviation],
        "trust": found.trust.round(3).tolist(),
    }
    lengths = zip(labels, np.linalg.norm(moves, axis=1).tolist(), strict=True)
    moved = [f"{label} by {length:.1f} mm" for label, length in lengths if length > 0]
    said = f"the search took landmarks far from where they were registered: {', '.join(moved)}"
    return Record.judged(scan, "refine", [said] if moved else [], details)
